//! The `cri` runtime with a real containerd: its own folders, socket, cgroup and network namespace. Where
//! containers cannot run (not root, no containerd) each test says so and passes.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // starts real processes

mod bed;

use std::time::Duration;

use bed::{processes_with, read, script, words, Bed};
use keelstone_agent::runtime::{
    ContainerPhase, ContainerSpec, ContainerState, Mount, Runtime, RuntimeError, SandboxSpec,
};

const GRACE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn containers_run_tell_and_end() {
    let Some(bed) = Bed::new() else { return };
    assert!(bed.runtime.version().await.unwrap().starts_with("containerd://1."));
    let spec = bed.sandbox("web");
    let sandbox = bed.runtime.start_sandbox(&spec).await.unwrap();
    let seen = bed.one("web").await;
    assert!(seen.ready && seen.ip.starts_with("10.97.1."), "{seen:?}");
    assert_eq!((seen.id.as_str(), seen.pod.clone(), seen.attempt), (sandbox.as_str(), spec.pod.clone(), 0));

    let data = bed.dir.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("file"), "from the node").unwrap();
    let container = ContainerSpec {
        env: vec![("GREETING".into(), "hello".into())],
        args: words(&["zero", "one"]),
        working_dir: "/tmp".into(),
        mounts: vec![Mount {
            host_path: data,
            container_path: "/data".into(),
            read_only: true,
            propagation: "None".into(),
        }],
        ..script(
            "main",
            "trap 'exit 7' TERM; echo $GREETING $1 $(pwd); cat /data/file >&2; hostname; while :; do sleep 0.1; done",
        )
    };
    let id = bed.runtime.start_container(&sandbox, &spec, &container).await.unwrap();
    assert!(id.starts_with("containerd://"));
    let running = bed.until(&id, |c| c.phase == ContainerPhase::Running).await;
    assert!(running.started_unix_ns >= running.created_unix_ns && running.created_unix_ns > 0);
    assert_eq!((running.name.as_str(), running.attempt), ("main", 0));
    assert_eq!(running.image, container.image);

    let output = bed.runtime.exec(&id, &words(&["sh", "-c", "touch /data/x; cat /proc/1/comm; exit 3"]), GRACE).await;
    let output = output.unwrap();
    assert_eq!(output.exit_code, 3);
    let text = String::from_utf8_lossy(&output.output).into_owned();
    assert!(text.contains("sh\n") && text.contains("Read-only file system"), "{text}");
    let slow = bed.runtime.exec(&id, &words(&["sleep", "20"]), Duration::from_secs(1)).await;
    assert!(slow.unwrap_err().to_string().contains("timed out"));

    bed.runtime.stop_container(&id, GRACE).await.unwrap();
    let ended = bed.until(&id, |c| !c.is_running()).await;
    assert_eq!(ended.exit_code(), Some(7), "{ended:?}");
    let log = read(&spec.log_dir.join("main/0.log"));
    for (stream, line) in [("stdout", "hello one /tmp"), ("stderr", "from the node"), ("stdout", "web")] {
        assert!(log.lines().any(|l| l.contains(stream) && l.ends_with(line)), "{line} not in:\n{log}");
    }

    // The next run of the same container, which ends by itself.
    let again = ContainerSpec { attempt: 1, log_path: "main/1.log".into(), ..script("main", "exit 42") };
    let second = bed.runtime.start_container(&sandbox, &spec, &again).await.unwrap();
    let ended = bed.until(&second, |c| !c.is_running()).await;
    assert_eq!((ended.exit_code(), ended.attempt), (Some(42), 1));
    assert_eq!(bed.one("web").await.containers.len(), 2);
    bed.runtime.remove_container(&id).await.unwrap();
    bed.runtime.remove_container(&id).await.unwrap();
    assert_eq!(bed.one("web").await.containers.len(), 1);

    bed.runtime.stop_sandbox(&sandbox).await.unwrap();
    let stopped = bed.one("web").await;
    assert!(!stopped.ready && stopped.ip.is_empty());
    bed.runtime.remove_sandbox(&sandbox).await.unwrap();
    bed.runtime.remove_sandbox(&sandbox).await.unwrap();
    assert_eq!(bed.runtime.observe().await.unwrap(), []);
    bed.runtime.stop_container(&id, GRACE).await.unwrap();
    let gone = bed.runtime.exec(&id, &words(&["true"]), GRACE).await;
    assert!(matches!(gone, Err(RuntimeError::NotFound(_))), "{gone:?}");
}

