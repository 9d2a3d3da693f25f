use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use futures::{future::BoxFuture, stream::BoxStream, StreamExt};
use keelstone_env::{DiskFile, Env, OpenMode};
use tokio::{
    sync::{watch, Mutex},
    time::MissedTickBehavior,
};

use super::{
    folder::Folder,
    frame::Frame,
    log::{append, refused, resume, Broken, Log},
    progress::{read_progress, write_progress, Progress},
    segment::SegmentHeader,
    Source, SourceError, WatchPart,
};
use crate::{
    constants::{FLUSH_INTERVAL, FRAME_BYTES, FULLS_KEPT, FULL_INTERVAL, LEASE_INTERVAL, RETRY_PAUSE, SEGMENT_BYTES},
    etcd::EtcdFile,
    BackupError,
};

/// What of a backup may be chosen.
#[derive(Clone, Debug)]
pub struct RecorderOptions {
    pub dir: PathBuf,
    /// Time between full backups.
    pub full_interval: Duration,
    /// Full backups that are kept, at least 1.
    pub keep: usize,
    /// Changes wait for so long at most.
    pub flush_interval: Duration,
    pub segment_bytes: u64,
}

impl RecorderOptions {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            full_interval: FULL_INTERVAL,
            keep: FULLS_KEPT,
            flush_interval: FLUSH_INTERVAL,
            segment_bytes: SEGMENT_BYTES,
        }
    }
}

/// Backs a store up until it is told to stop.
pub struct Recorder {
    env: Env,
    folder: Folder,
    source: Arc<dyn Source>,
    options: RecorderOptions,
    /// Names this run in the folder.
    owner: String,
    progress: watch::Sender<Progress>,
    /// Held while the log is written, so that nothing is under way any more when [`Recorder::run`] returns.
    writing: Arc<Mutex<()>>,
}

impl Recorder {
    /// Prepares the folder and takes it over from whoever wrote there before. Blocks.
    pub fn new(env: Env, source: Arc<dyn Source>, options: RecorderOptions) -> Result<Self, BackupError> {
        let folder = Folder::new(&env, &options.dir);
        folder.create()?;
        folder.remove_unfinished()?;
        let owner = env.random().uuid();
        folder.take_over(&owner)?;
        let progress = watch::Sender::new(Progress { version: 1, ..Progress::default() });
        Ok(Self { env, folder, source, options, owner, progress, writing: Arc::default() })
    }

    /// How far the backup is, from now on.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Runs until `stop` resolves, through failures of the store.
    ///
    /// # Errors
    /// If the folder cannot be written, is damaged, belongs to another cluster, or another backup took it over.
    pub async fn run(&self, stop: impl Future<Output = ()> + Send) -> Result<(), BackupError> {
        let ended = self.run_until(stop).await;
        drop(self.writing.lock().await);
        ended
    }

    async fn run_until(&self, stop: impl Future<Output = ()> + Send) -> Result<(), BackupError> {
        tokio::pin!(stop);
        loop {
            let broken = tokio::select! {
                biased;
                () = &mut stop => return Ok(()),
                broken = self.session() => broken,
            };
            match broken {
                Ok(never) => match never {},
                Err(Broken::Backup(error)) => return Err(error),
                Err(Broken::Source(error)) => {
                    tracing::info!(%error, "the backup lost the store and tries again");
                    self.progress.send_modify(|progress| progress.error = Some(error.to_string()));
                }
            }
            tokio::select! {
                biased;
                () = &mut stop => return Ok(()),
                () = tokio::time::sleep(RETRY_PAUSE) => {}
            }
        }
    }

    /// Takes one full backup, and nothing else. Returns its revision.
    pub async fn full_once(&self) -> Result<i64, BackupError> {
        let full = async {
            self.check_cluster().await?;
            self.full().await
        };
        match full.await {
            Ok(revision) => Ok(revision),
            Err(Broken::Backup(error)) => Err(error),
            Err(Broken::Source(error)) => Err(BackupError::refused(error.to_string())),
        }
    }

