//! Kubeconfig files (API document "Organizing Cluster Access Using kubeconfig Files").

use base64::{engine::general_purpose::STANDARD, Engine};
use keelstone_client::{Client, TcpOptions};
use keelstone_env::{ClientTls, Env};
use serde_json::{json, Value};

/// A user's credentials and the addresses that lead to one cluster, each under its own context name.
pub struct Kubeconfig<'a> {
    pub ca: &'a str,
    pub user: &'a str,
    pub certificate: &'a str,
    pub key: &'a str,
    /// Context name and `host:port`; the first is the current one.
    pub contexts: &'a [(String, String)],
}

impl Kubeconfig<'_> {
    pub fn to_yaml(&self) -> String {
        let cluster = |(name, address): &(String, String)| {
            json!({"name": name, "cluster": {
                "server": format!("https://{address}"), "certificate-authority-data": STANDARD.encode(self.ca)}})
        };
        let context =
            |(name, _): &(String, String)| json!({"name": name, "context": {"cluster": name, "user": self.user}});
        let document = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": self.contexts.iter().map(cluster).collect::<Vec<_>>(),
            "contexts": self.contexts.iter().map(context).collect::<Vec<_>>(),
            "current-context": self.contexts.first().map(|(name, _)| name),
            "users": [{"name": self.user, "user": {
                "client-certificate-data": STANDARD.encode(self.certificate),
                "client-key-data": STANDARD.encode(self.key)}}],
        });
        serde_yaml_ng::to_string(&document).unwrap_or_default()
    }
}

/// What a component needs of a kubeconfig: addresses of all clusters in it, and the current user's credentials.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// `host:port`, the current context's first.
    pub masters: Vec<String>,
    pub ca: String,
    pub certificate: String,
    pub key: String,
}

impl Credentials {
    /// A client that fails over among all masters of the kubeconfig.
    ///
    /// # Errors
    /// If the certificates cannot be used.
    pub fn client(&self, env: &Env) -> std::io::Result<Client> {
        let tls = ClientTls {
            ca: self.ca.clone(),
            identity: Some((self.certificate.clone(), self.key.clone())),
            alpn: vec!["h2".into(), "http/1.1".into()],
        };
        Client::tcp(env, TcpOptions::new(self.masters.clone()).tls(tls))
    }

    /// Reads a kubeconfig with embedded data, as [`Kubeconfig::to_yaml`] writes it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config: Value = serde_yaml_ng::from_str(text).map_err(|e| format!("not a kubeconfig: {e}"))?;
        let list = |field: &str| config[field].as_array().cloned().unwrap_or_default();
        let current = config["current-context"].as_str().unwrap_or_default().to_owned();
        let context = list("contexts").into_iter().find(|c| c["name"] == current.as_str());
        let context = context.ok_or("the kubeconfig has no current context")?;
        let user_name = context["context"]["user"].as_str().unwrap_or_default().to_owned();
        let user = list("users").into_iter().find(|u| u["name"] == user_name.as_str());
        let user = user.ok_or("the kubeconfig lacks the current context's user")?;
        let decode = |value: &Value, what: &str| {
            let text = value.as_str().ok_or(format!("the kubeconfig lacks {what}"))?;
            let bytes = STANDARD.decode(text).map_err(|_| format!("{what} is not base64"))?;
            String::from_utf8(bytes).map_err(|_| format!("{what} is not text"))
        };
        let mut clusters = list("clusters");
        clusters.sort_by_key(|c| c["name"] != context["context"]["cluster"]);
        let first = clusters.first().ok_or("the kubeconfig names no cluster")?;
        let ca = decode(&first["cluster"]["certificate-authority-data"], "certificate-authority-data")?;
        let masters = clusters
            .iter()
            .filter_map(|c| Some(c["cluster"]["server"].as_str()?.strip_prefix("https://")?.to_owned()))
            .collect();
        Ok(Self {
            masters,
            ca,
            certificate: decode(&user["user"]["client-certificate-data"], "client-certificate-data")?,
            key: decode(&user["user"]["client-key-data"], "client-key-data")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let contexts =
            [("keelstone".to_owned(), "127.0.0.1:1".to_owned()), ("m1".to_owned(), "127.0.0.1:2".to_owned())];
        let written =
            Kubeconfig { ca: "CA", user: "admin", certificate: "CRT", key: "KEY", contexts: &contexts }.to_yaml();
        let read = Credentials::parse(&written).unwrap();
        assert_eq!(read.masters, ["127.0.0.1:1", "127.0.0.1:2"]);
        assert_eq!((read.ca.as_str(), read.certificate.as_str(), read.key.as_str()), ("CA", "CRT", "KEY"));
    }

    #[test]
    fn a_wrong_file_is_one_clear_line() {
        for (text, said) in [("a: [", "not a kubeconfig"), ("{}", "no current context")] {
            assert!(Credentials::parse(text).unwrap_err().contains(said));
        }
    }
}