#[tokio::test]
async fn limits_and_confinement_hold() {
    let Some(bed) = Bed::new() else { return };
    let spec = bed.sandbox("tight");
    let sandbox = bed.runtime.start_sandbox(&spec).await.unwrap();
    let hungry = ContainerSpec { memory_limit_bytes: 16 << 20, ..script("hungry", "x=a; while :; do x=$x$x; done") };
    let id = bed.runtime.start_container(&sandbox, &spec, &hungry).await.unwrap();
    let killed = |c: &ContainerState| matches!(&c.phase, ContainerPhase::Exited { code: 137, reason, .. } if reason == "OOMKilled");
    bed.until(&id, killed).await;

    let confined = ContainerSpec {
        run_as_user: Some(1234),
        run_as_group: Some(2345),
        supplemental_groups: vec![3456],
        drop_capabilities: words(&["ALL"]),
        no_new_privileges: true,
        read_only_root: true,
        seccomp_runtime_default: true,
        run_as_non_root: true,
        ..script("confined", "id; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; touch /x || echo no write")
    };
    let id = bed.runtime.start_container(&sandbox, &spec, &confined).await.unwrap();
    bed.until(&id, |c| c.exit_code() == Some(0)).await;
    let log = read(&spec.log_dir.join("confined/0.log"));
    for expected in
        ["uid=1234", "gid=2345", "3456", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2", "no write"]
    {
        assert!(log.contains(expected), "{expected} not in:\n{log}");
    }

    let root = ContainerSpec { run_as_non_root: true, ..script("root", "id") };
    let refused = bed.runtime.start_container(&sandbox, &spec, &root).await.unwrap_err();
    assert_eq!(refused.to_string(), "container has runAsNonRoot and image will run as root");
    for (policy, said) in [("Never", "ErrImageNeverPull"), ("IfNotPresent", "")] {
        let absent = ContainerSpec {
            image: "absent.invalid/none:1".into(),
            image_pull_policy: policy.into(),
            ..script("absent", "true")
        };
        match bed.runtime.start_container(&sandbox, &spec, &absent).await {
            Err(RuntimeError::Image { image, said: why }) => {
                assert_eq!(image, "absent.invalid/none:1");
                assert!(said.is_empty() || why == said, "{why}");
            }
            other => panic!("{other:?}"),
        }
    }
    // A start that failed leaves nothing in the way of the next.
    let wrong = ContainerSpec { command: words(&["/no/such/program"]), ..script("wrong", "") };
    for _ in 0..2 {
        let error = bed.runtime.start_container(&sandbox, &spec, &wrong).await.unwrap_err().to_string();
        assert!(error.contains("no such file"), "{error}");
    }
    assert!(!bed.one("tight").await.containers.iter().any(|c| c.name == "wrong"));
}

#[tokio::test]
async fn containers_outlive_containerd() {
    let Some(mut bed) = Bed::new() else { return };
    let spec = bed.sandbox("steady");
    let sandbox = bed.runtime.start_sandbox(&spec).await.unwrap();
    let id = bed.runtime.start_container(&sandbox, &spec, &script("steady", "sleep 1001")).await.unwrap();
    let brief = script("brief", "sleep 1; exit 9");
    let brief = bed.runtime.start_container(&sandbox, &spec, &brief).await.unwrap();
    let before = bed.until(&id, |c| c.phase == ContainerPhase::Running).await;

    bed.kill();
    let down = bed.runtime.observe().await.unwrap_err();
    assert!(matches!(down, RuntimeError::Unavailable(_)), "{down:?}");
    assert!(!processes_with("sleep 1001").is_empty(), "the container died with containerd");
    tokio::time::sleep(Duration::from_millis(1200)).await;
    bed.start();
    // The old connection is made anew, and an agent that starts sees the same.
    assert_eq!(bed.until(&id, |c| c.is_running()).await, before);
    let fresh = bed.fresh_runtime().observe().await.unwrap();
    assert_eq!(fresh, bed.runtime.observe().await.unwrap());
    assert!(fresh[0].ready && !fresh[0].ip.is_empty());
    // What ended meanwhile is known with its exit code.
    assert_eq!(bed.until(&brief, |c| !c.is_running()).await.exit_code(), Some(9));

    // A start that is repeated, because its answer was lost, finds what the first one made.
    assert_eq!(bed.runtime.start_sandbox(&spec).await.unwrap(), sandbox);
    let repeated = bed.runtime.start_container(&sandbox, &spec, &script("steady", "sleep 1001")).await.unwrap();
    assert_eq!(repeated, id);
    // The name of a sandbox that is down is freed.
    bed.runtime.stop_sandbox(&sandbox).await.unwrap();
    let again = bed.runtime.start_sandbox(&spec).await.unwrap();
    assert_ne!(again, sandbox);
    let all = bed.runtime.observe().await.unwrap();
    assert_eq!(all.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), [again.as_str()]);
}

#[tokio::test]
async fn a_lost_worker_leaves_nothing() {
    let Some(mut bed) = Bed::new() else { return };
    let spec = bed.sandbox("lost");
    let sandbox = bed.runtime.start_sandbox(&spec).await.unwrap();
    let id = bed.runtime.start_container(&sandbox, &spec, &script("lost", "sleep 1002")).await.unwrap();
    let socket = bed.containerd.socket().display().to_string();
    let run_dir = bed.containerd.socket().parent().unwrap().to_owned();
    let cgroup = bed.containerd.cgroup_parent();
    assert!(!processes_with(&socket).is_empty());

    bed.lose();
    assert_eq!(processes_with("sleep 1002"), Vec::<String>::new());
    assert_eq!(processes_with(&socket), Vec::<String>::new());
    // It returns: what ran is known as ended, and can be forgotten.
    bed.start();
    bed.until(&id, |c| !c.is_running()).await;
    assert!(!bed.one("lost").await.ready);
    let next = bed.runtime.start_sandbox(&SandboxSpec { attempt: 1, ..spec.clone() }).await;
    let next = next.unwrap();
    bed.runtime.remove_sandbox(&sandbox).await.unwrap();
    bed.runtime.start_container(&next, &spec, &script("lost", "sleep 1003")).await.unwrap();

    bed.lose();
    bed.clean();
    assert!(!run_dir.exists(), "{} is left", run_dir.display());
    let mounts = read("/proc/self/mounts".as_ref());
    assert!(!mounts.contains(&run_dir.display().to_string()), "{mounts}");
    let cgroup = cgroup.trim_start_matches('/');
    for controller in ["memory", "cpu", "pids", "systemd", "."] {
        let left = std::path::Path::new("/sys/fs/cgroup").join(controller).join(cgroup);
        assert!(!left.exists(), "{} is left", left.display());
    }
}
