//! Power cuts at every step of what the store does to its disk.

mod store_support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use kedge::store::{Entry, Event, Expect, Op, Options, Revision, Store, Value};
use store_support::power::{Platter, Recorder, Step};
use store_support::{open, small};

/// One acknowledged commit, as the observer saw it.
type Acknowledged = (Revision, Vec<Event>);
type Content = BTreeMap<Bytes, Entry>;

/// A value that carries its own revision, so that it can be told whether it is whole.
fn value(size: usize) -> Value {
    let text = format!("{{\"revision\":,\"filler\":\"{}\"}}", "x".repeat(size));
    Value { bytes: text.into(), revision_at: Some(12) }
}

/// The `n`th commit of writer `w`: puts and deletes of one or several keys, some lazy.
fn ops(w: usize, n: usize) -> Vec<Op> {
    let key = |k: usize| Bytes::from(format!("/synced/{}", k % 17));
    let size = (w * 131 + n * 977) % 2100;
    match (w + n) % 7 {
        0 => vec![Op::delete(key(w * 3 + n), Expect::Any)],
        1 | 2 => (0..4).map(|k| Op::put(key(w + n + 4 * k), value(size / 4), Expect::Any)).collect(),
        3 => vec![Op::put(format!("/lazy/{w}"), value(300), Expect::Any).lazy()],
        _ => vec![Op::put(key(w * 5 + n), value(size), Expect::Any)],
    }
}

fn checkpoints(steps: &[Step<Acknowledged>]) -> usize {
    steps.iter().filter(|s| matches!(s, Step::SyncTree(..))).count()
}

/// Runs writers on a recording disk, until each has made `commits` and that many checkpoints were
/// taken, and gives what was recorded.
fn record(options: Options, writers: usize, commits: usize, wanted: usize) -> Vec<Step<Acknowledged>> {
    let temp = tempfile::tempdir().unwrap();
    let recorder = Arc::new(Recorder::new(temp.path()));
    let steps = Arc::clone(&recorder.steps);
    let notes = Arc::clone(&steps);
    let observer = move |revision: Revision, events: &[Event]| {
        notes.lock().push(Step::Note((revision, events.to_vec())));
    };
    let options = Options { disk: recorder, ..options };
    let store = Store::open(temp.path(), options, Box::new(observer)).unwrap().store;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    // Revisions are handed out before anything else is written.
    for _ in 0..3 {
        let op = Op::put("/lazy/first", value(10), Expect::Any).lazy();
        runtime.block_on(store.commit(vec![op])).unwrap();
    }
    let tasks: Vec<_> = (0..writers)
        .map(|w| {
            let (store, steps) = (store.clone(), Arc::clone(&steps));
            runtime.spawn(async move {
                let (mut n, start) = (0, std::time::Instant::now());
                while n < commits || (n % 10 != 0 || checkpoints(&steps.lock()) < wanted) {
                    store.commit(ops(w, n)).await.unwrap();
                    n += 1;
                    assert!(start.elapsed().as_secs() < 60, "no checkpoint is finished");
                    // On a busy machine a checkpoint takes long: the record must not grow with that.
                    if n > commits {
                        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                    }
                }
            })
        })
        .collect();
    tasks.into_iter().for_each(|t| runtime.block_on(t).unwrap());
    store.close().unwrap();
    std::mem::take(&mut *steps.lock())
}

/// A directory in memory, where there is one: the cuts are simulated, a real disk only makes them slow.
fn memory_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn is_lazy(key: &[u8]) -> bool {
    key.starts_with(b"/lazy/")
}

fn apply(content: &mut Content, events: &[Event]) {
    for event in events.iter().filter(|e| !is_lazy(e.key())) {
        match event {
            Event::Put { entry, .. } => drop(content.insert(entry.key.clone(), entry.clone())),
            Event::Delete { key, .. } => drop(content.remove(key)),
        }
    }
}

/// What must be so after a cut.
struct Expected<'a> {
    /// What is acknowledged.
    content: &'a Content,
    /// Revisions that were handed out.
    handed_out: &'a BTreeSet<Revision>,
    /// Commits acknowledged after the cut: the store may have the first few of them.
    later: &'a [&'a Acknowledged],
    /// The newest revision of a synced commit that is acknowledged.
    synced: Revision,
}

