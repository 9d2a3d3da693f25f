//! Startup, liveness and readiness probes of running containers (API document "Configure Liveness, Readiness
//! and Startup Probes"). One task for each probe of each running container; its verdict goes into the pod's
//! memory and wakes the pod's worker.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction, Pod, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use keelstone_client::Object;
use keelstone_env::Env;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
    task::AbortHandle,
    time::timeout,
};

use crate::{
    pod::{PodMemory, ProbeState},
    runtime::{Runtime, SandboxState},
    worker::running,
};

const ANSWER_BYTES_MAX: usize = 10 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Startup,
    Liveness,
    Readiness,
}

/// Pod uid, container id, kind.
type Place = (String, String, Kind);

pub struct Probes {
    env: Env,
    runtime: Arc<dyn Runtime>,
    node_address: String,
    tasks: Mutex<BTreeMap<Place, AbortHandle>>,
}

struct Target {
    container: Container,
    container_id: String,
    /// The pod's address; the node's if the pod uses the host's network.
    address: String,
}

impl Probes {
    pub fn new(env: &Env, runtime: Arc<dyn Runtime>, node_address: &str) -> Self {
        Self { env: env.clone(), runtime, node_address: node_address.to_owned(), tasks: Mutex::default() }
    }

    /// Starts the probes of containers that run now and ends those of containers that do not.
    pub fn follow(
        &self,
        uid: &str,
        pod: &Pod,
        sandboxes: &[SandboxState],
        memory: &Arc<Mutex<PodMemory>>,
        wake: &Arc<Notify>,
    ) {
        let mut wanted: BTreeMap<Place, (Target, Probe)> = BTreeMap::new();
        let spec = pod.spec.as_ref();
        let address = sandboxes.iter().find(|s| s.ready).map(|s| s.ip.clone()).filter(|ip| !ip.is_empty());
        let address = address.unwrap_or_else(|| self.node_address.clone());
        for container in spec.iter().flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers)) {
            let Some(state) = running(sandboxes, &container.name) else { continue };
            let kinds = [
                (Kind::Startup, &container.startup_probe),
                (Kind::Liveness, &container.liveness_probe),
                (Kind::Readiness, &container.readiness_probe),
            ];
            for (kind, probe) in kinds {
                let Some(probe) = probe.clone() else { continue };
                let target =
                    Target { container: container.clone(), container_id: state.id.clone(), address: address.clone() };
                wanted.insert((uid.to_owned(), state.id.clone(), kind), (target, probe));
            }
        }
        let terminating = pod.is_terminating();
        let mut tasks = self.tasks.lock().expect("no panic under this lock");
        tasks.retain(|place, task| {
            let keep = place.0 != uid || (wanted.contains_key(place) && !terminating);
            if !keep {
                task.abort();
            }
            keep
        });
        for (place, (target, probe)) in wanted {
            if terminating || tasks.contains_key(&place) {
                continue;
            }
            let prober = Prober {
                env: self.env.clone(),
                runtime: self.runtime.clone(),
                node_address: self.node_address.clone(),
                kind: place.2,
                target,
                probe,
                memory: memory.clone(),
                wake: wake.clone(),
            };
            tasks.insert(place, self.env.spawn(prober.run()).abort_handle());
        }
    }

    /// Ends a pod's probes.
    pub fn forget(&self, uid: &str) {
        self.tasks.lock().expect("no panic under this lock").retain(|place, task| {
            if place.0 == uid {
                task.abort();
            }
            place.0 != uid
        });
    }
}

struct Prober {
    env: Env,
    runtime: Arc<dyn Runtime>,
    node_address: String,
    kind: Kind,
    target: Target,
    probe: Probe,
    memory: Arc<Mutex<PodMemory>>,
    wake: Arc<Notify>,
}

fn seconds(value: Option<i32>, otherwise: u64) -> Duration {
    Duration::from_secs(value.and_then(|v| u64::try_from(v).ok()).unwrap_or(otherwise))
}

impl Prober {
    async fn run(self) {
        tokio::time::sleep(seconds(self.probe.initial_delay_seconds, 0)).await;
        let period = seconds(self.probe.period_seconds, 10).max(Duration::from_secs(1));
        let (mut good, mut bad) = (0, 0);
        loop {
            // Until the startup probe has succeeded, the others wait.
            if self.kind == Kind::Startup || self.started() {
                match self.once().await {
                    Ok(()) => (good, bad) = (good + 1, 0),
                    Err(said) => {
                        tracing::debug!(container = %self.target.container.name, kind = ?self.kind, %said, "probe failed");
                        (good, bad) = (0, bad + 1);
                    }
                }
                if good >= self.probe.success_threshold.unwrap_or(1) {
                    self.tell(ProbeState::Success);
                    if self.kind == Kind::Startup {
                        return;
                    }
                } else if bad >= self.probe.failure_threshold.unwrap_or(3) {
                    self.tell(ProbeState::Failure);
                }
            }
            tokio::time::sleep(period).await;
        }
    }

