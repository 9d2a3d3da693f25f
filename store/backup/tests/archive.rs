//! Continuous backup and restores to a moment, on real files.

mod common;

use std::{
    path::Path,
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc,
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use common::{content, delete, empty, enable, grant, grant_role, place, put, role, user, Content, Store};
use futures::{stream::BoxStream, StreamExt};
use keelstone_backup::{
    archive::{
        plan, read_progress, restore, verify, Folder, Frame, MvccSource, Recorder, RecorderOptions, SegmentReader,
        SegmentWriter, Source, SourceError, Target, WatchPart,
    },
    etcd::{About, Epoch},
    BackupError,
};
use keelstone_env::{Env, OpenMode};
use keelstone_mvcc::{AuthContent, AuthStatus, Op};
use proptest::prelude::*;
use tempfile::TempDir;

fn source(store: &Store) -> Arc<dyn Source> {
    Arc::new(MvccSource::new(Env::os(), Arc::clone(&store.mvcc), 7, About::default()))
}

fn options(dir: &Path) -> RecorderOptions {
    RecorderOptions { flush_interval: Duration::from_millis(2), segment_bytes: 2_000, ..RecorderOptions::new(dir) }
}

/// Backs `store` up until the backup holds all of it.
async fn catch_up(source: Arc<dyn Source>, store: &Store, options: RecorderOptions) -> Result<(), BackupError> {
    let recorder = Recorder::new(Env::os(), source, options)?;
    let mut progress = recorder.progress();
    let revision = store.mvcc.revision();
    let caught_up = async move {
        let reached = progress.wait_for(|progress| progress.revision >= revision);
        tokio::time::timeout(Duration::from_secs(20), reached).await.expect("in time").expect("the recorder runs");
    };
    recorder.run(caught_up).await
}

fn restored(dir: &Path, target: Target) -> Result<Content, BackupError> {
    let folder = Folder::new(&Env::os(), dir);
    let mvcc = empty();
    restore(&folder, &plan(&folder, target)?, &mvcc, place(Epoch::default()))?;
    Ok(content(&mvcc))
}

/// What the store was at `revision`, with all leases that it has now.
fn until(content: &Content, revision: i64) -> Content {
    let mut content = content.clone();
    content.revision = revision;
    content.rows.retain(|row| row.main <= revision);
    content
}

#[tokio::test]
async fn every_revision_of_a_backup_can_be_restored() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::default();
    store.apply(&[grant(5), put("a", "0", 5), put("b", "0", 0)]);
    catch_up(source(&store), &store, options(dir.path())).await.unwrap();
    let full = store.mvcc.revision();
    for i in 0..60 {
        store.apply(&[put("a", &format!("{i}").repeat(100), 0), put("c", "x", 5), delete("b"), put("b", "y", 0)]);
        if i % 20 == 0 {
            catch_up(source(&store), &store, options(dir.path())).await.unwrap();
        }
    }
    catch_up(source(&store), &store, options(dir.path())).await.unwrap();
    let all = content(&store.mvcc);
    assert_eq!(restored(dir.path(), Target::Latest).unwrap(), all);
    for revision in full..=all.revision {
        assert_eq!(restored(dir.path(), Target::Revision(revision)).unwrap(), until(&all, revision));
    }
    for revision in [full - 1, all.revision + 1] {
        let error = restored(dir.path(), Target::Revision(revision)).unwrap_err().to_string();
        assert!(error.contains(&format!("is not covered; revisions that can be restored: {full} to {}", all.revision)));
    }
    let verified = verify(&Folder::new(&Env::os(), dir.path())).unwrap();
    assert!(verified.faults.is_empty() && verified.segments >= 3, "{verified:?}");
    assert_eq!((verified.fulls, verified.ranges), (1, vec![(full, all.revision)]));
    let said = read_progress(&Folder::new(&Env::os(), dir.path())).unwrap().unwrap();
    assert_eq!((said.revision, said.behind_revisions()), (all.revision, 0));
}

