//! A workload that uses most of what a pod template can say is valid as it is.

use keelstone_machinery::field::Causes;
use keelstone_registry::{Resource, WriteContext};
use keelstone_resources::{Deployments, Pods};
use serde_json::{json, Value};

fn container() -> Value {
    json!({
        "name": "web", "image": "registry.example.com:5000/team/web:1.2.3",
        "command": ["/bin/web"], "args": ["--port=$(PORT)"], "workingDir": "/srv",
        "ports": [{"name": "http", "containerPort": 8080}, {"name": "metrics", "containerPort": 9090, "protocol": "TCP"}],
        "env": [
            {"name": "PORT", "value": "8080"},
            {"name": "EMPTY"},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "TEAM", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['example.com/team']"}}},
            {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password", "optional": true}}},
        ],
        "envFrom": [{"configMapRef": {"name": "settings"}}, {"prefix": "S_", "secretRef": {"name": "db"}}],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "128Mi"}},
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "initialDelaySeconds": 5},
        "readinessProbe": {"tcpSocket": {"port": 8080}, "successThreshold": 2},
        "startupProbe": {"exec": {"command": ["true"]}, "failureThreshold": 30},
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "5"]}}},
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": 1000, "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "settings", "mountPath": "/etc/web/settings.yaml", "subPath": "settings.yaml", "readOnly": true},
            {"name": "all", "mountPath": "/var/run/all"},
        ],
    })
}

fn spec() -> Value {
    let term = json!({"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "kubernetes.io/hostname"});
    json!({
        "serviceAccountName": "web", "hostname": "web", "subdomain": "webs", "priorityClassName": "high",
        "imagePullSecrets": [{"name": "pull"}], "nodeSelector": {"kubernetes.io/os": "linux"},
        "securityContext": {"fsGroup": 2000, "seccompProfile": {"type": "RuntimeDefault"}},
        "initContainers": [
            {"name": "prepare", "image": "busybox", "command": ["true"]},
            {"name": "proxy", "image": "proxy:1", "restartPolicy": "Always", "startupProbe": {"tcpSocket": {"port": 1}}},
        ],
        "containers": [container()],
        "volumes": [
            {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
            {"name": "settings", "configMap": {"name": "settings", "items": [{"key": "a", "path": "settings.yaml"}]}},
            {"name": "all", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
            ]}},
            {"name": "socket", "hostPath": {"path": "/run/x.sock", "type": "Socket"}},
        ],
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "cpu", "operator": "Gt", "values": ["2"]}]},
                    {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["w1"]}]},
                ]},
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 10, "preference": {"matchExpressions": [{"key": "ssd", "operator": "Exists"}]}},
                ],
            },
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}],
            },
        },
        "topologySpreadConstraints": [{
            "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]},
        }],
        "tolerations": [
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30},
            {"key": "dedicated", "value": "web", "effect": "NoSchedule"},
        ],
        "hostAliases": [{"ip": "127.0.0.1", "hostnames": ["foo.local"]}],
        "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
        "readinessGates": [{"conditionType": "example.com/ready"}],
    })
}

fn errors(resource: &dyn Resource, mut object: Value) -> Vec<String> {
    let sent = object.clone();
    let unknown = keelstone_machinery::schema::prune(&resource.info().gvk(), &mut object);
    assert_eq!((unknown, &object), (Ok(Vec::new()), &sent));
    resource.default(&mut object);
    resource.prepare_for_create(&WriteContext::default(), &mut object);
    let mut causes = Causes::new();
    resource.validate(&object, &mut causes);
    resource.validate_update(&object, &object, &mut causes);
    causes.list().iter().map(|c| format!("{}: {}", c.field, c.message)).collect()
}

#[test]
fn a_rich_pod_is_valid() {
    assert_eq!(errors(&Pods, json!({"metadata": {"name": "web"}, "spec": spec()})), Vec::<String>::new());
}

#[test]
fn a_rich_deployment_is_valid() {
    let metadata = json!({"labels": {"app": "web"}, "annotations": {"Example.com/Note": "any text: at all"}});
    let deployment = json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 3, "minReadySeconds": 5,
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": "50%"}},
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": metadata, "spec": spec()},
        },
    });
    assert_eq!(errors(&Deployments, deployment), Vec::<String>::new());
}
