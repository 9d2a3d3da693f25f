use std::collections::BTreeMap;

use super::{
    duration,
    error::FlagsError,
    table::{self, Flag, Kind},
};

/// What a command line asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    Help,
    Version,
    /// The flags that were given, by name.
    Run(BTreeMap<&'static str, String>),
}

/// Reads a command line as Go's flag package does: `-flag` is `--flag`, a value follows after `=` or as the next
/// argument, a switch stands alone or has its value after `=`, the last of several wins.
///
/// # Errors
/// [`FlagsError::Usage`] on an unknown flag, a missing value, or one that cannot be read;
/// [`FlagsError::Refused`] on what is no flag.
pub fn command_line(arguments: &[String]) -> Result<Asked, FlagsError> {
    let mut given = BTreeMap::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let Some(text) = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) else {
            return Err(FlagsError::Refused(format!("'{argument}' is not a valid flag")));
        };
        if text.is_empty() {
            break;
        }
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        match name {
            "h" | "help" => return Ok(Asked::Help),
            "version" => return Ok(Asked::Version),
            _ => {}
        }
        let flag =
            table::find(name).ok_or_else(|| FlagsError::Usage(format!("flag provided but not defined: -{name}")))?;
        let value = match value {
            Some(value) => value,
            None if flag.kind == Kind::Bool => "true".to_owned(),
            None => {
                rest.next().cloned().ok_or_else(|| FlagsError::Usage(format!("flag needs an argument: -{name}")))?
            }
        };
        check(flag, &value).map_err(|why| match flag.kind {
            Kind::Bool => FlagsError::Usage(format!("invalid boolean value \"{value}\" for -{name}: {why}")),
            _ => FlagsError::Usage(format!("invalid value \"{value}\" for flag -{name}: {why}")),
        })?;
        given.insert(flag.name, value);
    }
    match rest.next() {
        Some(argument) => Err(FlagsError::Refused(format!("'{argument}' is not a valid flag"))),
        None => Ok(Asked::Run(given)),
    }
}

/// Adds what the environment gives; also returns the `ETCD_` variables that no flag has.
///
/// # Errors
/// If a flag is given in both places, as with etcd, or a value cannot be read.
pub fn environment(
    given: &mut BTreeMap<&'static str, String>,
    variables: &BTreeMap<String, String>,
) -> Result<Vec<String>, FlagsError> {
    for flag in table::all() {
        let Some(value) = variables.get(&flag.variable()).filter(|value| !value.is_empty()) else { continue };
        if given.contains_key(flag.name) {
            return Err(FlagsError::Refused(format!(
                "conflicting environment variable \"{}\" is shadowed by corresponding command-line flag (either unset \
                 environment variable or disable flag)",
                flag.variable()
            )));
        }
        check(flag, value)
            .map_err(|why| FlagsError::Refused(format!("invalid value \"{value}\" for {}: {why}", flag.variable())))?;
        given.insert(flag.name, value.clone());
    }
    let known = |name: &str| table::all().any(|flag| flag.variable() == name);
    // Set by unit files for scripts, never flags.
    let other = |name: &str| matches!(name, "ETCD_UNSUPPORTED_ARCH" | "ETCD_VERSION");
    let unknown = variables.keys().filter(|name| name.starts_with("ETCD_") && !known(name) && !other(name));
    Ok(unknown.cloned().collect())
}

/// Whether a flag's text can be read as its kind.
pub(super) fn check(flag: &Flag, value: &str) -> Result<(), String> {
    let readable = match flag.kind {
        Kind::Text => true,
        Kind::Bool => boolean(value).is_some(),
        Kind::Uint => value.parse::<u64>().is_ok(),
        Kind::Duration => duration::parse(value).is_some(),
        Kind::OneOf(values) => return values.contains(&value).then_some(()).ok_or_else(|| "invalid value".to_owned()),
        Kind::Urls => return urls(value).map(drop),
    };
    readable.then_some(()).ok_or_else(|| "parse error".to_owned())
}

/// A switch's text, as Go's `strconv.ParseBool`.
pub(super) fn boolean(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A listener or an address of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// As it was given, without a slash at the end.
    pub text: String,
    pub tls: bool,
    /// `host:port`
    pub address: String,
}

/// Reads comma-separated URLs; empty text is no URL.
pub(super) fn urls(text: &str) -> Result<Vec<Url>, String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(url).collect()
}

fn url(text: &str) -> Result<Url, String> {
    let uri: http::Uri = text.parse().map_err(|error| format!("{error}: {text}"))?;
    let tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(format!("URL scheme must be http or https: {text}")),
    };
    if !matches!(uri.path(), "" | "/") {
        return Err(format!("URL must not contain a path: {text}"));
    }
    match (uri.authority(), uri.port_u16()) {
        (Some(authority), Some(_)) => {
            Ok(Url { text: text.trim_end_matches('/').to_owned(), tls, address: authority.as_str().to_owned() })
        }
        _ => Err(format!("URL address does not have the form \"host:port\": {text}")),
    }
}