/// Users and roles have no place in the order of changes: a revision has those that were known when it was written.
#[tokio::test]
async fn users_and_roles_are_in_the_log() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::default();
    store.apply(&[put("a", "1", 0), user("root", "hash")]);
    catch_up(source(&store), &store, options(dir.path())).await.unwrap();
    let (before, with_root) = (store.mvcc.revision(), store.mvcc.auth().content());
    store.apply(&role("readers", "a", "b"));
    store.apply(&[grant_role("root", "root"), enable(), put("a", "2", 0)]);
    catch_up(source(&store), &store, options(dir.path())).await.unwrap();
    let all = content(&store.mvcc);
    assert!(all.auth.enabled && all.auth.roles.len() == 1);
    assert_eq!(restored(dir.path(), Target::Latest).unwrap(), all);
    assert_eq!(restored(dir.path(), Target::Revision(before)).unwrap().auth, with_root);
}

#[tokio::test]
async fn a_moment_is_what_the_backup_had_seen_by_then() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::default();
    store.apply(&[put("a", "first", 0)]);
    catch_up(source(&store), &store, options(dir.path())).await.unwrap();
    let unix_ms =
        || u64::try_from(Env::os().wall_now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()).unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let between = unix_ms();
    tokio::time::sleep(Duration::from_millis(5)).await;
    store.apply(&[put("a", "second", 0)]);
    catch_up(source(&store), &store, options(dir.path())).await.unwrap();
    let value = |content: Content| content.rows.last().unwrap().kv.value.clone();
    assert_eq!(value(restored(dir.path(), Target::Time(between)).unwrap()), "first");
    assert_eq!(value(restored(dir.path(), Target::Time(unix_ms())).unwrap()), "second");
    assert!(restored(dir.path(), Target::Time(1_000)).is_err());
}

#[tokio::test]
async fn leases_are_restored_as_they_were_known() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::default();
    store.apply(&[put("a", "1", 0)]);
    catch_up(source(&store), &store, options(dir.path())).await.unwrap();
    store.apply(&[grant(9), put("a", "2", 9)]);
    catch_up(source(&store), &store, options(dir.path())).await.unwrap();
    let with_lease = store.mvcc.revision();
    store.apply(&[Op::LeaseRevoke(keelstone_etcd_api::pb::LeaseRevokeRequest { id: 9 }), put("b", "3", 0)]);
    catch_up(source(&store), &store, options(dir.path())).await.unwrap();
    let leases = restored(dir.path(), Target::Revision(with_lease)).unwrap().leases;
    assert_eq!((leases.len(), leases[0].id, leases[0].ttl_s), (1, 9, 69));
    assert_eq!(restored(dir.path(), Target::Latest).unwrap().leases, []);
}

#[tokio::test]
async fn a_compaction_that_overtakes_begins_a_new_chain() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::default();
    store.apply(&[put("a", "1", 0), put("a", "2", 0)]);
    catch_up(source(&store), &store, options(dir.path())).await.unwrap();
    let first = store.mvcc.revision();
    store.apply(&[put("a", "3", 0), put("a", "4", 0), common::compact(first + 2), put("a", "5", 0)]);
    catch_up(source(&store), &store, options(dir.path())).await.unwrap();
    assert_eq!(restored(dir.path(), Target::Latest).unwrap(), content(&store.mvcc));
    assert_eq!(restored(dir.path(), Target::Revision(first)).unwrap().revision, first);
    assert!(restored(dir.path(), Target::Revision(first + 1)).is_err());
}

