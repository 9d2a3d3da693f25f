use std::sync::{Mutex, PoisonError};

use http::{header, Response};
use keelstone_machinery::{
    apply, codec,
    gvk::GroupVersionKind,
    meta, patch as patches,
    schema::{self, FieldValidation},
    status::{ApiResult, ApiStatus},
};
use keelstone_registry::PatchRequest;
use serde_json::Value;

use super::{decode, hook::Hook, Call};
use crate::{body::Body, context::Context};

/// The four kinds of patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PatchKind {
    Json,
    Merge,
    Strategic,
    Apply,
}

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// A patch as it came, ready to be put on any state of its object.
pub(super) struct Patch {
    kind: PatchKind,
    gvk: GroupVersionKind,
    body: Value,
    duplicates: Vec<String>,
    validation: FieldValidation,
    manager: String,
    force: bool,
    subresource: String,
    now: String,
    warnings: Mutex<Vec<String>>,
}

impl Patch {
    /// Reads a patch.
    ///
    /// # Errors
    /// 400, 413, 415; 422 where `force` or `fieldManager` do not fit.
    pub(super) fn read(
        context: &Context,
        body: &[u8],
        gvk: &GroupVersionKind,
        manager: &str,
        now: String,
    ) -> ApiResult<Self> {
        let kind = match codec::media_type(context.header(header::CONTENT_TYPE)) {
            JSON_PATCH => PatchKind::Json,
            MERGE_PATCH => PatchKind::Merge,
            STRATEGIC_PATCH => PatchKind::Strategic,
            APPLY_PATCH => PatchKind::Apply,
            _ => {
                let accepted = [JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH];
                return Err(ApiStatus::unsupported_media_type(&accepted));
            }
        };
        let force = context.query.flag("force");
        if kind != PatchKind::Apply && context.query.find("force").is_some() {
            return Err(invalid_options("force: Forbidden: may not be specified for non-apply patch"));
        }
        if kind == PatchKind::Apply && context.query.get("fieldManager").is_empty() {
            return Err(invalid_options("fieldManager: Required value: is required for apply patch"));
        }
        let decoded =
            if kind == PatchKind::Apply { codec::decode(codec::YAML, body, None)? } else { codec::decode_json(body)? };
        let fits = if kind == PatchKind::Json { decoded.object.is_array() } else { decoded.object.is_object() };
        if !fits {
            return Err(ApiStatus::bad_request("the patch is not of the form that its content type says"));
        }
        Ok(Self {
            kind,
            gvk: gvk.clone(),
            body: decoded.object,
            duplicates: decoded.duplicates,
            validation: decode::field_validation(context)?,
            manager: manager.to_owned(),
            force,
            subresource: context.info.subresource.clone(),
            now,
            warnings: Mutex::default(),
        })
    }

    pub(super) fn is_apply(&self) -> bool {
        self.kind == PatchKind::Apply
    }

    /// The object after the patch.
    ///
    /// # Errors
    /// What the patch and the schema say; 404 without an object, unless it is an apply.
    pub(super) fn put_on(&self, current: Option<&Value>) -> ApiResult<Value> {
        if self.kind == PatchKind::Apply {
            let mut config = self.body.clone();
            self.check(&mut config)?;
            return apply::apply(&self.gvk, current, &config, &self.manager, self.force, &self.subresource, &self.now);
        }
        let current = current.ok_or_else(ApiStatus::no_such_path)?;
        let mut patched = match self.kind {
            PatchKind::Json => patches::json_patch(current, &self.body)?,
            PatchKind::Merge => patches::merge_patch(current, &self.body)?,
            _ => patches::strategic_merge_patch(&self.gvk, current, &self.body)?,
        };
        self.check(&mut patched)?;
        Ok(patched)
    }

    fn check(&self, object: &mut Value) -> ApiResult<()> {
        let same = |given: &str, wanted: &str| given.is_empty() || given == wanted;
        if !same(meta::kind(object), &self.gvk.kind) || !same(meta::api_version(object), &self.gvk.api_version()) {
            return Ok(());
        }
        let warnings = schema::check_fields(&self.gvk, object, &self.duplicates, self.validation)?;
        *self.warnings.lock().unwrap_or_else(PoisonError::into_inner) = warnings;
        Ok(())
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn invalid_options(what: &str) -> ApiStatus {
    ApiStatus::unprocessable(format!("PatchOptions.meta.k8s.io \"\" is invalid: {what}"))
}

impl Call<'_> {
    pub(super) fn now_rfc3339(&self) -> String {
        meta::now_rfc3339(self.state.env.wall_now())
    }

    pub(super) async fn patch(&self, body: Body) -> ApiResult<Response<Body>> {
        self.context.negotiate(true)?;
        let request = self.context.write_request()?;
        let body = self.read_body(body).await?;
        let gvk = self.store.info().gvk();
        let patch = Patch::read(self.context, &body, &gvk, &request.manager, self.now_rfc3339())?;
        let make = |current: Option<&Value>| patch.put_on(current);
        let hook = Hook::new(self, request.dry_run);
        let how = PatchRequest { make: &make, apply: patch.is_apply() };
        let outcome = self.store.patch(&request, self.list_namespace(), self.name(), &how, &hook).await;
        hook.settle(outcome.as_ref().map(|w| w.object.value()).map_err(|e| e.code)).await;
        self.written(&outcome?, &patch.warnings())
    }
}
