//! A host's cable with a delay: its network card is a TAP device whose frames this process carries to a second TAP
//! device on the bridge, as late as asked. (The kernel here has no netem.) Order is kept, as on one cable.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    sync::{
        atomic::{AtomicU64, Ordering},
        Arc,
    },
    time::Duration,
};

use tokio::{
    io::unix::AsyncFd,
    sync::mpsc,
    task::JoinHandle,
    time::{sleep_until, Instant},
};

use crate::{constants::LINK_FRAMES_MAX, Outcome};

const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
/// Frames with their Ethernet headers and nothing before them.
const FLAGS: libc::c_short = 0x0002 | 0x1000;
const FRAME_BYTES_MAX: usize = 2_048;

/// How late frames are, changed while they flow.
#[derive(Clone, Debug, Default)]
pub struct Delay(Arc<AtomicU64>);

impl Delay {
    pub fn set(&self, delay: Duration) {
        self.0.store(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn get(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

/// The two devices and the tasks between them, which end with it.
#[derive(Debug)]
pub struct Link {
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Link {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Link {
    /// Makes the devices `host_side` and `bridge_side` in this network namespace. Each frame is delayed once, on its
    /// way out of the host or into it.
    ///
    /// # Errors
    /// There is no /dev/net/tun, or no right to it.
    pub fn make(host_side: &str, bridge_side: &str, delay: &Delay) -> Outcome<Self> {
        let (host, bridge) = (Arc::new(tap(host_side)?), Arc::new(tap(bridge_side)?));
        let tasks = [carry(host.clone(), bridge.clone(), delay.clone()), carry(bridge, host, delay.clone())];
        Ok(Self { tasks: tasks.into_iter().flatten().collect() })
    }
}

#[allow(unsafe_code)]
fn tap(name: &str) -> Outcome<AsyncFd<File>> {
    let options = libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).write(true).custom_flags(options).open("/dev/net/tun")?;
    // `struct ifreq`: a name of 16 bytes, then flags, 40 bytes in all.
    let mut request = [0_u8; 40];
    request[..name.len().min(15)].copy_from_slice(&name.as_bytes()[..name.len().min(15)]);
    request[16..18].copy_from_slice(&FLAGS.to_ne_bytes());
    // SAFETY: the descriptor is open, and the request is as large as `struct ifreq`.
    if unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) } != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: the file is owned by what is returned, and a `File` has one descriptor for its life.
    unsafe { AsyncFd::register(file) }.map_err(|e| std::io::Error::from(e).into())
}

/// Two tasks: one reads and stamps, one waits and writes.
fn carry(from: Arc<AsyncFd<File>>, to: Arc<AsyncFd<File>>, delay: Delay) -> [JoinHandle<()>; 2] {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(LINK_FRAMES_MAX);
    let read = tokio::spawn(async move {
        loop {
            let Ok(mut ready) = from.readable().await else { return };
            let mut frame = vec![0; FRAME_BYTES_MAX];
            // Errors of a device that is down pass.
            if let Ok(Ok(length)) = ready.try_io(|fd| fd.get_ref().read(&mut frame)) {
                frame.truncate(length);
                let _ = sender.try_send((Instant::now() + delay.get(), frame));
            }
        }
    });
    let write = tokio::spawn(async move {
        while let Some((due, frame)) = receiver.recv().await {
            sleep_until(due).await;
            let _ = to.get_ref().write(&frame);
        }
    });
    [read, write]
}
