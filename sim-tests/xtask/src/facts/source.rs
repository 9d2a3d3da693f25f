//! Which packages are read, and where they lie.

use std::collections::BTreeMap;
use std::path::Path;

use super::golang::{self, Package};

/// The stable group versions, whose kinds the table holds.
const API: &[&str] = &[
    "admissionregistration/v1",
    "apps/v1",
    "authentication/v1",
    "authorization/v1",
    "autoscaling/v1",
    "autoscaling/v2",
    "batch/v1",
    "certificates/v1",
    "coordination/v1",
    "core/v1",
    "discovery/v1",
    "events/v1",
    "flowcontrol/v1",
    "networking/v1",
    "node/v1",
    "policy/v1",
    "rbac/v1",
    "resource/v1",
    "scheduling/v1",
    "storage/v1",
];

/// Packages of which only what the stable ones refer to is taken.
const REFERRED: &[&str] = &["scheduling/v1alpha3"];

/// All packages by their short name: `core.v1`, `meta.v1`.
pub fn read(api: &Path, machinery: &Path) -> Result<BTreeMap<String, Package>, String> {
    let mut packages = BTreeMap::new();
    for name in API.iter().chain(REFERRED) {
        let mut package = package(&api.join(name))?;
        package.referred_only = REFERRED.contains(name);
        packages.insert(name.replace('/', "."), package);
    }
    packages.insert("meta.v1".to_owned(), package(&machinery.join("pkg/apis/meta/v1"))?);
    Ok(packages)
}

fn package(directory: &Path) -> Result<Package, String> {
    let mut out = Package::default();
    for file in ["types.go", "register.go"] {
        let path = directory.join(file);
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        golang::parse(&text, &mut out);
    }
    Ok(out)
}
