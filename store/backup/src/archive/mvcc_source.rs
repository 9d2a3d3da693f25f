use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{stream::BoxStream, StreamExt};
use keelstone_env::Env;
use keelstone_mvcc::{AuthContent, AuthStatus, Mvcc, WatchBatch, WatchSpec};

use super::{Source, SourceError, WatchPart};
use crate::{
    constants::MARK_INTERVAL,
    etcd::{About, EtcdSnapshot},
};

/// The store in this process: what this member has applied.
pub struct MvccSource {
    env: Env,
    mvcc: Arc<Mvcc>,
    cluster_id: u64,
    about: About,
}

impl MvccSource {
    /// `about` is what full backups say beside the state.
    pub fn new(env: Env, mvcc: Arc<Mvcc>, cluster_id: u64, about: About) -> Self {
        Self { env, mvcc, cluster_id, about }
    }
}

fn failed(error: impl std::fmt::Display) -> SourceError {
    SourceError(error.to_string())
}

#[async_trait]
impl Source for MvccSource {
    async fn status(&self) -> Result<(u64, i64), SourceError> {
        Ok((self.cluster_id, self.mvcc.revision()))
    }

    async fn snapshot(&self) -> Result<BoxStream<'static, Result<Bytes, SourceError>>, SourceError> {
        let (mvcc, mut about, env) = (Arc::clone(&self.mvcc), self.about.clone(), self.env.clone());
        let prepare = move || {
            let export = mvcc.export().map_err(failed)?;
            about.applied_index = export.applied().index;
            EtcdSnapshot::new(export, about).map_err(failed)
        };
        let mut snapshot = env.offload(prepare).await?;
        let stream = async_stream::try_stream! {
            loop {
                let read = move || (snapshot.next_bytes(), snapshot);
                let (bytes, rest) = env.offload(read).await;
                snapshot = rest;
                match bytes.map_err(failed)? {
                    Some(bytes) => yield bytes,
                    None => return,
                }
            }
        };
        Ok(stream.boxed())
    }

    async fn watch(&self, start: i64) -> Result<BoxStream<'static, Result<WatchPart, SourceError>>, SourceError> {
        let all = Bytes::from_static(b"\0");
        let spec = WatchSpec { key: all.clone(), range_end: all, start_revision: start, ..WatchSpec::default() };
        let mut watcher = self.mvcc.watch(spec);
        let stream = async_stream::stream! {
            loop {
                let batch = match tokio::time::timeout(MARK_INTERVAL, watcher.next()).await {
                    Ok(batch) => batch,
                    Err(_) => {
                        watcher.request_progress();
                        continue;
                    }
                };
                match batch {
                    Ok(Some(WatchBatch::Events { events, .. })) => yield Ok(WatchPart::Events(events)),
                    Ok(Some(WatchBatch::Progress { revision })) => yield Ok(WatchPart::Progress(revision)),
                    Ok(Some(WatchBatch::Compacted { .. })) => yield Ok(WatchPart::Compacted),
                    Ok(None) => return,
                    Err(error) => {
                        yield Err(failed(error));
                        return;
                    }
                }
            }
        };
        Ok(stream.boxed())
    }

    async fn leases(&self) -> Result<Vec<i64>, SourceError> {
        Ok(self.mvcc.leases().into_iter().map(|lease| lease.id).collect())
    }

    async fn lease_ttl_s(&self, id: i64) -> Result<Option<i64>, SourceError> {
        Ok(self.mvcc.lease(id).map(|lease| lease.ttl_s))
    }

    async fn auth(&self, known: Option<AuthStatus>) -> Result<Option<AuthContent>, SourceError> {
        let users = self.mvcc.auth();
        Ok((known != Some(users.status())).then(|| users.content()))
    }
}
