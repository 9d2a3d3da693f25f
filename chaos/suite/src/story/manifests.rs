use serde_json::{json, Value};

use crate::{
    constants::IMAGE,
    processes::{POD_VARIABLE, RUN_VARIABLE},
};

pub const NAME: &str = "web";
const PORT: u16 = 8080;

/// A web server of busybox that says its pod's name, logs a line, and is ready when it answers.
pub fn deployment(run: &str, replicas: u32) -> Value {
    let script = format!("echo started as $HOSTNAME; mkdir -p /tmp/www; echo \"$HOSTNAME $GREETING\" > /tmp/www/index.html; exec /bin/busybox httpd -f -p {PORT} -h /tmp/www");
    let container = json!({
        "name": NAME,
        "image": IMAGE,
        "command": ["/bin/busybox", "sh", "-c", script],
        "ports": [{"containerPort": PORT}],
        "env": [
            {"name": "GREETING", "value": "hello"},
            {"name": RUN_VARIABLE, "value": run},
            {"name": POD_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
        "resources": {"requests": {"cpu": "10m", "memory": "8Mi"}},
    });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": run, "labels": {"app": NAME}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": NAME}},
            "template": {
                "metadata": {"labels": {"app": NAME}},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
            },
        },
    })
}

pub fn service(run: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": NAME, "namespace": run},
        "spec": {"selector": {"app": NAME}, "ports": [{"port": 80, "targetPort": PORT}]},
    })
}
