//! `facts`: makes the API machinery's table of schema facts from the Go sources of the Kubernetes API types.
//!
//! The two modules are fetched with Go's own client, outside this repository:
//! `go mod download k8s.io/api@v0.37.0 k8s.io/apimachinery@v0.37.0`. Struct tags give JSON names, field numbers
//! and patch strategies; markers in comments give list types, keys, defaults and enumerations; consts give the
//! values of enumerations. No prose is taken over.

mod emit;
mod golang;
mod source;

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: keelstone-xtask facts <k8s.io/api directory> <k8s.io/apimachinery directory> <output file>";

/// Runs the chore with the arguments after its name.
pub fn run(arguments: Vec<String>) -> ExitCode {
    let [api, machinery, output] = arguments.as_slice() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let result = source::read(&PathBuf::from(api), &PathBuf::from(machinery))
        .and_then(|packages| emit::table(&packages))
        .and_then(|table| std::fs::write(output, table).map_err(|error| format!("{output}: {error}")));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
