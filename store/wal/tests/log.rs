//! The log as its owner sees it: order, reopening, purge, damage.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use keelstone_env::{Env, OpenMode};
use keelstone_wal::{LogEntry, Wal, WalError, WalOptions};
use tokio::sync::oneshot;

fn entry(index: u64, term: u64) -> LogEntry {
    LogEntry { index, term, kind: 1, body: Bytes::from(format!("entry {index} of term {term}")) }
}

fn entries(range: std::ops::RangeInclusive<u64>, term: u64) -> Vec<LogEntry> {
    range.map(|index| entry(index, term)).collect()
}

async fn open(dir: &Path) -> Result<Wal, WalError> {
    Wal::open(Env::os(), WalOptions::new(dir)).await
}

async fn open_small(dir: &Path) -> Wal {
    let options = WalOptions { segment_bytes_max: 600, cache_bytes_max: 0, ..WalOptions::new(dir) };
    Wal::open(Env::os(), options).await.unwrap()
}

async fn append(wal: &Wal, entries: Vec<LogEntry>) {
    let (done, flushed) = oneshot::channel();
    wal.append(entries, Box::new(move |result| drop(done.send(result)))).await.unwrap();
    flushed.await.unwrap().unwrap();
}

async fn all(wal: &Wal) -> Vec<LogEntry> {
    wal.read(0, u64::MAX, None).await.unwrap()
}

fn segments(dir: &Path) -> Vec<std::path::PathBuf> {
    Env::os().disk().list(dir).unwrap()
}

/// The bytes of a segment without the zeros that are reserved behind them; no entry here ends with a zero.
fn written(segment: &Path) -> usize {
    let content = Env::os().disk().read(segment).unwrap();
    content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// A copy of the log in `from` whose last segment is what `change` makes of it.
fn copy_with(from: &Path, to: &Path, segment: usize, change: impl Fn(&mut Vec<u8>)) {
    let env = Env::os();
    env.disk().create_dir_all(to).unwrap();
    for (at, path) in segments(from).iter().enumerate() {
        let mut content = env.disk().read(path).unwrap();
        if at == segment {
            change(&mut content);
        }
        let mut file = env.disk().open(&to.join(path.file_name().unwrap()), OpenMode::Truncate).unwrap();
        file.write_all_at(&content, 0).unwrap();
    }
}

#[tokio::test]
async fn what_was_written_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path()).await.unwrap();
    wal.save_vote("vote 1".into()).await.unwrap();
    append(&wal, entries(0..=9, 1)).await;
    wal.save_committed("committed 5".into()).await.unwrap();
    wal.truncate(8).await.unwrap();
    append(&wal, entries(8..=12, 2)).await;
    wal.purge(3, "purged 3".into()).await.unwrap();
    wal.save_vote("vote 2".into()).await.unwrap();
    let (state, content) = (wal.state(), all(&wal).await);
    assert_eq!(content.len(), 9);
    assert_eq!((state.first, state.last, state.durable), (Some(4), Some((12, 2)), 13));
    drop(wal);

    let wal = open(dir.path()).await.unwrap();
    assert_eq!(wal.state(), state);
    assert_eq!(all(&wal).await, content);
    assert_eq!(wal.term(7), Some(1));
    assert_eq!(wal.term(8), Some(2));
    assert_eq!(wal.term(3), None);
}

#[tokio::test]
async fn entries_can_be_read_before_they_are_flushed_and_callbacks_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path()).await.unwrap();
    let (sender, mut order) = tokio::sync::mpsc::unbounded_channel();
    for index in 0..100 {
        let sender = sender.clone();
        let flushed = Box::new(move |result: Result<(), WalError>| {
            let _ = sender.send((index, result.is_ok()));
        });
        wal.append(vec![entry(index, 1)], flushed).await.unwrap();
        assert_eq!(wal.read(index, index + 1, None).await.unwrap(), vec![entry(index, 1)]);
    }
    wal.wait_durable(99).await.unwrap();
    for index in 0..100 {
        assert_eq!(order.recv().await, Some((index, true)));
    }
}

