//! The end of every write: serialise, commit, answer.

use bytes::Bytes;
use serde_json::Value;

use super::update::{ATTEMPTS, wait_for};
use super::{Call, Objects, Review};
use crate::api::object::{Serialized, serialize};
use crate::api::{Reason, Status};
use crate::server::admission::quota::{self, Charge};
use crate::server::cache::key;
use crate::store::{self, Durability, Error, Expect, Op, Revision};

/// Why a commit did not happen.
pub(super) enum Refused {
    /// The object is not what was expected any more.
    Conflict,
    /// Another reason.
    Failed(Status),
}

/// What a write does to the objects that its namespace's quotas count.
pub(super) struct Effect<'a> {
    /// The request.
    pub review: Review<'a>,
    /// The object as it will be, if it will be.
    pub new: Option<&'a mut Value>,
    /// The object as it is, if it is.
    pub old: Option<&'a Value>,
}

impl Objects {
    /// Writes the effect's new object; the answer is its JSON with the new resource version.
    pub(super) async fn put(
        &self,
        call: &Call<'_>,
        effect: Effect<'_>,
        expect: Expect,
    ) -> Result<Bytes, Refused> {
        let mut object = effect.new.as_deref().cloned().unwrap_or_default();
        if let Some(custom) = &call.resource.custom {
            custom.convert_to_stored(&mut object);
        }
        let (serialized, value) = stored(object);
        let op = Op::put(call.key(effect.review.name), value, expect);
        let revision = self.commit(call, effect, op).await?;
        Ok(serialized.at(revision))
    }

    /// Removes an object, which is the effect's old one.
    pub(super) async fn remove(
        &self,
        call: &Call<'_>,
        effect: Effect<'_>,
        expect: Expect,
    ) -> Result<Revision, Refused> {
        let op = Op::delete(call.key(effect.review.name), expect);
        self.commit(call, Effect { new: None, ..effect }, op).await
    }

    /// Asks the quotas whether the effect would be allowed; nothing is charged.
    pub(super) fn afford(&self, call: &Call<'_>, effect: Effect<'_>) -> Result<(), Refused> {
        let attributes = self.attributes(call, &effect.review, effect.new, effect.old);
        quota::charges(&attributes).map(drop).map_err(Refused::Failed)
    }

    /// Commits the write together with what it costs the namespace's quotas: both or nothing.
    async fn commit(&self, call: &Call<'_>, mut effect: Effect<'_>, op: Op) -> Result<Revision, Refused> {
        let lazy = call.resource.durability == Durability::Lazy;
        let op = if lazy { op.lazy() } else { op };
        let attributes = self.attributes(call, &effect.review, effect.new.as_deref_mut(), effect.old);
        let namespace =
            call.namespace.filter(|_| quota::concerns(&attributes) && !quota::is_free(&attributes));
        let Some(namespace) = namespace else {
            return self.store.commit(vec![op]).await.map_err(Refused::from);
        };
        let _turn = self.admission.turns.take(namespace).await;
        for _ in 0..ATTEMPTS {
            let attributes = self.attributes(call, &effect.review, effect.new.as_deref_mut(), effect.old);
            let charges = quota::charges(&attributes).map_err(Refused::Failed)?;
            let revisions: Vec<_> = charges.iter().map(|c| (c.name.clone(), c.revision)).collect();
            let mut ops = vec![op.clone()];
            ops.extend(charges.into_iter().map(|charge| charge_op(namespace, charge)));
            match self.store.commit(ops).await {
                Err(Error::Conflict { key, .. }) if key != *op.key() => {
                    self.quotas_moved_on(namespace, &key, &revisions).await;
                }
                result => return result.map_err(Refused::from),
            }
        }
        Err(Refused::Conflict)
    }

    /// Waits for the write of a quota that was faster.
    async fn quotas_moved_on(&self, namespace: &str, key: &Bytes, read: &[(String, Revision)]) {
        let Some(kind) = self.cache.kind(quota::QUOTAS) else { return };
        let lost = read.iter().find(|(name, _)| *key == quota_key(namespace, name));
        if let Some((name, revision)) = lost {
            wait_for(&kind, Some(namespace), name, Some(*revision)).await;
        }
    }
}

fn quota_key(namespace: &str, name: &str) -> Bytes {
    key("", quota::QUOTAS, Some(namespace), name)
}

fn charge_op(namespace: &str, charge: Charge) -> Op {
    let (key, expect) = (quota_key(namespace, &charge.name), Expect::Revision(charge.revision));
    let (_, value) = stored(charge.into_value());
    Op::put(key, value, expect)
}

fn stored(object: Value) -> (Serialized, store::Value) {
    let serialized = serialize(object);
    let value = store::Value { bytes: serialized.bytes.clone(), revision_at: Some(serialized.revision_at) };
    (serialized, value)
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        match error {
            Error::Conflict { .. } => Self::Conflict,
            other => Self::Failed(failure(&other)),
        }
    }
}

/// The one place where errors of the store become answers.
fn failure(error: &Error) -> Status {
    match error {
        Error::Closed => Status::service_unavailable("the server is shutting down"),
        Error::Full { .. } => Status::new(507, Reason::InternalError, error.to_string()),
        other => Status::internal(other),
    }
}
