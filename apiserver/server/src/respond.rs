use bytes::Bytes;
use http::{header, HeaderValue, Response, StatusCode};
use keelstone_machinery::{codec, status::ApiStatus};
use serde_json::Value;

use crate::{
    body::{self, Body},
    constants::{WARNINGS_MAX, WARNING_BYTES_MAX},
    negotiate::{Encoding, ACCEPTED},
};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const YAML: HeaderValue = HeaderValue::from_static("application/yaml");
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/vnd.kubernetes.protobuf");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// How this request's answers are written.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    pub encoding: Encoding,
    /// Indent JSON for people.
    pub pretty: bool,
}

impl Default for Style {
    fn default() -> Self {
        Self { encoding: Encoding::Json, pretty: false }
    }
}

/// An answer with one object.
pub fn object(code: StatusCode, object: &Value, style: Style) -> Response<Body> {
    match style.encoding {
        Encoding::Json => bytes(code, JSON, to_json(object, style.pretty)),
        Encoding::Yaml => match serde_yaml_ng::to_string(object) {
            Ok(text) => bytes(code, YAML, text.into()),
            Err(error) => status(&ApiStatus::internal(error.to_string()), Style::default()),
        },
        Encoding::Protobuf => match codec::encode_protobuf(object) {
            Ok(encoded) => bytes(code, PROTOBUF, encoded.into()),
            Err(_) => status(&ApiStatus::not_acceptable(&ACCEPTED[..2]), Style::default()),
        },
    }
}

/// An answer with JSON that is encoded already; re-encoded if the style asks for something else.
pub fn encoded(code: StatusCode, json: &Bytes, style: Style) -> Response<Body> {
    if style.encoding == Encoding::Json && !style.pretty {
        return bytes(code, JSON, json.clone());
    }
    match serde_json::from_slice(json) {
        Ok(value) => object(code, &value, style),
        Err(error) => status(&ApiStatus::internal(error.to_string()), Style::default()),
    }
}

/// The answer of an error: a Status in JSON or YAML. Only 429 bears `Retry-After`: client-go silently repeats a
/// 5xx answer that bears one, and its user would wait for minutes to hear that the quorum is lost.
pub fn status(error: &ApiStatus, style: Style) -> Response<Body> {
    let style =
        Style { encoding: if style.encoding == Encoding::Yaml { Encoding::Yaml } else { Encoding::Json }, ..style };
    let code = StatusCode::from_u16(error.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = object(code, &error.to_value(), style);
    if let Some(seconds) = error.retry_after_s().filter(|_| code == StatusCode::TOO_MANY_REQUESTS) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if code == StatusCode::UNAUTHORIZED {
        let realm = HeaderValue::from_static("Bearer realm=\"kubernetes\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
    }
    response
}

pub fn text(code: StatusCode, text: String) -> Response<Body> {
    bytes(code, TEXT, text.into())
}

pub fn json(value: &Value, pretty: bool) -> Response<Body> {
    bytes(StatusCode::OK, JSON, to_json(value, pretty))
}

pub fn bytes(code: StatusCode, content_type: HeaderValue, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(body::full(bytes));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// A stream of JSON documents, one a line.
pub fn json_lines(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

/// Adds `Warning` headers (RFC 7234, code 299), as many as fit.
pub fn add_warnings(response: &mut Response<Body>, warnings: &[String]) {
    let mut bytes_left = WARNING_BYTES_MAX;
    for warning in warnings.iter().take(WARNINGS_MAX) {
        let clean: String = warning.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let text = format!("299 - \"{}\"", clean.replace('\\', "\\\\").replace('"', "\\\""));
        if text.len() > bytes_left {
            return;
        }
        bytes_left -= text.len();
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}

pub fn to_json(value: &Value, pretty: bool) -> Bytes {
    // A `Value` has string keys only and no non-finite numbers, so encoding cannot fail.
    if pretty {
        let mut text = serde_json::to_vec_pretty(value).unwrap_or_default();
        text.push(b'\n');
        text.into()
    } else {
        serde_json::to_vec(value).unwrap_or_default().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_stay_within_their_bounds() {
        let mut response = Response::new(body::empty());
        let warnings: Vec<String> = (0..WARNINGS_MAX + 1).map(|i| format!("w{i}")).collect();
        add_warnings(&mut response, &warnings);
        assert_eq!(response.headers().get_all(header::WARNING).iter().count(), WARNINGS_MAX);

        let mut response = Response::new(body::empty());
        add_warnings(&mut response, &["unknown field \"spec.x\"\n".into(), "y".repeat(WARNING_BYTES_MAX)]);
        let all: Vec<_> = response.headers().get_all(header::WARNING).iter().collect();
        assert_eq!(all, ["299 - \"unknown field \\\"spec.x\\\" \""]);
    }

    #[test]
    fn errors_say_when_to_come_again() {
        let response = status(&ApiStatus::too_many_requests("busy", 1), Style::default());
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        let response = status(&ApiStatus::timeout("no quorum", 1), Style::default());
        assert!(!response.headers().contains_key(header::RETRY_AFTER));
    }
}
