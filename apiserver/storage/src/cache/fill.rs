use std::sync::Arc;

use tokio::sync::watch;

use super::resource::ResourceCache;
use crate::{access::StoreAccess, constants::FILL_RETRY_PAUSE, etcd::EtcdStorage, ListOptions};

/// Loads a resource until it succeeds. The feed must be open before the list is read, so that no change falls
/// between the two: `feed_open` becomes the revision at which it was opened.
pub async fn fill(access: Arc<StoreAccess>, cache: Arc<ResourceCache>, mut feed_open: watch::Receiver<Option<i64>>) {
    let direct = EtcdStorage::new(access, cache.config.clone());
    loop {
        // An error means that the feed has ended for good.
        if feed_open.wait_for(Option::is_some).await.is_err() {
            return;
        }
        let generation = cache.fill_generation();
        match direct.list_at("", &ListOptions::default()).await {
            Ok(page) => {
                if cache.end_fill(generation, page.objects, page.revision) {
                    tracing::debug!(resource = %cache.config.resource, revision = page.revision, "cache filled");
                    return;
                }
            }
            Err(error) => {
                tracing::info!(resource = %cache.config.resource, %error, "cache cannot be filled yet");
                tokio::time::sleep(FILL_RETRY_PAUSE).await;
            }
        }
    }
}
