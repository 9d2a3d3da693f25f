//! What types and fields mean, from the schemas that the API's Rust types carry.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use schemars::generate::SchemaSettings;
use schemars::SchemaGenerator;
use serde_json::Value;

/// The description of a type and of its fields.
#[derive(Debug, Default)]
pub(super) struct TypeDocs {
    pub description: String,
    pub fields: BTreeMap<String, String>,
}

/// The documentation of a type by its OpenAPI name, if there is one.
pub(super) fn of(openapi_name: &str) -> Option<&'static TypeDocs> {
    static ALL: OnceLock<BTreeMap<String, TypeDocs>> = OnceLock::new();
    ALL.get_or_init(read).get(openapi_name)
}

fn read() -> BTreeMap<String, TypeDocs> {
    let mut generator = SchemaSettings::openapi3().into_generator();
    add_kinds(&mut generator);
    let definitions = generator.definitions();
    definitions.iter().map(|(name, schema)| (name.clone(), type_docs(schema))).collect()
}

fn type_docs(schema: &Value) -> TypeDocs {
    let text = |value: &Value| value.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    TypeDocs {
        description: text(schema),
        fields: properties.map(|(name, schema)| (name.clone(), text(schema))).collect(),
    }
}

macro_rules! kinds {
    ($($group:ident :: $version:ident : $($kind:ident),+;)+) => {
        fn add_kinds(generator: &mut SchemaGenerator) {
            $($(let _ = generator.subschema_for::<k8s_openapi::api::$group::$version::$kind>();)+)+
            let _ = generator.subschema_for::<meta::DeleteOptions>();
            let _ = generator.subschema_for::<meta::Status>();
            let _ = generator.subschema_for::<meta::ListMeta>();
        }
    };
}

kinds! {
    admissionregistration::v1: MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration;
    apps::v1: ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet;
    authentication::v1: SelfSubjectReview, TokenRequest, TokenReview;
    authorization::v1: LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview;
    autoscaling::v1: HorizontalPodAutoscaler, Scale;
    autoscaling::v2: HorizontalPodAutoscaler;
    batch::v1: CronJob, Job;
    certificates::v1: CertificateSigningRequest, ClusterTrustBundle, PodCertificateRequest;
    coordination::v1: Lease;
    core::v1: Binding, ComponentStatus, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, PodTemplate, ReplicationController, ResourceQuota, Secret, Service, ServiceAccount;
    discovery::v1: EndpointSlice;
    events::v1: Event;
    flowcontrol::v1: FlowSchema, PriorityLevelConfiguration;
    networking::v1: IPAddress, Ingress, IngressClass, NetworkPolicy, ServiceCIDR;
    node::v1: RuntimeClass;
    policy::v1: Eviction, PodDisruptionBudget;
    rbac::v1: ClusterRole, ClusterRoleBinding, Role, RoleBinding;
    resource::v1: DeviceClass, DeviceTaintRule, ResourceClaim, ResourceClaimTemplate, ResourceSlice;
    scheduling::v1: PriorityClass;
    storage::v1: CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment, VolumeAttributesClass;
}
