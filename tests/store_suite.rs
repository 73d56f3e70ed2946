//! What every store back end must do, whichever it is: an opener is all that is given.

mod store_support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use kedge::store::{Error, Event, Expect, Observer, Op, Opened, Revision, Value};
use parking_lot::Mutex;
use proptest::prelude::*;
use store_support::{commit, dump, small};

/// Opens the back end under test on a directory.
type Opener = fn(&Path, Box<dyn Observer>) -> Opened;
/// What an observer was told.
type Told = Arc<Mutex<Vec<(Revision, Vec<Event>)>>>;

fn listen() -> (Told, Box<dyn Observer>) {
    let told = Told::default();
    let sink = Arc::clone(&told);
    let observer = move |revision: Revision, events: &[Event]| {
        sink.lock().push((revision, events.to_vec()));
    };
    (told, Box::new(observer))
}

fn ignore() -> Box<dyn Observer> {
    Box::new(|_: Revision, _: &[Event]| ())
}

macro_rules! suite {
    ($backend:ident, $opener:expr, $($test:ident),* $(,)?) => {
        mod $backend {
            use kedge::store::{Options, Store};

            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                let dir = tempfile::tempdir().unwrap();
                super::$test($opener, dir.path()).await;
            })*
        }
    };
}

suite!(
    embedded,
    |dir, observer| Store::open(dir, Options::default(), observer).unwrap(),
    expectations_are_compared_with_the_newest_state,
    a_commit_is_atomic_and_has_one_revision,
    the_observer_sees_all_in_order_before_the_writer_returns,
    values_carry_their_revision,
    ranges_go_on_where_they_ended,
    concurrent_increments_lose_nothing,
    everything_is_there_after_reopening,
    a_closed_store_says_so,
    large_values_are_kept,
);

async fn expectations_are_compared_with_the_newest_state(open: Opener, dir: &Path) {
    let store = open(dir, ignore()).store;
    let first = commit(&store, Op::put("a", "1", Expect::Absent)).await.unwrap();
    let conflict = commit(&store, Op::put("a", "2", Expect::Absent)).await.unwrap_err();
    let Error::Conflict { key, current } = conflict else { panic!("{conflict}") };
    assert_eq!((&key[..], current), (&b"a"[..], Some(first)));
    // Not awaited in between: the second must see the first, which waits for the disk.
    let second = commit(&store, Op::put("a", "2", Expect::Revision(first)));
    let third = commit(&store, Op::put("a", "3", Expect::Revision(first)));
    let (second, third) = futures::join!(second, third);
    let second = second.unwrap();
    assert!(matches!(third, Err(Error::Conflict { current: Some(c), .. }) if c == second));
    let missing = commit(&store, Op::delete("b", Expect::Revision(first))).await;
    assert!(matches!(missing, Err(Error::Conflict { current: None, .. })));
    commit(&store, Op::delete("b", Expect::Any)).await.unwrap();
    commit(&store, Op::delete("a", Expect::Revision(second))).await.unwrap();
    assert_eq!(store.get(b"a"), None);
    commit(&store, Op::put("a", "4", Expect::Absent)).await.unwrap();
    store.close().unwrap();
}

async fn a_commit_is_atomic_and_has_one_revision(open: Opener, dir: &Path) {
    let store = open(dir, ignore()).store;
    let put = |key: &'static str, expect| Op::put(key, "v", expect);
    let revision = store.commit(vec![put("a", Expect::Absent), put("b", Expect::Absent)]).await.unwrap();
    for key in [&b"a"[..], b"b"] {
        let entry = store.get(key).unwrap();
        assert_eq!((entry.created, entry.modified), (revision, revision));
    }
    let ops = vec![put("c", Expect::Absent), put("a", Expect::Revision(revision + 1))];
    assert!(matches!(store.commit(ops).await, Err(Error::Conflict { .. })));
    assert_eq!((store.get(b"c"), store.revision()), (None, revision));
    let ops = vec![Op::delete("a", Expect::Revision(revision)), put("c", Expect::Absent)];
    let next = store.commit(ops).await.unwrap();
    assert!(next > revision);
    assert_eq!(dump(&store).into_keys().collect::<Vec<_>>(), ["b", "c"]);
    store.close().unwrap();
}

