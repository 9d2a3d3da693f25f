//! The supervisor of one container: makes its namespaces, starts it, writes its log and its exit code.
//! A process of its own with one thread.
#![allow(unsafe_code)] // `pre_exec` runs between fork and exec

use std::{
    fs,
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::SystemTime,
};

use nix::{
    mount::{mount, MsFlags},
    sched::{setns, unshare, CloneFlags},
    unistd::{chdir, chroot, setgid, setgroups, setuid, Gid, Uid},
};

use super::record::{self, ContainerRecord, Exit, Process, Started};
use crate::constants::LOG_LINE_BYTES_MAX;

/// Runs the container of the folder `dir` to its end. The exit code is the shim's own: 0 unless the
/// container could not be started.
pub fn shim_main(dir: &Path) -> i32 {
    match supervise(dir) {
        Ok(exit) => {
            let _ = record::write(&dir.join("exit.json"), &exit);
            0
        }
        Err(error) => {
            let exit = Exit { code: 128, finished_unix_ns: now_unix_ns(), message: error.to_string() };
            let _ = record::write(&dir.join("exit.json"), &exit);
            1
        }
    }
}

fn now_unix_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn supervise(dir: &Path) -> io::Result<Exit> {
    let own = i32::try_from(std::process::id()).map_err(io::Error::other)?;
    let own = Process::of(own).ok_or_else(|| io::Error::other("this process is not in /proc"))?;
    record::write(&dir.join("shim.json"), &own)?;
    let spec: ContainerRecord =
        record::read(&dir.join("spec.json")).ok_or_else(|| io::Error::other("spec.json cannot be read"))?;
    if let Some(folder) = spec.log_file.parent() {
        fs::create_dir_all(folder)?;
    }
    let log = fs::OpenOptions::new().create(true).append(true).open(&spec.log_file)?;
    let root = prepare(dir, &spec)?;
    let mut child = command(&spec, root).spawn().map_err(|e| {
        io::Error::other(format!("cannot start {:?}: {e}", spec.command.first().map_or("", String::as_str)))
    })?;
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    let process = Process::of(pid).unwrap_or(Process { pid, start_ticks: 0 });
    record::write(&dir.join("started.json"), &Started { process, unix_ns: now_unix_ns() })?;
    let out = child.stdout.take().map(|s| (OwnedFd::from(s), "stdout"));
    let err = child.stderr.take().map(|s| (OwnedFd::from(s), "stderr"));
    copy(out.into_iter().chain(err).collect(), log);
    let status = child.wait()?;
    Ok(Exit { code: code(status), finished_unix_ns: now_unix_ns(), message: String::new() })
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(9))
}

