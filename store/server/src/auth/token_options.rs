use std::collections::BTreeMap;

use crate::StoreError;

/// What etcd's `--auth-token` says: a kind, then `name=value` pairs.
pub(crate) struct TokenOptions {
    pub kind: String,
    values: BTreeMap<String, String>,
}

impl TokenOptions {
    /// # Errors
    /// If a part is not `name=value`, or a name comes twice.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let mut parts = text.split(',');
        let kind = parts.next().unwrap_or_default().to_owned();
        let mut values = BTreeMap::new();
        for part in parts {
            let Some((name, value)) = part.split_once('=') else {
                return Err(invalid(format!("{part:?} is not name=value")));
            };
            if values.insert(name.to_owned(), value.to_owned()).is_some() {
                return Err(invalid(format!("{name:?} is given twice")));
            }
        }
        Ok(Self { kind, values })
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Names that nothing asks for.
    pub fn unknown<'a>(&'a self, known: &'a [&str]) -> impl Iterator<Item = &'a str> {
        self.values.keys().map(String::as_str).filter(|name| !known.contains(name))
    }
}

pub(super) fn invalid(what: impl std::fmt::Display) -> StoreError {
    StoreError::Config(format!("auth token options: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_or_refused() {
        let options = TokenOptions::parse("jwt,pub-key=a.pem,ttl=10m").unwrap();
        assert_eq!((options.kind.as_str(), options.get("pub-key")), ("jwt", Some("a.pem")));
        assert_eq!(options.unknown(&["ttl"]).collect::<Vec<_>>(), ["pub-key"]);
        assert!(TokenOptions::parse("jwt,ttl").is_err());
        assert!(TokenOptions::parse("jwt,ttl=1s,ttl=2s").is_err());
    }
}
