//! What single kinds need: a file a kind or family, each with upstream's validation.

mod check;
mod conditions;
mod data;
mod namespace;
mod network;
mod node;
mod plain;
pub mod pod;
mod rbac;
mod selector;
mod service;
mod storage;
#[cfg(test)]
mod testing;
mod workloads;

use std::sync::Arc;

use super::strategy::{Plain, Strategy};
use crate::config::Cidr;

/// What strategies depend on of the server's settings.
#[derive(Clone, Debug)]
pub struct StrategyConfig {
    /// Addresses of Services.
    pub service_cidr: Cidr,
    /// First and last node port.
    pub node_port_range: (u16, u16),
}

/// The strategy of a resource, by plural and group: `pods`, `deployments.apps`. Plain for those that
/// need nothing of their own. Call it once a resource: a strategy may hold allocators.
pub fn for_resource(resource: &str, config: &StrategyConfig) -> Arc<dyn Strategy> {
    match resource {
        "pods" => Arc::new(pod::PodStrategy),
        "services" => Arc::new(service::ServiceStrategy::new(config)),
        "deployments.apps" => Arc::new(workloads::DeploymentStrategy),
        "replicasets.apps" => Arc::new(workloads::ReplicaSetStrategy),
        "daemonsets.apps" => Arc::new(workloads::DaemonSetStrategy),
        "replicationcontrollers" => Arc::new(workloads::ReplicationControllerStrategy),
        "statefulsets.apps" => Arc::new(workloads::StatefulSetStrategy),
        "controllerrevisions.apps" => Arc::new(workloads::ControllerRevisionStrategy),
        "podtemplates" => Arc::new(workloads::PodTemplateStrategy),
        "jobs.batch" => Arc::new(workloads::JobStrategy),
        "cronjobs.batch" => Arc::new(workloads::CronJobStrategy),
        "horizontalpodautoscalers.autoscaling" => Arc::new(workloads::AutoscalerStrategy),
        "poddisruptionbudgets.policy" => Arc::new(workloads::DisruptionBudgetStrategy),
        "namespaces" => Arc::new(namespace::NamespaceStrategy),
        "nodes" => Arc::new(node::NodeStrategy),
        "configmaps" => Arc::new(data::ConfigMapStrategy),
        "secrets" => Arc::new(data::SecretStrategy),
        "persistentvolumeclaims" => Arc::new(storage::ClaimStrategy),
        "persistentvolumes" => Arc::new(storage::VolumeStrategy),
        "storageclasses.storage.k8s.io" => Arc::new(storage::ClassStrategy),
        "serviceaccounts" => Arc::new(plain::ServiceAccountStrategy),
        "endpoints" => Arc::new(network::EndpointsStrategy),
        "endpointslices.discovery.k8s.io" => Arc::new(network::SliceStrategy),
        "ingresses.networking.k8s.io" => Arc::new(network::IngressStrategy),
        "networkpolicies.networking.k8s.io" => Arc::new(network::PolicyStrategy),
        "roles.rbac.authorization.k8s.io" => Arc::new(rbac::RoleStrategy { cluster: false }),
        "clusterroles.rbac.authorization.k8s.io" => Arc::new(rbac::RoleStrategy { cluster: true }),
        "rolebindings.rbac.authorization.k8s.io" => Arc::new(rbac::BindingStrategy { cluster: false }),
        "clusterrolebindings.rbac.authorization.k8s.io" => Arc::new(rbac::BindingStrategy { cluster: true }),
        "priorityclasses.scheduling.k8s.io" => Arc::new(plain::PriorityClassStrategy),
        "certificatesigningrequests.certificates.k8s.io" => Arc::new(plain::SigningRequestStrategy),
        "leases.coordination.k8s.io" => Arc::new(plain::LeaseStrategy),
        "limitranges"
        | "resourcequotas"
        | "csinodes.storage.k8s.io"
        | "csidrivers.storage.k8s.io"
        | "volumeattachments.storage.k8s.io" => Arc::new(plain::Uncounted),
        _ => Arc::new(Plain),
    }
}
