use std::{collections::BTreeMap, sync::OnceLock};

use bytes::Bytes;
use http::{header, HeaderValue, Response, StatusCode};
use keelstone_machinery::{gvk, openapi, ResourceInfo};
use sha2::{Digest, Sha512};

use crate::{body::Body, negotiate, query::Query, respond};

/// What clients ask for: the older name holds an `@`, which content types must not, so the answer bears the
/// newer name to both.
const V2_PROTOBUF_OLD: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The OpenAPI documents, each made when it is first asked for.
pub struct OpenApi {
    resources: Vec<&'static ResourceInfo>,
    v2_json: OnceLock<Bytes>,
    v2_protobuf: OnceLock<Bytes>,
    v3_index: OnceLock<Bytes>,
    /// By path below `/openapi/v3/`.
    v3: BTreeMap<String, OnceLock<Option<Bytes>>>,
}

impl OpenApi {
    pub fn new(resources: Vec<&'static ResourceInfo>) -> Self {
        let mut v3 = BTreeMap::new();
        for resource in &resources {
            v3.insert(path_of(resource), OnceLock::new());
        }
        Self { resources, v2_json: OnceLock::new(), v2_protobuf: OnceLock::new(), v3_index: OnceLock::new(), v3 }
    }

    /// The answer to a GET below `/openapi`; `None` if there is no such document.
    pub fn answer(&self, path: &str, accept: &str, query: &Query, if_none_match: &str) -> Option<Response<Body>> {
        let path = path.strip_suffix('/').unwrap_or(path);
        match path {
            "/openapi/v2" => Some(self.answer_v2(accept, if_none_match)),
            "/openapi/v3" => {
                let make = || respond::to_json(&openapi::v3_index(&self.resources), false);
                Some(cacheable(self.v3_index.get_or_init(make), JSON, if_none_match))
            }
            _ => {
                let name = path.strip_prefix("/openapi/v3/")?;
                let cell = self.v3.get(name)?;
                let (group, version) = group_version(name)?;
                let make = || {
                    let document = openapi::v3_document(&self.resources, group, version)?;
                    Some(respond::to_json(&document, false))
                };
                let document = cell.get_or_init(make).as_ref()?;
                let mut response = cacheable(document, JSON, if_none_match);
                if query.find("hash").is_some() {
                    let forever = HeaderValue::from_static("public, immutable");
                    response.headers_mut().insert(header::CACHE_CONTROL, forever);
                }
                Some(response)
            }
        }
    }

    fn answer_v2(&self, accept: &str, if_none_match: &str) -> Response<Body> {
        let protobuf =
            negotiate::clauses(accept).iter().any(|c| [V2_PROTOBUF, V2_PROTOBUF_OLD].contains(&c.media_type));
        if protobuf {
            let document = self.v2_protobuf.get_or_init(|| openapi::v2_protobuf(&self.resources).into());
            return cacheable(document, HeaderValue::from_static(V2_PROTOBUF), if_none_match);
        }
        let document = self.v2_json.get_or_init(|| respond::to_json(&openapi::v2_json(&self.resources), false));
        cacheable(document, JSON, if_none_match)
    }
}

/// `api/v1` or `apis/apps/v1`.
fn path_of(resource: &ResourceInfo) -> String {
    let prefix = if resource.group.is_empty() { "api" } else { "apis" };
    format!("{prefix}/{}", gvk::api_version(resource.group, resource.version))
}

fn group_version(name: &str) -> Option<(&str, &str)> {
    match name.strip_prefix("apis/") {
        Some(rest) => rest.split_once('/'),
        None => Some(("", name.strip_prefix("api/")?)),
    }
}

fn cacheable(document: &Bytes, content_type: HeaderValue, if_none_match: &str) -> Response<Body> {
    let hash: String = Sha512::digest(document).iter().map(|b| format!("{b:02X}")).collect();
    let etag = format!("\"{hash}\"");
    let mut response = if if_none_match == etag {
        let mut unchanged = Response::new(crate::body::empty());
        *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
        unchanged
    } else {
        respond::bytes(StatusCode::OK, content_type, document.clone())
    };
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(header::ETAG, etag);
    }
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}
