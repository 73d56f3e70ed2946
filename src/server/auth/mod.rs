//! Who makes a request and whether they may: certificates and keys, tokens, authentication, authorisation.
//!
//! [`Pki`] has the cluster's certificates and keys. [`Authenticator`] finds out a request's [`User`],
//! [`impersonation`] lets some act as others, [`Authorizer`] says whether the user may do what the
//! request asks: members of `system:masters` everything, nodes what concerns their own pods, all
//! others what RBAC's roles and bindings allow. Both read the newest committed objects through
//! [`Reader`](crate::server::reader::Reader) and never touch the disk.

pub mod authn;
pub mod authz;
pub mod impersonation;
pub mod join_token;
pub mod pki;
#[cfg(test)]
pub(in crate::server) mod testing;
pub mod tokens;
pub mod user;

pub use authn::Authenticator;
pub use authz::Authorizer;
pub use pki::{NodeCredentials, Pki, PkiParams};
pub use tokens::TokenSigner;
pub use user::User;
