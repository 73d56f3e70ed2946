//! Listening to the shims: what happens by itself becomes [`RuntimeEvent`]s.

use std::collections::BTreeSet;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use super::client::Connection;
use super::error::Error;
use super::leftovers;
use super::paths::SandboxDir;
use super::protocol::{Reply, Request};
use super::spec::RuntimeEvent;

/// A sandbox to listen to.
pub(crate) type Watched = (String, SandboxDir);

/// Listens to the sandboxes that come in over `new` until cancelled.
pub(crate) async fn watch(
    new: &mut mpsc::UnboundedReceiver<Watched>,
    events: &broadcast::Sender<RuntimeEvent>,
    token: CancellationToken,
) {
    let mut watched = BTreeSet::new();
    let mut listening = FuturesUnordered::new();
    loop {
        tokio::select! {
            () = token.cancelled() => return,
            Some((id, dir)) = new.recv() => {
                if watched.insert(id.clone()) {
                    listening.push(listen(id, dir, events));
                }
            }
            Some(id) = listening.next() => {
                watched.remove(&id);
            }
        }
    }
}

/// Listens to one sandbox until its shim ends, and says so if that was not on purpose.
async fn listen(id: String, dir: SandboxDir, events: &broadcast::Sender<RuntimeEvent>) -> String {
    let error = loop_over(&id, &dir, events).await;
    if dir.0.exists() && !dir.stopped().exists() {
        tracing::warn!("sandbox {id}: {error}");
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
        let _ = events.send(RuntimeEvent::SandboxLost {
            sandbox: id.clone(),
        });
    }
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
                let _ = events.send(RuntimeEvent::Exited {
                    sandbox: id.to_string(),
                    container,
                });
            }
            Ok(other) => tracing::debug!("sandbox {id}: {other:?}"),
            Err(e) => return e,
        }
    }
}
