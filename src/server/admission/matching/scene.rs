//! What expressions see of a request.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::{Asking, Objects, request};
use crate::api::Status;
use crate::server::auth::authz::{Attributes, Authorizer};
use crate::server::auth::user::User;
use crate::server::cel::authorizer::{Attributes as Wanted, Authorizer as Authorizes, Decision};
use crate::server::cel::{self, Variables};
use crate::server::registry::Resource;

/// The values of `object`, `oldObject`, `request`, `namespaceObject` and `authorizer`.
pub(in crate::server::admission) struct Scene {
    object: Option<Value>,
    old: Option<Value>,
    request: Value,
    namespace: Option<Value>,
    asks: Arc<Asks>,
    resource: Wanted,
}

impl Scene {
    /// Of a request, if it had been for this resource.
    ///
    /// # Errors
    /// Its objects cannot be shown so.
    pub(in crate::server::admission) fn of(
        asking: &Asking<'_>,
        resource: &Resource,
        authorizer: &Arc<Authorizer>,
        objects: Objects<'_>,
    ) -> Result<Self, Status> {
        let (object, old) = asking.show_all(resource, objects)?;
        let asks = Arc::new(Asks { authorizer: Arc::clone(authorizer), user: asking.user.clone() });
        let wanted = Wanted {
            group: asking.entry.group.to_string(),
            resource: asking.entry.plural.to_string(),
            subresource: asking.subresource.to_owned(),
            namespace: asking.namespace.to_owned(),
            name: asking.name.to_owned(),
            ..Wanted::default()
        };
        let request = request(asking, resource);
        Ok(Self { object, old, request, namespace: None, asks, resource: wanted })
    }

    /// With the namespace of the request.
    pub(in crate::server::admission) fn set_namespace(&mut self, namespace: Value) {
        self.namespace = Some(namespace);
    }

    /// As variables of expressions.
    pub(in crate::server::admission) fn variables(&self) -> Variables<'_> {
        let authorizer = Arc::clone(&self.asks) as Arc<dyn Authorizes>;
        Variables::new()
            .json("object", self.object.as_ref())
            .json("oldObject", self.old.as_ref())
            .json("request", Some(&self.request))
            .json("namespaceObject", self.namespace.as_ref())
            .value("authorizer", cel::Value::authorizer(Arc::clone(&authorizer)))
            .value(
                "authorizer.requestResource",
                cel::Value::request_resource(authorizer, self.resource.clone()),
            )
    }
}

/// Answers what expressions ask of `authorizer`.
struct Asks {
    authorizer: Arc<Authorizer>,
    user: User,
}

impl fmt::Debug for Asks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asks").field("user", &self.user.name).finish_non_exhaustive()
    }
}

impl Authorizes for Asks {
    fn authorize(&self, wanted: &Wanted) -> Decision {
        let given = |text: &'_ str| Some(text.to_owned()).filter(|t| !t.is_empty());
        let (subresource, namespace, name) =
            (given(&wanted.subresource), given(&wanted.namespace), given(&wanted.name));
        let attributes = Attributes {
            verb: &wanted.verb,
            group: &wanted.group,
            resource: &wanted.resource,
            subresource: subresource.as_deref(),
            namespace: namespace.as_deref(),
            name: name.as_deref(),
            path: wanted.path.as_deref(),
            field_selector: wanted.field_selector.as_deref(),
        };
        let account = wanted.service_account.as_ref().map(|(ns, name)| User::service_account(ns, name));
        match self.authorizer.check(account.as_ref().unwrap_or(&self.user), &attributes) {
            Ok(()) => Decision { allowed: true, ..Decision::default() },
            Err(reason) => Decision { reason, ..Decision::default() },
        }
    }
}
