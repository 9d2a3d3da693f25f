//! A pod's network namespace: a veth pair to the node's bridge, by iproute2.

use std::{io, process::Command};

pub struct Network {
    bridge: String,
    /// `10.88.11`: the node's addresses are `<prefix>.1` (the bridge) to `<prefix>.254`.
    prefix: String,
}

fn ip(arguments: &[&str]) -> io::Result<()> {
    let output = Command::new("ip").args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("ip {}: {said}", arguments.join(" "))))
}

/// A short name that is the same for the same sandbox (interfaces have at most 15 letters): FNV-1a.
fn short(name: &str) -> String {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{:08x}", hash as u32 ^ (hash >> 32) as u32)
}

/// False once a machine that was started anew has lost the namespace; the host's own (no name) is always there.
pub fn exists(namespace: &str) -> bool {
    namespace.is_empty() || std::path::Path::new("/run/netns").join(namespace).exists()
}

impl Network {
    pub fn new(bridge: &str, pod_cidr: &str) -> Self {
        let address = pod_cidr.split('/').next().unwrap_or_default();
        let prefix = address.rsplit_once('.').map_or(address, |(prefix, _)| prefix);
        Self { bridge: bridge.to_owned(), prefix: prefix.to_owned() }
    }

    /// Makes a namespace for the sandbox and connects it; returns its name and the pod's address.
    ///
    /// # Errors
    /// If the machine does not allow it, or all addresses are taken. Nothing is left behind.
    pub fn connect(&self, sandbox: &str, taken: &[String]) -> io::Result<(String, String)> {
        let candidates = (2..=254).map(|n| format!("{}.{n}", self.prefix));
        let address = candidates.into_iter().find(|a| !taken.contains(a));
        let address = address.ok_or_else(|| io::Error::other("no pod address is free"))?;
        let namespace = format!("ks-{}", short(sandbox));
        self.ensure_bridge()?;
        let connected = self.wire(&namespace, &address);
        if connected.is_err() {
            self.disconnect(&namespace);
        }
        connected.map(|()| (namespace, address))
    }

    fn ensure_bridge(&self) -> io::Result<()> {
        if ip(&["link", "show", &self.bridge]).is_err() {
            ip(&["link", "add", &self.bridge, "type", "bridge"])?;
            ip(&["addr", "add", &format!("{}.1/24", self.prefix), "dev", &self.bridge])?;
        }
        ip(&["link", "set", &self.bridge, "up"])
    }

    fn wire(&self, namespace: &str, address: &str) -> io::Result<()> {
        let outside = format!("v{}", namespace.trim_start_matches("ks-"));
        // What an earlier, broken start may have left.
        let _ = ip(&["netns", "del", namespace]);
        ip(&["netns", "add", namespace])?;
        ip(&["link", "add", &outside, "type", "veth", "peer", "name", "eth0", "netns", namespace])?;
        ip(&["link", "set", &outside, "master", &self.bridge, "up"])?;
        ip(&["-n", namespace, "addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        ip(&["-n", namespace, "link", "set", "eth0", "up"])?;
        ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        ip(&["-n", namespace, "route", "add", "default", "via", &format!("{}.1", self.prefix)])
    }

    /// Takes a namespace away, with its end of the bridge. Idempotent.
    pub fn disconnect(&self, namespace: &str) {
        if !namespace.is_empty() {
            let _ = ip(&["netns", "del", namespace]);
        }
    }
}
