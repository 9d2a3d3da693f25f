//! The `process` runtime with real processes, in a network namespace of each test's own. The program under
//! test is also the supervisor of its containers, so it has a `main`. Without root it says so and passes.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // starts real processes

use std::{io::Read, net::TcpStream, panic::AssertUnwindSafe, path::Path, process::ExitCode, time::Duration};

use keelstone_agent::runtime::{
    process::{shim_main, ProcessRuntime},
    ContainerPhase, ContainerSpec, ContainerState, Mount, PodIdentity, Runtime, RuntimeError, SandboxSpec,
};
use keelstone_env::Env;
use nix::sched::{unshare, CloneFlags};
use tempfile::TempDir;

/// A test's name and what it does.
type Test = (&'static str, fn(&Bed));

const GRACE: Duration = Duration::from_secs(5);
const WAIT: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if let [_, command, dir] = &words[..] {
        if command == "container-shim" {
            return ExitCode::from(u8::try_from(shim_main(Path::new(dir))).unwrap_or(1));
        }
    }
    if let Some(why) = unusable() {
        println!("skipped: {why}");
        return ExitCode::SUCCESS;
    }
    let filter = words.iter().skip(1).find(|w| !w.starts_with('-')).cloned().unwrap_or_default();
    let tests: [Test; 4] = [
        ("containers_run_tell_and_end", |bed| block_on(containers_run_tell_and_end(bed))),
        ("pods_have_networks_of_their_own", |bed| block_on(pods_have_networks_of_their_own(bed))),
        ("containers_outlive_the_agent", |bed| block_on(containers_outlive_the_agent(bed))),
        ("starts_that_cannot_be_are_told", |bed| block_on(starts_that_cannot_be_are_told(bed))),
    ];
    let mut failed = false;
    for (name, test) in tests.into_iter().filter(|(name, _)| name.contains(&filter)) {
        // Each in a thread with a network of its own; what it starts inherits it.
        let ran = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let bed = Bed::new();
            let result = std::panic::catch_unwind(AssertUnwindSafe(|| test(&bed)));
            block_on(bed.clear());
            result.is_ok()
        });
        let ok = ran.join().unwrap_or(false);
        println!("test {name} ... {}", if ok { "ok" } else { "FAILED" });
        failed |= !ok;
    }
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn unusable() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("not root".into());
    }
    let tried = std::thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)).join();
    match tried {
        Ok(Ok(())) => None,
        other => Some(format!("no namespaces can be made: {other:?}")),
    }
}

