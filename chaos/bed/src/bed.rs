//! All hosts of a run and the network between them.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    clock,
    constants::{client_address, host_address, BRIDGE, CLIENTS_MAX, DISK_BYTES, HOSTS_MAX},
    disk::Disk,
    faulty::FaultyDisk,
    firewall::Firewall,
    host::Host,
    isolation::require,
    link::{Delay, Link},
    mounts::Mounts,
    shell, Failure, Outcome,
};

/// What the hosts have.
#[derive(Clone, Copy, Debug, Default)]
pub struct BedOptions {
    /// A filesystem of its own for each: for full disks and losses of power.
    pub own_disks: bool,
    /// Cables that can be slow: every frame goes through this process.
    pub slow_links: bool,
    /// Disks that can be slow to sync, or fail to: every file goes through this process.
    pub faulty_disks: bool,
    /// Wall clocks that can lie.
    pub clocks: bool,
}

#[derive(Debug)]
pub struct Bed {
    pub hosts: Vec<Arc<Host>>,
    firewall: Mutex<Firewall>,
}

impl Bed {
    /// Makes the bridge and the hosts, those of `plain` without disks and clocks of their own. Call it inside
    /// [`crate::isolation::enter`]. What is not kept goes below `work`, logs below `run`.
    ///
    /// # Errors
    /// [`Failure::Impossible`]: a program is missing, or the kernel refuses.
    pub fn make(work: &Path, run: &Path, names: &[String], plain: &[String], options: BedOptions) -> Outcome<Self> {
        if names.len() + plain.len() > HOSTS_MAX {
            return Err(Failure::impossible(format!("at most {HOSTS_MAX} hosts")));
        }
        require(&["ip", "nft", "nsenter", "tc"])?;
        if options.own_disks {
            require(&["mkfs.ext4", "mount", "umount"])?;
        }
        shell(&["ip", "link", "add", BRIDGE, "type", "bridge"])?;
        shell(&["ip", "link", "set", BRIDGE, "up"])?;
        for i in 0..u32::from(CLIENTS_MAX) {
            shell(&["ip", "address", "add", &format!("{}/24", client_address(i)), "dev", BRIDGE])?;
        }
        fs::create_dir_all(run.join("logs"))?;
        let mut hosts = Vec::new();
        // Else a container of a worker, with its copy of all mounts, would keep the disk of a master that lost its power.
        let hidden: Vec<PathBuf> = names.iter().flat_map(|n| ["front", "disk"].map(|d| work.join(n).join(d))).collect();
        let plainly = BedOptions { slow_links: options.slow_links, ..BedOptions::default() };
        let all = names.iter().map(|n| (n, options, false)).chain(plain.iter().map(|n| (n, plainly, true)));
        for (i, (name, options, plain)) in all.enumerate() {
            let mut host = make_host(work, run, name, i, options)?;
            host.mounts = plain.then(|| Mounts::without(&hidden)).transpose()?;
            hosts.push(Arc::new(host));
        }
        Ok(Self { hosts, firewall: Mutex::new(Firewall::default()) })
    }

    pub fn host(&self, name: &str) -> Option<&Arc<Host>> {
        self.hosts.iter().find(|h| h.name == name)
    }

    pub fn addresses(&self) -> Vec<Ipv4Addr> {
        self.hosts.iter().map(|h| h.address).collect()
    }

    pub fn firewall(&self) -> MutexGuard<'_, Firewall> {
        self.firewall.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make_host(work: &Path, run: &Path, name: &str, i: usize, options: BedOptions) -> Outcome<Host> {
    let address = host_address(i);
    let (port, delay) = (format!("port{i}"), options.slow_links.then(Delay::default));
    shell(&["ip", "netns", "add", name])?;
    let mut link = None;
    if let Some(delay) = &delay {
        let card = format!("card{i}");
        link = Some(Link::make(&card, &port, delay)?);
        shell(&["ip", "link", "set", &card, "netns", name])?;
        shell(&["ip", "-n", name, "link", "set", &card, "name", "eth0"])?;
    } else {
        shell(&["ip", "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", name])?;
    }
    shell(&["ip", "link", "set", &port, "master", BRIDGE, "up"])?;
    shell(&["ip", "-n", name, "address", "add", &format!("{address}/24"), "dev", "eth0"])?;
    shell(&["ip", "-n", name, "link", "set", "eth0", "up"])?;
    shell(&["ip", "-n", name, "link", "set", "lo", "up"])?;
    let folder = work.join(name);
    let data = folder.join("disk");
    fs::create_dir_all(&data)?;
    let disk = match options.own_disks {
        true => Some(Disk::make(&folder.join("disk.img"), &data, DISK_BYTES)?),
        false => None,
    };
    let front = folder.join("front");
    let faulty = match options.faulty_disks {
        true => Some(FaultyDisk::mount(&data, &front)?),
        false => None,
    };
    let root = if faulty.is_some() { front } else { data };
    let clock_file = folder.join("clock");
    clock::set(&clock_file, 0.0)?;
    Ok(Host {
        name: name.to_owned(),
        address,
        data: root.join("data"),
        log: run.join("logs").join(format!("{name}.log")),
        disk,
        faulty,
        delay,
        clock: clock::library().filter(|_| options.clocks).map(|library| (library, clock_file)),
        mounts: None,
        _link: link,
        process: Mutex::new(None),
    })
}