#[tokio::test]
async fn old_backups_go_with_the_changes_that_only_they_need() {
    let dir = TempDir::new().unwrap();
    let folder = Folder::new(&Env::os(), dir.path());
    let mut store = Store::default();
    let options = || RecorderOptions { keep: 2, ..options(dir.path()) };
    for round in 0..5 {
        for i in 0..30 {
            store.apply(&[put("a", &format!("{round}.{i}").repeat(100), 0)]);
        }
        catch_up(source(&store), &store, options()).await.unwrap();
        Recorder::new(Env::os(), source(&store), options()).unwrap().full_once().await.unwrap();
    }
    let fulls = folder.fulls().unwrap();
    assert_eq!(fulls.len(), 2);
    let oldest = fulls[0].revision;
    let segments = folder.segments().unwrap();
    assert!(segments.len() < 5 && segments.get(1).is_none_or(|second| second.first_revision > oldest), "{segments:?}");
    for revision in oldest..=store.mvcc.revision() {
        assert_eq!(restored(dir.path(), Target::Revision(revision)).unwrap().revision, revision);
    }
}

#[tokio::test]
async fn another_cluster_and_another_backup_are_refused() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::default();
    store.apply(&[put("a", "1", 0)]);
    catch_up(source(&store), &store, options(dir.path())).await.unwrap();
    let other: Arc<dyn Source> = Arc::new(MvccSource::new(Env::os(), Arc::clone(&store.mvcc), 8, About::default()));
    let error = catch_up(other, &store, options(dir.path())).await.unwrap_err();
    assert!(error.to_string().contains("is a backup of cluster 7, not of 8"), "{error}");
    let first = Recorder::new(Env::os(), source(&store), options(dir.path())).unwrap();
    let _second = Recorder::new(Env::os(), source(&store), options(dir.path())).unwrap();
    store.apply(&[put("a", "2", 0)]);
    let error = first.run(std::future::pending()).await.unwrap_err();
    assert!(error.to_string().contains("another backup writes"), "{error}");
}

#[tokio::test]
async fn a_store_that_went_back_is_not_mixed_with_its_backup() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::default();
    store.apply(&[put("a", "1", 0), put("a", "2", 0)]);
    catch_up(source(&store), &store, options(dir.path())).await.unwrap();
    let mut older = Store::default();
    older.apply(&[put("a", "1", 0)]);
    let recorder = Recorder::new(Env::os(), source(&older), options(dir.path())).unwrap();
    let mut progress = recorder.progress();
    let told = async move {
        let said = progress.wait_for(|said| said.error.is_some()).await.unwrap().error.clone().unwrap();
        assert!(said.contains("the store is at revision 2, its backup at 3"), "{said}");
    };
    recorder.run(told).await.unwrap();
    assert_eq!(restored(dir.path(), Target::Latest).unwrap(), content(&store.mvcc));
}

/// A source whose streams break when told to.
struct Breaking {
    inner: Arc<dyn Source>,
    snapshots_break: AtomicBool,
    watches_break: AtomicBool,
}

fn breaking<T: Send + 'static>(
    stream: BoxStream<'static, Result<T, SourceError>>,
    parts: usize,
) -> BoxStream<'static, Result<T, SourceError>> {
    stream.take(parts).chain(futures::stream::iter([Err(SourceError("broken".into()))])).boxed()
}

#[async_trait]
impl Source for Breaking {
    async fn status(&self) -> Result<(u64, i64), SourceError> {
        self.inner.status().await
    }

    async fn snapshot(&self) -> Result<BoxStream<'static, Result<Bytes, SourceError>>, SourceError> {
        let stream = self.inner.snapshot().await?;
        Ok(if self.snapshots_break.swap(false, Ordering::SeqCst) { breaking(stream, 1) } else { stream })
    }

    async fn watch(&self, start: i64) -> Result<BoxStream<'static, Result<WatchPart, SourceError>>, SourceError> {
        let stream = self.inner.watch(start).await?;
        Ok(if self.watches_break.swap(false, Ordering::SeqCst) { breaking(stream, 0) } else { stream })
    }

    async fn leases(&self) -> Result<Vec<i64>, SourceError> {
        self.inner.leases().await
    }

    async fn lease_ttl_s(&self, id: i64) -> Result<Option<i64>, SourceError> {
        self.inner.lease_ttl_s(id).await
    }

    async fn auth(&self, known: Option<AuthStatus>) -> Result<Option<AuthContent>, SourceError> {
        self.inner.auth(known).await
    }
}

