use std::sync::Arc;

use keelstone_etcd_api::mvccpb::{self, KeyValue};
use keelstone_machinery::{gvk::GroupResource, status::ApiResult};
use serde_json::Value;

use crate::{change::Change, constants::ROOT, envelope, error::corrupt, StoredObject};

/// Applied to every object that is read: fills the defaults of fields that are newer than the object.
pub type Decorate = Arc<dyn Fn(&mut Value) + Send + Sync>;

/// One resource's place in the store.
#[derive(Clone)]
pub struct StorageConfig {
    pub resource: GroupResource,
    pub decorate: Option<Decorate>,
}

impl StorageConfig {
    pub fn new(resource: GroupResource) -> Self {
        Self { resource, decorate: None }
    }

    #[must_use]
    pub fn with_decorate(mut self, decorate: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        self.decorate = Some(Arc::new(decorate));
        self
    }

    /// `/registry/<group or core>/<plural>/`.
    pub fn root(&self) -> String {
        let group = if self.resource.group.is_empty() { "core" } else { &self.resource.group };
        format!("{ROOT}{group}/{}/", self.resource.resource)
    }

    /// Reads an object as stored under `root` + its relative key.
    pub(crate) fn decode(&self, root: &str, kv: &KeyValue) -> ApiResult<StoredObject> {
        let full = String::from_utf8_lossy(&kv.key);
        let key = full.strip_prefix(root).unwrap_or(&full);
        self.decode_value(key, kv.mod_revision, &kv.value).or_else(|e| corrupt(&full, &e))
    }

    /// Fills the defaults and stamps the revision on an object that was just written.
    pub(crate) fn stored(&self, key: &str, revision: i64, mut value: Value) -> StoredObject {
        if let Some(decorate) = &self.decorate {
            decorate(&mut value);
        }
        StoredObject::new(key, revision, value)
    }

    fn decode_value(&self, key: &str, revision: i64, bytes: &[u8]) -> Result<StoredObject, envelope::EnvelopeError> {
        Ok(self.stored(key, revision, envelope::decode(bytes)?))
    }

    /// Reads one event of the store. `None` for the deletion of a key whose last state is not known any more.
    pub(crate) fn decode_event(&self, root: &str, event: &mvccpb::Event) -> ApiResult<Option<Change>> {
        let Some(kv) = &event.kv else { return Ok(None) };
        let old = match &event.prev_kv {
            Some(prev) => Some(self.decode(root, prev)?),
            None => None,
        };
        if event.r#type == i32::from(mvccpb::event::EventType::Delete) {
            return Ok(old.map(|old| Change::new(kv.mod_revision, None, Some(old))));
        }
        Ok(Some(Change::new(kv.mod_revision, Some(self.decode(root, kv)?), old)))
    }
}
