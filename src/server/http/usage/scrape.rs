//! Asking the nodes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::points::{Reading, Sample};
use crate::server::http::api::Api;
use crate::server::http::proxy;
use crate::server::reader::Reader;

/// So long a reading is told again: metrics-server's resolution.
const FRESH: Duration = Duration::from_secs(15);
/// A reading older than this says nothing about now.
const OLD: Duration = Duration::from_secs(90);
/// How long is looked when there is no reading to compare with.
const SHORT: Duration = Duration::from_secs(1);
/// A node gets so long to answer.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Default)]
struct State {
    /// The newest readings by node, and when they were taken.
    last: HashMap<String, Reading>,
    taken: Option<Instant>,
    /// Whom was asked then: who did not answer is not asked again at once.
    asked: Vec<String>,
    told: Arc<Sample>,
}

/// The newest readings of all nodes.
#[derive(Default)]
pub(in crate::server::http) struct Readings(Mutex<State>);

impl Readings {
    /// What is used now. Asks the nodes unless that was done a moment ago and `tells` all that is asked for; who
    /// asks meanwhile waits for the same answer.
    pub(super) async fn sample(&self, api: &Api, tells: impl Fn(&Sample) -> bool) -> Arc<Sample> {
        let mut state = self.0.lock().await;
        let age = state.taken.map(|t| t.elapsed());
        let nodes = nodes(api);
        let known = nodes.iter().all(|n| state.asked.contains(n));
        // What was started since is looked for, but not in every request of a burst.
        let fresh = |age: Duration| age < SHORT || (age < FRESH && tells(&state.told));
        if known && age.is_some_and(fresh) {
            return Arc::clone(&state.told);
        }
        let mut before = std::mem::take(&mut state.last);
        if age.is_none_or(|age| age > OLD) {
            before.clear();
        }
        let mut last = scrape(api, &nodes).await;
        if last.keys().any(|node| !before.contains_key(node)) {
            // There is nothing to compare with yet: look twice.
            tokio::time::sleep(SHORT).await;
            let again = scrape(api, &nodes).await;
            before = std::mem::replace(&mut last, again);
        }
        let told =
            last.iter().map(|(node, reading)| (node.clone(), (before.get(node).cloned(), reading.clone())));
        state.told = Arc::new(Sample(told.collect()));
        (state.last, state.taken, state.asked) = (last, Some(Instant::now()), nodes);
        Arc::clone(&state.told)
    }
}

/// The nodes that can be asked: a node whose state is unknown does not answer.
fn nodes(api: &Api) -> Vec<String> {
    let reader: &dyn Reader = &*api.objects.cache;
    let answers = |node: &Value| {
        let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
        let ready = conditions.and_then(|all| all.iter().find(|c| c["type"] == "Ready"));
        ready.is_some_and(|c| c["status"] != "Unknown")
    };
    reader.list("nodes", None).iter().filter(|n| answers(&n.value())).map(|n| n.name().to_owned()).collect()
}

async fn scrape(api: &Api, nodes: &[String]) -> HashMap<String, Reading> {
    let all = join_all(nodes.iter().map(|node| async move {
        let asked = tokio::time::timeout(PATIENCE, proxy::ask_node(api, node, "/metrics/resource")).await;
        match asked {
            Ok(Ok(text)) => {
                let now = Timestamp::now().as_millisecond();
                return Some((node.clone(), Reading::parse(&text, now)));
            }
            Ok(Err(error)) => tracing::warn!(node, %error, "the node's metrics could not be read"),
            Err(_) => tracing::warn!(node, "the node's metrics could not be read within {PATIENCE:?}"),
        }
        None
    }));
    all.await.into_iter().flatten().collect()
}