#[tokio::test]
async fn what_breaks_the_order_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path()).await.unwrap();
    append(&wal, entries(0..=4, 1)).await;
    let refused = |entries| wal.append(entries, Box::new(|_| panic!("must not be called")));
    assert!(matches!(refused(vec![entry(6, 1)]).await, Err(WalError::Misuse(_))));
    assert!(matches!(refused(vec![entry(4, 1)]).await, Err(WalError::Misuse(_))));
    assert!(matches!(refused(vec![entry(5, 1), entry(7, 1)]).await, Err(WalError::Misuse(_))));
    let large = LogEntry { body: Bytes::from(vec![0; keelstone_wal::ENTRY_BYTES_MAX + 1]), ..entry(5, 1) };
    assert!(matches!(refused(vec![large]).await, Err(WalError::Misuse(_))));
    let largest = LogEntry { body: Bytes::from(vec![7; keelstone_wal::ENTRY_BYTES_MAX]), ..entry(5, 1) };
    append(&wal, vec![largest.clone()]).await;
    assert_eq!(wal.read(5, 6, None).await.unwrap(), vec![largest]);
}

#[tokio::test]
async fn reads_stop_at_the_byte_bound_but_give_one_entry() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open_small(dir.path()).await;
    append(&wal, entries(0..=9, 1)).await;
    let bytes = entry(0, 1).body.len() as u64;
    assert_eq!(wal.read(0, 10, Some(bytes * 3)).await.unwrap().len(), 3);
    assert_eq!(wal.read(0, 10, Some(bytes * 3 - 1)).await.unwrap().len(), 2);
    assert_eq!(wal.read(0, 10, Some(0)).await.unwrap().len(), 1);
    assert_eq!(wal.read(20, 30, None).await.unwrap(), Vec::new());
}

#[tokio::test]
async fn segments_are_closed_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open_small(dir.path()).await;
    wal.save_vote("vote".into()).await.unwrap();
    for index in 0..60 {
        append(&wal, vec![entry(index, 1)]).await;
    }
    let before = segments(dir.path()).len();
    assert!(before > 4, "{before} segments");
    assert_eq!(all(&wal).await, entries(0..=59, 1));
    wal.purge(40, "purged 40".into()).await.unwrap();
    assert!(segments(dir.path()).len() < before);
    assert_eq!(all(&wal).await, entries(41..=59, 1));
    drop(wal);
    let wal = open_small(dir.path()).await;
    assert_eq!(all(&wal).await, entries(41..=59, 1));
    assert_eq!(wal.state().vote, Some("vote".into()));
    assert_eq!(wal.state().purged, Some((40, "purged 40".into())));
}

#[tokio::test]
async fn a_purge_may_go_beyond_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open_small(dir.path()).await;
    append(&wal, entries(0..=4, 1)).await;
    wal.purge(100, "purged 100".into()).await.unwrap();
    assert_eq!((wal.state().first, wal.state().last, wal.state().durable), (None, None, 101));
    wal.wait_durable(100).await.unwrap();
    wal.purge(50, "older".into()).await.unwrap();
    drop(wal);
    let wal = open_small(dir.path()).await;
    assert_eq!(wal.state().purged, Some((100, "purged 100".into())));
    append(&wal, entries(101..=103, 2)).await;
    drop(wal);
    assert_eq!(all(&open_small(dir.path()).await).await, entries(101..=103, 2));
}

