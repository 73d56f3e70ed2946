use serde_json::{Value, json};

use super::*;
use crate::api::object::serialize;

fn cache() -> Arc<Cache> {
    let cache = Cache::new([
        (String::new(), "pods".to_owned(), vec![SelectableField::new("spec.nodeName")]),
        ("apps".to_owned(), "deployments".to_owned(), Vec::new()),
    ]);
    cache.load(Vec::new(), 10).unwrap();
    Arc::new(cache)
}

fn entry(name: &str, revision: Revision, text: &str) -> Entry {
    let object = json!({"metadata": {"name": name, "namespace": "a"}, "text": text});
    Entry {
        key: key("", "pods", Some("a"), name),
        value: serialize(object).at(revision),
        created: revision,
        modified: revision,
    }
}

fn put(cache: &Cache, name: &str, revision: Revision, text: &str) {
    cache.apply(revision, &[StoreEvent::Put { entry: entry(name, revision, text), previous: None }]);
}

fn delete(cache: &Cache, name: &str, revision: Revision) {
    let previous = entry(name, revision - 1, "old");
    cache.apply(revision, &[StoreEvent::Delete { key: previous.key.clone(), revision, previous }]);
}

fn names(page: &Page) -> Vec<&str> {
    page.objects.iter().map(|(_, o)| o.name()).collect()
}

fn all() -> Scope {
    Scope::Namespace("a".into())
}

#[test]
fn keys_and_kinds_belong_together() {
    let cache = cache();
    assert_eq!(key("apps", "deployments", Some("a"), "b"), "/registry/apps/deployments/a/b");
    assert_eq!(key("", "nodes", None, "n"), "/registry/core/nodes/n");
    let found =
        |key: &str| locate(&Bytes::from(key.to_owned())).filter(|(name, _)| cache.kind(name).is_some());
    assert_eq!(found("/registry/core/pods/a/b"), Some(("pods".into(), "a/b".into())));
    assert_eq!(found("/registry/apps/deployments/a/b"), Some(("deployments.apps".into(), "a/b".into())));
    assert_eq!(found("/registry/core/nodes/n"), None);
    assert_eq!(found("/elsewhere"), None);
}

#[test]
fn namespaces_that_share_a_prefix_are_apart() {
    let scope = Scope::Namespace("a".into());
    assert!(scope.contains(b"a/x"));
    assert!(!scope.contains(b"ab/x"));
    assert!(Scope::Key("a/x".into()).contains(b"a/x"));
    assert!(!Scope::Key("a/x".into()).contains(b"a/xy"));
}

#[test]
fn pages_are_consistent_while_others_write() {
    let cache = cache();
    for (i, name) in ["a", "b", "c"].into_iter().enumerate() {
        put(&cache, name, 11 + i as u64, "");
    }
    let pods = cache.kind("pods").unwrap();
    let at = pods.newest(&all()).revision;
    assert_eq!(at, 13);
    delete(&cache, "c", 14);
    put(&cache, "b", 15, "changed");
    put(&cache, "bb", 16, "");
    let page = pods.at(at, &all(), Some(b"a/a")).unwrap();
    assert_eq!(names(&page), ["b", "c"]);
    assert_eq!(page.objects[0].1.value()["text"], "");
    assert_eq!(names(&pods.newest(&all())), ["a", "b", "bb"]);
    assert_eq!(names(&pods.at(11, &all(), None).unwrap()), ["a"]);
    assert_eq!(pods.at(9, &all(), None).unwrap_err(), Expired { requested: 9, oldest: 10 });
}

#[tokio::test]
async fn a_watch_sees_what_comes_after_its_revision() {
    let cache = cache();
    put(&cache, "a", 11, "");
    put(&cache, "a", 12, "");
    let pods = cache.kind("pods").unwrap();
    let mut watcher = pods.watch(11, all()).unwrap();
    delete(&cache, "a", 13);
    let events = watcher.next().await.unwrap();
    let kinds: Vec<_> = events.iter().map(|e| (e.kind, e.revision)).collect();
    assert_eq!(kinds, [(EventType::Modified, 12), (EventType::Deleted, 13)]);
    let frame: Value = serde_json::from_slice(&events[1].frame()).unwrap();
    assert_eq!(
        (&frame["type"], &frame["object"]["metadata"]["resourceVersion"]),
        (&json!("DELETED"), &json!("13"))
    );
    assert!(watcher.ready().unwrap().is_empty());
    let waiting = tokio::spawn(async move { watcher.next().await.map(|e| e[0].revision) });
    tokio::task::yield_now().await;
    put(&cache, "b", 14, "");
    assert_eq!(waiting.await.unwrap(), Ok(14));
}