    /// One connection to the store, until it breaks.
    async fn session(&self) -> Result<std::convert::Infallible, Broken> {
        let cluster_id = self.check_cluster().await?;
        let mut log = self.resume().await?;
        let fulls = self.blocking(Folder::fulls).await?;
        if fulls.is_empty() {
            log = self.begin_chain().await?;
        }
        let mut next_full = self.env.now() + self.until_next_full(fulls.last().map(|full| full.unix_ms));
        self.check_not_behind(&log).await?;
        self.compare_leases(&mut log).await?;
        let mut changes = self.source.watch(log.through + 1).await?;
        let mut tick = tokio::time::interval(self.options.flush_interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_leases = self.env.now() + LEASE_INTERVAL;
        // A new full backup is taken beside the log.
        let mut full: Option<BoxFuture<'_, Result<i64, Broken>>> = None;
        loop {
            tokio::select! {
                biased;
                now = tick.tick() => {
                    self.flush(&mut log, cluster_id).await?;
                    if now >= next_leases {
                        next_leases = now + LEASE_INTERVAL;
                        self.compare_leases(&mut log).await?;
                    }
                    if full.is_none() && now >= next_full {
                        full = Some(Box::pin(self.full()));
                    }
                    self.tell(&log, cluster_id).await?;
                }
                done = async { match &mut full { Some(full) => full.await, None => std::future::pending().await } } => {
                    full = None;
                    tracing::info!(revision = done?, "a full backup is complete");
                    next_full = self.env.now() + self.options.full_interval;
                }
                part = changes.next() => {
                    match part.ok_or_else(|| SourceError("the watch ended".into()))?? {
                        WatchPart::Events(events) => log.take(events)?,
                        WatchPart::Progress(revision) => self.mark(&mut log, cluster_id, revision).await?,
                        WatchPart::Compacted => {
                            tracing::warn!(from = log.through + 1, "the store has compacted what the backup did not have yet");
                            full = None;
                            self.seal(&mut log).await?;
                            log = self.begin_chain().await?;
                            changes = self.source.watch(log.through + 1).await?;
                        }
                    }
                    if log.pending_bytes >= FRAME_BYTES {
                        self.flush(&mut log, cluster_id).await?;
                    }
                }
            }
        }
    }

    /// The store's cluster, which must be the one that the folder is of.
    async fn check_cluster(&self) -> Result<u64, Broken> {
        let (cluster_id, _) = self.source.status().await?;
        let said = self.blocking(read_progress).await?;
        if let Some(said) = said.filter(|said| said.cluster_id != 0) {
            if said.cluster_id != cluster_id {
                let (theirs, ours) = (said.cluster_id, cluster_id);
                return Err(refused(format!("the folder is a backup of cluster {theirs:x}, not of {ours:x}")));
            }
        }
        Ok(cluster_id)
    }

    /// A member that lags catches up; a store that was restored to an older revision never does.
    async fn check_not_behind(&self, log: &Log) -> Result<(), Broken> {
        let (_, revision) = self.source.status().await?;
        if revision >= log.through {
            return Ok(());
        }
        let through = log.through;
        let text = format!(
            "the store is at revision {revision}, its backup at {through}; a restored store needs a folder of its own"
        );
        Err(SourceError(text).into())
    }

    /// Goes on where the last run ended.
    async fn resume(&self) -> Result<Log, Broken> {
        self.blocking(resume).await
    }

    fn until_next_full(&self, last_unix_ms: Option<u64>) -> Duration {
        let Some(last) = last_unix_ms else { return self.options.full_interval };
        let age = Duration::from_millis(self.unix_ms().saturating_sub(last));
        self.options.full_interval.saturating_sub(age)
    }

    /// A full backup, and a log that begins behind it.
    async fn begin_chain(&self) -> Result<Log, Broken> {
        let revision = self.full().await?;
        Ok(Log::after(revision))
    }

    /// Receives a full backup, checks it and gives it its name; then old ones go.
    async fn full(&self) -> Result<i64, Broken> {
        self.check_owner().await?;
        let mut stream = self.source.snapshot().await?;
        let first = first_bytes(&mut stream).await?;
        let unix_ms = self.unix_ms();
        // A name of its own: a write of one that was given up may still be under way.
        let incoming = self.folder.incoming(self.env.random().next_u64());
        let (folder, path) = (self.folder.clone(), incoming.clone());
        let created = move || folder.disk().open(&path, OpenMode::CreateNew).map_err(BackupError::at(&path));
        let mut file: Box<dyn DiskFile> = self.env.offload(created).await?;
        let (mut offset, mut next) = (0, Some(first));
        while let Some(bytes) = next {
            let at = offset;
            offset += bytes.len() as u64;
            let written = self.env.offload(move || file.write_all_at(&bytes, at).map(|()| file)).await;
            file = written.map_err(BackupError::at(&incoming))?;
            next = stream.next().await.transpose()?;
        }
        let (folder, keep) = (self.folder.clone(), self.options.keep);
        self.env.offload(move || finish_full(&folder, file, &incoming, unix_ms, keep)).await
    }

    /// Makes what waits durable.
    async fn flush(&self, log: &mut Log, cluster_id: u64) -> Result<(), Broken> {
        let through = log.pending.last().map_or(log.through, |change| change.main);
        self.compare_auth(log).await?;
        let about_leases = !log.new_leases.is_empty() || !log.gone_leases.is_empty();
        if through == log.through && !about_leases && log.new_auth.is_none() {
            return Ok(());
        }
        self.learn_leases(log).await?;
        self.write(log, cluster_id, through).await
    }

    /// Notes that the backup is complete up to `revision` now.
    async fn mark(&self, log: &mut Log, cluster_id: u64, revision: i64) -> Result<(), Broken> {
        self.flush(log, cluster_id).await?;
        if revision >= log.through {
            self.write(log, cluster_id, revision).await?;
        }
        Ok(())
    }

    /// The time to live of leases that appear in changes.
    async fn learn_leases(&self, log: &mut Log) -> Result<(), Broken> {
        let ids: Vec<i64> = log.pending.iter().filter_map(|change| change.kv.as_ref()).map(|kv| kv.lease).collect();
        for id in ids {
            if id != 0 && !log.leases.contains_key(&id) {
                // One that is gone already is restored, if it must be, with a time of its own.
                if let Some(ttl_s) = self.source.lease_ttl_s(id).await? {
                    log.learn(id, ttl_s);
                }
            }
        }
        Ok(())
    }

    async fn compare_leases(&self, log: &mut Log) -> Result<(), Broken> {
        let ids = self.source.leases().await?;
        for id in &ids {
            if !log.leases.contains_key(id) {
                if let Some(ttl_s) = self.source.lease_ttl_s(*id).await? {
                    log.learn(*id, ttl_s);
                }
            }
        }
        let ids: std::collections::BTreeSet<i64> = ids.into_iter().collect();
        let gone: Vec<i64> = log.leases.keys().copied().filter(|id| !ids.contains(id)).collect();
        for id in gone {
            log.leases.remove(&id);
            log.gone_leases.push(id);
        }
        Ok(())
    }

    async fn compare_auth(&self, log: &mut Log) -> Result<(), Broken> {
        if let Some(content) = self.source.auth(log.auth).await? {
            log.auth = Some(content.status());
            log.new_auth = Some(content);
        }
        Ok(())
    }

    /// Writes one frame; closes the segment if it is full.
    async fn write(&self, log: &mut Log, cluster_id: u64, through: i64) -> Result<(), Broken> {
        self.check_owner().await?;
        let unix_ms = self.unix_ms();
        let frame = Frame {
            through,
            unix_ms,
            changes: std::mem::take(&mut log.pending),
            leases: std::mem::take(&mut log.new_leases),
            leases_gone: std::mem::take(&mut log.gone_leases),
            sealed: false,
            auth: log.new_auth.take(),
        };
        log.pending_bytes = 0;
        let (segment, segment_bytes) = (log.segment.take(), self.options.segment_bytes);
        let header = SegmentHeader { cluster_id, first_revision: log.through + 1, unix_ms };
        let written = move |folder: &Folder| append(folder, segment, header, frame, segment_bytes);
        log.segment = self.blocking(written).await?;
        log.through = through;
        Ok(())
    }

    /// Closes the open segment: what follows is not what comes next.
    async fn seal(&self, log: &mut Log) -> Result<(), Broken> {
        let Some(segment) = log.segment.take() else { return Ok(()) };
        let frame = Frame { through: log.through, unix_ms: self.unix_ms(), ..Frame::default() };
        let header = segment.header();
        self.blocking(move |folder| append(folder, Some(segment), header, frame, 0).map(drop)).await
    }

    async fn check_owner(&self) -> Result<(), Broken> {
        let owner = self.owner.clone();
        if self.blocking(move |folder| folder.is_owned_by(&owner)).await? {
            return Ok(());
        }
        Err(refused("another backup writes to this folder now".into()))
    }

    /// Says how far the backup is.
    async fn tell(&self, log: &Log, cluster_id: u64) -> Result<(), Broken> {
        let (_, store_revision) = self.source.status().await?;
        let complete = log.pending.is_empty() && log.through >= store_revision;
        let unix_ms = self.unix_ms();
        let before = self.progress.borrow().clone();
        let progress = Progress {
            version: 1,
            cluster_id,
            revision: log.through,
            unix_ms: if complete || log.through > before.revision { unix_ms } else { before.unix_ms },
            store_revision,
            error: None,
        };
        if progress.revision == before.revision && unix_ms < before.unix_ms + 1_000 && before.error.is_none() {
            return Ok(());
        }
        self.progress.send_replace(progress.clone());
        self.blocking(move |folder| write_progress(folder, &progress)).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> Result<T, BackupError> + Send + 'static,
    ) -> Result<T, Broken> {
        let folder = self.folder.clone();
        let writing = Arc::clone(&self.writing).lock_owned().await;
        let work = move || {
            let done = work(&folder);
            drop(writing);
            done
        };
        Ok(self.env.offload(work).await?)
    }

    fn unix_ms(&self) -> u64 {
        let since = self.env.wall_now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

async fn first_bytes(stream: &mut BoxStream<'static, Result<Bytes, SourceError>>) -> Result<Bytes, SourceError> {
    stream.next().await.unwrap_or_else(|| Err(SourceError("an empty snapshot".into())))
}

/// Checks a full backup that has arrived and gives it its name; then old ones go.
fn finish_full(
    folder: &Folder,
    mut file: Box<dyn DiskFile>,
    incoming: &Path,
    unix_ms: u64,
    keep: usize,
) -> Result<i64, Broken> {
    file.sync().map_err(BackupError::at(incoming))?;
    let head = EtcdFile::open(folder.disk(), incoming, false).and_then(|file| file.head());
    // What does not arrive whole is asked for again.
    let head = head.map_err(|error| SourceError(format!("the store's snapshot: {error}")))?;
    folder.rename(incoming, &folder.full(head.revision, unix_ms))?;
    let gone = folder.prune(keep)?;
    tracing::debug!(gone, "old backups were removed");
    Ok(head.revision)
}
