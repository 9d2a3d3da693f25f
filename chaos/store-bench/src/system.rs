use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A store that is measured.
#[derive(Clone, Debug)]
pub struct System {
    pub name: &'static str,
    binary: PathBuf,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Etcd,
    /// `keelstone store`
    Keelstone,
    /// The example `store` of keelstone-store-server, with RocksDB.
    Example,
}

/// What one member is told.
pub struct MemberArguments<'a> {
    pub name: &'a str,
    pub dir: &'a Path,
    pub client_port: u16,
    pub peer_port: u16,
    /// `name=url,...` of all members.
    pub cluster: &'a str,
}

impl System {
    pub fn etcd(binary: &Path) -> Self {
        Self { name: "etcd", binary: binary.to_owned(), kind: Kind::Etcd }
    }

    pub fn keelstone(name: &'static str, binary: &Path) -> Self {
        let is_example = binary.file_name().is_some_and(|file| file.to_string_lossy().starts_with("store"));
        Self { name, binary: binary.to_owned(), kind: if is_example { Kind::Example } else { Kind::Keelstone } }
    }

    /// Space is given back by compaction itself, not by a call that stops the member.
    pub fn reclaims_by_itself(&self) -> bool {
        self.kind != Kind::Etcd
    }

    pub fn command(&self, member: &MemberArguments<'_>) -> Command {
        let mut command = Command::new(&self.binary);
        let client = format!("127.0.0.1:{}", member.client_port);
        match self.kind {
            Kind::Etcd | Kind::Keelstone => {
                let (client, peer) = (format!("http://{client}"), format!("http://127.0.0.1:{}", member.peer_port));
                if self.kind == Kind::Keelstone {
                    command.arg("store");
                }
                command.args(["--name", member.name, "--log-level", "error", "--quota-backend-bytes", "8589934592"]);
                command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
                command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
            }
            Kind::Example => {
                command.args(["--name", member.name, "--listen-client", &client, "--engine", "rocks"]);
            }
        }
        command.args(["--initial-cluster", member.cluster]).arg("--data-dir").arg(member.dir);
        command
    }
}