#[test]
fn a_watcher_that_falls_out_of_the_ring_is_told() {
    let cache = cache();
    let pods = cache.kind("pods").unwrap();
    let mut slow = pods.watch(10, all()).unwrap();
    let large = "x".repeat(1 << 20);
    for revision in 11..60 {
        put(&cache, "a", revision, &large);
    }
    assert!(matches!(slow.ready(), Err(Expired { requested: 10, .. })));
    assert!(pods.watch(11, all()).is_err());
    assert_eq!(pods.watch(58, all()).unwrap().ready().unwrap().len(), 1);
}

#[test]
fn old_events_are_forgotten_also_in_a_quiet_kind() {
    let cache = cache();
    let pods = cache.kind("pods").unwrap();
    for revision in 11..111 {
        put(&cache, "a", revision, "");
    }
    let mut slow = pods.watch(10, all()).unwrap();
    let first = Arc::clone(&slow.ready().unwrap()[0]);
    assert_eq!(first.frame(), event_frame(first.kind, first.object.bytes()));
    cache.forget_old(Instant::now() + Duration::from_secs(30));
    assert!(pods.watch(10, all()).is_ok());
    cache.forget_old(Instant::now() + Duration::from_secs(301));
    assert!(pods.watch(45, all()).is_err());
    assert_eq!(pods.watch(46, all()).unwrap().ready().unwrap().len(), 64, "the newest few stay");
}

#[test]
fn list_and_watch_leave_no_gap() {
    let cache = cache();
    put(&cache, "a", 11, "");
    let pods = cache.kind("pods").unwrap();
    let (page, mut watcher) = pods.list_and_watch(all());
    assert_eq!((names(&page), page.revision), (vec!["a"], 11));
    put(&cache, "b", 12, "");
    assert_eq!(watcher.ready().unwrap()[0].object.name(), "b");
}

#[test]
fn what_was_stored_is_there_after_a_start() {
    let cache = Cache::new([(String::new(), "pods".to_owned(), Vec::new())]);
    let mut damaged = entry("b", 3, "");
    damaged.value = Bytes::from_static(b"{");
    cache.load(vec![entry("a", 2, "")], 5).unwrap();
    assert_eq!(cache.list("pods", Some("a"))[0].revision(), 2);
    assert_eq!(cache.get("pods", Some("a"), "a").unwrap().name(), "a");
    assert_eq!(cache.revision(), 5);
    let error = cache.load(vec![damaged], 5).unwrap_err().to_string();
    assert!(error.starts_with("/registry/core/pods/a/b of the store"), "{error}");
}

struct Marking;

impl Form for Marking {
    fn settle(&self, object: &mut Value) -> bool {
        let new = object.get("mark").is_none();
        object["mark"] = json!("set");
        new
    }
}

#[tokio::test]
async fn kinds_come_and_go() {
    let cache = Cache::new([]);
    let entries = vec![entry("a", 3, "x")];
    cache.load(entries, 10).unwrap();
    assert!(cache.kind("pods").is_none() && cache.strays("pods") == 1);
    put(&cache, "b", 11, "y");
    cache.put("pods", Vec::new(), Arc::new(Marking));
    let kind = cache.kind("pods").unwrap();
    assert_eq!(
        kind.all(&all()).iter().map(|o| o.value()["mark"].clone()).collect::<Vec<_>>(),
        ["set", "set"]
    );
    assert!(kind.is_stale(Some("a"), "a"));
    assert_eq!(kind.get(Some("a"), "a").unwrap().revision(), 3, "nothing was written");
    put(&cache, "a", 12, "z");
    assert!(!kind.is_stale(Some("a"), "a"));
    let mut watcher = kind.list_and_watch(all()).1;
    // Another form alone: watches go on. Other fields: they end.
    cache.put("pods", Vec::new(), Arc::new(Marking));
    put(&cache, "a", 13, "z");
    assert_eq!(watcher.next().await.unwrap().len(), 1);
    cache.put("pods", vec![SelectableField::new("text")], Arc::new(Marking));
    assert!(watcher.next().await.is_err());
    assert_eq!(cache.kind("pods").unwrap().get(Some("a"), "a").unwrap().field_at(0), Some("z"));
    assert!(kind.list_and_watch(all()).1.next().await.is_err(), "it is not the kind that is served");
    cache.remove("pods");
    assert!(cache.kind("pods").is_none() && cache.strays("pods") == 2);
    delete(&cache, "a", 14);
    assert_eq!(cache.strays("pods"), 1);
}
