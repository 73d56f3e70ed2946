//! NamespaceLifecycle: nothing is made in a namespace that is missing or going away, and the namespaces
//! the cluster lives in stay.

use super::{Attributes, Operation, Plugin};
use crate::api::{GroupResource, Status};

/// Namespaces that are never deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];
/// Created in any namespace, since nothing is stored.
const REVIEWS: &str = "localsubjectaccessreviews.authorization.k8s.io";

/// The plugin.
pub struct NamespaceLifecycle;

impl Plugin for NamespaceLifecycle {
    fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        if attributes.is_or_below("namespaces") {
            if attributes.operation == Operation::Delete && IMMORTAL.contains(&attributes.name) {
                return Err(attributes.forbidden("this namespace may not be deleted"));
            }
            return Ok(());
        }
        let Some(namespace) =
            attributes.namespace.filter(|n| attributes.resource.namespaced && !n.is_empty())
        else {
            return Ok(());
        };
        if attributes.operation == Operation::Delete || attributes.is_or_below(REVIEWS) {
            return Ok(());
        }
        let Some(found) = attributes.reader.get("namespaces", None, namespace) else {
            return Err(Status::not_found(&GroupResource::new("", "namespaces"), namespace));
        };
        if attributes.operation == Operation::Create && found.deletion_timestamp().is_some() {
            let why = format!(
                "unable to create new content in namespace {namespace} because it is being terminated"
            );
            let cause = format!("namespace {namespace} is being terminated");
            return Err(attributes.forbidden(why).cause("NamespaceTerminating", cause, "metadata.namespace"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Request;
    use super::*;
    use crate::server::auth::testing::Fake;
    use serde_json::{Value, json};

    fn admit(request: &Request<'_>, object: Value) -> Result<Value, Status> {
        let fake = Fake::default();
        fake.put("namespaces", json!({"metadata": {"name": "a"}}));
        let going = json!({"metadata": {"name": "going", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        fake.put("namespaces", going);
        request.admit(&NamespaceLifecycle, &fake, object)
    }

    #[test]
    fn objects_need_a_namespace_that_stays() {
        let mut request = Request::create("Pod", "pods");
        let pod = |namespace: &str| json!({"metadata": {"name": "p", "namespace": namespace}});
        admit(&request, pod("a")).unwrap();
        let missing = admit(&request, pod("b")).unwrap_err();
        assert_eq!((missing.code, missing.message.as_str()), (404, "namespaces \"b\" not found"));
        let going = admit(&request, pod("going")).unwrap_err();
        assert_eq!(
            going.message,
            "pods \"p\" is forbidden: unable to create new content in namespace going because it is being terminated"
        );
        assert_eq!(going.causes()[0].reason, "NamespaceTerminating");
        for operation in [Operation::Update, Operation::Delete] {
            request.operation = operation;
            admit(&request, pod("going")).unwrap();
        }
        admit(&request, pod("b")).unwrap();
    }

    #[test]
    fn the_clusters_own_namespaces_stay() {
        let mut request = Request::create("Namespace", "namespaces");
        request.operation = Operation::Delete;
        let status = admit(&request, json!({"metadata": {"name": "default"}})).unwrap_err();
        assert_eq!(status.message, "namespaces \"default\" is forbidden: this namespace may not be deleted");
        admit(&request, json!({"metadata": {"name": "a"}})).unwrap();
    }
}
