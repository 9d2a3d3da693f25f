//! Rules for names, keys and values, with the texts of the Kubernetes API. Every function gives the messages
//! of the broken rules; an empty list means valid.

mod metadata;

pub use metadata::{object_meta, object_meta_update};

use std::net::IpAddr;

use crate::constants::{
    DNS_LABEL_BYTES_MAX, DNS_SUBDOMAIN_BYTES_MAX, FIELD_MANAGER_BYTES_MAX, PORT_NAME_BYTES_MAX,
    QUALIFIED_NAME_BYTES_MAX,
};

const LABEL_FMT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const NAME_FMT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const NAME_TEXT: &str =
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

/// `msg (e.g. 'a',  or 'b', regex used for validation is 'fmt')`.
fn with_regex(message: &str, format: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{format}')");
    }
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!("{message} (e.g. {}regex used for validation is '{format}')", examples.join(" or "))
}

fn max_length(bytes_max: usize) -> String {
    format!("must be no more than {bytes_max} characters")
}

/// First and last byte satisfy `edge`, all satisfy `inner`; not empty.
fn shaped(text: &str, edge: fn(u8) -> bool, inner: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => edge(*first) && edge(*last) && bytes.iter().all(|b| inner(*b)),
        _ => false,
    }
}

fn lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn label_byte(b: u8) -> bool {
    lower_alnum(b) || b == b'-'
}

fn alnum(b: u8) -> bool {
    b.is_ascii_alphanumeric()
}

fn name_byte(b: u8) -> bool {
    alnum(b) || matches!(b, b'-' | b'_' | b'.')
}

/// A DNS label (RFC 1123), lower case: Namespace names, container names.
pub fn dns1123_label(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > DNS_LABEL_BYTES_MAX {
        out.push(max_length(DNS_LABEL_BYTES_MAX));
    }
    if !shaped(text, lower_alnum, label_byte) {
        let rule = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
                    start and end with an alphanumeric character";
        out.push(with_regex(rule, LABEL_FMT, &["my-name", "123-abc"]));
    }
    out
}

/// A DNS subdomain (RFC 1123), lower case: most names.
pub fn dns1123_subdomain(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > DNS_SUBDOMAIN_BYTES_MAX {
        out.push(max_length(DNS_SUBDOMAIN_BYTES_MAX));
    }
    if !text.split('.').all(|label| shaped(label, lower_alnum, label_byte)) {
        let rule = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
                    and must start and end with an alphanumeric character";
        out.push(with_regex(rule, &format!("{LABEL_FMT}(\\.{LABEL_FMT})*"), &["example.com"]));
    }
    out
}

/// A DNS label (RFC 1035), which starts with a letter: Service names.
pub fn dns1035_label(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > DNS_LABEL_BYTES_MAX {
        out.push(max_length(DNS_LABEL_BYTES_MAX));
    }
    if !shaped(text, lower_alnum, label_byte) || !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        let rule = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
                    alphabetic character, and end with an alphanumeric character";
        out.push(with_regex(rule, "[a-z]([-a-z0-9]*[a-z0-9])?", &["my-name", "abc-123"]));
    }
    out
}

/// A DNS subdomain, or `*.` and one.
pub fn wildcard_dns1123_subdomain(text: &str) -> Vec<String> {
    let rest = text.strip_prefix("*.");
    if rest.is_some_and(|rest| rest.len() + 2 <= DNS_SUBDOMAIN_BYTES_MAX && dns1123_subdomain(rest).is_empty()) {
        return Vec::new();
    }
    let rule = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must \
                consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
    vec![with_regex(rule, &format!("\\*\\.{LABEL_FMT}(\\.{LABEL_FMT})*"), &["*.example.com"])]
}

/// `[prefix/]name`: the keys of labels and annotations.
pub fn qualified_name(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let (prefix, name) = match text.split_once('/') {
        None => (None, text),
        Some((prefix, name)) if !name.contains('/') => (Some(prefix), name),
        Some(_) => {
            let rule = with_regex(NAME_TEXT, NAME_FMT, &["MyName", "my.name", "123-abc"]);
            let tail = " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a qualified name {rule}{tail}")];
        }
    };
    match prefix {
        Some("") => out.push("prefix part must be non-empty".to_owned()),
        Some(prefix) => out.extend(dns1123_subdomain(prefix).into_iter().map(|m| format!("prefix part {m}"))),
        None => {}
    }
    if name.is_empty() {
        out.push("name part must be non-empty".to_owned());
    } else if name.len() > QUALIFIED_NAME_BYTES_MAX {
        out.push(format!("name part {}", max_length(QUALIFIED_NAME_BYTES_MAX)));
    }
    if !shaped(name, alnum, name_byte) {
        out.push(format!("name part {}", with_regex(NAME_TEXT, NAME_FMT, &["MyName", "my.name", "123-abc"])));
    }
    out
}

/// The value of a label.
pub fn label_value(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > DNS_LABEL_BYTES_MAX {
        out.push(max_length(DNS_LABEL_BYTES_MAX));
    }
    if !text.is_empty() && !shaped(text, alnum, name_byte) {
        let rule = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
                    and must start and end with an alphanumeric character";
        out.push(with_regex(rule, &format!("({NAME_FMT})?"), &["MyValue", "my_value", "12345"]));
    }
    out
}

