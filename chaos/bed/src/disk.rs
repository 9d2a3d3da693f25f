//! A host's own small filesystem: ext4 in a file, mounted through a loop device. It can be filled, and it can lose its
//! power.

use std::{
    fs::{self, File},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use crate::{constants::FULL_LEFT_BYTES, shell, Outcome};

/// `_IOR('X', 125, __u32)`, of linux/fs.h (EXT4_IOC_SHUTDOWN is the same number).
const FS_IOC_SHUTDOWN: libc::c_ulong = 0x8004_587d;
/// Neither the journal nor any page is written any more.
const NO_LOG_FLUSH: u32 = 2;
const BALLAST: &str = "ballast";

#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    mount: PathBuf,
}

impl Disk {
    /// Makes the filesystem in the file `image` and mounts it on `mount`.
    ///
    /// # Errors
    /// No ext4 tools, no loop device, no right to mount.
    pub fn make(image: &Path, mount: &Path, bytes: u64) -> Outcome<Self> {
        File::create(image)?.set_len(bytes)?;
        shell(&["mkfs.ext4", "-q", "-F", "-m", "0", &image.to_string_lossy()])?;
        fs::create_dir_all(mount)?;
        let disk = Self { image: image.to_owned(), mount: mount.to_owned() };
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&self) -> Outcome<()> {
        shell(&["mount", "-o", "loop", &self.image.to_string_lossy(), &self.mount.to_string_lossy()]).map(drop)
    }

    /// Fills the filesystem but for [`FULL_LEFT_BYTES`].
    ///
    /// # Errors
    /// The free space cannot be told, or the file that fills it cannot be made.
    pub fn fill(&self) -> Outcome<()> {
        let free = nix::sys::statvfs::statvfs(&self.mount).map_err(std::io::Error::from)?;
        let free_bytes = free.blocks_available() * free.fragment_size();
        let file = File::create(self.mount.join(BALLAST))?;
        let length = i64::try_from(free_bytes.saturating_sub(FULL_LEFT_BYTES)).unwrap_or(i64::MAX);
        if length > 0 {
            nix::fcntl::posix_fallocate(&file, 0, length).map_err(std::io::Error::from)?;
        }
        Ok(())
    }

    /// Takes back [`Disk::fill`].
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn free(&self) -> Outcome<()> {
        match fs::remove_file(self.mount.join(BALLAST)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Makes all that is on it durable. A filesystem in front of it does not pass such a wish on.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn sync(&self) -> Outcome<()> {
        shell(&["sync", "-f", &self.mount.to_string_lossy()]).map(drop)
    }

    /// From now on nothing reaches the disk: what was not synced is gone. Processes on it get I/O errors until they
    /// end; then [`Disk::power_on`].
    ///
    /// # Errors
    /// The kernel has no such ioctl.
    #[allow(unsafe_code)]
    pub fn power_off(&self) -> Outcome<()> {
        let root = File::open(&self.mount)?;
        let how: u32 = NO_LOG_FLUSH;
        // SAFETY: the descriptor is open, and the argument is a pointer to a u32, as this ioctl wants.
        let answer = unsafe { libc::ioctl(root.as_raw_fd(), FS_IOC_SHUTDOWN, &raw const how) };
        if answer == 0 {
            return Ok(());
        }
        Err(std::io::Error::last_os_error().into())
    }

    /// Mounts the filesystem again: its journal is replayed, as after a loss of power. No process may be on it.
    ///
    /// # Errors
    /// It is still in use, or cannot be mounted.
    pub fn power_on(&self) -> Outcome<()> {
        shell(&["umount", &self.mount.to_string_lossy()])?;
        self.mount()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = shell(&["umount", "-l", &self.mount.to_string_lossy()]);
        let _ = fs::remove_file(&self.image);
    }
}