#[tokio::test]
async fn a_tail_torn_at_any_byte_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path()).await.unwrap();
    append(&wal, entries(0..=2, 1)).await;
    let whole = written(&segments(dir.path())[0]);
    append(&wal, entries(3..=5, 1)).await;
    drop(wal);
    let length = written(&segments(dir.path())[0]);
    for cut in whole..length {
        for garbage in [false, true] {
            let torn = tempfile::tempdir().unwrap();
            copy_with(dir.path(), torn.path(), 0, |content| {
                content.truncate(cut);
                if garbage {
                    content.resize(length, 0);
                }
            });
            let wal = open(torn.path()).await.unwrap();
            assert_eq!(all(&wal).await, entries(0..=2, 1), "cut at {cut}");
            append(&wal, entries(3..=4, 2)).await;
            drop(wal);
            let wal = open(torn.path()).await.unwrap();
            assert_eq!(wal.state().last, Some((4, 2)), "cut at {cut}");
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path()).await.unwrap();
    append(&wal, entries(0..=2, 1)).await;
    append(&wal, entries(3..=5, 1)).await;
    let middle = written(&segments(dir.path())[0]);
    append(&wal, entries(6..=8, 1)).await;
    drop(wal);
    let length = written(&segments(dir.path())[0]);
    for at in 0..length {
        let damaged = tempfile::tempdir().unwrap();
        copy_with(dir.path(), damaged.path(), 0, |content| {
            content.truncate(length + 8);
            content[at] ^= 1 << (at % 8);
        });
        match open(damaged.path()).await {
            // The last four bytes of the header mean nothing.
            Ok(wal) if (28..32).contains(&at) => assert_eq!(all(&wal).await, entries(0..=8, 1)),
            // The last frame cannot be told from one that was never acknowledged.
            Ok(wal) => {
                assert!(at >= middle, "a flip at {at} of {middle} went unseen");
                assert_eq!(all(&wal).await, entries(0..=5, 1));
            }
            Err(WalError::Corrupt { .. }) => assert!(at < middle, "a flip at {at} stopped the member"),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_segment_grows_before_it_must_and_is_cut_when_it_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let reserve = keelstone_wal::SEGMENT_BYTES_MAX / keelstone_wal::constants::RESERVES_PER_SEGMENT;
    let wal = open(dir.path()).await.unwrap();
    let length = || Env::os().disk().open(&segments(dir.path())[0], OpenMode::Read).unwrap().len().unwrap();
    append(&wal, entries(0..=2, 1)).await;
    let grown = length();
    assert!(grown > reserve, "{grown} bytes");
    append(&wal, entries(3..=5, 1)).await;
    assert_eq!(length(), grown);
    let large = LogEntry { index: 6, term: 1, kind: 1, body: vec![7; reserve as usize].into() };
    append(&wal, vec![large.clone()]).await;
    assert!(length() > grown + reserve, "it grew by more than it had to");
    drop(wal);
    assert_eq!(keelstone_wal::verify(&Env::os(), dir.path()).unwrap().torn_bytes, 0);
    // The next life cuts what it finds, and reserves anew; a smaller bound closes the segment.
    let wal =
        Wal::open(Env::os(), WalOptions { segment_bytes_max: 6_400, ..WalOptions::new(dir.path()) }).await.unwrap();
    assert_eq!(length() as usize, written(&segments(dir.path())[0]));
    assert_eq!(all(&wal).await, [entries(0..=5, 1), vec![large]].concat());
    append(&wal, entries(7..=8, 1)).await;
    wal.save_vote("after it was closed".into()).await.unwrap();
    assert_eq!(segments(dir.path()).len(), 2);
    assert_eq!(length() as usize, written(&segments(dir.path())[0]));
}

#[tokio::test]
async fn a_disk_with_room_for_the_frames_alone_takes_them() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(failing::FailingDisk::new(i64::MAX));
    disk.room.store(4_096, std::sync::atomic::Ordering::SeqCst);
    let wal = Wal::open(failing::env(disk), WalOptions::new(dir.path())).await.unwrap();
    for index in 0..4 {
        append(&wal, vec![entry(index, 1)]).await;
    }
    assert_eq!(wal.health(), keelstone_wal::WalHealth::default());
    drop(wal);
    assert_eq!(all(&open(dir.path()).await.unwrap()).await, entries(0..=3, 1));
}

#[tokio::test]
async fn damage_in_an_older_segment_stops_the_member() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open_small(dir.path()).await;
    for index in 0..40 {
        append(&wal, vec![entry(index, 1)]).await;
    }
    drop(wal);
    assert!(segments(dir.path()).len() >= 3);
    for change in [|content: &mut Vec<u8>| content.truncate(content.len() - 1), |content: &mut Vec<u8>| content.push(0)]
    {
        let damaged = tempfile::tempdir().unwrap();
        copy_with(dir.path(), damaged.path(), 0, change);
        assert!(matches!(open(damaged.path()).await, Err(WalError::Corrupt { .. })));
    }
    Env::os().disk().remove_file(&segments(dir.path())[1]).unwrap();
    assert!(matches!(open(dir.path()).await, Err(WalError::Corrupt { .. })));
}

