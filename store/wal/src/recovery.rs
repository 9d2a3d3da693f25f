//! Reading the log back at start-up.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use keelstone_env::{Env, OpenMode};

use crate::{
    codec::{self, Record},
    memory::{Memory, Place},
    segment::{self, OpenSegment},
    verify::WalSummary,
    WalError,
};

/// What was found.
pub(crate) struct Recovered {
    pub memory: Memory,
    pub current: OpenSegment,
    /// Older segments: sequence and highest entry index.
    pub closed: Vec<(u64, u64)>,
}

/// Opens the log in `dir`, which is made if it is missing. Blocks.
pub(crate) fn recover(env: &Env, dir: &Path) -> Result<Recovered, WalError> {
    let disk = env.disk();
    disk.create_dir_all(dir)?;
    if let Some(parent) = dir.parent() {
        disk.sync_dir(parent)?;
    }
    let sequences = sequences(env, dir)?;
    let mut memory = Memory::default();
    let mut closed = Vec::new();
    let mut current = None;
    for (at, sequence) in sequences.iter().enumerate() {
        let last = at + 1 == sequences.len();
        let scan = scan(env, &segment::path(dir, *sequence), *sequence, last, &mut memory)?;
        if last {
            current = Some(open_for_append(env, dir, *sequence, scan)?);
        } else {
            closed.push((*sequence, scan.index_max));
        }
    }
    let current = match current {
        Some(current) => current,
        None => OpenSegment::create(env, dir, 1, &memory.marks)?,
    };
    check_beginning(dir, &memory)?;
    // The last life may have failed between the rename of a segment and this.
    disk.sync_dir(dir)?;
    memory.durable = memory.last().map_or(0, |(index, _)| index + 1).max(memory.durable);
    Ok(Recovered { memory, current, closed })
}

/// The segments' sequences, ascending; leftovers of a crash while one was made are removed.
fn sequences(env: &Env, dir: &Path) -> Result<Vec<u64>, WalError> {
    let mut sequences = Vec::new();
    for path in env.disk().list(dir)? {
        match segment::sequence(&path) {
            Some(sequence) => sequences.push(sequence),
            None if path.extension().is_some_and(|extension| extension == "tmp") => env.disk().remove_file(&path)?,
            None => {}
        }
    }
    sequences.sort_unstable();
    check_gaps(dir, &sequences)?;
    Ok(sequences)
}

fn check_gaps(dir: &Path, sequences: &[u64]) -> Result<(), WalError> {
    for pair in sequences.windows(2) {
        if pair[0] + 1 != pair[1] {
            return Err(corrupt(&segment::path(dir, pair[0] + 1), 0, "the segment is missing".into()));
        }
    }
    Ok(())
}

/// Reads the log in `dir` and changes nothing. Blocks.
pub(crate) fn inspect(env: &Env, dir: &Path) -> Result<WalSummary, WalError> {
    let mut sequences: Vec<u64> = env.disk().list(dir)?.iter().filter_map(|path| segment::sequence(path)).collect();
    sequences.sort_unstable();
    check_gaps(dir, &sequences)?;
    let mut memory = Memory::default();
    let mut torn_bytes = 0;
    for (at, sequence) in sequences.iter().enumerate() {
        let last = at + 1 == sequences.len();
        let scan = scan(env, &segment::path(dir, *sequence), *sequence, last, &mut memory)?;
        torn_bytes = scan.torn_bytes;
    }
    check_beginning(dir, &memory)?;
    let purged = memory.marks.purged.as_ref().map(|(through, _)| *through);
    Ok(WalSummary { segments: sequences.len(), first: memory.first(), last: memory.last(), purged, torn_bytes })
}

/// The first entry that is left must not come after a gap.
fn check_beginning(dir: &Path, memory: &Memory) -> Result<(), WalError> {
    match (memory.first(), &memory.marks.purged) {
        (Some(first), Some((through, _))) if first > through + 1 => {
            Err(corrupt(dir, 0, format!("entries {} to {} are missing", through + 1, first - 1)))
        }
        _ => Ok(()),
    }
}

struct Scan {
    salt: u64,
    frames: u64,
    length: u64,
    file_bytes: u64,
    /// Bytes behind the last valid frame, unless all are zeros that were reserved.
    torn_bytes: u64,
    index_max: u64,
    /// The whole segment, as the kernel shows it.
    content: Bytes,
    /// Offset below which the segment itself says that all is durable.
    synced: u64,
}

