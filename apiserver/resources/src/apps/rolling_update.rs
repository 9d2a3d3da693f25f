//! The numbers of a rolling update: a count, or a percentage of the replicas.

use keelstone_machinery::field::Causes;
use serde_json::Value;

use crate::check;
use crate::json::at;

/// The percentage in `25%`.
pub fn percent(value: &Value) -> Option<i64> {
    let digits = value.as_str()?.strip_suffix('%')?;
    (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

fn number(value: &Value) -> i64 {
    value.as_i64().or_else(|| percent(value)).unwrap_or(0)
}

fn check_number(causes: &mut Causes, path: &str, value: &Value) {
    match value {
        Value::String(_) if percent(value).is_none() => {
            let detail = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or \
                          '93%', regex used for validation is '[0-9]+%')";
            check::invalid(causes, path, value, detail);
        }
        Value::Number(count) => check::not_negative(causes, path, count.as_i64()),
        _ => {}
    }
}

/// Rules of `strategy.rollingUpdate`.
pub fn check(rolling: &Value, path: &str, causes: &mut Causes) {
    let (unavailable, surge) = (at(rolling, "maxUnavailable"), at(rolling, "maxSurge"));
    check_number(causes, &format!("{path}.maxUnavailable"), unavailable);
    check_number(causes, &format!("{path}.maxSurge"), surge);
    if number(unavailable) == 0 && number(surge) == 0 {
        let detail = "may not be 0 when `maxSurge` is 0";
        check::invalid(causes, &format!("{path}.maxUnavailable"), unavailable, detail);
    }
    if percent(unavailable).is_some_and(|p| p > 100) {
        check::invalid(causes, &format!("{path}.maxUnavailable"), unavailable, "must not be greater than 100%");
    }
}
