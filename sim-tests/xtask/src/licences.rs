//! Licences of all dependencies against the policy in `deny.toml` (the file that cargo-deny reads too).
//!
//! cargo-deny does more (advisories, sources), but has to be installed; this needs only what is in the lock file.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::{Command, ExitCode},
};

use serde::Deserialize;
use spdx::{Expression, ParseMode};

#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
}

/// What may be used: licences for all, and more for some.
struct Policy {
    allow: BTreeSet<String>,
    exceptions: BTreeMap<String, BTreeSet<String>>,
}

impl Policy {
    fn parse(text: &str) -> Result<Self, String> {
        let deny: Deny = toml::from_str(text).map_err(|e| format!("deny.toml: {e}"))?;
        let exceptions = deny.licenses.exceptions.into_iter().map(|e| (e.name, e.allow)).collect();
        Ok(Self { allow: deny.licenses.allow, exceptions })
    }

    /// Why `package` may not be used; None if it may.
    fn fault(&self, package: &Package) -> Option<String> {
        let shown = format!("{} {}", package.name, package.version);
        let Some(text) = &package.license else { return Some(format!("{shown} names no licence")) };
        let expression = match Expression::parse_mode(text, ParseMode::LAX) {
            Ok(expression) => expression,
            Err(error) => return Some(format!("{shown}: `{text}` is not a licence expression: {}", error.reason)),
        };
        let more = self.exceptions.get(&package.name);
        let allowed = expression.evaluate(|requirement| {
            requirement
                .license
                .id()
                .is_some_and(|id| self.allow.contains(id.name) || more.is_some_and(|more| more.contains(id.name)))
        });
        (!allowed).then(|| format!("{shown} is under `{text}`, which deny.toml does not allow"))
    }
}

pub fn run() -> ExitCode {
    match check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")) {
        Ok(count) => {
            println!("licences: {count} packages, all allowed");
            ExitCode::SUCCESS
        }
        Err(faults) => {
            faults.iter().for_each(|fault| eprintln!("licences: {fault}"));
            ExitCode::FAILURE
        }
    }
}

/// The number of packages looked at, or what is wrong.
fn check(root: &Path) -> Result<usize, Vec<String>> {
    let text = std::fs::read_to_string(root.join("deny.toml")).map_err(|e| vec![format!("deny.toml: {e}")])?;
    let policy = Policy::parse(&text).map_err(|e| vec![e])?;
    let packages = packages(root).map_err(|e| vec![e])?;
    let faults: Vec<String> = packages.iter().filter_map(|package| policy.fault(package)).collect();
    if faults.is_empty() {
        Ok(packages.len())
    } else {
        Err(faults)
    }
}

fn packages(root: &Path) -> Result<Vec<Package>, String> {
    let asked = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root)
        .output()
        .map_err(|e| format!("cargo metadata: {e}"))?;
    if !asked.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&asked.stderr)));
    }
    let metadata: Metadata = serde_json::from_slice(&asked.stdout).map_err(|e| format!("cargo metadata: {e}"))?;
    Ok(metadata.packages)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, license: Option<&str>) -> Package {
        Package { name: name.into(), version: "1.0.0".into(), license: license.map(Into::into) }
    }

    #[test]
    fn a_choice_needs_one_allowed_side_and_a_sum_both() {
        let policy = Policy::parse("[licenses]\nallow = [\"MIT\", \"ISC\"]\n").unwrap();
        for allowed in ["MIT", "MIT/Apache-2.0", "GPL-2.0-only OR MIT", "MIT AND ISC"] {
            assert_eq!(policy.fault(&package("a", Some(allowed))), None, "{allowed}");
        }
        for refused in ["GPL-2.0-only", "MIT AND GPL-2.0-only", "no such licence"] {
            assert!(policy.fault(&package("a", Some(refused))).is_some(), "{refused}");
        }
        assert!(policy.fault(&package("a", None)).is_some());
    }

    #[test]
    fn an_exception_is_for_its_crate_only() {
        let text = "[licenses]\nallow = [\"MIT\"]\nexceptions = [{ crate = \"b\", allow = [\"MPL-2.0\"] }]\n";
        let policy = Policy::parse(text).unwrap();
        assert_eq!(policy.fault(&package("b", Some("MPL-2.0+"))), None);
        assert!(policy.fault(&package("a", Some("MPL-2.0"))).is_some());
    }

    #[test]
    fn all_dependencies_are_allowed() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        assert!(check(&root).expect("a licence is not allowed") > 100);
    }
}