impl Expected<'_> {
    fn check(&self, dir: &Path, what: &str) {
        let opened = open(dir, small()).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(opened.recovery.fallback, None, "{what}");
        let newest = self.handed_out.last().copied().unwrap_or(0);
        assert!(opened.revision >= newest, "{what}: {} after {newest}", opened.revision);
        let mut found = Content::new();
        for entry in opened.entries {
            let text = format!("{{\"revision\":{},", entry.modified);
            assert!(entry.value.starts_with(text.as_bytes()), "{what}: half a value: {entry:?}");
            assert!(entry.value.ends_with(b"}"), "{what}: half a value: {entry:?}");
            if !is_lazy(&entry.key) {
                found.insert(entry.key.clone(), entry);
            }
        }
        self.compare(&found, what);
        let next = pollster(opened.store.commit(vec![Op::put("/new", "1", Expect::Absent)]));
        assert!(next.unwrap() > newest, "{what}: a revision is used again");
        opened.store.close().unwrap();
        let again = open(dir, small()).unwrap_or_else(|e| panic!("{what}, again: {e}"));
        assert!(again.recovery.clean && !again.recovery.torn, "{what}, again");
        found.insert(Bytes::from("/new"), again.store.get(b"/new").unwrap());
        let entries: Vec<_> = again.entries.into_iter().filter(|e| !is_lazy(&e.key)).collect();
        assert_eq!(entries, found.into_values().collect::<Vec<_>>(), "{what}, again");
    }

    /// The content must be that after the last acknowledged commit or after one that was on its way.
    fn compare(&self, found: &Content, what: &str) {
        let mut content = self.content.clone();
        if content == *found {
            return;
        }
        for (_, events) in self.later.iter().take(64) {
            apply(&mut content, events);
            if content == *found {
                return;
            }
        }
        let lost: Vec<_> = self.content.values().filter(|e| found.get(&e.key) != Some(e)).collect();
        panic!("{what}: acknowledged up to {}, not found as they were: {lost:?}", self.synced);
    }
}

fn pollster<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Cuts the power after every step, `variants` times; gives the number of cuts.
fn cut_everywhere(steps: &[Step<Acknowledged>], variants: u64, choose: impl Fn(usize) -> bool) -> usize {
    let notes: Vec<&Acknowledged> =
        steps.iter().filter_map(|s| if let Step::Note(n) = s { Some(n) } else { None }).collect();
    let (mut platter, mut content) = (Platter::default(), Content::new());
    let (mut handed_out, mut synced, mut acknowledged, mut cuts) = (BTreeSet::new(), 0, 0, 0);
    for (at, step) in steps.iter().enumerate() {
        platter.take(step);
        if let Step::Note((revision, events)) = step {
            apply(&mut content, events);
            handed_out.insert(*revision);
            acknowledged += 1;
            if events.iter().any(|e| !is_lazy(e.key())) {
                synced = *revision;
            }
            continue;
        }
        if !choose(at) {
            continue;
        }
        for variant in 0..variants {
            let temp = memory_dir();
            platter.cut(temp.path(), at as u64 * variants + variant);
            let expected = Expected {
                content: &content,
                handed_out: &handed_out,
                later: &notes[acknowledged..],
                synced,
            };
            expected.check(temp.path(), &format!("cut {variant} after step {at}"));
            cuts += 1;
        }
    }
    cuts
}

#[test]
fn nothing_acknowledged_is_lost_at_any_of_a_thousand_cuts() {
    let steps = record(small(), 8, 24, 0);
    let candidates = steps.iter().filter(|s| !matches!(s, Step::Note(_))).count();
    let variants = 1100u64.div_ceil(candidates as u64).max(5);
    let cuts = cut_everywhere(&steps, variants, |_| true);
    assert!(cuts >= 1000, "{cuts} cuts only");
}

#[test]
fn nothing_is_lost_while_checkpoints_are_taken() {
    let options = Options { checkpoint_bytes: 60 << 10, ..small() };
    let steps = record(options, 4, 120, 3);
    // Every step near a checkpoint's, and some of the others.
    let near = |at: usize| {
        let around = &steps[at.saturating_sub(3)..(at + 4).min(steps.len())];
        around.iter().any(|s| matches!(s, Step::SyncTree(..) | Step::Remove(_) | Step::MakeDir(_)))
    };
    let cuts = cut_everywhere(&steps, 2, |at| at % 61 == 0 || near(at));
    assert!(cuts >= 40, "{cuts} cuts only");
}
