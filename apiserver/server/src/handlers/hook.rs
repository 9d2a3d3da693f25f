use async_trait::async_trait;
use keelstone_access::admission::{Operation as AccessOperation, Request};
use keelstone_machinery::{meta, status::ApiResult};
use keelstone_registry::{Operation, WriteHook};
use serde_json::Value;

use super::Call;
use crate::allocate::ServiceAllocation;

/// Length of the random end of a generated name, in characters.
const SUFFIX_CHARS: u64 = 5;
const SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Admission and allocation for one request.
pub(super) struct Hook<'a> {
    call: &'a Call<'a>,
    request: Request,
    services: Option<ServiceAllocation>,
}

impl<'a> Hook<'a> {
    pub(super) fn new(call: &'a Call<'a>, dry_run: bool) -> Self {
        let (info, own) = (&call.context.info, call.store.info());
        let request = Request {
            operation: AccessOperation::Update,
            user: call.context.user.clone(),
            group: info.group.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            namespace: if own.namespaced { info.namespace.clone() } else { String::new() },
            name: info.name.clone(),
        };
        let is_service = own.group.is_empty() && own.plural == "services" && info.subresource.is_empty();
        let allocation = || {
            let (pools, storage) = (call.state.pools.clone(), call.store.storage().clone());
            ServiceAllocation::new(pools, storage, dry_run, call.context.now_unix_s)
        };
        let services = is_service.then(allocation);
        Self { call, request, services }
    }

    fn request(&self, operation: Operation, object: Option<&Value>, old: Option<&Value>) -> Request {
        let named = object.or(old).map(meta::name).filter(|name| !name.is_empty());
        let namespace = old.or(object).map(meta::namespace).filter(|n| !n.is_empty());
        let mut request = Request {
            operation: match operation {
                // Subresources such as evictions are created on an object that exists.
                Operation::Create => AccessOperation::Create,
                Operation::Delete => AccessOperation::Delete,
                Operation::Update | Operation::Connect => AccessOperation::Update,
            },
            name: named.unwrap_or(&self.request.name).to_owned(),
            ..self.request.clone()
        };
        if let Some(namespace) = namespace.filter(|_| self.call.store.info().namespaced) {
            request.namespace = namespace.to_owned();
        }
        request
    }

    /// After the write: gives back what was allocated and is not used. A write whose outcome is not known may
    /// have taken effect: the repair loop looks after it.
    pub(super) async fn settle(&self, outcome: Result<&Value, u16>) {
        let Some(services) = &self.services else { return };
        match outcome {
            Ok(object) => services.settle(Some(object)).await,
            Err(code) if code < 500 => services.settle(None).await,
            Err(_) => {}
        }
    }

    /// An allocation is kept under its service's name, so the name is made before it.
    fn name_service(&self, object: &mut Value) {
        if !meta::name(object).is_empty() || meta::generate_name(object).is_empty() {
            return;
        }
        let random = self.call.state.env.random();
        let mut name = meta::generate_name(object).to_owned();
        for _ in 0..SUFFIX_CHARS {
            let index = usize::try_from(random.below(SUFFIX_ALPHABET.len() as u64)).unwrap_or(0);
            name.push(char::from(SUFFIX_ALPHABET[index]));
        }
        meta::set_name(object, &name);
    }
}

#[async_trait]
impl WriteHook for Hook<'_> {
    async fn mutate(&self, operation: Operation, object: &mut Value, old: Option<&Value>) -> ApiResult<()> {
        let request = self.request(operation, Some(object), old);
        self.call.state.admission.mutate(&request, object, old).await?;
        if let Some(services) = &self.services {
            self.name_service(object);
            services.allocate(object, old).await?;
        }
        Ok(())
    }

    async fn validate(&self, operation: Operation, object: Option<&Value>, old: Option<&Value>) -> ApiResult<()> {
        let request = self.request(operation, object, old);
        self.call.state.admission.validate(&request, object, old).await
    }

    async fn written(&self, _operation: Operation, object: Option<&Value>, old: Option<&Value>) {
        if let (Some(services), Some(old)) = (&self.services, old) {
            services.release(object, old).await;
        }
    }
}