#[tokio::test]
async fn broken_streams_are_taken_up_again() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::default();
    store.apply(&[put("a", "1", 0)]);
    let source: Arc<dyn Source> = Arc::new(Breaking {
        inner: source(&store),
        snapshots_break: AtomicBool::new(true),
        watches_break: AtomicBool::new(true),
    });
    catch_up(source, &store, options(dir.path())).await.unwrap();
    assert_eq!(restored(dir.path(), Target::Latest).unwrap(), content(&store.mvcc));
}

/// Copies a folder as a crash would leave it: the newest file cut at `keep` bytes.
fn crashed(from: &Path, keep: impl Fn(u64) -> u64) -> TempDir {
    let dir = TempDir::new().unwrap();
    let env = Env::os();
    for path in env.disk().list(from).unwrap() {
        let mut bytes = env.disk().read(&path).unwrap();
        if path.extension().is_some_and(|extension| extension == "part") {
            bytes.truncate(usize::try_from(keep(bytes.len() as u64)).unwrap());
        }
        let mut file = env.disk().open(&dir.path().join(path.file_name().unwrap()), OpenMode::CreateNew).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
    }
    dir
}

#[tokio::test]
async fn a_crash_anywhere_in_a_frame_leaves_no_gap() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::default();
    store.apply(&[put("a", "0", 0)]);
    let options = |dir: &Path| RecorderOptions { segment_bytes: 1 << 20, ..options(dir) };
    catch_up(source(&store), &store, options(dir.path())).await.unwrap();
    for i in 0..4 {
        store.apply(&[put("a", &format!("{i}"), 0)]);
        catch_up(source(&store), &store, options(dir.path())).await.unwrap();
    }
    let open = Folder::new(&Env::os(), dir.path()).segments().unwrap().pop().unwrap();
    assert!(open.is_open);
    let length = Env::os().disk().read(&open.path).unwrap().len() as u64;
    for keep in (0..=length).step_by(7).chain([length]) {
        let copy = crashed(dir.path(), |_| keep);
        catch_up(source(&store), &store, options(copy.path())).await.unwrap();
        assert_eq!(restored(copy.path(), Target::Latest).unwrap(), content(&store.mvcc), "cut at {keep}");
    }
}

