use std::fmt::{Display, Write};

/// A query string in the making.
#[derive(Default)]
pub(crate) struct Query {
    text: String,
}

impl Query {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a parameter if it has a value.
    pub fn optional(mut self, name: &str, value: Option<impl Display>) -> Self {
        if let Some(value) = value {
            self.text.push(if self.text.is_empty() { '?' } else { '&' });
            self.text.push_str(name);
            self.text.push('=');
            self.text.push_str(&Self::escape(&value.to_string()));
        }
        self
    }

    /// The path with this query.
    pub fn onto(self, path: String) -> String {
        path + &self.text
    }

    /// Percent-encodes everything but the unreserved characters of RFC 3986.
    pub fn escape(text: &str) -> String {
        let mut escaped = String::with_capacity(text.len());
        for byte in text.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                escaped.push(char::from(byte));
            } else {
                // Writing to a String cannot fail.
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
        escaped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_joins() {
        let query = Query::new().optional("labelSelector", Some("a in (b,c)")).optional("limit", None::<u32>);
        let query = query.optional("continue", Some("x=/+ä"));
        let path = query.onto("/api/v1/pods".into());
        assert_eq!(path, "/api/v1/pods?labelSelector=a%20in%20%28b%2Cc%29&continue=x%3D%2F%2B%C3%A4");
    }
}
