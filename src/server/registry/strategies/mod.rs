//! What single kinds need: a file a kind or family, each with upstream's validation.

pub(in crate::server) mod check;
mod conditions;
mod csr;
mod data;
pub mod event;
mod ip;
mod limit_range;
mod namespace;
mod network;
mod node;
mod node_selector;
mod plain;
pub mod pod;
pub mod policies;
mod preset;
mod quota;
mod rbac;
mod rules;
mod runtime_class;
mod selector;
mod service;
mod storage;
#[cfg(test)]
mod testing;
pub mod webhooks;
mod workloads;

use std::sync::Arc;

use super::strategy::{Plain, Strategy};
use crate::config::Cidr;
pub use ip::address_name;

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
        "volumeattributesclasses.storage.k8s.io" => Arc::new(storage::AttributesClassStrategy),
        "csidrivers.storage.k8s.io" => Arc::new(storage::DriverStrategy),
        "csinodes.storage.k8s.io" => Arc::new(storage::NodeStrategy),
        "csistoragecapacities.storage.k8s.io" => Arc::new(storage::CapacityStrategy),
        "volumeattachments.storage.k8s.io" => Arc::new(storage::AttachmentStrategy),
        "serviceaccounts" => Arc::new(plain::ServiceAccountStrategy),
        "endpoints" => Arc::new(network::EndpointsStrategy),
        "endpointslices.discovery.k8s.io" => Arc::new(network::SliceStrategy),
        "events" => Arc::new(event::EventStrategy),
        "ingressclasses.networking.k8s.io" => Arc::new(network::IngressClassStrategy),
        "ipaddresses.networking.k8s.io" => Arc::new(network::AddressStrategy),
        "servicecidrs.networking.k8s.io" => Arc::new(network::CidrStrategy),
        "ingresses.networking.k8s.io" => Arc::new(network::IngressStrategy),
        "networkpolicies.networking.k8s.io" => Arc::new(network::PolicyStrategy),
        "roles.rbac.authorization.k8s.io" => Arc::new(rbac::RoleStrategy { cluster: false }),
        "clusterroles.rbac.authorization.k8s.io" => Arc::new(rbac::RoleStrategy { cluster: true }),
        "rolebindings.rbac.authorization.k8s.io" => Arc::new(rbac::BindingStrategy { cluster: false }),
        "clusterrolebindings.rbac.authorization.k8s.io" => Arc::new(rbac::BindingStrategy { cluster: true }),
        "runtimeclasses.node.k8s.io" => Arc::new(runtime_class::RuntimeClassStrategy),
        "validatingadmissionpolicies.admissionregistration.k8s.io" => Arc::new(policies::PolicyStrategy),
        "validatingadmissionpolicybindings.admissionregistration.k8s.io" => {
            Arc::new(policies::PolicyBindingStrategy)
        }
        "mutatingwebhookconfigurations.admissionregistration.k8s.io" => {
            Arc::new(webhooks::WebhookStrategy { mutating: true })
        }
        "validatingwebhookconfigurations.admissionregistration.k8s.io" => {
            Arc::new(webhooks::WebhookStrategy { mutating: false })
        }
        "priorityclasses.scheduling.k8s.io" => Arc::new(plain::PriorityClassStrategy),
        "certificatesigningrequests.certificates.k8s.io" => Arc::new(csr::SigningRequestStrategy),
        "leases.coordination.k8s.io" => Arc::new(plain::LeaseStrategy),
        "limitranges" => Arc::new(limit_range::LimitRangeStrategy),
        "resourcequotas" => Arc::new(quota::QuotaStrategy),
        "podpresets.settings.k8s.io" => Arc::new(preset::PresetStrategy),
        _ => Arc::new(Plain),
    }
}
