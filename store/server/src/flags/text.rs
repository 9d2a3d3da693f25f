//! What `--help` and `--version` print.

use std::fmt::Write;

use super::table::{Effect, GROUPS};
use crate::constants::ETCD_VERSION;

/// The usage, from the table of flags.
pub fn help() -> String {
    let mut text = String::from(
        "Usage:\n\n  etcd [flags]\n    Start a member of the store.\n\n  etcd --version\n    Show the version of etcd \
         that is stood in for.\n\n  etcd -h | --help\n    Show this.\n\n  etcd --config-file\n    Read all settings \
         from a YAML file; flags and environment variables are then ignored.\n",
    );
    // Writing to a String cannot fail.
    for (group, flags) in GROUPS {
        let _ = write!(text, "\n\n{group}:\n");
        for flag in *flags {
            let _ = writeln!(text, "  --{} '{}'", flag.name, flag.default);
            let _ = match flag.effect {
                Effect::Used => writeln!(text, "    {}", flag.help),
                Effect::Ignored(why) => writeln!(text, "    Ignored: {why}."),
                Effect::Refused(why) => writeln!(text, "    Refused: {why}."),
            };
        }
    }
    text
}

/// In the form that scripts take apart.
pub fn version() -> String {
    let (architecture, system) = (std::env::consts::ARCH, std::env::consts::OS);
    let architecture = match architecture {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let own = env!("CARGO_PKG_VERSION");
    format!(
        "etcd Version: {ETCD_VERSION}\nGit SHA: keelstone-{own}\nGo Version: none\nGo OS/Arch: {system}/{architecture}\n"
    )
}