/// Replays one segment into `memory`.
fn scan(env: &Env, path: &Path, sequence: u64, last: bool, memory: &mut Memory) -> Result<Scan, WalError> {
    let content = Bytes::from(env.disk().read(path)?);
    let (found, salt) = codec::decode_header(&content).map_err(|reason| corrupt(path, 0, reason))?;
    if found != sequence {
        return Err(corrupt(path, 0, format!("the segment says it is number {found}")));
    }
    let file_bytes = content.len() as u64;
    let length = codec::HEADER_BYTES as u64;
    let mut scan = Scan {
        salt,
        frames: 0,
        length,
        file_bytes,
        torn_bytes: 0,
        index_max: 0,
        content: content.clone(),
        synced: length,
    };
    let mut at = codec::HEADER_BYTES;
    while at < content.len() {
        let frame = codec::frame_at(&content, at, salt).filter(|frame| frame.number == scan.frames);
        let Some(frame) = frame else {
            let is_reserve = last && content[at..].iter().all(|byte| *byte == 0);
            if !is_reserve {
                check_torn(path, &content, at, salt, last)?;
                scan.torn_bytes = file_bytes - at as u64;
            }
            break;
        };
        for record in codec::records(&frame.payload).map_err(|reason| corrupt(path, at as u64, reason))? {
            replay(path, sequence, &frame, record, memory, &mut scan.index_max)?;
        }
        at = frame.end();
        // A segment gets its name only after its first frame is durable.
        scan.synced = scan.synced.max(if scan.frames == 0 { at as u64 } else { frame.synced });
        scan.frames += 1;
        scan.length = at as u64;
    }
    if scan.frames == 0 {
        // A segment gets its name only after its first frame is durable.
        return Err(corrupt(path, codec::HEADER_BYTES as u64, "the first frame is damaged".into()));
    }
    Ok(scan)
}

/// Decides whether the invalid bytes at `at` are a torn tail (fine) or damage (an error).
fn check_torn(path: &Path, content: &Bytes, at: usize, salt: u64, last: bool) -> Result<(), WalError> {
    if !last {
        return Err(corrupt(path, at as u64, "a frame is damaged, and it is not in the last segment".into()));
    }
    let mut from = at + 1;
    while let Some(found) = find(content, from) {
        if codec::frame_at(content, found, salt).is_some_and(|frame| frame.synced > at as u64) {
            return Err(corrupt(path, at as u64, format!("a frame is damaged, and later ones (byte {found}) are not")));
        }
        from = found + 1;
    }
    tracing::info!(
        segment = %path.display(),
        offset = at,
        bytes = content.len() - at,
        "the log's torn tail, which was never acknowledged, is cut"
    );
    Ok(())
}

fn find(content: &[u8], from: usize) -> Option<usize> {
    let rest = content.get(from..)?;
    rest.windows(codec::FRAME_MAGIC.len()).position(|window| window == codec::FRAME_MAGIC).map(|at| from + at)
}

fn replay(
    path: &Path,
    sequence: u64,
    frame: &codec::Frame,
    record: Record,
    memory: &mut Memory,
    index_max: &mut u64,
) -> Result<(), WalError> {
    match record {
        Record::Entry { entry, crc, body_at } => {
            // After a prefix of segments was removed, the first entry may come long after the purge mark.
            if memory.first().is_some() {
                memory.check_next(entry.index).map_err(|error| {
                    corrupt(path, frame.payload_at as u64, format!("entries do not follow each other: {error}"))
                })?;
            }
            let length = u32::try_from(entry.body.len()).unwrap_or(u32::MAX);
            let offset = (frame.payload_at + body_at) as u64;
            *index_max = (*index_max).max(entry.index);
            memory.push(&entry, Some(Place { sequence, offset, length, crc }));
        }
        Record::Vote(vote) => memory.marks.vote = Some(detach(&vote)),
        Record::Committed(mark) => memory.marks.committed = Some(detach(&mark)),
        Record::Truncate(from) => memory.truncate(from),
        Record::Purge(through, mark) => memory.purge(through, detach(&mark)),
    }
    Ok(())
}

/// A copy, so that a few bytes do not keep a whole segment in memory.
fn detach(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn open_for_append(env: &Env, dir: &Path, sequence: u64, scan: Scan) -> Result<OpenSegment, WalError> {
    let mut file = env.disk().open(&segment::path(dir, sequence), OpenMode::Write)?;
    if scan.length < scan.file_bytes {
        file.set_len(scan.length)?;
    }
    // What was written but not synced before the crash counts from now on. After a sync that failed the kernel may
    // show bytes that the disk does not have, and call them clean: only bytes that are written again are synced.
    let (synced, end) = (scan.synced.min(scan.length), scan.length);
    file.write_all_at(&scan.content[synced as usize..end as usize], synced)?;
    file.sync()?;
    Ok(OpenSegment {
        file,
        sequence,
        salt: scan.salt,
        frames: scan.frames,
        length: scan.length,
        synced: scan.length,
        reserved: scan.length,
        index_max: scan.index_max,
    })
}

fn corrupt(path: &Path, offset: u64, reason: String) -> WalError {
    WalError::Corrupt { segment: PathBuf::from(path), offset, reason }
}
