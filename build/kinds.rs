//! Which kinds are built in.

use k8s_openapi::Resource;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value};

/// A kind and the name of its definition.
pub struct Kind {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub definition: String,
}

fn add<T: Resource + schemars::JsonSchema>(generator: &mut SchemaGenerator, kinds: &mut Vec<Kind>) {
    named::<T>(generator, kinds, T::GROUP, T::VERSION, T::KIND);
}

fn named<T: schemars::JsonSchema>(
    generator: &mut SchemaGenerator,
    kinds: &mut Vec<Kind>,
    group: &str,
    version: &str,
    kind: &str,
) {
    generator.subschema_for::<T>();
    kinds.push(Kind {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        definition: T::schema_name().into_owned(),
    });
}

macro_rules! kinds {
    ($generator:ident, $kinds:ident; $($module:path { $($kind:ident),* $(,)? })*) => {
        $( { use $module as module; $( add::<module::$kind>(&mut $generator, &mut $kinds); )* } )*
    };
}

/// All kinds, and the definitions they and their fields refer to.
pub fn definitions() -> (Vec<Kind>, Map<String, Value>) {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let mut kinds = Vec::new();
    kinds! { generator, kinds;
        k8s_openapi::api::admissionregistration::v1 {
            MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration,
            ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
        }
        k8s_openapi::api::apps::v1 { ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet }
        k8s_openapi::api::authentication::v1 { SelfSubjectReview, TokenRequest, TokenReview }
        k8s_openapi::api::authorization::v1 {
            LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview,
        }
        k8s_openapi::api::autoscaling::v1 { HorizontalPodAutoscaler, Scale }
        k8s_openapi::api::autoscaling::v2 { HorizontalPodAutoscaler }
        k8s_openapi::api::batch::v1 { CronJob, Job }
        k8s_openapi::api::certificates::v1 { CertificateSigningRequest }
        k8s_openapi::api::coordination::v1 { Lease }
        k8s_openapi::api::core::v1 {
            Binding, ComponentStatus, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node, PersistentVolume,
            PersistentVolumeClaim, Pod, PodTemplate, ReplicationController, ResourceQuota, Secret, Service,
            ServiceAccount,
        }
        k8s_openapi::api::discovery::v1 { EndpointSlice }
        k8s_openapi::api::events::v1 { Event }
        k8s_openapi::api::flowcontrol::v1 { FlowSchema, PriorityLevelConfiguration }
        k8s_openapi::api::networking::v1 { IPAddress, Ingress, IngressClass, NetworkPolicy, ServiceCIDR }
        k8s_openapi::api::node::v1 { RuntimeClass }
        k8s_openapi::api::policy::v1 { Eviction, PodDisruptionBudget }
        k8s_openapi::api::rbac::v1 { ClusterRole, ClusterRoleBinding, Role, RoleBinding }
        k8s_openapi::api::resource::v1 { DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice }
        k8s_openapi::api::scheduling::v1 { PriorityClass }
        k8s_openapi::api::storage::v1 {
            CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment, VolumeAttributesClass,
        }
        k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 { CustomResourceDefinition }
        k8s_openapi::apimachinery::pkg::apis::meta::v1 { APIGroup, APIGroupList, APIResourceList, APIVersions, Status }
        k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 { APIService }
    }
    use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
    named::<meta::DeleteOptions>(&mut generator, &mut kinds, "", "v1", "DeleteOptions");
    named::<meta::WatchEvent<k8s_openapi::apimachinery::pkg::runtime::RawExtension>>(
        &mut generator,
        &mut kinds,
        "",
        "v1",
        "WatchEvent",
    );
    named::<meta::ListMeta>(&mut generator, &mut kinds, "", "", "ListMeta");
    let definitions = generator.take_definitions(true);
    (kinds, definitions)
}
