use std::time::Duration;

use http::{Response, StatusCode};
use keelstone_machinery::status::{ApiResult, ApiStatus};
use keelstone_registry::ListParams;
use keelstone_storage::ListPage;
use serde_json::{json, Value};

use super::{perturbed::at_revision, Call};
use crate::{body::Body, context::Context, negotiate::Form, respond, table};

impl Call<'_> {
    pub(super) async fn get(&self) -> ApiResult<Response<Body>> {
        // A form that cannot be made is refused before the store is asked.
        self.context.negotiate(true)?;
        let version = self.context.query.get("resourceVersion");
        let object = match self.old_revision(version) {
            Some(revision) => self.get_old(revision).await?,
            None => self.store.get(self.namespace(), self.name(), version).await?,
        };
        self.saw(&object);
        self.one(StatusCode::OK, &object)
    }

    pub(super) async fn list(&self) -> ApiResult<Response<Body>> {
        self.context.negotiate(true)?;
        let mut params = list_params(self.context)?;
        if let Some(revision) = self.old_revision(&params.resource_version) {
            params = at_revision(&params, revision);
        }
        let page = self.store.list(self.list_namespace(), &params).await?;
        self.saw_list(&params, &page);
        self.page(&page)
    }

    /// Namespaces are not inside themselves.
    pub(super) fn list_namespace(&self) -> &str {
        if self.store.info().namespaced {
            self.namespace()
        } else {
            ""
        }
    }

    /// A list in the form that the client wants.
    pub(super) fn page(&self, page: &ListPage) -> ApiResult<Response<Body>> {
        let (style, form) = self.context.negotiate(true)?;
        let info = self.store.info();
        let values = page.objects.iter().map(|o| o.value());
        Ok(match form {
            Form::Object => {
                let json = page.to_json(&info.gvk().api_version(), &format!("{}List", info.kind));
                respond::encoded(StatusCode::OK, &json, style)
            }
            Form::Partial => respond::object(StatusCode::OK, &table::partial_list(values, metadata(page)), style),
            Form::Table => {
                let include = table::IncludeObject::parse(self.context.query.get("includeObject"))?;
                let now = self.context.now_unix_s;
                let table = table::table(self.store.resource(), values, metadata(page), include, true, now);
                respond::object(StatusCode::OK, &table, style)
            }
        })
    }
}

fn metadata(page: &ListPage) -> Value {
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if !page.continue_token.is_empty() {
        metadata["continue"] = json!(page.continue_token);
        if let Some(remaining) = page.remaining {
            metadata["remainingItemCount"] = json!(remaining);
        }
    }
    metadata
}

/// The parameters of a list or watch.
///
/// # Errors
/// 400 for a number or boolean that is none.
pub(super) fn list_params(context: &Context) -> ApiResult<ListParams> {
    let query = &context.query;
    let text = |key: &str| query.get(key).to_owned();
    let send_initial_events = match query.find("sendInitialEvents") {
        None | Some("") => None,
        Some("true" | "1") => Some(true),
        Some("false" | "0") => Some(false),
        Some(other) => {
            return Err(ApiStatus::bad_request(format!("sendInitialEvents: {other:?} is not a boolean")));
        }
    };
    let timeout = query.number("timeoutSeconds")?.filter(|s| *s > 0);
    Ok(ListParams {
        label_selector: text("labelSelector"),
        field_selector: text("fieldSelector"),
        resource_version: text("resourceVersion"),
        resource_version_match: text("resourceVersionMatch"),
        limit: query.number("limit")?.unwrap_or(0),
        continue_token: text("continue"),
        allow_watch_bookmarks: query.flag("allowWatchBookmarks"),
        send_initial_events,
        timeout: timeout.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs),
    })
}
