//! Values with functions of their own.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::authorizer::{Attributes, Authorizer, Decision};
use super::functions;
use super::url::Url;
use crate::api::Quantity;

/// A value of a type that only some functions know.
#[derive(Clone, Debug)]
pub enum Opaque {
    /// A URL.
    #[allow(private_interfaces, reason = "made and read by expressions only")]
    Url(Url),
    /// An amount of a resource.
    Quantity(Quantity),
    /// An address.
    Ip(IpAddr),
    /// A range of addresses.
    Cidr(Cidr),
    /// A version.
    Semver(semver::Version),
    /// A format of names: the index of its row.
    Format(usize),
    /// Who decides what may be done.
    Authorizer(Arc<dyn Authorizer>),
    /// A question that is being put together: about a path, a group or a resource.
    Check(Arc<dyn Authorizer>, CheckKind, Attributes),
    /// The answer.
    Decision(Decision),
}

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// A path that is no resource.
    Path,
    /// A group whose resource is not said yet.
    Group,
    /// A resource.
    Resource,
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// An address of it, as it was written.
    pub address: IpAddr,
    /// How many bits all have in common.
    pub length: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl Opaque {
    /// The name of its type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Url(_) => "kubernetes.URL",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Ip(_) => "net.IP",
            Self::Cidr(_) => "net.CIDR",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Authorizer(_) => "kubernetes.authorization.Authorizer",
            Self::Check(_, CheckKind::Path, _) => "kubernetes.authorization.PathCheck",
            Self::Check(_, CheckKind::Group, _) => "kubernetes.authorization.GroupCheck",
            Self::Check(_, CheckKind::Resource, _) => "kubernetes.authorization.ResourceCheck",
            Self::Decision(_) => "kubernetes.authorization.Decision",
        }
    }

    /// Whether both are the same value.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Url(a), Self::Url(b)) => a == b,
            (Self::Quantity(a), Self::Quantity(b)) => a == b,
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Cidr(a), Self::Cidr(b)) => a == b,
            (Self::Semver(a), Self::Semver(b)) => a == b,
            (Self::Format(a), Self::Format(b)) => a == b,
            (Self::Authorizer(_), Self::Authorizer(_)) => true,
            (Self::Check(_, a, x), Self::Check(_, b, y)) => a == b && x == y,
            (Self::Decision(a), Self::Decision(b)) => a == b,
            _ => false,
        }
    }

    /// How much it costs to go over it once.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Ip(IpAddr::V4(_)) | Self::Cidr(Cidr { address: IpAddr::V4(_), .. }) => 4,
            Self::Ip(IpAddr::V6(_)) | Self::Cidr(Cidr { address: IpAddr::V6(_), .. }) => 16,
            Self::Format(index) => functions::format_size(*index),
            _ => 1,
        }
    }
}
