//! What a request is about: its parameters, its pod and container.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::Refusal;
use crate::agent::context::Context;
use crate::agent::labels;
use crate::agent::pod::observed::Observed;
use crate::agent::spec::uid;
use crate::runtime::spec::ContainerState;

/// Query parameters in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes `application/x-www-form-urlencoded`.
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|p| !p.is_empty());
        Self(
            pairs
                .map(|p| p.split_once('=').unwrap_or((p, "")))
                .map(|(k, v)| (decode(k), decode(v)))
                .collect(),
        )
    }

    /// The first value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// All values of a parameter.
    pub(super) fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(k, _)| k == name).map(|(_, v)| v.clone()).collect()
    }

    /// Whether one of these parameters is there and true.
    pub(super) fn flag(&self, names: &[&str]) -> bool {
        names.iter().filter_map(|n| self.get(n)).any(|v| matches!(v, "1" | "true" | "t" | "True" | "TRUE"))
    }
}

/// Undoes percent-encoding; a plus is a blank.
pub(super) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|h| std::str::from_utf8(h).ok());
        match (bytes[at], hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A container that runs.
pub(super) struct Target {
    /// Its id.
    pub id: String,
}

/// The pod's newest sandbox and its containers.
pub(super) async fn observe(context: &Context, pod: &Pod) -> Observed {
    let own = labels::sandboxes_of(&context.runtime, uid(pod)).await;
    Observed::new(own.into_iter().max_by_key(|s| (labels::attempt(&s.labels), s.created_at)))
}

/// The pod; 404 if it is not on this node.
pub(super) fn find_pod(
    context: &Context,
    namespace: &str,
    name: &str,
    uid: Option<&str>,
) -> Result<Arc<Pod>, Refusal> {
    context.pods.find(namespace, name, uid).ok_or_else(|| Refusal::not_found("pod does not exist"))
}

/// The running container that `[container]` or `[uid, container]` of a pod names.
pub(super) async fn find(
    context: &Context,
    namespace: &str,
    pod: &str,
    rest: &[&str],
) -> Result<Target, Refusal> {
    let (uid, container) = match rest {
        [container] => (None, *container),
        [uid, container] => (Some(*uid), *container),
        _ => return Err(Refusal::not_found("404 page not found")),
    };
    let pod = find_pod(context, namespace, pod, uid)?;
    let observed = observe(context, &pod).await;
    match observed.newest(container) {
        Some(status) if status.state == ContainerState::Running => Ok(Target { id: status.id.clone() }),
        _ => Err(Refusal::internal(format!("container not found (\"{container}\")"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse("command=sh&command=-c&command=echo+%22a%26b%22&tty=1&x&bad=%zz");
        assert_eq!(query.all("command"), ["sh", "-c", "echo \"a&b\""]);
        assert!(query.flag(&["tty"]) && !query.flag(&["input", "stdin"]));
        assert_eq!((query.get("x"), query.get("bad"), query.get("none")), (Some(""), Some("%zz"), None));
    }
}
