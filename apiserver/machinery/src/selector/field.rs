use crate::status::{ApiResult, ApiStatus};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldOperator {
    Equals,
    NotEquals,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    /// The path: `metadata.name`, `status.phase`.
    pub field: String,
    pub operator: FieldOperator,
    pub value: String,
}

/// A selector over fields; all requirements must hold. Which fields exist is the resource's to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    pub requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    /// Reads `metadata.name=a,status.phase!=Running`; `\\`, `\,` and `\=` escape.
    ///
    /// # Errors
    /// 400 with the text of the API machinery.
    pub fn parse(text: &str) -> ApiResult<Self> {
        let mut requirements = Vec::new();
        for term in terms(text) {
            if term.is_empty() {
                continue;
            }
            requirements.push(requirement(text, term)?);
        }
        Ok(Self { requirements })
    }

    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The value that `field` must have, if the selector asks for one.
    pub fn required(&self, field: &str) -> Option<&str> {
        let of = |r: &&FieldRequirement| r.field == field && r.operator == FieldOperator::Equals;
        self.requirements.iter().find(of).map(|r| r.value.as_str())
    }

    /// Matches; `get` gives the value of a field (empty if it is not set).
    pub fn matches(&self, get: impl Fn(&str) -> String) -> bool {
        self.requirements.iter().all(|r| (get(&r.field) == r.value) == (r.operator == FieldOperator::Equals))
    }
}

/// Splits at commas that are not escaped.
fn terms(text: &str) -> Vec<&str> {
    let (mut out, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        if c == ',' && !escaped {
            out.push(&text[start..at]);
            start = at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    out.push(&text[start..]);
    out
}

fn requirement(selector: &str, term: &str) -> ApiResult<FieldRequirement> {
    let wrong = || ApiStatus::bad_request(format!("invalid selector: {selector:?}; can't understand {term:?}"));
    let at = term.find(['=', '!']).ok_or_else(wrong)?;
    let (field, rest) = term.split_at(at);
    let (operator, value) = if let Some(value) = rest.strip_prefix("!=") {
        (FieldOperator::NotEquals, value)
    } else if let Some(value) = rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')) {
        (FieldOperator::Equals, value)
    } else {
        return Err(wrong());
    };
    let value = unescape(value).ok_or_else(wrong)?;
    Ok(FieldRequirement { field: field.to_owned(), operator, value })
}

/// Removes escapes; `None` for an unescaped `=` or `,` or an unknown escape.
fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next().filter(|c| matches!(c, '\\' | ',' | '='))?),
            ',' | '=' => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_matches() {
        let selector = FieldSelector::parse("metadata.name=a,status.phase!=Running,x==b\\,c\\=").unwrap();
        assert_eq!(selector.required("metadata.name"), Some("a"));
        assert_eq!(selector.required("x"), Some("b,c="));
        assert_eq!(selector.required("status.phase"), None);
        let value = |phase: &'static str| {
            move |field: &str| match field {
                "metadata.name" => "a".to_owned(),
                "status.phase" => phase.to_owned(),
                _ => "b,c=".to_owned(),
            }
        };
        assert!(selector.matches(value("Pending")) && !selector.matches(value("Running")));
        assert!(FieldSelector::parse("").unwrap().is_empty());
        assert_eq!(
            FieldSelector::parse("abc").unwrap_err().message,
            "invalid selector: \"abc\"; can't understand \"abc\""
        );
        assert!(FieldSelector::parse("a=b=c").is_err() && FieldSelector::parse("a!b").is_err());
    }
}