#[tokio::test]
async fn bytes_that_look_like_a_frame_do_not_pass_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path()).await.unwrap();
    append(&wal, entries(0..=2, 1)).await;
    let mut copy = Env::os().disk().read(&segments(dir.path())[0]).unwrap();
    copy.truncate(written(&segments(dir.path())[0]));
    // A client stores a whole log as a value; then the write of that value is torn.
    let before = copy.len();
    append(&wal, vec![LogEntry { index: 3, term: 1, kind: 1, body: copy.into() }]).await;
    drop(wal);
    let torn = tempfile::tempdir().unwrap();
    copy_with(dir.path(), torn.path(), 0, |content| content[before + 10] ^= 1);
    // The frames in the value are valid, but none says that more was durable than there was.
    let wal = open(torn.path()).await.unwrap();
    assert_eq!(all(&wal).await, entries(0..=2, 1));
}

#[tokio::test]
async fn a_disk_that_fails_to_sync_fails_the_log_for_good() {
    // Also for want of space: what a failed sync dropped, and what of it was older, is not known.
    for why in [std::io::ErrorKind::Other, std::io::ErrorKind::StorageFull] {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(failing::FailingDisk::failing_with(3, why));
        let wal = Wal::open(failing::env(disk), WalOptions::new(dir.path())).await.unwrap();
        let mut failed = false;
        for index in 0..10 {
            let (done, flushed) = oneshot::channel();
            let queued = wal.append(vec![entry(index, 1)], Box::new(move |result| drop(done.send(result)))).await;
            let flushed = tokio::time::timeout(std::time::Duration::from_secs(10), flushed).await;
            let flushed = flushed.expect("what failed is not tried again");
            let durable = queued.is_ok() && matches!(flushed, Ok(Ok(())));
            assert!(!(failed && durable), "entry {index} was acknowledged after a failure");
            failed |= !durable;
        }
        assert!(failed);
        assert!(matches!(wal.save_vote("vote".into()).await, Err(WalError::Io(_))));
        assert!(matches!(wal.wait_durable(9).await, Err(WalError::Io(_))));
    }
}

#[tokio::test]
async fn writes_wait_out_a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(failing::FailingDisk::new(i64::MAX));
    let full = Arc::clone(&disk.full);
    let mut options = WalOptions::new(dir.path());
    options.segment_bytes_max = 200;
    let wal = Wal::open(failing::env(disk), options).await.unwrap();
    wal.append(entries(0..=4, 1), Box::new(|_| ())).await.unwrap();
    wal.wait_durable(4).await.unwrap();
    full.store(true, std::sync::atomic::Ordering::SeqCst);
    let (done, flushed) = oneshot::channel();
    wal.append(entries(5..=9, 1), Box::new(move |result| drop(done.send(result)))).await.unwrap();
    while !wal.health().full {
        tokio::task::yield_now().await;
    }
    assert!(wal.health().busy_since.is_some());
    // What is there can be read.
    assert_eq!(wal.read(0, 5, None).await.unwrap(), entries(0..=4, 1));
    full.store(false, std::sync::atomic::Ordering::SeqCst);
    flushed.await.unwrap().unwrap();
    assert_eq!(wal.health(), keelstone_wal::WalHealth::default());
    drop(wal);
    let wal = open(dir.path()).await.unwrap();
    assert_eq!(all(&wal).await, entries(0..=9, 1));
}

