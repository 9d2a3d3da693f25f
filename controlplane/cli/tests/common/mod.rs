//! The binary, run by tests.

#![allow(dead_code)] // not every test file needs all of it

use std::{
    net::TcpListener,
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{kill, Signal},
    unistd::Pid,
};

const KEELSTONE: &str = env!("CARGO_BIN_EXE_keelstone");
/// What is waited for at most.
pub const TIME_MAX: Duration = Duration::from_secs(60);

/// A process that ends with the test.
pub struct Running(Child);

impl Running {
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = keelstone(arguments);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    pub fn signal(mut self, signal: Signal) -> ExitStatus {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), signal).unwrap();
        self.0.wait().unwrap()
    }

    /// How it ends by itself.
    pub fn wait(mut self) -> ExitStatus {
        let mut ended = None;
        eventually("the process ends", || {
            ended = self.0.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < TIME_MAX, "this did not come true in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn keelstone(arguments: &[&str]) -> Command {
    let mut command = Command::new(KEELSTONE);
    command.args(arguments).env("KEELSTONE_LOG", "off").stdin(Stdio::null());
    command
}

pub fn run(arguments: &[&str]) -> Output {
    keelstone(arguments).output().unwrap()
}

/// The output of a command that must succeed.
pub fn ok(arguments: &[&str]) -> String {
    let output = run(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// What a command that must fail says.
pub fn fails(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(!output.status.success(), "{arguments:?} succeeds");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// An address that was free a moment ago.
pub fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}
