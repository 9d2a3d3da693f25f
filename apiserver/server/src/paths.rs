//! Paths that are not resources: discovery, OpenAPI, health, version, metrics, token keys.

use http::{header, Method, Response, StatusCode};
use keelstone_machinery::status::{ApiResult, ApiStatus};
use serde_json::{json, Value};

use crate::{
    body::Body,
    constants::{GIT_VERSION, VERSION_MAJOR, VERSION_MINOR},
    context::Context,
    health, respond,
    state::State,
};

const WELL_KNOWN: &str = "/.well-known/openid-configuration";
/// What those wrote whom a plan of perturbation names.
const PERTURBATION: &str = "/debug/perturbation";
const JWKS: &str = "/openid/v1/jwks";

/// # Errors
/// 404, 405, 406.
pub async fn answer(state: &State, context: &Context) -> ApiResult<Response<Body>> {
    let path = context.info.path.as_str();
    if context.method != Method::GET && context.method != Method::HEAD {
        return Err(ApiStatus::method_not_allowed());
    }
    let if_none_match = context.header(header::IF_NONE_MATCH);
    let accept = context.header(header::ACCEPT);
    if let Some(discovery) = state.discovery.get() {
        if let Some(response) = discovery.answer(path, accept, if_none_match, context.pretty()) {
            return Ok(response);
        }
    }
    if let Some(response) = health::answer(state, path, &context.query).await {
        return Ok(response);
    }
    if path.starts_with("/openapi/") {
        let response = state.openapi.answer(path, accept, &context.query, if_none_match);
        return response.ok_or_else(ApiStatus::no_such_path);
    }
    match path.strip_suffix('/').unwrap_or(path) {
        "" => Ok(respond::json(&root(state), true)),
        "/version" => Ok(respond::json(&version(), true)),
        "/metrics" => Ok(respond::text(StatusCode::OK, state.metrics.render(state.in_flight.counts()))),
        PERTURBATION => {
            let perturber = state.perturber.as_ref().ok_or_else(ApiStatus::no_such_path)?;
            let report = serde_json::to_value(perturber.report());
            Ok(respond::json(&report.map_err(|error| ApiStatus::internal(error.to_string()))?, true))
        }
        WELL_KNOWN => {
            let issuer = state.authenticator.issuer();
            Ok(respond::json(&issuer.openid_configuration(&jwks_uri(state)), false))
        }
        JWKS => Ok(respond::json(&state.authenticator.issuer().jwks(), false)),
        _ => Err(ApiStatus::no_such_path()),
    }
}

/// What `/version` says.
pub fn version() -> Value {
    json!({
        "major": VERSION_MAJOR, "minor": VERSION_MINOR,
        "emulationMajor": VERSION_MAJOR, "emulationMinor": VERSION_MINOR,
        "minCompatibilityMajor": VERSION_MAJOR, "minCompatibilityMinor": VERSION_MINOR,
        "gitVersion": GIT_VERSION, "gitCommit": "", "gitTreeState": "", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, arch()),
    })
}

/// The architecture under the name that container images use.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn root(state: &State) -> Value {
    let mut paths: Vec<&str> = state.discovery.get().map(|d| d.paths().collect()).unwrap_or_default();
    paths.extend([
        WELL_KNOWN,
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        JWKS,
        "/readyz",
        "/version",
    ]);
    paths.sort_unstable();
    json!({"paths": paths})
}

fn jwks_uri(state: &State) -> String {
    let config = &state.config;
    format!("https://{}:{}{JWKS}", config.advertise_host, config.advertise_port)
}
