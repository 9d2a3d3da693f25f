//! Members as real processes of their own.

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use keelstone_etcd_api::pb;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::{
    client::Connection,
    constants::{START_TIME_MAX, STOP_TIME_MAX},
    io,
    system::{MemberArguments, System},
    usage, Failure, Outcome,
};

/// A running cluster; its processes and folders end with it.
pub struct Cluster {
    pub system: System,
    pub members: Vec<Member>,
    spec: String,
    // Removed after the processes, which end when `members` is dropped.
    _dir: TempDir,
}

pub struct Member {
    name: String,
    pub dir: PathBuf,
    pub port: u16,
    peer_port: u16,
    child: Option<Child>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Member {
    /// SIGKILL; returns once the process is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// SIGTERM; returns once the process is gone.
    pub async fn stop(&mut self) -> Outcome<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let status = Command::new("kill").arg(child.id().to_string()).status();
        io("kill", status)?;
        let end = Instant::now() + STOP_TIME_MAX;
        while io("waiting for a member", child.try_wait())?.is_none() {
            if Instant::now() > end {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Failure::Failed(format!("{} did not end after SIGTERM", self.name)));
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

impl Cluster {
    /// Starts all members in folders of their own below `dir`; returns once each serves linearizable reads.
    pub async fn start(system: &System, members: usize, dir: &Path) -> Outcome<Self> {
        let dir = io("a folder for the members", tempfile::Builder::new().prefix("store-bench-").tempdir_in(dir))?;
        let ports = free_ports(members * 2)?;
        let members: Vec<Member> = (0..members)
            .map(|i| Member {
                name: format!("m{i}"),
                dir: dir.path().join(format!("m{i}")),
                port: ports[2 * i],
                peer_port: ports[2 * i + 1],
                child: None,
            })
            .collect();
        let urls = members.iter().map(|m| format!("{}=http://127.0.0.1:{}", m.name, m.peer_port));
        let spec = urls.collect::<Vec<_>>().join(",");
        let mut cluster = Self { system: system.clone(), members, spec, _dir: dir };
        for i in 0..cluster.members.len() {
            cluster.launch(i)?;
        }
        for i in 0..cluster.members.len() {
            cluster.wait_ready(i).await?;
        }
        Ok(cluster)
    }

    /// Starts a member's process again.
    pub fn launch(&mut self, i: usize) -> Outcome<()> {
        let member = &mut self.members[i];
        io("a member's folder", std::fs::create_dir_all(&member.dir))?;
        let mut command = self.system.command(&MemberArguments {
            name: &member.name,
            dir: &member.dir.join("data"),
            client_port: member.port,
            peer_port: member.peer_port,
            cluster: &self.spec,
        });
        let log = io("a member's log", File::options().create(true).append(true).open(member.dir.join("log")))?;
        let errors = io("a member's log", log.try_clone())?;
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        member.child = Some(io(format!("starting {command:?}"), command.spawn())?);
        Ok(())
    }

    /// Returns once a member answers a linearizable read.
    pub async fn wait_ready(&mut self, i: usize) -> Outcome<()> {
        let end = Instant::now() + START_TIME_MAX;
        let member = &mut self.members[i];
        loop {
            if let Ok(connection) = Connection::open(member.port).await {
                let request = pb::RangeRequest { key: "ready".into(), ..Default::default() };
                if let Ok(Ok(_)) = timeout(Duration::from_secs(5), connection.kv().range(request)).await {
                    return Ok(());
                }
            }
            let ended = member.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() || Instant::now() > end {
                let log = std::fs::read_to_string(member.dir.join("log")).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(5).collect();
                let text = format!("{} {} does not serve ({ended:?}): {tail:?}", self.system.name, member.name);
                return Err(Failure::Failed(text));
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Connections to all members in turn.
    pub async fn connect(&self, count: usize) -> Outcome<Vec<Connection>> {
        let mut connections = Vec::new();
        for i in 0..count {
            let port = self.members[i % self.members.len()].port;
            connections.push(io("connecting to a member", Connection::open(port).await)?);
        }
        Ok(connections)
    }

    pub async fn leader(&self) -> Outcome<usize> {
        for (i, member) in self.members.iter().enumerate() {
            let Ok(connection) = Connection::open(member.port).await else { continue };
            let call = connection.maintenance().status(pb::StatusRequest {}).await;
            let Ok(status) = call.map(tonic::Response::into_inner) else { continue };
            if status.leader != 0 && status.header.is_some_and(|header| header.member_id == status.leader) {
                return Ok(i);
            }
        }
        Err(Failure::Failed(format!("no member of {} says that it leads", self.system.name)))
    }

    /// Processor time of all members so far.
    pub fn cpu_time(&self) -> Duration {
        self.members.iter().map(|member| usage::cpu_time(member.pid())).sum()
    }

    /// The largest member's resident memory.
    pub fn resident_bytes(&self) -> u64 {
        self.members.iter().map(|member| usage::resident_bytes(member.pid())).max().unwrap_or(0)
    }

    /// The largest member's bytes on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.members.iter().map(|member| usage::disk_bytes(&member.dir)).max().unwrap_or(0)
    }
}

/// Ports that were free a moment ago.
fn free_ports(count: usize) -> Outcome<Vec<u16>> {
    let listeners: Vec<TcpListener> =
        io("free ports", (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>())?;
    io("free ports", listeners.iter().map(|l| l.local_addr().map(|a| a.port())).collect())
}