/// The batch is written and synced by then: written again it would lie in the log twice.
#[tokio::test]
async fn a_full_disk_behind_the_name_of_the_next_segment_is_final() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(failing::FailingDisk::new(i64::MAX));
    let folder_full = Arc::clone(&disk.folder_full);
    let mut options = WalOptions::new(dir.path());
    options.segment_bytes_max = 200;
    let wal = Wal::open(failing::env(disk), options).await.unwrap();
    folder_full.store(true, std::sync::atomic::Ordering::SeqCst);
    let (done, flushed) = oneshot::channel();
    wal.append(entries(0..=9, 1), Box::new(move |result| drop(done.send(result)))).await.unwrap();
    let room = async {
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        folder_full.store(false, std::sync::atomic::Ordering::SeqCst);
    };
    let (result, ()) = tokio::join!(flushed, room);
    assert!(result.unwrap().is_err());
    drop(wal);
    let wal = open(dir.path()).await.unwrap();
    assert_eq!(all(&wal).await, entries(0..=9, 1));
}

/// Some file systems need space to cut a file. The batch is written and synced by then.
#[tokio::test]
async fn a_full_disk_behind_the_cut_of_a_segment_is_final() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(failing::FailingDisk::new(i64::MAX));
    disk.cut_full.store(true, std::sync::atomic::Ordering::SeqCst);
    let options = WalOptions { segment_bytes_max: 200, ..WalOptions::new(dir.path()) };
    let wal = Wal::open(failing::env(disk), options).await.unwrap();
    let (done, flushed) = oneshot::channel();
    wal.append(entries(0..=9, 1), Box::new(move |result| drop(done.send(result)))).await.unwrap();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(5), flushed).await;
    assert!(ended.expect("it is not tried again").unwrap().is_err());
    drop(wal);
    let wal = open(dir.path()).await.unwrap();
    assert_eq!(all(&wal).await, entries(0..=9, 1));
}

mod failing {
    use std::{
        io,
        path::{Path, PathBuf},
        sync::{
            atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
            Arc,
        },
        time::Duration,
    };

    use keelstone_env::{Disk, DiskFile, Env, Offload, OpenMode, Random, WallClock};

    /// The real disk, whose file syncs fail after the first `syncs`.
    pub struct FailingDisk {
        env: Env,
        syncs: Arc<AtomicI64>,
        sync_error: io::ErrorKind,
        /// Writes stop half-way while this is set.
        pub full: Arc<AtomicBool>,
        /// Files take so many bytes each; a write beyond stops there.
        pub room: Arc<AtomicU64>,
        /// Files cannot be cut while this is set.
        pub cut_full: Arc<AtomicBool>,
        /// Names cannot be made durable while this is set.
        pub folder_full: Arc<AtomicBool>,
    }

    impl FailingDisk {
        pub fn new(syncs: i64) -> Self {
            Self::failing_with(syncs, io::ErrorKind::Other)
        }

        pub fn failing_with(syncs: i64, sync_error: io::ErrorKind) -> Self {
            let syncs = Arc::new(AtomicI64::new(syncs));
            Self {
                env: Env::os(),
                syncs,
                sync_error,
                full: Arc::default(),
                room: Arc::new(AtomicU64::new(u64::MAX)),
                cut_full: Arc::default(),
                folder_full: Arc::default(),
            }
        }
    }

    struct FailingFile {
        file: Box<dyn DiskFile>,
        syncs: Arc<AtomicI64>,
        sync_error: io::ErrorKind,
        full: Arc<AtomicBool>,
        room: Arc<AtomicU64>,
        cut_full: Arc<AtomicBool>,
    }

    impl DiskFile for FailingFile {
        fn len(&self) -> io::Result<u64> {
            self.file.len()
        }
        fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            self.file.read_exact_at(buffer, offset)
        }
        fn write_all_at(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
            if self.full.load(Ordering::SeqCst) {
                self.file.write_all_at(&data[..data.len() / 2], offset)?;
                return Err(io::ErrorKind::StorageFull.into());
            }
            let room = self.room.load(Ordering::SeqCst).saturating_sub(offset);
            if room < data.len() as u64 {
                self.file.write_all_at(&data[..room as usize], offset)?;
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.file.write_all_at(data, offset)
        }
        fn set_len(&mut self, length: u64) -> io::Result<()> {
            if self.cut_full.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.file.set_len(length)
        }
        fn sync(&mut self) -> io::Result<()> {
            if self.syncs.fetch_sub(1, Ordering::SeqCst) <= 0 {
                return Err(self.sync_error.into());
            }
            self.file.sync()
        }
    }

