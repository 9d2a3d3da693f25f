//! Bounds and names, with their units.

use std::{net::Ipv4Addr, time::Duration};

/// The bridge's own end: the suite's clients reach the hosts through it.
pub const BRIDGE: &str = "br0";
/// The first three bytes of every address of the bed. The network is private to the run.
pub const SUBNET: [u8; 3] = [10, 77, 0];
/// Hosts have the addresses from here on.
pub const HOST_FIRST: u8 = 11;
/// Clients have addresses from here on, so that a client can be cut off alone.
pub const CLIENT_FIRST: u8 = 101;
/// Hosts of one bed at most.
pub const HOSTS_MAX: usize = 16;
/// Client addresses of one bed.
pub const CLIENTS_MAX: u8 = 64;
/// A host's own filesystem. Its image is sparse: only what is written takes space.
pub const DISK_BYTES: u64 = 320 << 20;
/// What a filled disk leaves free.
pub const FULL_LEFT_BYTES: u64 = 64 << 10;
/// How long a process may take to end after SIGTERM.
pub const STOP_TIME_MAX: Duration = Duration::from_secs(20);
/// How often a condition is looked at again.
pub const POLL: Duration = Duration::from_millis(50);
/// Frames that wait in a delayed link; more are dropped, as by a full queue of a router.
pub const LINK_FRAMES_MAX: usize = 4_096;

/// The address of the `i`th host, from 0.
pub fn host_address(i: usize) -> Ipv4Addr {
    let [a, b, c] = SUBNET;
    Ipv4Addr::new(a, b, c, HOST_FIRST.saturating_add(u8::try_from(i).unwrap_or(u8::MAX)))
}

/// The address of the `i`th client, from 0; they repeat after [`CLIENTS_MAX`].
pub fn client_address(i: u32) -> Ipv4Addr {
    let [a, b, c] = SUBNET;
    Ipv4Addr::new(a, b, c, CLIENT_FIRST + u8::try_from(i % u32::from(CLIENTS_MAX)).unwrap_or(0))
}
