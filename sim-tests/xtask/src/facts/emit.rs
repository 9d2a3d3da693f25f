//! Writes the table. Its form is described where it is read: `apiserver/machinery/src/facts/table.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::golang::{marked, marker_values, Body, Field, Package, TypeDecl};

type Packages = BTreeMap<String, Package>;

/// A Go type name and the package that it is written in.
#[derive(Clone)]
struct Scope<'a> {
    packages: &'a Packages,
    /// `core.v1`.
    package: String,
}

/// The whole table: every root kind of every package, and what can be reached from them.
pub fn table(packages: &Packages) -> Result<String, String> {
    let mut lines: BTreeMap<String, String> = BTreeMap::new();
    let mut wanted: Vec<(String, String)> = Vec::new();
    for (name, package) in packages.iter().filter(|(_, p)| !p.referred_only) {
        let kinds = package.types.iter().filter(|(_, decl)| is_root(packages, name, decl));
        wanted.extend(kinds.map(|(kind, _)| (name.clone(), kind.clone())));
    }
    let mut seen: BTreeSet<(String, String)> = wanted.iter().cloned().collect();
    while let Some((package, name)) = wanted.pop() {
        let scope = Scope { packages, package: package.clone() };
        let mut references = BTreeSet::new();
        let block = type_block(&scope, &name, &mut references)?;
        lines.insert(format!("{package}.{name}"), block);
        for reference in references {
            if seen.insert(reference.clone()) {
                wanted.push(reference);
            }
        }
    }
    let mut out = String::from("# Made by `keelstone-xtask facts`; not edited by hand.\n");
    for block in lines.values() {
        out.push_str(block);
    }
    Ok(out)
}

fn is_root(packages: &Packages, package: &str, decl: &TypeDecl) -> bool {
    match &decl.body {
        Body::Struct(fields) => fields.iter().any(|f| f.name.is_empty() && f.go_type.ends_with("TypeMeta")),
        Body::Named(target) => {
            let scope = Scope { packages, package: package.to_owned() };
            target == "metav1.List" && scope.resolve(target).is_some()
        }
    }
}

impl Scope<'_> {
    /// The package and name of a declared type; `None` for Go's own types.
    fn resolve(&self, name: &str) -> Option<(String, String)> {
        match name.split_once('.') {
            None => self.packages[&self.package].types.get(name).map(|_| (self.package.clone(), name.to_owned())),
            Some((alias, name)) => {
                let path = self.packages[&self.package].imports.get(alias)?;
                let mut parts = path.rsplit('/');
                let (version, group) = (parts.next()?, parts.next()?);
                Some((format!("{group}.{version}"), name.to_owned()))
            }
        }
    }

    fn in_package(&self, package: &str) -> Self {
        Self { packages: self.packages, package: package.to_owned() }
    }

    fn decl(&self, name: &str) -> Option<&TypeDecl> {
        self.packages.get(&self.package)?.types.get(name)
    }
}

fn type_block(scope: &Scope, name: &str, references: &mut BTreeSet<(String, String)>) -> Result<String, String> {
    let decl = scope.decl(name).ok_or_else(|| format!("{}.{name} is not declared", scope.package))?;
    let package = &scope.packages[&scope.package];
    let (fields, home) = match &decl.body {
        Body::Struct(fields) => (fields, scope.clone()),
        Body::Named(target) => {
            let (package, name) = scope.resolve(target).ok_or_else(|| format!("{target} is unknown"))?;
            let home = scope.in_package(&package);
            match scope.packages.get(&package).and_then(|p| p.types.get(&name)).map(|d| &d.body) {
                Some(Body::Struct(fields)) => (fields, home),
                _ => return Err(format!("{target} is no struct")),
            }
        }
    };
    let mut out = format!("T {}.{name}", scope.package);
    if is_root(scope.packages, &scope.package, decl) {
        let version = scope.package.rsplit('.').next().unwrap_or_default();
        let group = if scope.package == "meta.v1" { "meta.k8s.io" } else { &package.group };
        let _ = write!(out, " gvk={group}/{version}/{name}");
    }
    if marker_values(&decl.markers, "structType").contains(&"atomic") {
        out.push_str(" atomic");
    }
    out.push('\n');
    for field in fields {
        if let Some(line) = field_line(&home, field, references)? {
            let _ = writeln!(out, "{line}");
        }
    }
    Ok(out)
}

