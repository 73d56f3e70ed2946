//! Events that admission asks for: recorded once the object they are about is committed.

use serde_json::{Value, json};

use super::{Call, Objects, WriteOptions};
use crate::api::Meta;
use crate::api::meta::now;
use crate::server::admission::Notice;
use crate::server::auth::user::User;

/// Where events about objects without a namespace are.
const DEFAULT_NAMESPACE: &str = "default";

impl Objects {
    /// Records the notices about an object that was created. A failure is logged: the object is there.
    pub(super) async fn record(&self, call: &Call<'_>, object: &Value, notices: &[Notice]) {
        let Some(resource) = self.registry.stored("events").filter(|_| !notices.is_empty()) else { return };
        let (user, options) = (User::loopback(), WriteOptions::default());
        let namespace = Some(call.namespace.unwrap_or(DEFAULT_NAMESPACE));
        for notice in notices {
            let call = Call::own(&resource, namespace, &user, &options);
            // An event is a created object too, hence the box.
            let created = Box::pin(self.create(&call, event(object, namespace, notice))).await;
            if let Err(status) = created {
                tracing::warn!(reason = notice.reason, %status, "an event cannot be recorded");
            }
        }
    }
}

fn event(object: &Value, namespace: Option<&str>, notice: &Notice) -> Value {
    let (meta, time) = (Meta::of(object), now());
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"generateName": format!("{}.", meta.name()), "namespace": namespace},
        "involvedObject": {
            "apiVersion": meta.api_version(), "kind": meta.kind(), "name": meta.name(),
            "namespace": meta.namespace(), "uid": meta.uid(),
        },
        "type": notice.kind, "reason": notice.reason, "message": notice.message, "count": 1,
        "firstTimestamp": time, "lastTimestamp": time,
        "source": {"component": notice.component}, "reportingComponent": notice.component, "reportingInstance": "",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_names_the_object_and_who_speaks() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a", "uid": "u"}});
        let notice = Notice { component: "c", kind: "Warning", reason: "R", message: "m".into() };
        let event = event(&pod, Some("a"), &notice);
        assert_eq!(event["involvedObject"]["uid"], "u");
        assert_eq!((&event["source"]["component"], &event["reason"]), (&json!("c"), &json!("R")));
        assert_eq!(event["metadata"]["generateName"], "p.");
    }
}
