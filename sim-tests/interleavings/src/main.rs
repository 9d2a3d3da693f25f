//! `keelstone-interleavings`: see the crate.

#[cfg(madsim)]
fn main() -> std::process::ExitCode {
    keelstone_interleavings::command_line::main()
}

#[cfg(not(madsim))]
fn main() -> std::process::ExitCode {
    eprintln!("this build has no madsim in it: use `make madsim`");
    std::process::ExitCode::from(2)
}