/// Makes the namespaces and the file system as the container sees it; returns its root.
fn prepare(dir: &Path, spec: &ContainerRecord) -> io::Result<PathBuf> {
    if !spec.network_namespace.is_empty() {
        let namespace = fs::File::open(Path::new("/run/netns").join(&spec.network_namespace))?;
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
    }
    let own = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC;
    unshare(own)?;
    let nothing: Option<&str> = None;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
    // The scratch layer is in memory: a layer on the host's own file system would lie within what it covers.
    let scratch = dir.join("scratch");
    fs::create_dir_all(&scratch)?;
    mount(Some("tmpfs"), &scratch, Some("tmpfs"), MsFlags::empty(), nothing)?;
    let (upper, work, root) = (scratch.join("upper"), scratch.join("work"), scratch.join("root"));
    for folder in [&upper, &work, &root] {
        fs::create_dir_all(folder)?;
    }
    let layers = format!("lowerdir=/,upperdir={},workdir={}", upper.display(), work.display());
    mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(layers.as_str()))?;
    for shared in ["dev", "sys"] {
        let to = root.join(shared);
        fs::create_dir_all(&to)?;
        mount(Some(&Path::new("/").join(shared)), &to, nothing, MsFlags::MS_BIND | MsFlags::MS_REC, nothing)?;
    }
    fs::create_dir_all(root.join("proc"))?;
    let tmp = root.join("tmp");
    fs::create_dir_all(&tmp)?;
    mount(Some("tmpfs"), &tmp, Some("tmpfs"), MsFlags::empty(), Some("mode=1777"))?;
    for volume in &spec.mounts {
        bind(&root, volume)?;
    }
    if spec.read_only_root {
        let again = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(nothing, &root, nothing, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, nothing)
            .or_else(|_| mount(nothing, &root, nothing, again, nothing))?;
    }
    // SAFETY: the pointer and the length are of one live string.
    if unsafe { libc::sethostname(spec.hostname.as_ptr().cast(), spec.hostname.len()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(root)
}

fn bind(root: &Path, volume: &record::MountRecord) -> io::Result<()> {
    let to = root.join(volume.container_path.trim_start_matches('/'));
    if volume.host_path.is_dir() {
        fs::create_dir_all(&to)?;
    } else if !to.exists() {
        fs::create_dir_all(to.parent().unwrap_or(root))?;
        fs::File::create(&to)?;
    }
    let nothing: Option<&str> = None;
    mount(Some(&volume.host_path), &to, nothing, MsFlags::MS_BIND | MsFlags::MS_REC, nothing)?;
    if volume.read_only {
        let again = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(nothing, &to, nothing, again, nothing)?;
    }
    Ok(())
}

fn command(spec: &ContainerRecord, root: PathBuf) -> Command {
    let mut words = spec.command.iter();
    let mut command = Command::new(words.next().map_or("", String::as_str));
    command.args(words).env_clear().envs(spec.env.iter().cloned());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let folder = if spec.working_dir.is_empty() { "/".to_owned() } else { spec.working_dir.clone() };
    let (user, group) = (spec.user.map(Uid::from_raw), spec.group.map(Gid::from_raw));
    let no_new_privileges = spec.no_new_privileges;
    let groups: Vec<Gid> = spec.supplemental_groups.iter().map(|g| Gid::from_raw(*g)).collect();
    let enter = move || -> io::Result<()> {
        let nothing: Option<&str> = None;
        // The container never outlives its supervisor unseen.
        // SAFETY: prctl with these arguments touches no memory.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
            return Err(io::Error::last_os_error());
        }
        chroot(&root)?;
        chdir(folder.as_str())?;
        // Now in the new PID namespace: /proc shows it.
        mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), nothing)?;
        if user.is_some() || group.is_some() || !groups.is_empty() {
            setgroups(&groups)?;
        }
        if let Some(group) = group {
            setgid(group)?;
        }
        if let Some(user) = user {
            setuid(user)?;
        }
        if no_new_privileges {
            nix::sys::prctl::set_no_new_privs()?;
        }
        // The container ends with its supervisor. Last, as a change of user takes it back.
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
        Ok(())
    };
    // SAFETY: the shim has one thread at this point, so nothing that `enter` needs can be locked.
    unsafe { command.pre_exec(enter) };
    command
}

/// Writes the log until both streams have ended. One thread does it: a process that has left its PID
/// namespace for its children can start no threads (clone(2), EINVAL).
fn copy(streams: Vec<(OwnedFd, &'static str)>, mut log: fs::File) {
    let mut open: Vec<Stream> =
        streams.into_iter().map(|(fd, name)| Stream { file: fs::File::from(fd), name, rest: Vec::new() }).collect();
    while !open.is_empty() {
        let interest = |s: &Stream| libc::pollfd { fd: s.file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let mut polled: Vec<libc::pollfd> = open.iter().map(interest).collect();
        // SAFETY: the pointer and the length are of one live array.
        let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, -1) };
        if ready < 0 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
        let mut events = polled.iter().map(|p| p.revents != 0);
        open.retain_mut(|stream| !events.next().unwrap_or(false) || stream.copy_some(&mut log));
    }
}

/// One output stream of the container, and what has come of a line that is not yet whole.
struct Stream {
    file: fs::File,
    name: &'static str,
    rest: Vec<u8>,
}

impl Stream {
    /// Copies what is there; false at the end of the stream.
    fn copy_some(&mut self, log: &mut fs::File) -> bool {
        let mut piece = [0; LOG_LINE_BYTES_MAX];
        let length = match self.file.read(&mut piece) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(_) => 0,
        };
        self.rest.extend_from_slice(&piece[..length]);
        while let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            self.write(log, &line[..end], 'F');
        }
        if self.rest.len() >= LOG_LINE_BYTES_MAX || (length == 0 && !self.rest.is_empty()) {
            let part = std::mem::take(&mut self.rest);
            self.write(log, &part, if length == 0 { 'F' } else { 'P' });
        }
        length > 0
    }

    /// One line of CRI's format. A log that cannot be written loses lines, never the container.
    fn write(&self, log: &mut fs::File, text: &[u8], tag: char) {
        let time = k8s_openapi::jiff::Timestamp::from_nanosecond(i128::from(now_unix_ns())).unwrap_or_default();
        let mut line = format!("{time:.9} {} {tag} ", self.name).into_bytes();
        line.extend_from_slice(text);
        line.push(b'\n');
        let _ = log.write_all(&line);
    }
}
