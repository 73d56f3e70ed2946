//! Listening to the shims: what happens by itself becomes [`RuntimeEvent`]s.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use super::client::Connection;
use super::error::Error;
use super::paths::SandboxDir;
use super::protocol::{Reply, Request};
use super::spec::RuntimeEvent;
use super::{leftovers, shim};

/// Pauses before a shim that lives is asked again, after an error.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// A sandbox to listen to.
pub(crate) type Watched = (String, SandboxDir);

/// Listens to the sandboxes that come in over `new` until cancelled.
pub(crate) async fn watch(
    new: &mut mpsc::UnboundedReceiver<Watched>,
    events: &broadcast::Sender<RuntimeEvent>,
    token: CancellationToken,
) {
    // Those listened to, and whether they were announced again since: a name may be used again.
    let mut watched = BTreeMap::new();
    let mut listening = FuturesUnordered::new();
    loop {
        tokio::select! {
            () = token.cancelled() => return,
            Some((id, dir)) = new.recv() => {
                match watched.entry(id) {
                    Entry::Occupied(mut again) => drop(again.insert(Some(dir))),
                    Entry::Vacant(entry) => {
                        listening.push(listen(entry.key().clone(), dir, events));
                        entry.insert(None);
                    }
                }
            }
            Some(id) = listening.next() => {
                if let Some(Some(dir)) = watched.remove(&id) {
                    watched.insert(id.clone(), None);
                    listening.push(listen(id, dir, events));
                }
            }
        }
    }
}

/// Listens to one sandbox until its shim ends, and says so if that was not on purpose.
async fn listen(id: String, dir: SandboxDir, events: &broadcast::Sender<RuntimeEvent>) -> String {
    let mut pause = FIRST_PAUSE;
    loop {
        let error = loop_over(&id, &dir, events).await;
        if !dir.0.exists() || dir.stopped().exists() {
            return id;
        }
        tracing::warn!("sandbox {id}: {error}");
        if shim::holder(&dir).is_none() {
            break;
        }
        // It lives, and what went wrong was between us: nothing to kill a pod for.
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
    let ended = tokio::task::spawn_blocking(move || {
        let record = leftovers::read_record(&dir);
        record.map_or(Ok(()), |record| leftovers::end_sandbox(&dir, &record))
    });
    match ended.await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => tracing::warn!("sandbox {id}: {e}"),
        Err(e) => tracing::warn!("sandbox {id}: {e}"),
    }
    // Nobody listening is fine.
    let _ = events.send(RuntimeEvent::SandboxLost { sandbox: id.clone() });
    id
}

async fn loop_over(id: &str, dir: &SandboxDir, events: &broadcast::Sender<RuntimeEvent>) -> Error {
    let mut connection = match Connection::open(id, dir).await {
        Ok(connection) => connection,
        Err(e) => return e,
    };
    if let Err(e) = connection.send(&Request::Subscribe).await {
        return e;
    }
    loop {
        match connection.receive().await {
            Ok(Reply::Event { container }) => {
                let _ = events.send(RuntimeEvent::Exited { sandbox: id.to_string(), container });
            }
            Ok(Reply::LogRotated { log }) => {
                let _ = events.send(RuntimeEvent::LogRotated { log });
            }
            Ok(other) => tracing::debug!("sandbox {id}: {other:?}"),
            Err(e) => return e,
        }
    }
}