#[tokio::test]
async fn damage_is_named_and_never_restored() {
    let dir = TempDir::new().unwrap();
    let mut store = Store::default();
    store.apply(&[put("a", "0", 0)]);
    catch_up(source(&store), &store, options(dir.path())).await.unwrap();
    for i in 0..40 {
        store.apply(&[put("a", &format!("{i}").repeat(80), 0)]);
    }
    catch_up(source(&store), &store, options(dir.path())).await.unwrap();
    let env = Env::os();
    let mut named = 0;
    for path in env.disk().list(dir.path()).unwrap() {
        let whole = env.disk().read(&path).unwrap();
        if !path.extension().is_some_and(|extension| extension == "db" || extension == "seg") {
            continue;
        }
        for at in [50, whole.len() / 2, whole.len() - 20] {
            let mut bad = whole.clone();
            bad[at] ^= 0x40;
            env.disk().write_atomically(&path, &bad).unwrap();
            let verified = verify(&Folder::new(&env, dir.path())).unwrap();
            assert_eq!(verified.faults.len(), 1, "{} at {at}", path.display());
            assert!(verified.faults[0].contains(path.file_name().unwrap().to_str().unwrap()));
            assert!(restored(dir.path(), Target::Latest).is_err());
            named += 1;
        }
        env.disk().write_atomically(&path, &whole).unwrap();
    }
    assert!(named >= 6);
    restored(dir.path(), Target::Latest).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the bytes of a segment are: frames or an error, no panic, no memory without bound.
    #[test]
    fn hostile_segments_are_survived(
        frames in proptest::collection::vec((1..50i64, 0..300usize), 0..8),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        is_open in any::<bool>(),
    ) {
        let dir = TempDir::new().unwrap();
        let env = Env::os();
        let path = dir.path().join("log-0000000000000001.part");
        let header = keelstone_backup::archive::SegmentHeader { cluster_id: 1, first_revision: 1, unix_ms: 1 };
        let mut writer = SegmentWriter::create(&**env.disk(), &path, header).unwrap();
        let mut through = 0;
        for (step, size) in frames {
            let kv = keelstone_etcd_api::mvccpb::KeyValue { key: "k".into(), value: vec![1; size].into(), ..Default::default() };
            let change = keelstone_backup::archive::Change { main: through + 1, sub: 0, kv: Some(kv) };
            through += step;
            writer.append(&Frame { through, changes: vec![change], ..Frame::default() }).unwrap();
        }
        let mut bytes = env.disk().read(&path).unwrap();
        for (at, value) in &flips {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        env.disk().write_atomically(&path, &bytes).unwrap();
        if let Ok(mut reader) = SegmentReader::open(&**env.disk(), &path, is_open) {
            while let Ok(Some(_)) = reader.next() {}
        }
        if flips.is_empty() {
            let mut reader = SegmentReader::open(&**env.disk(), &path, true).unwrap();
            let mut last = 0;
            while let Some(frame) = reader.next().unwrap() {
                last = frame.through;
            }
            prop_assert_eq!(last, through);
        }
    }
}

/// A segment of format version 1, as it was written when that was new. `BLESS=1` writes it anew, for a version
/// that comes after it: a version that is there never changes.
#[test]
fn segments_of_version_1_are_read_for_ever() {
    let dir = TempDir::new().unwrap();
    let env = Env::os();
    let path = dir.path().join("log-0000000000000007.part");
    let header =
        keelstone_backup::archive::SegmentHeader { cluster_id: 0xc1, first_revision: 7, unix_ms: 1_800_000_000_000 };
    let kv = |key: &str, version: i64| keelstone_etcd_api::mvccpb::KeyValue {
        key: key.to_owned().into(),
        value: if version == 0 { Bytes::new() } else { "v".into() },
        create_revision: version.min(1) * 7,
        mod_revision: 7,
        version,
        lease: version * 3,
    };
    let change = |main, sub, kv| keelstone_backup::archive::Change { main, sub, kv: Some(kv) };
    let frames = [
        Frame {
            through: 7,
            unix_ms: 1_800_000_000_500,
            changes: vec![change(7, 0, kv("a", 1)), change(7, 1, kv("b", 0))],
            leases: vec![keelstone_backup::archive::LeaseMark { id: 3, ttl_s: 60 }],
            ..Frame::default()
        },
        Frame { through: 9, unix_ms: 1_800_000_001_000, leases_gone: vec![3], ..Frame::default() },
        Frame { through: 9, unix_ms: 1_800_000_002_000, sealed: true, ..Frame::default() },
    ];
    let mut writer = SegmentWriter::create(&**env.disk(), &path, header).unwrap();
    frames.iter().for_each(|frame| writer.append(frame).unwrap());
    let written = env.disk().read(&path).unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/segment-1.seg");
    if std::env::var_os("BLESS").is_some() {
        env.disk().write_atomically(&fixture, &written).unwrap();
    }
    assert_eq!(written, env.disk().read(&fixture).unwrap());
    let mut reader = SegmentReader::open(&**env.disk(), &fixture, false).unwrap();
    assert_eq!(reader.header(), header);
    for frame in frames {
        assert_eq!(reader.next().unwrap(), Some(frame));
    }
    assert_eq!(reader.next().unwrap(), None);
    assert!(reader.is_sealed());
}
