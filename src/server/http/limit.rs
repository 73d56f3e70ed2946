//! How many requests are in flight: a guard against clients that send more than the server can answer.
//!
//! Upstream's `--max-requests-inflight` and `--max-mutating-requests-inflight` give the numbers. Each
//! user may take a slot while it has fewer than are free, so that one alone gets half of them, two get
//! a third each, and whoever comes next finds one. The cluster's own parts are not counted at all:
//! what keeps it going must not wait for what loads it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::api::Status;
use crate::server::auth::User;
use crate::server::auth::user::{MASTERS, NODES};
use crate::server::request_info::RequestInfo;

/// Reads in flight.
const READS: usize = 400;
/// Writes in flight.
const WRITES: usize = 200;
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
    /// 429.
    pub(super) fn enter(&self, user: &User, info: &RequestInfo) -> Result<Option<Slot>, Status> {
        if is_long(info) || is_probe(info) || is_own(user) {
            return Ok(None);
        }
        let gate = if is_read(info) { &self.reads } else { &self.writes };
        let slot = gate.enter(&user.name);
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

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_user: HashMap<Arc<str>, usize>,
}

/// Slots of one sort.
#[derive(Clone, Debug)]
struct Gate {
    slots: usize,
    taken: Arc<Mutex<Taken>>,
}

impl Gate {
    fn new(slots: usize) -> Self {
        Self { slots, taken: Arc::default() }
    }

    fn taken(&self) -> usize {
        self.taken.lock().all
    }

    fn enter(&self, user: &str) -> Option<Slot> {
        let mut taken = self.taken.lock();
        let own = taken.by_user.get(user).copied().unwrap_or(0);
        if own >= self.slots - taken.all {
            return None;
        }
        let known = taken.by_user.get_key_value(user).map(|(name, _)| Arc::clone(name));
        let user = known.unwrap_or_else(|| user.into());
        taken.all += 1;
        taken.by_user.insert(Arc::clone(&user), own + 1);
        drop(taken);
        Some(Slot { gate: self.clone(), user })
    }
}

/// A request in flight; it ends with it.
#[derive(Debug)]
pub(super) struct Slot {
    gate: Gate,
    user: Arc<str>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.gate.taken.lock();
        taken.all -= 1;
        if let Some(own) = taken.by_user.get_mut(&self.user) {
            *own -= 1;
            if *own == 0 {
                taken.by_user.remove(&self.user);
            }
        }
    }
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

    #[test]
    fn one_user_leaves_room_for_others() {
        let gate = Gate::new(12);
        let fill = |name: &str| -> Vec<Slot> { std::iter::from_fn(|| gate.enter(name)).collect() };
        let greedy = fill("greedy");
        assert_eq!(greedy.len(), 6);
        let second = fill("second");
        assert_eq!((second.len(), gate.taken()), (3, 9));
        assert!(gate.enter("third").is_some() && gate.enter("greedy").is_none());
        drop((greedy, second));
        assert_eq!((gate.taken(), gate.taken.lock().by_user.len()), (0, 0));
        assert_eq!(fill("third").len(), 6);
    }

    #[test]
    fn reads_and_writes_are_apart_and_streams_are_free() {
        let limits = Limits::default();
        let write = request(Method::POST, "/api/v1/namespaces/a/pods");
        let slots: Vec<_> = (0..WRITES / 2).map(|_| limits.enter(&user("u"), &write).unwrap()).collect();
        let refused = limits.enter(&user("u"), &write).unwrap_err();
        assert_eq!((refused.code, refused.details.unwrap().retry_after_seconds), (429, RETRY));
        assert_eq!(limits.in_flight(), (0, WRITES / 2));
        assert!(limits.enter(&user("u"), &request(Method::GET, "/api/v1/pods")).unwrap().is_some());
        for free in [
            request(Method::GET, "/api/v1/pods?watch=true"),
            request(Method::POST, "/api/v1/namespaces/a/pods/p/exec"),
            request(Method::GET, "/readyz"),
        ] {
            assert!(limits.enter(&user("u"), &free).unwrap().is_none(), "{}", free.path);
        }
        drop(slots);
        assert!(limits.enter(&user("u"), &write).unwrap().is_some());
    }

    #[test]
    fn the_clusters_own_parts_do_not_wait() {
        let limits = Limits { reads: Gate::new(0), writes: Gate::new(0) };
        let write = request(Method::PUT, "/api/v1/nodes/n/status");
        let own = [User::loopback(), User::node("n"), User::controller("x"), User::scheduler()];
        assert!(own.iter().all(|user| limits.enter(user, &write).unwrap().is_none()));
        let others = [user("jane"), User::service_account("default", "x"), User::anonymous()];
        assert!(others.iter().all(|user| limits.enter(user, &write).is_err()));
    }
}