/// A key of a ConfigMap's or Secret's data.
pub fn config_map_key(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > DNS_SUBDOMAIN_BYTES_MAX {
        out.push(max_length(DNS_SUBDOMAIN_BYTES_MAX));
    }
    if text.is_empty() || !text.bytes().all(name_byte) {
        let rule = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        out.push(with_regex(rule, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"]));
    }
    out.extend(no_parent_directory(text));
    out
}

fn no_parent_directory(text: &str) -> Option<String> {
    match text {
        "." => Some("must not be '.'".to_owned()),
        ".." => Some("must not be '..'".to_owned()),
        _ if text.starts_with("..") => Some("must not start with '..'".to_owned()),
        _ => None,
    }
}

/// The name of an environment variable: printable ASCII without `=`.
pub fn env_var_name(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.is_empty() {
        out.push("environment variable name must be non-empty".to_owned());
    }
    if !text.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=') {
        out.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
                .to_owned(),
        );
    }
    out
}

/// A port number.
pub fn port_number(port: i64) -> Vec<String> {
    in_range(port, 1, 65535)
}

pub fn in_range(value: i64, min: i64, max: i64) -> Vec<String> {
    if (min..=max).contains(&value) {
        return Vec::new();
    }
    vec![format!("must be between {min} and {max}, inclusive")]
}

pub fn non_negative(value: i64) -> Vec<String> {
    if value >= 0 {
        return Vec::new();
    }
    vec!["must be greater than or equal to 0".to_owned()]
}

/// The name of a container port.
pub fn port_name(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > PORT_NAME_BYTES_MAX {
        out.push(max_length(PORT_NAME_BYTES_MAX));
    }
    if !text.bytes().all(label_byte) {
        out.push("must contain only alphanumeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        out.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        out.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        out.push("must not begin or end with a hyphen".to_owned());
    }
    out
}

/// An IP address, v4 or v6.
pub fn ip_address(text: &str) -> Vec<String> {
    if text.parse::<IpAddr>().is_ok() {
        return Vec::new();
    }
    vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()]
}

/// A name that becomes one segment of a URL path, and nothing else is asked of it: RBAC roles.
pub fn path_segment_name(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    ["/", "%"].iter().filter(|c| text.contains(**c)).map(|c| format!("may not contain '{c}'")).collect()
}

/// The path of an HTTP probe and the like: not checked beyond its characters.
pub fn http_header_name(text: &str) -> Vec<String> {
    if !text.is_empty() && text.bytes().all(|b| alnum(b) || b == b'-') {
        return Vec::new();
    }
    let rule = "a valid HTTP header must consist of alphanumeric characters or '-'";
    vec![with_regex(rule, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

/// The `fieldManager` parameter.
pub fn field_manager(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    if text.len() > FIELD_MANAGER_BYTES_MAX {
        out.push(format!("may not be more than {FIELD_MANAGER_BYTES_MAX} bytes"));
    }
    if text.chars().any(char::is_control) {
        out.push("should only contain printable characters".to_owned());
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_of_broken_rules() {
        assert_eq!(
            dns1123_label("A"),
            ["a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
              and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
              '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"]
        );
        assert_eq!(qualified_name("a/"), ["name part must be non-empty", &qualified_name("-")[0]]);
        assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
    }

    #[test]
    fn bounds_hold_at_the_limit() {
        assert!(dns1123_label(&"a".repeat(DNS_LABEL_BYTES_MAX)).is_empty());
        assert_eq!(dns1123_label(&"a".repeat(DNS_LABEL_BYTES_MAX + 1)), ["must be no more than 63 characters"]);
        assert!(dns1123_subdomain(&"a".repeat(DNS_SUBDOMAIN_BYTES_MAX)).is_empty());
        assert_eq!(dns1123_subdomain(&"a".repeat(DNS_SUBDOMAIN_BYTES_MAX + 1)).len(), 1);
        assert!(label_value(&"a".repeat(DNS_LABEL_BYTES_MAX)).is_empty());
        assert_eq!(label_value(&"a".repeat(DNS_LABEL_BYTES_MAX + 1)).len(), 1);
        assert!(qualified_name(&format!("a/{}", "b".repeat(QUALIFIED_NAME_BYTES_MAX))).is_empty());
        assert_eq!(qualified_name(&"b".repeat(QUALIFIED_NAME_BYTES_MAX + 1)).len(), 1);
        assert!(port_name(&"a".repeat(PORT_NAME_BYTES_MAX)).is_empty());
        assert_eq!(port_name(&"a".repeat(PORT_NAME_BYTES_MAX + 1)).len(), 1);
        assert!(field_manager(&"a".repeat(FIELD_MANAGER_BYTES_MAX)).is_empty());
        assert_eq!(field_manager(&"a".repeat(FIELD_MANAGER_BYTES_MAX + 1)).len(), 1);
    }

    #[test]
    fn valid_and_wrong_names() {
        for good in ["a", "a-b", "0", "a.b", "a.b-c.d"] {
            assert!(dns1123_subdomain(good).is_empty(), "{good}");
        }
        for bad in ["", "-a", "a-", "a..b", ".a", "a.", "A", "a_b", "ü"] {
            assert_eq!(dns1123_subdomain(bad).len(), 1, "{bad}");
        }
        assert!(!dns1035_label("1a").is_empty());
        assert!(qualified_name("kubernetes.io/metadata.name").is_empty());
        assert!(!qualified_name("a/b/c").is_empty() && !qualified_name("/b").is_empty());
        assert!(config_map_key("..data").len() == 1 && config_map_key(".ok").is_empty());
        assert!(wildcard_dns1123_subdomain("*.a.b").is_empty() && !wildcard_dns1123_subdomain("a.*").is_empty());
        assert!(path_segment_name("system:node").is_empty() && path_segment_name("a/b%").len() == 2);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,80}") {
            for rule in [dns1123_label, dns1123_subdomain, dns1035_label, qualified_name, label_value, config_map_key,
                env_var_name, port_name, ip_address, path_segment_name, field_manager, wildcard_dns1123_subdomain] {
                let _ = rule(&text);
            }
        }
    }
}