async fn the_observer_sees_all_in_order_before_the_writer_returns(open: Opener, dir: &Path) {
    let (told, observer) = listen();
    let store = open(dir, observer).store;
    let writers = (0..8).map(|w| {
        let (store, told) = (store.clone(), Arc::clone(&told));
        tokio::spawn(async move {
            for n in 0..20 {
                let op = Op::put(format!("{w}"), format!("{n}"), Expect::Any);
                let op = if n % 3 == 0 { op.lazy() } else { op };
                let revision = commit(&store, op).await.unwrap();
                assert!(told.lock().iter().any(|(r, _)| *r == revision), "not told yet");
            }
        })
    });
    join_all(writers).await.into_iter().for_each(|r| r.unwrap());
    commit(&store, Op::delete("0", Expect::Any)).await.unwrap();
    let entry = store.get(b"1").unwrap();
    let told = told.lock();
    assert!(told.is_sorted_by(|a, b| a.0 < b.0), "out of order");
    assert_eq!(told.len(), 161);
    let Event::Delete { key, revision, previous } = &told[160].1[0] else { panic!("no deletion") };
    assert_eq!((&key[..], *revision, &previous.value[..]), (&b"0"[..], told[160].0, &b"19"[..]));
    // One copy in memory: the observer's bytes are the store's.
    let last = told.iter().rfind(|(r, _)| *r == entry.modified).unwrap();
    let Event::Put { entry: seen, previous: Some(_) } = &last.1[0] else { panic!("no put") };
    assert_eq!(seen.value.as_ptr(), entry.value.as_ptr());
    drop(told);
    store.close().unwrap();
}

async fn values_carry_their_revision(open: Opener, dir: &Path) {
    let store = open(dir, ignore()).store;
    let value = Value { bytes: Bytes::from_static(b"rv:!"), revision_at: Some(3) };
    let revision = commit(&store, Op::put("a", value, Expect::Any)).await.unwrap();
    assert_eq!(store.get(b"a").unwrap().value, format!("rv:{revision}!"));
    store.close().unwrap();
}

async fn ranges_go_on_where_they_ended(open: Opener, dir: &Path) {
    let store = open(dir, ignore()).store;
    let keys = ["/pods/a", "/pods/b", "/pods/c", "/pods", "/podsx"];
    let ops = keys.iter().map(|k| Op::put(*k, "v", Expect::Any)).collect();
    store.commit(ops).await.unwrap();
    let mut found = Vec::new();
    while let [entry] = &store.range(b"/pods/", found.last().map(Vec::as_slice), 1)[..] {
        found.push(entry.key.to_vec());
    }
    assert_eq!(found, [b"/pods/a", b"/pods/b", b"/pods/c"]);
    store.close().unwrap();
}

async fn concurrent_increments_lose_nothing(open: Opener, dir: &Path) {
    let store = open(dir, ignore()).store;
    commit(&store, Op::put("n", "0", Expect::Absent)).await.unwrap();
    let tasks = (0..6).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..20 {
                loop {
                    let entry = store.get(b"n").unwrap();
                    let n: u32 = String::from_utf8_lossy(&entry.value).parse().unwrap();
                    let expect = Expect::Revision(entry.modified);
                    match commit(&store, Op::put("n", (n + 1).to_string(), expect)).await {
                        Ok(_) => break,
                        Err(Error::Conflict { .. }) => tokio::task::yield_now().await,
                        Err(e) => panic!("{e}"),
                    }
                }
            }
        })
    });
    join_all(tasks).await.into_iter().for_each(|r| r.unwrap());
    assert_eq!(store.get(b"n").unwrap().value, "120");
    store.close().unwrap();
}

async fn everything_is_there_after_reopening(open: Opener, dir: &Path) {
    let store = open(dir, ignore()).store;
    commit(&store, Op::put("a", "1", Expect::Any)).await.unwrap();
    commit(&store, Op::put("a", "2", Expect::Any)).await.unwrap();
    commit(&store, Op::put("gone", "1", Expect::Any)).await.unwrap();
    commit(&store, Op::delete("gone", Expect::Any)).await.unwrap();
    let revision = commit(&store, Op::put("lease", "1", Expect::Any).lazy()).await.unwrap();
    let before = store.range(b"", None, 99);
    store.close().unwrap();
    let opened = open(dir, ignore());
    assert_eq!((opened.entries, opened.revision), (before, revision));
    assert!(opened.recovery.clean);
    let next = commit(&opened.store, Op::put("b", "1", Expect::Absent)).await.unwrap();
    assert_eq!(next, revision + 1, "nothing is skipped after a clean stop");
    opened.store.close().unwrap();
}

