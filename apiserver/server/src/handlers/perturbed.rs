//! What a plan of perturbation changes in the answers of reads, and what it notes of what clients were sent.

use futures::{stream, StreamExt};
use keelstone_machinery::status::{ApiResult, ApiStatus};
use keelstone_registry::ListParams;
use keelstone_storage::{ListPage, StoredObject, WatchEvent, WatchEvents};

use super::{read::list_params, Call};
use crate::perturb::{Perturbed, View};

impl Call<'_> {
    fn perturbed(&self) -> Option<&Perturbed> {
        self.context.perturbed.as_ref()
    }

    /// The store has had this revision by now, whoever asked.
    fn passed(&self, revision: i64) {
        if let Some(perturber) = &self.state.perturber {
            perturber.passed(revision);
        }
    }

    fn resource_name(&self) -> String {
        self.store.info().group_resource().to_string()
    }

    fn view(&self, params: &ListParams) -> View {
        View::new(&self.resource_name(), self.list_namespace(), params)
    }

    /// The revision of an answer that may be old, if the plan wants it old.
    pub(super) fn old_revision(&self, resource_version: &str) -> Option<i64> {
        let perturbed = self.perturbed().filter(|p| resource_version == "0" && !p.trouble.stale.is_zero())?;
        perturbed.perturber.revision_ago(perturbed.trouble.stale)
    }

    /// One object as it was.
    pub(super) async fn get_old(&self, revision: i64) -> ApiResult<StoredObject> {
        let named =
            ListParams { field_selector: format!("metadata.name={}", self.name()), ..list_params(self.context)? };
        let page = self.store.list(self.list_namespace(), &at_revision(&named, revision)).await?;
        let object = page.objects.into_iter().next();
        object.ok_or_else(|| ApiStatus::not_found(&self.store.info().group_resource(), self.name()))
    }

    /// A watch that begins with an old state.
    pub(super) async fn watch_old(&self, params: &ListParams, revision: i64) -> ApiResult<WatchEvents> {
        let list = ListParams { limit: 0, ..at_revision(params, revision) };
        let page = self.store.list(self.list_namespace(), &list).await?;
        let from = ListParams { resource_version: page.revision.to_string(), ..params.clone() };
        let events = self.store.watch(self.list_namespace(), &from).await?;
        Ok(Box::pin(stream::iter(page.objects.into_iter().map(WatchEvent::Added)).chain(events)))
    }

    pub(super) fn watched(&self, events: WatchEvents, params: &ListParams) -> WatchEvents {
        let Some(perturbed) = self.perturbed() else { return events };
        let initial = params.send_initial_events == Some(true);
        let after = params.resource_version.parse().ok().filter(|revision| *revision > 0 && !initial);
        perturbed.watched(events, &self.context.user.name, self.view(params), after)
    }

    pub(super) fn saw(&self, object: &StoredObject) {
        self.passed(object.revision());
        if let Some(perturbed) = self.perturbed() {
            let (user, resource) = (&self.context.user.name, self.resource_name());
            perturbed.perturber.learn(user, |knowledge| knowledge.saw(&resource, object.key(), object.revision()));
        }
    }

    /// A list counts once its last page is sent.
    pub(super) fn saw_list(&self, params: &ListParams, page: &ListPage) {
        if params.resource_version_match != "Exact" {
            self.passed(page.revision);
        }
        if let Some(perturbed) = self.perturbed() {
            if page.continue_token.is_empty() {
                let view = self.view(params);
                perturbed.perturber.learn(&self.context.user.name, |knowledge| {
                    knowledge.set(&view, page.revision, false);
                });
            }
        }
    }

    pub(super) fn wrote(&self, object: &StoredObject) {
        self.passed(object.revision());
        if let Some(perturbed) = self.perturbed() {
            perturbed.wrote(self.state, self.context, &self.resource_name(), object);
        }
    }
}

/// The same question about an old state.
pub(super) fn at_revision(params: &ListParams, revision: i64) -> ListParams {
    ListParams {
        resource_version: revision.to_string(),
        resource_version_match: "Exact".into(),
        allow_watch_bookmarks: false,
        send_initial_events: None,
        ..params.clone()
    }
}