    impl Disk for FailingDisk {
        fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
            let file = self.env.disk().open(path, mode)?;
            let (syncs, full, room) = (Arc::clone(&self.syncs), Arc::clone(&self.full), Arc::clone(&self.room));
            let cut_full = Arc::clone(&self.cut_full);
            Ok(Box::new(FailingFile { file, syncs, sync_error: self.sync_error, full, room, cut_full }))
        }
        fn create_dir_all(&self, path: &Path) -> io::Result<()> {
            self.env.disk().create_dir_all(path)
        }
        fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
            self.env.disk().list(dir)
        }
        fn exists(&self, path: &Path) -> bool {
            self.env.disk().exists(path)
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.env.disk().rename(from, to)
        }
        fn remove_file(&self, path: &Path) -> io::Result<()> {
            self.env.disk().remove_file(path)
        }
        fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
            self.env.disk().remove_dir_all(path)
        }
        fn sync_dir(&self, dir: &Path) -> io::Result<()> {
            if self.folder_full.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.env.disk().sync_dir(dir)
        }
        fn lock(&self, path: &Path) -> io::Result<keelstone_env::DiskLock> {
            self.env.disk().lock(path)
        }
    }

    struct Epoch;
    impl WallClock for Epoch {
        fn since_unix_epoch(&self) -> Duration {
            Duration::ZERO
        }
    }

    struct Fixed;
    impl Random for Fixed {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(7);
        }
    }

    struct InPlace;
    impl Offload for InPlace {
        fn run(&self, work: Box<dyn FnOnce() + Send>) -> futures::future::BoxFuture<'static, ()> {
            Box::pin(async move { work() })
        }
    }

    /// The real world with another disk.
    pub fn env(disk: Arc<dyn Disk>) -> Env {
        let os = Env::os();
        Env::from_parts(
            Arc::new(Epoch),
            Arc::new(Fixed),
            Arc::clone(os.net()),
            disk,
            Arc::clone(os.tls()),
            Arc::new(InPlace),
        )
    }
}

#[tokio::test]
async fn verification_reads_all_and_changes_nothing() {
    let dir = tempfile::TempDir::new().unwrap();
    let env = keelstone_env::Env::os();
    let wal = keelstone_wal::Wal::open(env.clone(), keelstone_wal::WalOptions::new(dir.path())).await.unwrap();
    let entry = |index| keelstone_wal::LogEntry { index, term: 2, kind: 1, body: bytes::Bytes::from(vec![7; 100]) };
    wal.append((3..9).map(entry).collect(), Box::new(|_| ())).await.unwrap();
    wal.sync().await.unwrap();
    let path = env.disk().list(dir.path()).unwrap().remove(0);
    let mut whole = env.disk().read(&path).unwrap();
    let said = keelstone_wal::verify(&env, dir.path()).unwrap();
    assert_eq!((said.segments, said.first, said.last, said.torn_bytes), (1, Some(3), Some((8, 2)), 0));
    // A torn end is told and left alone; damage is an error.
    whole.truncate(written(&path));
    let torn = [&whole[..], &[1, 2, 3]].concat();
    env.disk().write_atomically(&path, &torn).unwrap();
    assert_eq!(keelstone_wal::verify(&env, dir.path()).unwrap().torn_bytes, 3);
    assert_eq!(env.disk().read(&path).unwrap(), torn);
    let mut bad = whole.clone();
    bad[40] ^= 1;
    env.disk().write_atomically(&path, &bad).unwrap();
    assert!(keelstone_wal::verify(&env, dir.path()).is_err());
}
