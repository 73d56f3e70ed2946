//! Connections that wait for the next request.
//!
//! A task drops those that nobody used for [`IDLE`] and ends with the last: when nothing is asked, nothing runs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::target::Address;

/// So long a connection waits, as upstream's.
const IDLE: Duration = Duration::from_secs(90);
/// So many wait at most for one webhook.
const KEPT: usize = 25;

/// An open connection.
pub(super) struct Connection {
    pub(super) address: Address,
    pub(super) sender: SendRequest<Full<Bytes>>,
}

#[derive(Default)]
struct State {
    /// The last used last.
    idle: Vec<(Instant, Connection)>,
    swept: bool,
}

/// The idle connections of one webhook.
#[derive(Default)]
pub(super) struct Pool(Mutex<State>);

impl Pool {
    /// A connection to one of these addresses that is still open. It may have to finish its last exchange.
    pub(super) fn take(&self, addresses: &[Address]) -> Option<Connection> {
        let mut state = self.0.lock();
        state.idle.retain(|(_, c)| !c.sender.is_closed());
        let at = state.idle.iter().rposition(|(_, c)| addresses.contains(&c.address))?;
        Some(state.idle.remove(at).1)
    }

    /// Keeps a connection for the next request.
    pub(super) fn put(self: &Arc<Self>, connection: Connection) {
        let mut state = self.0.lock();
        if connection.sender.is_closed() || state.idle.len() >= KEPT {
            return;
        }
        state.idle.push((Instant::now(), connection));
        if !std::mem::replace(&mut state.swept, true) {
            let pool = Arc::downgrade(self);
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(IDLE).await;
                    let Some(pool) = pool.upgrade() else { return };
                    if pool.sweep() {
                        return;
                    }
                }
            });
        }
    }

    /// Drops what waited too long; whether nothing is left.
    fn sweep(&self) -> bool {
        let mut state = self.0.lock();
        state.idle.retain(|(since, c)| since.elapsed() < IDLE && !c.sender.is_closed());
        state.swept = !state.idle.is_empty();
        !state.swept
    }
}
