//! Label and field selectors.

mod field;
mod parse;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::meta;
use crate::status::{ApiResult, ApiStatus};
use crate::validation;

pub use field::{FieldOperator, FieldRequirement, FieldSelector};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    In,
    /// Also true for objects without the label.
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One condition; all of a selector's must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: Vec<String>,
}

/// A selector over labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl LabelSelector {
    /// Selects every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Selects no object.
    pub fn nothing() -> Self {
        Self { nothing: true, ..Self::default() }
    }

    /// Reads the form of the query parameter: `app=web,tier!=db,env in (a,b),!old,x>3`.
    ///
    /// # Errors
    /// 400 with the text of the API machinery.
    pub fn parse(text: &str) -> ApiResult<Self> {
        parse::parse(text)
            .map(|requirements| Self { requirements, nothing: false })
            .map_err(|error| ApiStatus::bad_request(format!("unable to parse requirement: {error}")))
    }

    /// Reads a `LabelSelector` object (matchLabels, matchExpressions). A missing selector (`Null`) selects
    /// nothing, an empty one everything.
    ///
    /// # Errors
    /// 400 that names the wrong operator, key or value.
    pub fn from_value(selector: &Value) -> ApiResult<Self> {
        if selector.is_null() {
            return Ok(Self::nothing());
        }
        let mut requirements = Vec::new();
        for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
            let values = vec![value.as_str().unwrap_or_default().to_owned()];
            requirements.push(Requirement::new(key, Operator::In, values)?);
        }
        for expression in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            requirements.push(Requirement::from_value(expression)?);
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements, nothing: false })
    }

    /// Reads a plain map, as a Service's `spec.selector` is; an empty or missing one selects everything.
    pub fn from_map(map: &Value) -> Self {
        let entries = map.as_object().into_iter().flatten();
        let requirements = entries
            .map(|(key, value)| Requirement {
                key: key.clone(),
                operator: Operator::In,
                values: vec![value.as_str().unwrap_or_default().to_owned()],
            })
            .collect();
        Self { requirements, nothing: false }
    }

    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_by(|key| labels.get(key).map(String::as_str))
    }

    /// Matches an object's own labels, without copying them.
    pub fn matches_object(&self, object: &Value) -> bool {
        self.matches_by(|key| meta::label(object, key))
    }

    pub fn matches_by<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(get(&r.key)))
    }
}

impl Requirement {
    /// # Errors
    /// 400 if key, number of values or a value does not fit.
    pub fn new(key: &str, operator: Operator, values: Vec<String>) -> ApiResult<Self> {
        Self::checked(key, operator, values).map_err(ApiStatus::bad_request)
    }

