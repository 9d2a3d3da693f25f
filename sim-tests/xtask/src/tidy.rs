//! The tidy test: arrows between crates, file lengths, marks that must not stay, one TLS provider.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

const FILE_LINES_MAX: usize = 1_200;
const FILE_LINES_MEDIAN_MAX: usize = 250;

/// The floors, from the ground: an arrow never points up.
const FLOORS: [&str; 6] = ["store", "apiserver", "node", "controlplane", "sim-tests", "chaos"];

/// Which crates of its own floor a crate may name (docs/architecture.md), beside `keelstone-env`, which all may.
const ARROWS: &[(&str, &[&str])] = &[
    ("madsim", &[]),
    ("env", &["madsim"]),
    ("allocator", &[]),
    ("etcd-api", &[]),
    ("engine", &["env"]),
    ("engine-rocks", &["engine"]),
    ("wal", &["env", "madsim"]),
    ("mvcc", &["engine", "etcd-api", "madsim"]),
    ("raft", &["mvcc", "wal", "etcd-api", "madsim"]),
    ("store-client", &["etcd-api"]),
    ("backup", &["mvcc", "engine", "wal", "etcd-api"]),
    ("store-server", &["raft", "mvcc", "backup", "engine", "engine-rocks", "store-client", "etcd-api"]),
    ("machinery", &[]),
    ("storage", &["machinery", "store-client", "etcd-api"]),
    ("client", &["machinery"]),
    ("registry", &["machinery", "storage"]),
    ("resources", &["machinery", "storage", "registry"]),
    ("access", &["machinery"]),
    ("apiserver", &["machinery", "storage", "registry", "resources", "access", "client", "store-client", "etcd-api"]),
    ("agent", &["machinery", "client"]),
    ("runtime", &["machinery", "client"]),
    ("controllers", &["machinery", "client", "runtime"]),
    ("scheduler", &["machinery", "client", "runtime"]),
];

pub fn run() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let faults = check(&root);
    for fault in &faults {
        eprintln!("tidy: {fault}");
    }
    if faults.is_empty() {
        println!("tidy: nothing to say");
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn check(root: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    check_arrows(root, &mut faults);
    check_files(root, &mut faults);
    check_lock(root, &mut faults);
    faults
}

fn folders(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect();
    found.sort();
    found
}

/// Names of our crates in `[dependencies]` of a manifest; development dependencies may point anywhere
/// that does not close a circle, which cargo itself refuses.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut section = "";
    let mut names = BTreeSet::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if section == "[dependencies]" || is_of_target(section) {
            if let Some(rest) = line.strip_prefix("keelstone-") {
                names.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '-').collect());
            }
        }
    }
    names
}

/// `[target.'cfg(madsim)'.dependencies]`, say.
fn is_of_target(section: &str) -> bool {
    section.starts_with("[target.") && section.ends_with(".dependencies]")
}

fn package_name(manifest: &str) -> String {
    let line = manifest.lines().find(|l| l.starts_with("name")).unwrap_or_default();
    line.split('"').nth(1).unwrap_or_default().trim_start_matches("keelstone-").to_owned()
}

fn check_arrows(root: &Path, faults: &mut Vec<String>) {
    let mut crates: BTreeMap<String, (usize, BTreeSet<String>)> = BTreeMap::new();
    for (height, floor) in FLOORS.iter().enumerate() {
        for folder in folders(&root.join(floor)) {
            let Ok(manifest) = fs::read_to_string(folder.join("Cargo.toml")) else { continue };
            crates.insert(package_name(&manifest), (height, dependencies(&manifest)));
        }
    }
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    for (name, (height, needs)) in &crates {
        for need in needs.iter().filter(|n| *n != "env") {
            let Some((ground, _)) = crates.get(need) else { continue };
            if ground > height {
                faults.push(format!("{name} names {need}, which is on a higher floor"));
            }
            if let Some(list) = allowed.get(name.as_str()) {
                if !list.contains(&need.as_str()) {
                    faults.push(format!("{name} names {need}: no such arrow in docs/architecture.md"));
                }
            } else if *height < 3 {
                faults.push(format!("{name} is not in the table of arrows (xtask/src/tidy.rs)"));
            }
        }
    }
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with(".git") {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn check_files(root: &Path, faults: &mut Vec<String>) {
    let mut files = Vec::new();
    for floor in FLOORS {
        rust_files(&root.join(floor), &mut files);
    }
    let mut lengths = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).unwrap_or_default();
        let lines = text.lines().count();
        lengths.push(lines);
        let shown = file.strip_prefix(root).unwrap_or(file).display();
        let suite = file.components().any(|c| c.as_os_str().to_string_lossy().starts_with("conformance"));
        if lines > FILE_LINES_MAX && !suite {
            faults.push(format!("{shown}: {lines} lines, at most {FILE_LINES_MAX}"));
        }
        // Spelled in two parts, so that this file does not find itself.
        for mark in [concat!("FIX", "ME"), concat!("X", "XX"), concat!("todo", "!("), concat!("unimple", "mented!(")] {
            if text.contains(mark) {
                faults.push(format!("{shown}: has {mark}"));
            }
        }
        if text.contains(concat!("#[ig", "nore]")) {
            faults.push(format!("{shown}: a test is ignored without a reason"));
        }
    }
    lengths.sort_unstable();
    let median = lengths.get(lengths.len() / 2).copied().unwrap_or(0);
    if median > FILE_LINES_MEDIAN_MAX {
        faults.push(format!("the median file has {median} lines, at most {FILE_LINES_MEDIAN_MAX}"));
    }
}

/// Two rustls providers in one build panic at the first handshake: only ring may be in the lock file.
fn check_lock(root: &Path, faults: &mut Vec<String>) {
    let lock = fs::read_to_string(root.join("Cargo.lock")).unwrap_or_default();
    for provider in ["aws-lc-rs", "aws-lc-sys", "rustls-openssl"] {
        if lock.contains(&format!("name = \"{provider}\"")) {
            faults.push(format!("Cargo.lock has {provider}: ring is the only TLS provider"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_tidy() {
        let faults = check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
        assert!(faults.is_empty(), "{faults:#?}");
    }

    #[test]
    fn dependencies_are_read_from_their_section_only() {
        let manifest = "name = \"keelstone-x\"\n[dependencies]\nkeelstone-env.workspace = true\nbytes = \"1\"\n\
                        [target.'cfg(madsim)'.dependencies]\nkeelstone-madsim.workspace = true\n\
                        [dev-dependencies]\nkeelstone-world.workspace = true\n";
        assert_eq!(dependencies(manifest), BTreeSet::from(["env".to_owned(), "madsim".to_owned()]));
        assert_eq!(package_name(manifest), "x");
    }
}
