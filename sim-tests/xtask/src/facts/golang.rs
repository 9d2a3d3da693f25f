//! Reads type declarations out of Go source: as much of the language as the API types use.

use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub struct Package {
    /// Import path by the name it has in this package.
    pub imports: BTreeMap<String, String>,
    pub types: BTreeMap<String, TypeDecl>,
    /// The group, from the const `GroupName`.
    pub group: String,
    /// Its kinds are only wanted where another package refers to them.
    pub referred_only: bool,
    /// String consts: value by name, and the names of each type's consts.
    pub consts: BTreeMap<String, String>,
    pub consts_of: BTreeMap<String, Vec<String>>,
}

#[derive(Debug)]
pub struct TypeDecl {
    pub markers: Vec<String>,
    pub body: Body,
}

#[derive(Debug)]
pub enum Body {
    Struct(Vec<Field>),
    /// `type Protocol string`, `type List metav1.List`.
    Named(String),
}

#[derive(Debug)]
pub struct Field {
    /// Empty if embedded.
    pub name: String,
    pub go_type: String,
    pub markers: Vec<String>,
    pub tags: BTreeMap<String, String>,
}

/// Adds a file's declarations to `package`.
pub fn parse(text: &str, package: &mut Package) {
    let mut lines = text.lines();
    let mut markers = Vec::new();
    while let Some(line) = lines.next() {
        let trimmed = line.trim();
        if let Some(comment) = trimmed.strip_prefix("//") {
            if let Some(marker) = comment.trim().strip_prefix('+') {
                markers.push(marker.to_owned());
            }
            continue;
        }
        if line == "import (" {
            imports(&mut lines, package);
        } else if line == "const (" {
            for line in lines.by_ref().take_while(|line| *line != ")") {
                constant(line, package);
            }
        } else if let Some(rest) = line.strip_prefix("const ") {
            constant(rest, package);
        } else if let Some(rest) = line.strip_prefix("type ") {
            declaration(rest, std::mem::take(&mut markers), &mut lines, package);
        } else if trimmed.is_empty() {
            continue;
        }
        markers.clear();
    }
}

fn imports<'a>(lines: &mut impl Iterator<Item = &'a str>, package: &mut Package) {
    for line in lines.take_while(|line| *line != ")") {
        let Some((alias, path)) = line.trim().trim_end_matches('"').split_once('"') else { continue };
        let last = path.rsplit('/').next().unwrap_or(path);
        let alias = if alias.trim().is_empty() { last } else { alias.trim() };
        package.imports.insert(alias.to_owned(), path.to_owned());
    }
}

/// `Name Type = "value"` or `Name = "value"`.
fn constant(line: &str, package: &mut Package) {
    let Some((left, right)) = line.split_once('=') else { return };
    let mut words = left.split_whitespace();
    let (Some(name), type_name) = (words.next(), words.next()) else { return };
    let Some(value) = right.trim().strip_prefix('"').and_then(|v| v.split('"').next()) else { return };
    if name == "GroupName" {
        value.clone_into(&mut package.group);
    }
    package.consts.insert(name.to_owned(), value.to_owned());
    if let Some(type_name) = type_name {
        package.consts_of.entry(type_name.to_owned()).or_default().push(name.to_owned());
    }
}

fn declaration<'a>(rest: &str, markers: Vec<String>, lines: &mut impl Iterator<Item = &'a str>, package: &mut Package) {
    let Some((name, definition)) = rest.split_once(' ') else { return };
    let definition = definition.trim();
    let body = match definition {
        "struct {" => Body::Struct(fields(lines)),
        "struct{}" => Body::Struct(Vec::new()),
        _ => Body::Named(definition.trim_start_matches("= ").split("//").next().unwrap_or_default().trim().to_owned()),
    };
    package.types.insert(name.to_owned(), TypeDecl { markers, body });
}

fn fields<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Vec<Field> {
    let mut out = Vec::new();
    let mut markers = Vec::new();
    for line in lines.take_while(|line| *line != "}") {
        let line = line.trim();
        if let Some(comment) = line.strip_prefix("//") {
            if let Some(marker) = comment.trim().strip_prefix('+') {
                markers.push(marker.to_owned());
            }
            continue;
        }
        let Some((declared, tags)) = line.split_once('`') else { continue };
        let words: Vec<&str> = declared.split_whitespace().collect();
        let (name, go_type) = match words.as_slice() {
            [embedded] => ("", *embedded),
            [name, go_type] => (*name, *go_type),
            _ => continue,
        };
        let tags = tag_map(tags.split('`').next().unwrap_or_default());
        out.push(Field { name: name.into(), go_type: go_type.into(), markers: std::mem::take(&mut markers), tags });
    }
    out
}

/// `json:"a,omitempty" protobuf:"bytes,1"`.
fn tag_map(text: &str) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut rest = text.trim();
    while let Some((key, after)) = rest.split_once(":\"") {
        let Some((value, after)) = after.split_once('"') else { break };
        out.insert(key.trim().to_owned(), value.to_owned());
        rest = after;
    }
    out
}

/// The values of `name=value` among markers, in order.
pub fn marker_values<'a>(markers: &'a [String], name: &str) -> Vec<&'a str> {
    markers.iter().filter_map(|m| m.strip_prefix(name)?.strip_prefix('=').map(str::trim)).collect()
}

/// True if the marker stands alone: `+optional`.
pub fn marked(markers: &[String], name: &str) -> bool {
    markers.iter().any(|m| m.split_whitespace().next() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"
package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const GroupName = "apps"

// +enum
type Color string

const (
	// red.
	Red Color = "Red"
	Blue Color = "Blue"
)

// A thing.
type Thing struct {
	metav1.TypeMeta `json:",inline"`
	// Ports.
	// +optional
	// +listType=map
	// +listMapKey=port
	Ports []Port `json:"ports,omitempty" patchStrategy:"merge" protobuf:"bytes,2,rep,name=ports"`
}
"#;

    #[test]
    fn reads_declarations() {
        let mut package = Package::default();
        parse(SOURCE, &mut package);
        assert_eq!(package.group, "apps");
        assert_eq!(package.imports["metav1"], "k8s.io/apimachinery/pkg/apis/meta/v1");
        assert_eq!(package.consts_of["Color"], ["Red", "Blue"]);
        assert!(marked(&package.types["Color"].markers, "enum"));
        let Body::Struct(fields) = &package.types["Thing"].body else { panic!("no struct") };
        assert_eq!((fields[0].name.as_str(), fields[0].go_type.as_str()), ("", "metav1.TypeMeta"));
        assert_eq!(fields[1].tags["protobuf"], "bytes,2,rep,name=ports");
        assert_eq!(marker_values(&fields[1].markers, "listMapKey"), ["port"]);
        assert!(marked(&fields[1].markers, "optional"));
    }
}
