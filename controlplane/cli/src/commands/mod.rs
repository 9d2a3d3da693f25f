//! One file a subcommand: its flags, and how they become a running part.

pub mod agent;
pub mod apiserver;
pub mod balancer;
pub mod leading;
pub mod server;
pub mod store;
mod store_tools;

use std::{future::Future, path::Path, time::Duration};

use keelstone_apiserver::perturb::Plan;
use keelstone_env::{ClientTls, ServerTls};
use keelstone_store_server::RunningStore;

use crate::{kubeconfig::Credentials, Failure};

/// Reads a file that a flag names.
pub fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))
}

/// Reads a plan of perturbation that a flag names.
pub fn perturbation(path: Option<&Path>) -> Result<Option<Plan>, Failure> {
    let Some(path) = path else { return Ok(None) };
    Plan::parse(&read(path)?).map(Some).map_err(|wrong| Failure::Usage(format!("{}: {wrong}", path.display())))
}

/// Reads a kubeconfig that a flag names.
pub fn credentials(path: &Path) -> Result<Credentials, Failure> {
    Credentials::parse(&read(path)?).map_err(|said| Failure::Usage(format!("{}: {said}", path.display())))
}

/// A folder of certificates as `keelstone up` lays it out.
pub struct PkiFolder<'a>(pub &'a Path);

impl PkiFolder<'_> {
    pub fn text(&self, name: &str) -> Result<String, Failure> {
        read(&self.0.join(name))
    }

    /// A server's side; clients may show a certificate of `ca`.
    pub fn server(&self, name: &str, ca: &str, client_certificate_required: bool) -> Result<ServerTls, Failure> {
        Ok(ServerTls {
            certificate: self.text(&format!("{name}.crt"))?,
            key: self.text(&format!("{name}.key"))?,
            client_ca: Some(self.text(&format!("{ca}.crt"))?),
            client_certificate_required,
            alpn: vec!["h2".into(), "http/1.1".into()],
        })
    }

    /// A client's side, towards servers with a certificate of `ca`.
    pub fn client(&self, name: &str, ca: &str) -> Result<ClientTls, Failure> {
        Ok(ClientTls {
            ca: self.text(&format!("{ca}.crt"))?,
            identity: Some((self.text(&format!("{name}.crt"))?, self.text(&format!("{name}.key"))?)),
            alpn: vec!["h2".into(), "http/1.1".into()],
        })
    }
}

/// How long a stop may take; then the process ends without it, as after a kill.
const STOP_TIME_MAX: Duration = Duration::from_secs(20);

pub async fn stop_within(stop: impl Future<Output = ()>) {
    if tokio::time::timeout(STOP_TIME_MAX, stop).await.is_err() {
        tracing::warn!("the stop took too long: it ends without");
    }
}

/// Waits until the store's member ended by itself: a process without it is of no use, and whoever started it may start
/// it again. A removed member ends in order, as with etcd.
pub async fn store_ended(store: &RunningStore) -> Result<(), Failure> {
    let why = store.ended().await;
    match store.status().removed {
        true => {
            tracing::info!("{why}");
            Ok(())
        }
        false => Err(Failure::Failed(why)),
    }
}

/// Waits for SIGTERM or SIGINT.
pub async fn asked_to_stop() -> Result<(), Failure> {
    use tokio::signal::unix::{signal, SignalKind};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        biased;
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