fn field_line(
    scope: &Scope,
    field: &Field,
    references: &mut BTreeSet<(String, String)>,
) -> Result<Option<String>, String> {
    let json = field.tags.get("json").map_or("", String::as_str);
    let mut options = json.split(',');
    let json_name = options.next().unwrap_or_default();
    if json_name == "-" || field.go_type.ends_with("TypeMeta") {
        return Ok(None);
    }
    let number = field.tags.get("protobuf").and_then(|p| p.split(',').nth(1)).unwrap_or("0");
    let kind = kind(scope, &field.go_type, references)?;
    if json_name.is_empty() {
        return Ok(Some(format!("I {number} {}", kind.trim_start_matches('?'))));
    }
    let omit = options.any(|o| o == "omitempty" || o == "omitzero");
    let mut line = format!("F {json_name} {number} {kind}");
    let optional = marked(&field.markers, "optional") || omit;
    if !optional || (marked(&field.markers, "required") && !marked(&field.markers, "optional")) {
        line.push_str(" req");
    }
    if omit {
        line.push_str(" omit");
    }
    for (marker, flag) in [("listType", "list"), ("mapType", "map"), ("structType", "struct")] {
        if let Some(value) = marker_values(&field.markers, marker).last() {
            let _ = write!(line, " {flag}={value}");
        }
    }
    let keys = marker_values(&field.markers, "listMapKey");
    if !keys.is_empty() {
        let _ = write!(line, " keys={}", keys.join(","));
    }
    if let Some(strategy) = field.tags.get("patchStrategy") {
        let _ = write!(line, " patch={strategy}");
    }
    if let Some(key) = field.tags.get("patchMergeKey") {
        let _ = write!(line, " mergekey={key}");
    }
    let values = enumeration(scope, &field.go_type);
    if !values.is_empty() {
        let _ = write!(line, " enum={}", values.join("|").replace(' ', "+"));
    }
    // Last, because the value may hold spaces.
    if let Some(value) = marker_values(&field.markers, "default").last() {
        let _ = write!(line, " default={}", default_value(scope, value)?);
    }
    Ok(Some(line))
}

fn default_value(scope: &Scope, value: &str) -> Result<String, String> {
    let Some(name) = value.strip_prefix("ref(").and_then(|v| v.strip_suffix(')')) else {
        return Ok(value.to_owned());
    };
    let constant = scope.packages[&scope.package].consts.get(name);
    constant.map(|c| format!("\"{c}\"")).ok_or_else(|| format!("const {name} is unknown"))
}

/// The values of an enumeration's type (or of the items of a list of one).
fn enumeration(scope: &Scope, go_type: &str) -> Vec<String> {
    let name = go_type.trim_start_matches('*').trim_start_matches("[]");
    let Some((package, name)) = scope.resolve(name) else { return Vec::new() };
    let Some(package) = scope.packages.get(&package) else { return Vec::new() };
    if !package.types.get(&name).is_some_and(|decl| marked(&decl.markers, "enum")) {
        return Vec::new();
    }
    let names = package.consts_of.get(&name).map_or(&[][..], Vec::as_slice);
    let mut values: Vec<String> = names.iter().map(|n| package.consts[n].clone()).collect();
    values.sort();
    values.dedup();
    values
}

/// Types that have a form of their own on the wire.
fn special(path: &str) -> Option<&'static str> {
    Some(match path {
        "meta.v1.Time" => "time",
        "meta.v1.MicroTime" => "microtime",
        "meta.v1.Duration" => "duration",
        "meta.v1.FieldsV1" => "fields",
        "api.resource.Quantity" => "quantity",
        "util.intstr.IntOrString" => "intorstring",
        "pkg.runtime.RawExtension" => "raw",
        "pkg.types.UID" | "pkg.types.NodeName" | "pkg.types.NamespacedName" => "string",
        _ => return None,
    })
}

/// The table's name of a Go type: `?` for pointers, `[]` lists, `{}` maps of strings, `<>` a named list that is
/// a message of its own in protobuf, `@` structs.
fn kind(scope: &Scope, go_type: &str, references: &mut BTreeSet<(String, String)>) -> Result<String, String> {
    if let Some(inner) = go_type.strip_prefix('*') {
        return Ok(format!("?{}", kind(scope, inner, references)?));
    }
    if go_type == "[]byte" {
        return Ok("bytes".to_owned());
    }
    if let Some(inner) = go_type.strip_prefix("[]") {
        return Ok(format!("[]{}", kind(scope, inner, references)?));
    }
    if let Some(inner) = go_type.strip_prefix("map[").and_then(|r| r.split_once(']')) {
        return Ok(format!("{{}}{}", kind(scope, inner.1, references)?));
    }
    match go_type {
        "string" | "bool" | "int32" | "int64" | "float64" => return Ok(go_type.to_owned()),
        "uint8" => return Ok("int32".to_owned()),
        "interface{}" | "any" => return Ok("any".to_owned()),
        _ => {}
    }
    if let Some((alias, name)) = go_type.split_once('.') {
        let path = scope.packages[&scope.package].imports.get(alias).map_or("", String::as_str);
        let mut parts = path.rsplit('/');
        let (last, before) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if let Some(special) = special(&format!("{before}.{last}.{name}")) {
            return Ok(special.to_owned());
        }
    }
    let unknown = || format!("{}: type {go_type} is unknown", scope.package);
    let short = format!("{}.{go_type}", scope.package);
    if let Some(special) = special(&short) {
        return Ok(special.to_owned());
    }
    let (package, name) = scope.resolve(go_type).ok_or_else(unknown)?;
    let home = scope.in_package(&package);
    match &home.decl(&name).ok_or_else(unknown)?.body {
        Body::Struct(_) => {
            references.insert((package.clone(), name.clone()));
            Ok(format!("@{package}.{name}"))
        }
        Body::Named(target) if target.starts_with("[]") => Ok(format!("<>{}", kind(&home, target, references)?)),
        Body::Named(target) => kind(&home, target, references),
    }
}
