//! The end of every write: serialise, commit, answer.

use bytes::Bytes;
use serde_json::Value;

use super::{Call, Objects};
use crate::api::object::serialize;
use crate::api::{Reason, Status};
use crate::store::{self, Durability, Error, Expect, Op, Revision};

/// Why a commit did not happen.
pub(super) enum Refused {
    /// The object is not what was expected any more.
    Conflict,
    /// Another reason.
    Failed(Status),
}

impl Objects {
    /// Writes an object; the answer is its JSON with the new resource version.
    pub(super) async fn put(
        &self,
        call: &Call<'_>,
        name: &str,
        mut object: Value,
        expect: Expect,
    ) -> Result<Bytes, Refused> {
        if let Some(custom) = &call.resource.custom {
            custom.to_stored(&mut object);
        }
        let serialized = serialize(object);
        let value =
            store::Value { bytes: serialized.bytes.clone(), revision_at: Some(serialized.revision_at) };
        let op = Op::put(call.key(name), value, expect);
        let revision = self.commit(call, op).await?;
        Ok(serialized.at(revision))
    }

    /// Removes an object.
    pub(super) async fn remove(
        &self,
        call: &Call<'_>,
        name: &str,
        expect: Expect,
    ) -> Result<Revision, Refused> {
        self.commit(call, Op::delete(call.key(name), expect)).await
    }

    async fn commit(&self, call: &Call<'_>, op: Op) -> Result<Revision, Refused> {
        let lazy = call.resource.durability == Durability::Lazy;
        let op = if lazy { op.lazy() } else { op };
        self.store.commit(vec![op]).await.map_err(|error| match error {
            Error::Conflict { .. } => Refused::Conflict,
            other => Refused::Failed(failure(&other)),
        })
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