fn block_on(future: impl std::future::Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

struct Bed {
    dir: TempDir,
    runtime: ProcessRuntime,
}

fn runtime(dir: &Path) -> ProcessRuntime {
    let program = std::env::current_exe().unwrap();
    ProcessRuntime::new(Env::os(), &dir.join("process"), &program, "kstest0", "10.96.1.0/24").unwrap()
}

impl Bed {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        Self { runtime: runtime(dir.path()), dir }
    }

    fn sandbox(&self, name: &str) -> SandboxSpec {
        SandboxSpec {
            pod: PodIdentity {
                uid: format!("{name}-{}", std::process::id()),
                namespace: "default".into(),
                name: name.into(),
            },
            hostname: name.into(),
            log_dir: self.dir.path().join("logs").join(name),
            ..SandboxSpec::default()
        }
    }

    async fn clear(&self) {
        for sandbox in self.runtime.observe().await.unwrap() {
            self.runtime.remove_sandbox(&sandbox.id).await.unwrap();
        }
    }

    async fn until(&self, id: &str, wish: impl Fn(&ContainerState) -> bool) -> ContainerState {
        let mut last = None;
        let looking = async {
            loop {
                let all = self.runtime.observe().await.unwrap();
                last = all.into_iter().flat_map(|s| s.containers).find(|c| c.id == id);
                if let Some(container) = last.as_ref().filter(|c| wish(c)) {
                    return container.clone();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(WAIT, looking).await {
            Ok(container) => container,
            Err(_) => panic!("container {id} is not as wished but {last:?}"),
        }
    }
}

fn script(name: &str, text: &str) -> ContainerSpec {
    ContainerSpec {
        name: name.into(),
        command: words(&["/bin/sh", "-c", text]),
        log_path: format!("{name}/0.log"),
        ..ContainerSpec::default()
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| (*w).to_owned()).collect()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

async fn containers_run_tell_and_end(bed: &Bed) {
    let spec = bed.sandbox("web");
    let sandbox = bed.runtime.start_sandbox(&spec).await.unwrap();
    let data = bed.dir.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("file"), "from the node\n").unwrap();
    let mount = |path: &str, read_only| Mount {
        host_path: data.clone(),
        container_path: path.into(),
        read_only,
        propagation: "None".into(),
    };
    let text = "trap 'exit 7' TERM; echo $GREETING $0 $(pwd) $$; cat /data/file >&2; hostname; echo x > /rw/made; \
                echo x > /etc/keelstone-was-here; while :; do sleep 0.1; done";
    let container = ContainerSpec {
        env: vec![("GREETING".into(), "hello".into())],
        args: words(&["zero"]),
        working_dir: "/usr".into(),
        mounts: vec![mount("/data", true), mount("/rw", false)],
        ..script("main", text)
    };
    let id = bed.runtime.start_container(&sandbox, &spec, &container).await.unwrap();
    let running = bed.until(&id, |c| c.phase == ContainerPhase::Running).await;
    assert_eq!((running.name.as_str(), running.attempt), ("main", 0));
    let asked = words(&["/bin/sh", "-c", "hostname; echo x > /data/x; cat /etc/keelstone-was-here; exit 3"]);
    let log = spec.log_dir.join("main/0.log");
    let lines = async {
        while !read(&log).contains("stdout F web") || !data.join("made").exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WAIT, lines).await.unwrap_or_else(|_| panic!("{}", read(&log)));
    let output = bed.runtime.exec(&id, &asked, GRACE).await.unwrap();
    let text = String::from_utf8_lossy(&output.output).into_owned();
    assert_eq!(output.exit_code, 3, "{text}");
    assert!(text.starts_with("web\nx\n") && text.contains("Read-only file system"), "{text}");
    assert!(!Path::new("/etc/keelstone-was-here").exists(), "the container wrote to the host");
    let slow = bed.runtime.exec(&id, &words(&["sleep", "20"]), Duration::from_millis(300)).await;
    assert!(slow.unwrap_err().to_string().contains("timed out"));

    bed.runtime.stop_container(&id, GRACE).await.unwrap();
    assert_eq!(bed.until(&id, |c| !c.is_running()).await.exit_code(), Some(7));
    let log = read(&log);
    for (stream, line) in [("stdout F ", "hello zero /usr 1"), ("stderr F ", "from the node"), ("stdout F ", "web")] {
        assert!(log.lines().any(|l| l.ends_with(&format!("{stream}{line}"))), "{line} not in:\n{log}");
    }

    let again = ContainerSpec { attempt: 1, log_path: "main/1.log".into(), ..script("main", "exit 42") };
    let second = bed.runtime.start_container(&sandbox, &spec, &again).await.unwrap();
    assert_eq!(bed.until(&second, |c| !c.is_running()).await.exit_code(), Some(42));
    let deaf =
        ContainerSpec { attempt: 2, log_path: "main/2.log".into(), ..script("main", "trap '' TERM; sleep 1004") };
    let third = bed.runtime.start_container(&sandbox, &spec, &deaf).await.unwrap();
    bed.runtime.stop_container(&third, Duration::from_millis(300)).await.unwrap();
    assert_eq!(bed.until(&third, |c| !c.is_running()).await.exit_code(), Some(137));
    bed.runtime.remove_container(&id).await.unwrap();
    bed.runtime.remove_container(&id).await.unwrap();
    bed.runtime.remove_sandbox(&sandbox).await.unwrap();
    bed.runtime.remove_sandbox(&sandbox).await.unwrap();
    assert_eq!(bed.runtime.observe().await.unwrap(), []);
    assert!(matches!(bed.runtime.exec(&id, &words(&["true"]), GRACE).await, Err(RuntimeError::NotFound(_))));
}

async fn pods_have_networks_of_their_own(bed: &Bed) {
    let mut addresses = Vec::new();
    for name in ["one", "two"] {
        let spec = bed.sandbox(name);
        let sandbox = bed.runtime.start_sandbox(&spec).await.unwrap();
        let served = format!("while :; do echo {name} | busybox nc -l -p 8080; done");
        bed.runtime.start_container(&sandbox, &spec, &script("serve", &served)).await.unwrap();
        let all = bed.runtime.observe().await.unwrap();
        addresses.push((name, all.into_iter().find(|s| s.id == sandbox).unwrap().ip));
    }
    for (name, address) in &addresses {
        assert!(address.starts_with("10.96.1."), "{addresses:?}");
        let answer = async {
            loop {
                let mut text = String::new();
                if let Ok(mut stream) = TcpStream::connect((address.as_str(), 8080)) {
                    let _ = stream.read_to_string(&mut text);
                    return text;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        // The same port in both: each answers for itself.
        assert_eq!(tokio::time::timeout(WAIT, answer).await.unwrap().trim(), *name);
    }
    let sandboxes = bed.runtime.observe().await.unwrap();
    let name = sandboxes[0].id.strip_prefix("process://").unwrap();
    let record = read(&bed.dir.path().join("process").join(name).join("sandbox.json"));
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let namespace = Path::new("/run/netns").join(record["network_namespace"].as_str().unwrap());
    assert!(namespace.exists());
    bed.runtime.stop_sandbox(&sandboxes[0].id).await.unwrap();
    assert!(!namespace.exists(), "{} is left", namespace.display());
    let stopped = &bed.runtime.observe().await.unwrap()[0];
    assert!(!stopped.ready && stopped.ip.is_empty() && !stopped.containers[0].is_running());
    // After the machine was started anew, the other's namespace is gone: it is not taken for ready.
    let name = sandboxes[1].id.strip_prefix("process://").unwrap();
    let record = read(&bed.dir.path().join("process").join(name).join("sandbox.json"));
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let namespace = record["network_namespace"].as_str().unwrap();
    assert!(bed.runtime.observe().await.unwrap()[1].ready);
    assert!(std::process::Command::new("ip").args(["netns", "del", namespace]).status().unwrap().success());
    assert!(!bed.runtime.observe().await.unwrap()[1].ready);
}

async fn containers_outlive_the_agent(bed: &Bed) {
    let spec = bed.sandbox("steady");
    let sandbox = bed.runtime.start_sandbox(&spec).await.unwrap();
    let id = bed.runtime.start_container(&sandbox, &spec, &script("main", "sleep 1005")).await.unwrap();
    let before = bed.until(&id, |c| c.phase == ContainerPhase::Running).await;
    // An agent that is started anew sees the same.
    let fresh = runtime(bed.dir.path());
    let seen = fresh.observe().await.unwrap();
    assert_eq!(seen[0].containers, [before]);
    assert_eq!(seen, bed.runtime.observe().await.unwrap());
    let twin = fresh.start_container(&sandbox, &spec, &script("brief", "exit 5")).await.unwrap();
    assert_eq!(bed.until(&twin, |c| !c.is_running()).await.exit_code(), Some(5));

    // Without its supervisor the container ends too, and is not taken for running.
    let name = sandbox.strip_prefix("process://").unwrap();
    let record = read(&bed.dir.path().join("process").join(name).join("main-0/shim.json"));
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(record["pid"].as_i64().unwrap()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(bed.until(&id, |c| !c.is_running()).await.exit_code(), Some(137));
    let gone = async {
        while alive("sleep\x001005") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(WAIT, gone).await.expect("the process runs without its supervisor");
}

fn alive(mark: &str) -> bool {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let mut lines = entries.filter_map(|e| std::fs::read(e.path().join("cmdline")).ok());
    lines.any(|l| String::from_utf8_lossy(&l).contains(mark))
}

async fn starts_that_cannot_be_are_told(bed: &Bed) {
    let spec = bed.sandbox("wrong");
    let sandbox = bed.runtime.start_sandbox(&spec).await.unwrap();
    let wrong = ContainerSpec { command: words(&["/no/such/program"]), ..script("wrong", "") };
    let error = bed.runtime.start_container(&sandbox, &spec, &wrong).await.unwrap_err().to_string();
    assert!(error.contains("/no/such/program") && error.contains("No such file"), "{error}");
    let none = ContainerSpec { command: Vec::new(), ..script("none", "") };
    let error = bed.runtime.start_container(&sandbox, &spec, &none).await.unwrap_err().to_string();
    assert!(error.contains("needs a command"), "{error}");
    let confined = ContainerSpec {
        run_as_user: Some(1234),
        run_as_group: Some(2345),
        no_new_privileges: true,
        read_only_root: true,
        ..script("confined", "id -u; id -g; grep NoNewPrivs /proc/self/status; touch /x || echo no write")
    };
    let id = bed.runtime.start_container(&sandbox, &spec, &confined).await.unwrap();
    bed.until(&id, |c| c.exit_code() == Some(0)).await;
    let log = read(&spec.log_dir.join("confined/0.log"));
    for expected in ["F 1234", "F 2345", "NoNewPrivs:\t1", "no write"] {
        assert!(log.contains(expected), "{expected} not in:\n{log}");
    }
}
