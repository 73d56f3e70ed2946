//! Which events repeat, which are alike, and who causes too many: client-go's `EventCorrelator` with its
//! defaults.

use std::collections::{BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};

use super::Record;

/// Remembered events, combinations and objects, each.
const REMEMBERED: usize = 1024;
/// Events an object may cause at once, and seconds until it may cause one more.
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;
/// From so many different messages about one object for one reason on they are combined into one event,
const SIMILAR: usize = 10;
/// unless so long a pause was between them.
const INTERVAL: SignedDuration = SignedDuration::from_secs(600);

/// An event that the API has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How often it happened.
    pub count: i32,
    /// When it happened last.
    pub at: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
}

#[derive(Clone, Debug)]
struct Similar {
    messages: BTreeSet<String>,
    at: Timestamp,
}

/// All that is remembered.
#[derive(Debug, Default)]
pub(super) struct Correlator {
    known: HashMap<String, Known>,
    buckets: HashMap<String, Bucket>,
    similar: HashMap<String, Similar>,
}

/// Makes room for one more by forgetting the oldest.
fn make_room<T>(entries: &mut HashMap<String, T>, at: impl Fn(&T) -> Timestamp) {
    if entries.len() >= REMEMBERED
        && let Some(oldest) = entries.iter().min_by_key(|(_, e)| at(e)).map(|(key, _)| key.clone())
    {
        entries.remove(&oldest);
    }
}

fn object(record: &Record) -> String {
    let o = &record.object;
    [&o.kind, &o.namespace, &o.name, &o.uid].map(|p| p.as_deref().unwrap_or_default()).join("\0")
}

impl Correlator {
    /// The key an event is counted by, and the event: itself, or the one that stands for many like it.
    pub(super) fn aggregate(&mut self, mut record: Record) -> (String, Record) {
        let group = format!("{}\0{}\0{}", object(&record), record.type_, record.reason);
        if !self.similar.contains_key(&group) {
            make_room(&mut self.similar, |s| s.at);
        }
        let fresh = Similar { messages: BTreeSet::new(), at: record.steady };
        let similar = self.similar.entry(group.clone()).or_insert(fresh);
        if record.steady.duration_since(similar.at) > INTERVAL {
            similar.messages.clear();
        }
        similar.at = record.steady;
        similar.messages.insert(record.message.clone());
        if similar.messages.len() < SIMILAR {
            let path = record.object.field_path.as_deref().unwrap_or_default();
            return (format!("{group}\0{path}\0{}", record.message), record);
        }
        similar.messages.pop_first();
        record.message = format!("(combined from similar events): {}", record.message);
        (group, record)
    }

    /// Whether the object may cause another event.
    pub(super) fn admit(&mut self, record: &Record) -> bool {
        let key = object(record);
        if !self.buckets.contains_key(&key) {
            make_room(&mut self.buckets, |b| b.at);
        }
        let bucket = self.buckets.entry(key).or_insert(Bucket { tokens: BURST, at: record.steady });
        let seconds = record.steady.duration_since(bucket.at).as_secs_f64().max(0.0);
        bucket.tokens = (bucket.tokens + seconds / REFILL_SECONDS).min(BURST);
        bucket.at = record.steady;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }

    /// The event that is counted by `key`, with this time counted.
    pub(super) fn known(&mut self, key: &str, at: Timestamp) -> Option<Known> {
        let known = self.known.get_mut(key)?;
        known.count = known.count.saturating_add(1);
        known.at = at;
        Some(known.clone())
    }

    /// The API has this event now.
    pub(super) fn remember(&mut self, key: &str, known: Known) {
        make_room(&mut self.known, |k| k.at);
        self.known.insert(key.to_owned(), known);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;

    #[test]
    fn an_object_may_cause_a_burst_and_then_one_in_five_minutes() {
        let mut correlator = Correlator::default();
        let admitted = (0..40).filter(|_| correlator.admit(&record("m", 0))).count();
        assert_eq!(admitted, 25);
        assert!(!correlator.admit(&record("m", 299)));
        assert!(correlator.admit(&record("m", 301)));
    }

    #[test]
    fn the_same_message_is_counted_and_similar_ones_are_combined() {
        let mut correlator = Correlator::default();
        let (first, _) = correlator.aggregate(record("m0", 0));
        assert_eq!(correlator.aggregate(record("m0", 1)).0, first);
        for n in 1..9 {
            let (key, event) = correlator.aggregate(record(&format!("m{n}"), 2));
            assert!(key != first && event.message == format!("m{n}"));
        }
        let (group, event) = correlator.aggregate(record("m9", 3));
        assert_eq!(event.message, "(combined from similar events): m9");
        let (again, event) = correlator.aggregate(record("m10", 599));
        assert_eq!((again, event.message.as_str()), (group, "(combined from similar events): m10"));
        let (_, event) = correlator.aggregate(record("m11", 599 + 601));
        assert_eq!(event.message, "m11", "after ten minutes of silence");
    }

    #[test]
    fn counts_go_on_and_the_oldest_are_forgotten() {
        let mut correlator = Correlator::default();
        let known = |n: i64| Known {
            namespace: "ns".into(),
            name: n.to_string(),
            count: 1,
            at: record("", n).steady,
        };
        for n in 0..=i64::try_from(REMEMBERED).expect("small") {
            correlator.remember(&n.to_string(), known(n));
        }
        assert_eq!(correlator.known("0", record("", 0).steady), None);
        let at = record("", 5000).steady;
        assert_eq!(correlator.known("1", at).map(|k| k.count), Some(2));
        assert_eq!(correlator.known("1", at).map(|k| k.count), Some(3));
    }
}
