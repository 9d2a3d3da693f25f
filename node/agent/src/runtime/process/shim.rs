//! The supervisor of one container: makes its namespaces, starts it, writes its log and its exit code.
//! A process of its own with one thread for each of the two output streams.
#![allow(unsafe_code)] // `pre_exec` runs between fork and exec

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
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
    let log = Arc::new(Mutex::new(log));
    let out = child.stdout.take().map(|s| copy(s, "stdout", log.clone()));
    let err = child.stderr.take().map(|s| copy(s, "stderr", log.clone()));
    let status = child.wait()?;
    for copier in [out, err].into_iter().flatten() {
        let _ = copier.join();
    }
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
    let groups: Vec<Gid> = spec.supplemental_groups.iter().map(|g| Gid::from_raw(*g)).collect();
    let enter = move || -> io::Result<()> {
        let nothing: Option<&str> = None;
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
        Ok(())
    };
    // SAFETY: the shim has one thread at this point, so nothing that `enter` needs can be locked.
    unsafe { command.pre_exec(enter) };
    command
}

fn copy(
    stream: impl Read + Send + 'static,
    name: &'static str,
    log: Arc<Mutex<fs::File>>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut reader = BufReader::with_capacity(LOG_LINE_BYTES_MAX, stream);
        loop {
            let (piece, whole, used) = match reader.fill_buf() {
                Ok([]) | Err(_) => return,
                Ok(available) => match available.iter().position(|b| *b == b'\n') {
                    Some(end) => (available[..end].to_vec(), true, end + 1),
                    None => (available.to_vec(), false, available.len()),
                },
            };
            reader.consume(used);
            let time = k8s_openapi::jiff::Timestamp::from_nanosecond(i128::from(now_unix_ns())).unwrap_or_default();
            let mut line = format!("{time} {name} {} ", if whole { 'F' } else { 'P' }).into_bytes();
            line.extend_from_slice(&piece);
            line.push(b'\n');
            let mut file = log.lock().expect("no panic while a line is written");
            if file.write_all(&line).is_err() {
                return;
            }
        }
    })
}
