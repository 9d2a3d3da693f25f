//! etcd's flags, `ETCD_*` variables and configuration file, so that a unit file, a script or a test bed written for
//! etcd starts a member of this store. Pure: what they name is read by the caller.

pub(crate) mod duration;
mod error;
mod file;
mod read;
mod settings;
pub mod table;
#[cfg(test)]
mod tests;
mod text;

use std::{collections::BTreeMap, io, path::Path};

pub use error::FlagsError;
pub use settings::{LogSettings, Settings, TlsFiles};
pub use text::{help, version};

/// What a command line, with its environment, asks for.
#[derive(Clone, Debug)]
pub enum Command {
    Help,
    Version,
    Run(Box<Settings>),
}

/// Reads flags, then variables, or the configuration file that one of them names and nothing else.
///
/// # Errors
/// See [`FlagsError`].
pub fn parse(
    arguments: &[String],
    variables: &BTreeMap<String, String>,
    read_file: impl Fn(&Path) -> io::Result<String>,
) -> Result<Command, FlagsError> {
    let mut given = match read::command_line(arguments)? {
        read::Asked::Help => return Ok(Command::Help),
        read::Asked::Version => return Ok(Command::Version),
        read::Asked::Run(given) => given,
    };
    let config_file = given.get("config-file").or_else(|| variables.get("ETCD_CONFIG_FILE")).cloned();
    if let Some(path) = config_file.filter(|path| !path.is_empty()) {
        let text = read_file(Path::new(&path)).map_err(|error| FlagsError::Refused(format!("open {path}: {error}")))?;
        let (in_file, unknown) = file::config_file(&text)?;
        let mut settings = Settings::from_flags(&in_file)?;
        settings.notes.push(format!("settings come from {path}; flags and environment variables are ignored"));
        if !unknown.is_empty() {
            settings.notes.push(format!("keys in {path} that mean nothing: {}", unknown.join(", ")));
        }
        return Ok(Command::Run(Box::new(settings)));
    }
    let unknown = read::environment(&mut given, variables)?;
    let mut settings = Settings::from_flags(&given)?;
    if !unknown.is_empty() {
        settings.notes.push(format!("unrecognized environment variables: {}", unknown.join(", ")));
    }
    Ok(Command::Run(Box::new(settings)))
}
