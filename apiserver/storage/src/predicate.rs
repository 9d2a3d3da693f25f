use std::{fmt, sync::Arc};

use serde_json::Value;

type Matches = Arc<dyn Fn(&Value) -> bool + Send + Sync>;

/// Which objects a list or a watch shows: label and field selectors, made by the registry.
#[derive(Clone, Default)]
pub struct Predicate {
    matches: Option<Matches>,
    key: Option<String>,
}

impl Predicate {
    pub fn everything() -> Self {
        Self::default()
    }

    pub fn new(matches: impl Fn(&Value) -> bool + Send + Sync + 'static) -> Self {
        Self { matches: Some(Arc::new(matches)), key: None }
    }

    /// Only the object under this key (relative to the resource) can match: `metadata.name=x` asks for it.
    #[must_use]
    pub fn only_key(mut self, key: String) -> Self {
        self.key = Some(key);
        self
    }

    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    pub fn is_everything(&self) -> bool {
        self.matches.is_none() && self.key.is_none()
    }

    pub fn matches(&self, object: &Value) -> bool {
        self.matches.as_ref().is_none_or(|f| f(object))
    }
}

impl fmt::Debug for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Predicate(all: {}, key: {:?})", self.matches.is_none(), self.key)
    }
}