async fn a_closed_store_says_so(open: Opener, dir: &Path) {
    let store = open(dir, ignore()).store;
    let other = store.clone();
    let under_way = tokio::spawn(other.commit(vec![Op::put("a", "1", Expect::Any)]));
    while other.get(b"a").is_none() {
        tokio::task::yield_now().await;
    }
    tokio::task::spawn_blocking(|| store.close()).await.unwrap().unwrap();
    under_way.await.unwrap().unwrap();
    let late = commit(&other, Op::put("b", "1", Expect::Any)).await;
    assert!(matches!(late, Err(Error::Closed)));
    assert!(matches!(other.close(), Err(Error::Closed)));
}

async fn large_values_are_kept(open: Opener, dir: &Path) {
    let store = open(dir, ignore()).store;
    let large: Vec<u8> = (0..9_000_000u32).map(|n| (n % 251) as u8).collect();
    commit(&store, Op::put("large", large.clone(), Expect::Any)).await.unwrap();
    store.close().unwrap();
    let opened = open(dir, ignore());
    assert!(opened.entries[0].value == large);
    opened.store.close().unwrap();
}

#[derive(Clone, Debug)]
enum Action {
    Put { key: u8, absent: bool, lazy: bool },
    Delete { key: u8, lazy: bool },
    Update { key: u8 },
    Both { keys: (u8, u8) },
    Reopen,
}

fn action() -> impl Strategy<Value = Action> {
    let key = || 0..6u8;
    prop_oneof![
        6 => (key(), any::<bool>(), any::<bool>())
            .prop_map(|(key, absent, lazy)| Action::Put { key, absent, lazy }),
        3 => (key(), any::<bool>()).prop_map(|(key, lazy)| Action::Delete { key, lazy }),
        3 => key().prop_map(|key| Action::Update { key }),
        2 => (key(), key()).prop_map(|keys| Action::Both { keys }),
        1 => Just(Action::Reopen),
    ]
}

/// The store's every answer, against a map.
async fn follow(actions: Vec<Action>) {
    let dir = tempfile::tempdir().unwrap();
    let open = || store_support::open(dir.path(), small()).unwrap();
    let mut opened = open();
    let mut model: BTreeMap<String, (String, Revision)> = BTreeMap::new();
    for (n, action) in actions.into_iter().enumerate() {
        let store = &opened.store;
        let before = store.revision();
        let (ops, holds) = match action {
            Action::Reopen => {
                opened.store.close().unwrap();
                opened = open();
                assert_eq!(opened.revision, before);
                let found = opened.entries.iter().map(|e| (e.key.clone(), e.modified));
                let expected = model.iter().map(|(k, (_, r))| (Bytes::from(k.clone()), *r));
                assert!(found.eq(expected));
                continue;
            }
            Action::Put { key, absent, lazy } => {
                let expect = if absent { Expect::Absent } else { Expect::Any };
                let op = Op::put(key.to_string(), n.to_string(), expect);
                let holds = !absent || !model.contains_key(&key.to_string());
                (vec![if lazy { op.lazy() } else { op }], holds)
            }
            Action::Delete { key, lazy } => {
                let op = Op::delete(key.to_string(), Expect::Any);
                (vec![if lazy { op.lazy() } else { op }], true)
            }
            Action::Update { key } => {
                let revision = model.get(&key.to_string()).map_or(1, |(_, r)| *r);
                let expect = Expect::Revision(revision);
                let holds = model.contains_key(&key.to_string());
                (vec![Op::put(key.to_string(), n.to_string(), expect)], holds)
            }
            Action::Both { keys: (a, b) } => {
                let ops = vec![
                    Op::put(a.to_string(), n.to_string(), Expect::Any),
                    Op::delete(b.to_string(), Expect::Absent),
                ];
                (ops, !model.contains_key(&b.to_string()))
            }
        };
        let result = store.commit(ops.clone()).await;
        assert_eq!(result.is_ok(), holds, "{ops:?}: {result:?}");
        let Ok(revision) = result else { continue };
        assert!(revision > before);
        for op in ops {
            let key = String::from_utf8(op.key().to_vec()).unwrap();
            match op {
                Op::Put { value, .. } => {
                    let text = String::from_utf8(value.bytes.to_vec()).unwrap();
                    model.insert(key, (text, revision));
                }
                Op::Delete { .. } => drop(model.remove(&key)),
            }
        }
        let values = model.iter().map(|(k, (v, _))| (k.clone(), v.clone()));
        assert_eq!(dump(store), values.collect());
    }
    opened.store.close().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn the_store_is_a_map(actions in prop::collection::vec(action(), 1..60)) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(follow(actions));
    }
}
