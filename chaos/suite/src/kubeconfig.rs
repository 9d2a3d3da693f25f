//! Reads the kubeconfig that `keelstone up` prints, and writes variants of it.

use std::path::Path;

use base64::{engine::general_purpose::STANDARD, Engine};
use serde_json::Value;

use crate::failure::{Failure, Outcome};
pub use keelstone_chaos_cluster::http_client::Access;

pub struct Kubeconfig(Value);

impl Kubeconfig {
    pub fn load(path: &Path) -> Outcome<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Failure::impossible(format!("{}: {e}; `keelstone up` writes it", path.display())))?;
        let value = serde_yaml_ng::from_str(&text)
            .map_err(|e| Failure::impossible(format!("{} is not a kubeconfig: {e}", path.display())))?;
        Ok(Self(value))
    }

    fn named(&self, list: &str, name: &str) -> Option<&Value> {
        self.0[list].as_array()?.iter().find(|entry| entry["name"] == name)
    }

    /// Addresses and credentials of a context.
    pub fn access(&self, context: &str) -> Outcome<Access> {
        self.read(context).ok_or_else(|| Failure::impossible(format!("the kubeconfig has no usable context {context}")))
    }

    fn read(&self, context: &str) -> Option<Access> {
        let context = &self.named("contexts", context)?["context"];
        let cluster = &self.named("clusters", context["cluster"].as_str()?)?["cluster"];
        let user = &self.named("users", context["user"].as_str()?)?["user"];
        let pem = |value: &Value| String::from_utf8(STANDARD.decode(value.as_str()?).ok()?).ok();
        Some(Access {
            address: cluster["server"].as_str()?.strip_prefix("https://")?.to_owned(),
            ca: pem(&cluster["certificate-authority-data"])?,
            certificate: pem(&user["client-certificate-data"])?,
            key: pem(&user["client-key-data"])?,
        })
    }

    /// The same file with `namespace` as the default of every context, and without credentials if asked for.
    pub fn variant(&self, namespace: &str, anonymous: bool) -> String {
        let mut config = self.0.clone();
        for context in config["contexts"].as_array_mut().into_iter().flatten() {
            context["context"]["namespace"] = namespace.into();
        }
        if anonymous {
            for user in config["users"].as_array_mut().into_iter().flatten() {
                user["user"] = Value::Object(serde_json::Map::new());
            }
        }
        serde_yaml_ng::to_string(&config).unwrap_or_default()
    }
}
