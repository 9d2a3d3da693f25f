use http::{header, HeaderMap, Method};
use keelstone_access::User;
use keelstone_machinery::status::ApiResult;
use keelstone_registry::WriteRequest;

use crate::{
    negotiate::{negotiate, Encoding, Form, Negotiated},
    perturb::Perturbed,
    query::Query,
    request_info::RequestInfo,
    respond::Style,
};

/// The longest field manager name that is made from a User-Agent, in characters.
const MANAGER_CHARS_MAX: usize = 128;

/// One request, read and admitted by the filters; its body is not read yet.
pub struct Context {
    pub info: RequestInfo,
    pub query: Query,
    pub method: Method,
    pub headers: HeaderMap,
    pub user: User,
    /// The wall clock when the request came, seconds since 1970.
    pub now_unix_s: i64,
    /// Set if a plan of perturbation names the user.
    pub perturbed: Option<Perturbed>,
}

impl Context {
    /// A header as text; empty if it is not there or not text.
    pub fn header(&self, name: header::HeaderName) -> &str {
        text_of(&self.headers, name)
    }

    /// Indented JSON for people: `?pretty`, or a browser or curl.
    pub fn pretty(&self) -> bool {
        match self.query.find("pretty") {
            Some(_) => self.query.flag("pretty"),
            None => {
                let agent = self.header(header::USER_AGENT);
                ["curl", "Wget", "Mozilla/5.0"].iter().any(|a| agent.starts_with(a))
            }
        }
    }

    /// The form of the answer; `tables` if the handler can make Tables and partial objects.
    ///
    /// # Errors
    /// 406.
    pub fn negotiate(&self, tables: bool) -> ApiResult<(Style, Form)> {
        let accept: Vec<&str> = self.headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
        let Negotiated { encoding, form } = negotiate(&accept.join(","), tables)?;
        Ok((Style { encoding, pretty: self.pretty() }, form))
    }

    /// How errors are written, whatever the Accept header says.
    pub fn error_style(&self) -> Style {
        let encoding = match self.negotiate(true) {
            Ok((Style { encoding: Encoding::Yaml, .. }, _)) => Encoding::Yaml,
            _ => Encoding::Json,
        };
        Style { encoding, pretty: self.pretty() }
    }

    /// What the registry needs to know of a write.
    ///
    /// # Errors
    /// 422 for an unknown dryRun.
    pub fn write_request(&self) -> ApiResult<WriteRequest> {
        let manager = match self.query.get("fieldManager") {
            "" => {
                let agent = self.header(header::USER_AGENT);
                let name = agent.split('/').next().unwrap_or_default();
                let name = if name.is_empty() { "unknown" } else { name };
                name.chars().filter(|c| !c.is_control()).take(MANAGER_CHARS_MAX).collect()
            }
            manager => manager.to_owned(),
        };
        Ok(WriteRequest {
            user: self.user.name.clone(),
            manager,
            dry_run: self.query.dry_run()?,
            subresource: self.info.subresource.clone(),
        })
    }
}

/// A header as text; empty if it is not there or not text.
pub fn text_of(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
}
