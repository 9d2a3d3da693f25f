//! The subresources `binding` and `eviction` of pods.

use async_trait::async_trait;
use http::{Response, StatusCode};
use keelstone_machinery::{
    gvk::{GroupResource, GroupVersionKind},
    status::{ApiResult, ApiStatus},
};
use keelstone_registry::{Operation, WriteHook};
use keelstone_resources::{binding, eviction};
use keelstone_storage::{Preconditions, StoredObject, Update, Verdict};
use serde_json::{json, Value};

use super::{decode, delete::eviction_options, hook::Hook, Call};
use crate::{body::Body, respond};

/// A change of a pod that is decided on its current state.
struct Change<F> {
    name: String,
    make: F,
}

#[async_trait]
impl<F: Fn(&mut Value) -> ApiResult<bool> + Send> Update for Change<F> {
    async fn update(&mut self, current: Option<&StoredObject>) -> ApiResult<Verdict> {
        let Some(current) = current else {
            let pods = GroupResource { group: String::new(), resource: "pods".into() };
            return Err(ApiStatus::not_found(&pods, &self.name));
        };
        let mut object = current.value().clone();
        if (self.make)(&mut object)? {
            return Ok(Verdict::Write { object, ttl_s: None });
        }
        Ok(Verdict::Keep)
    }
}

impl Call<'_> {
    fn pod_key(&self) -> String {
        format!("{}/{}", self.namespace(), self.name())
    }

    fn success(&self) -> ApiResult<Response<Body>> {
        let (style, _) = self.context.negotiate(false)?;
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        Ok(respond::object(StatusCode::CREATED, &status, style))
    }

    pub(super) async fn bind(&self, body: Body) -> ApiResult<Response<Body>> {
        let request = self.context.write_request()?;
        let body = self.read_body(body).await?;
        let (body, _) = decode::exactly(self.context, &body, &GroupVersionKind::new("", "v1", "Binding"))?;
        binding::validate(&body, self.name())?;
        let hook = Hook::new(self, request.dry_run);
        hook.validate(Operation::Create, Some(&body), None).await?;
        let now = self.context.now_unix_s;
        let mut change = Change {
            name: self.name().to_owned(),
            make: |pod: &mut Value| binding::apply(&body, pod, now).map(|()| true),
        };
        let storage = self.store.storage();
        storage.update(&self.pod_key(), &Preconditions::default(), &mut change, request.dry_run).await?;
        self.success()
    }

    pub(super) async fn evict(&self, body: Body) -> ApiResult<Response<Body>> {
        let mut request = self.context.write_request()?;
        let body = self.read_body(body).await?;
        let (body, _) = decode::exactly(self.context, &body, &GroupVersionKind::new("policy", "v1", "Eviction"))?;
        let options = eviction_options(eviction::validate(&body, self.name())?)?;
        request.dry_run |= options.dry_run;
        let hook = Hook::new(self, request.dry_run);
        hook.validate(Operation::Create, Some(&body), None).await?;
        let now = self.context.now_unix_s;
        let mut change = Change {
            name: self.name().to_owned(),
            make: |pod: &mut Value| {
                let mark = eviction::must_mark(pod);
                if mark {
                    eviction::mark(pod, now);
                }
                Ok(mark)
            },
        };
        let storage = self.store.storage();
        storage.update(&self.pod_key(), &Preconditions::default(), &mut change, request.dry_run).await?;
        self.store.delete(&request, self.namespace(), self.name(), &options, &hook).await?;
        self.success()
    }
}
