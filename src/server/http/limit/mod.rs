//! How many requests are in flight: a guard against clients that send more than the server can answer.
//!
//! Upstream's `--max-requests-inflight` and `--max-mutating-requests-inflight` give the numbers; what does
//! not fit waits for a short time in fair queues ([`gate`]), and is then told to come again. The cluster's
//! own parts are not counted at all: what keeps it going must not wait for what loads it.

mod gate;

use std::time::Duration;

use crate::api::Status;
use crate::server::auth::User;
use crate::server::auth::user::{MASTERS, NODES};
use crate::server::request_info::RequestInfo;
pub(super) use gate::Slot;
use gate::{Bounds, Gate};

/// Reads in flight, those of one user that wait, and for how long: upstream waits a quarter of the
/// minute a request may take.
const READS: Bounds = Bounds { slots: 400, queue: 100, patience: Duration::from_secs(15) };
/// Writes.
const WRITES: Bounds = Bounds { slots: 200, ..READS };
/// When a client that is refused may come again, in seconds.
const RETRY: u32 = 1;
/// Subresources that are streams for as long as their clients like.
const STREAMS: [&str; 5] = ["attach", "exec", "log", "portforward", "proxy"];
/// Groups and users of the cluster's own parts.
const OWN_GROUPS: [&str; 3] = [MASTERS, NODES, "system:serviceaccounts:kube-system"];
const OWN_USERS: [&str; 2] = ["system:kube-scheduler", "system:kube-controller-manager"];

/// The limits of one server.
#[derive(Debug)]
pub(super) struct Limits {
    reads: Gate,
    writes: Gate,
}

impl Default for Limits {
    fn default() -> Self {
        Self { reads: Gate::new(READS), writes: Gate::new(WRITES) }
    }
}

impl Limits {
    /// A slot for a request, to be held until it is answered; `None` for requests without limit.
    ///
    /// # Errors
    /// 429, when there is no slot in time.
    pub(super) async fn enter(&self, user: &User, info: &RequestInfo) -> Result<Option<Slot>, Status> {
        if is_long(info) || is_probe(info) || is_own(user) {
            return Ok(None);
        }
        let gate = if is_read(info) { &self.reads } else { &self.writes };
        let slot = gate.enter(&user.name).await;
        let refused = || Status::too_many_requests("Too many requests, please try again later.", RETRY);
        slot.map(Some).ok_or_else(refused)
    }

    /// Limited requests in flight: reads and writes.
    pub(super) fn in_flight(&self) -> (usize, usize) {
        (self.reads.taken(), self.writes.taken())
    }
}

fn is_long(info: &RequestInfo) -> bool {
    let stream = info.subresource.as_deref().is_some_and(|s| STREAMS.contains(&s));
    info.is_resource && (info.verb == "watch" || stream)
}

fn is_probe(info: &RequestInfo) -> bool {
    let first = info.path.trim_start_matches('/').split('/').next();
    !info.is_resource && matches!(first, Some("healthz" | "livez" | "readyz"))
}

fn is_own(user: &User) -> bool {
    OWN_USERS.contains(&&*user.name) || OWN_GROUPS.iter().any(|group| user.in_group(group))
}

fn is_read(info: &RequestInfo) -> bool {
    matches!(&*info.verb, "get" | "list" | "head")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Method, Uri};

    fn request(method: Method, path: &'static str) -> RequestInfo {
        RequestInfo::parse(&method, &Uri::from_static(path))
    }

    fn user(name: &str) -> User {
        User::new(name, &["system:authenticated"])
    }

    async fn enter(limits: &Limits, user: &User, info: &RequestInfo) -> Result<Option<Slot>, Status> {
        limits.enter(user, info).await
    }

    #[tokio::test(start_paused = true)]
    async fn reads_and_writes_are_apart_and_streams_are_free() {
        let limits = Limits::default();
        let (write, u) = (request(Method::POST, "/api/v1/namespaces/a/pods"), user("u"));
        let mut slots = Vec::new();
        for _ in 0..WRITES.slots / 2 {
            slots.push(enter(&limits, &u, &write).await.unwrap());
        }
        let refused = enter(&limits, &u, &write).await.unwrap_err();
        assert_eq!((refused.code, refused.details.unwrap().retry_after_seconds), (429, RETRY));
        assert_eq!(limits.in_flight(), (0, WRITES.slots / 2));
        assert!(enter(&limits, &u, &request(Method::GET, "/api/v1/pods")).await.unwrap().is_some());
        for free in [
            request(Method::GET, "/api/v1/pods?watch=true"),
            request(Method::POST, "/api/v1/namespaces/a/pods/p/exec"),
            request(Method::GET, "/readyz"),
        ] {
            assert!(enter(&limits, &u, &free).await.unwrap().is_none(), "{}", free.path);
        }
        drop(slots);
        assert!(enter(&limits, &u, &write).await.unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_clusters_own_parts_do_not_wait() {
        let none = || Gate::new(Bounds { slots: 0, ..READS });
        let limits = Limits { reads: none(), writes: none() };
        let write = request(Method::PUT, "/api/v1/nodes/n/status");
        for own in [User::loopback(), User::node("n"), User::controller("x"), User::scheduler()] {
            assert!(enter(&limits, &own, &write).await.unwrap().is_none(), "{}", own.name);
        }
        for other in [user("jane"), User::service_account("default", "x"), User::anonymous()] {
            assert!(enter(&limits, &other, &write).await.is_err(), "{}", other.name);
        }
    }
}