    fn checked(key: &str, operator: Operator, values: Vec<String>) -> Result<Self, String> {
        if let Some(message) = validation::qualified_name(key).first() {
            return Err(format!("key: Invalid value: {key:?}: {message}"));
        }
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                return Err("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty".into());
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                return Err("values: Invalid value: values set must be empty for exists and does not exist".into());
            }
            Operator::GreaterThan | Operator::LessThan => {
                if values.len() != 1 {
                    return Err("values: Invalid value: for 'Gt', 'Lt' operators, exactly one value is required".into());
                }
                if values[0].parse::<i64>().is_err() {
                    return Err(format!(
                        "values[0]: Invalid value: {:?}: for 'Gt', 'Lt' operators, the value must be an integer",
                        values[0]
                    ));
                }
            }
            _ => {}
        }
        for (index, value) in values.iter().enumerate() {
            if let Some(message) = validation::label_value(value).first() {
                return Err(format!("values[{index}][{key}]: Invalid value: {value:?}: {message}"));
            }
        }
        Ok(Self { key: key.to_owned(), operator, values })
    }

    /// Reads one of `matchExpressions`, also a node selector's.
    pub fn from_value(expression: &Value) -> ApiResult<Self> {
        let text = |key: &str| expression.get(key).and_then(Value::as_str).unwrap_or_default();
        let operator = match text("operator") {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            "Gt" => Operator::GreaterThan,
            "Lt" => Operator::LessThan,
            other => return Err(ApiStatus::bad_request(format!("{other:?} is not a valid label selector operator"))),
        };
        let values = expression.get("values").and_then(Value::as_array).into_iter().flatten();
        Self::new(text("key"), operator, values.filter_map(Value::as_str).map(str::to_owned).collect())
    }

    pub fn matches(&self, value: Option<&str>) -> bool {
        let among = |value: &str| self.values.iter().any(|v| v == value);
        match self.operator {
            Operator::In => value.is_some_and(among),
            Operator::NotIn => !value.is_some_and(among),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => self.compares(value, |label, bound| label > bound),
            Operator::LessThan => self.compares(value, |label, bound| label < bound),
        }
    }

    fn compares(&self, value: Option<&str>, test: fn(i64, i64) -> bool) -> bool {
        let number = |text: &str| text.parse::<i64>().ok();
        match (value.and_then(number), self.values.first().and_then(|v| number(v))) {
            (Some(label), Some(bound)) => test(label, bound),
            _ => false,
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::In if self.values.len() == 1 => write!(f, "{key}={values}"),
            Operator::NotIn if self.values.len() == 1 => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

impl fmt::Display for LabelSelector {
    /// The form of the query parameter.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn parsed_selectors_match() {
        let set = labels(&[("app", "web"), ("n", "5"), ("a.b/c", "")]);
        for yes in [
            "",
            "app",
            "app=web",
            "app==web",
            "app!=db",
            "x!=y",
            "!x",
            "app in (db, web)",
            "x notin (y)",
            "n>4,n<6",
            " app = web , a.b/c= ",
            "a.b/c",
            "a.b/c in (,x)",
        ] {
            assert!(LabelSelector::parse(yes).unwrap().matches(&set), "{yes}");
        }
        for no in ["x", "app=db", "app!=web", "!app", "app in (db)", "app notin (web)", "n>5", "x>1", "app>1"] {
            assert!(!LabelSelector::parse(no).unwrap().matches(&set), "{no}");
        }
    }

    #[test]
    fn wrong_selectors_are_bad_requests() {
        for wrong in [
            ",", "a=b,", "a=b=c", "=a", "a in", "a in (", "a in ()x", "a in b", "!a=b", "a>b", "-=x", "a=?", "(", "a b",
        ] {
            let error = LabelSelector::parse(wrong).expect_err(wrong);
            assert_eq!(error.code, 400);
            assert!(error.message.starts_with("unable to parse requirement: "), "{}", error.message);
        }
    }

    #[test]
    fn selector_objects() {
        let selector = json!({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "Exists"}]});
        let selector = LabelSelector::from_value(&selector).unwrap();
        assert_eq!(selector.to_string(), "a=1,b");
        assert!(selector.matches(&labels(&[("a", "1"), ("b", "")])));
        assert!(!LabelSelector::from_value(&Value::Null).unwrap().matches(&labels(&[])));
        assert!(LabelSelector::from_value(&json!({})).unwrap().is_everything());
        let wrong = json!({"matchExpressions": [{"key": "b", "operator": "Is"}]});
        assert_eq!(
            LabelSelector::from_value(&wrong).unwrap_err().message,
            "\"Is\" is not a valid label selector operator"
        );
        assert!(LabelSelector::from_value(&json!({"matchExpressions": [{"key": "b", "operator": "In"}]})).is_err());
    }

    proptest! {
        #[test]
        fn shown_selectors_parse_to_themselves(parts in prop::collection::vec(("[a-z]{1,3}", 0..8_usize, "[0-9]{1,3}"), 0..5)) {
            let texts: Vec<String> = parts.iter().map(|(key, form, value)| match form {
                0 => format!("{key}={value}"),
                1 => format!("{key}!={value}"),
                2 => format!("{key} in ({value},x)"),
                3 => format!("{key} notin ({value},x)"),
                4 => key.clone(),
                5 => format!("!{key}"),
                6 => format!("{key}>{value}"),
                _ => format!("{key}<{value}"),
            }).collect();
            let selector = LabelSelector::parse(&texts.join(",")).unwrap();
            prop_assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector);
        }

        #[test]
        fn no_text_panics(text in "[a-z=!,()<> \\\\é]{0,30}") {
            let _ = LabelSelector::parse(&text);
            let _ = FieldSelector::parse(&text);
        }
    }
}