    fn started(&self) -> bool {
        let memory = self.memory.lock().expect("no panic under this lock");
        let known = memory.containers.get(&self.target.container.name);
        self.target.container.startup_probe.is_none() || known.is_some_and(|m| m.startup == ProbeState::Success)
    }

    fn tell(&self, verdict: ProbeState) {
        let mut memory = self.memory.lock().expect("no panic under this lock");
        let remembered = memory.containers.entry(self.target.container.name.clone()).or_default();
        let place = match self.kind {
            Kind::Startup => &mut remembered.startup,
            Kind::Liveness => &mut remembered.liveness,
            Kind::Readiness => &mut remembered.readiness,
        };
        if *place != verdict {
            *place = verdict;
            self.wake.notify_one();
        }
    }

    async fn once(&self) -> Result<(), String> {
        let limit = seconds(self.probe.timeout_seconds, 1);
        let Target { container, container_id, address } = &self.target;
        if let Some(exec) = &self.probe.exec {
            let command = exec.command.clone().unwrap_or_default();
            let output = self.runtime.exec(container_id, &command, limit).await.map_err(|e| e.to_string())?;
            return if output.exit_code == 0 { Ok(()) } else { Err(format!("exited with {}", output.exit_code)) };
        }
        if let Some(http) = &self.probe.http_get {
            return http_get(&self.env, container, http, address, &self.node_address, limit).await;
        }
        if let Some(tcp) = &self.probe.tcp_socket {
            let host = tcp.host.clone().filter(|h| !h.is_empty()).unwrap_or_else(|| address.clone());
            let port = port_of(container, &tcp.port).ok_or("no such port")?;
            let connected = timeout(limit, self.env.net().connect(&host, port)).await;
            return connected.map_err(|_| "timed out".to_owned())?.map(drop).map_err(|e| e.to_string());
        }
        Ok(())
    }
}

fn port_of(container: &Container, port: &IntOrString) -> Option<u16> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => match name.parse() {
            Ok(number) => Some(number),
            Err(_) => {
                let named = container.ports.iter().flatten().find(|p| p.name.as_deref() == Some(name));
                named.and_then(|p| u16::try_from(p.container_port).ok())
            }
        },
    }
}

/// One GET; a status from 200 to 399 is a success.
///
/// # Errors
/// What went wrong, in words.
pub async fn http_get(
    env: &Env,
    container: &Container,
    action: &HTTPGetAction,
    pod_address: &str,
    node_address: &str,
    limit: Duration,
) -> Result<(), String> {
    if action.scheme.as_deref() == Some("HTTPS") {
        return Err("HTTPS probes are not implemented".into());
    }
    let fallback = if pod_address.is_empty() { node_address } else { pod_address };
    let host = action.host.clone().filter(|h| !h.is_empty()).unwrap_or_else(|| fallback.to_owned());
    let port = port_of(container, &action.port).ok_or("no such port")?;
    let path = action.path.clone().unwrap_or_else(|| "/".into());
    let mut request =
        format!("GET {path} HTTP/1.1\r\nUser-Agent: kube-probe/keelstone\r\nAccept: */*\r\nConnection: close\r\n");
    let headers = action.http_headers.iter().flatten();
    let own_host = headers.clone().any(|h| h.name.eq_ignore_ascii_case("host"));
    for header in headers {
        request.push_str(&format!("{}: {}\r\n", header.name, header.value));
    }
    if !own_host {
        request.push_str(&format!("Host: {host}:{port}\r\n"));
    }
    request.push_str("\r\n");
    let exchange = async {
        let mut io = env.net().connect(&host, port).await?;
        io.write_all(request.as_bytes()).await?;
        io.flush().await?;
        let mut answer = Vec::new();
        let mut piece = [0; 1024];
        while answer.len() < ANSWER_BYTES_MAX && !answer.contains(&b'\n') {
            match io.read(&mut piece).await? {
                0 => break,
                n => answer.extend_from_slice(&piece[..n]),
            }
        }
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(limit, exchange).await.map_err(|_| "timed out".to_owned())?.map_err(|e| e.to_string())?;
    let line = String::from_utf8_lossy(&answer);
    let code: u16 = line.split(' ').nth(1).and_then(|c| c.parse().ok()).ok_or("not an HTTP answer")?;
    if (200..400).contains(&code) {
        Ok(())
    } else {
        Err(format!("HTTP probe failed with statuscode: {code}"))
    }
}
