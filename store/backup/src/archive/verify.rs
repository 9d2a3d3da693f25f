use super::{
    folder::{Folder, Full, SegmentName},
    segment::SegmentReader,
};
use crate::{
    etcd::{status, EtcdFile},
    BackupError,
};

/// What a backup's folder holds, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    pub fulls: usize,
    pub segments: usize,
    /// First and last revision of each unbroken stretch that can be restored.
    pub ranges: Vec<(i64, i64)>,
    /// File and fault.
    pub faults: Vec<String>,
}

/// Reads and checks every file. Blocks.
///
/// # Errors
/// If the folder itself cannot be read; what is wrong with files is in the answer.
pub fn verify(folder: &Folder) -> Result<Verified, BackupError> {
    let mut verified = Verified::default();
    let mut reached = Vec::new();
    for name in folder.segments()? {
        match segment(folder, &name) {
            Ok(through) => reached.push((name.first_revision, through)),
            Err(error) => verified.faults.push(format!("{}: {error}", name.path.display())),
        }
        verified.segments += 1;
    }
    for name in folder.fulls()? {
        verified.fulls += 1;
        match full(folder, &name) {
            Ok(()) => verified.ranges.push((name.revision, end_of_chain(name.revision, &reached))),
            Err(error) => verified.faults.push(format!("{}: {error}", name.path.display())),
        }
    }
    verified.ranges = joined(&verified.ranges);
    Ok(verified)
}

fn full(folder: &Folder, name: &Full) -> Result<(), BackupError> {
    let file = EtcdFile::open(folder.disk(), &name.path, false)?;
    status(&file)?;
    let revision = file.head()?.revision;
    if revision != name.revision {
        return Err(BackupError::damaged(format!("it holds revision {revision}")));
    }
    let mut rows = file.rows();
    while rows.next()?.is_some() {}
    Ok(())
}

fn segment(folder: &Folder, name: &SegmentName) -> Result<i64, BackupError> {
    let mut reader = SegmentReader::open(folder.disk(), &name.path, name.is_open)?;
    if reader.header().first_revision != name.first_revision {
        return Err(BackupError::damaged(format!("it begins with revision {}", reader.header().first_revision)));
    }
    let mut through = name.first_revision - 1;
    while let Some(frame) = reader.next()? {
        through = frame.through;
    }
    Ok(through)
}

fn end_of_chain(revision: i64, segments: &[(i64, i64)]) -> i64 {
    segments.iter().fold(revision, |end, (first, through)| if *first <= end + 1 { end.max(*through) } else { end })
}

/// Ranges that touch become one.
fn joined(ranges: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let mut joined: Vec<(i64, i64)> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.0 <= last.1 + 1 => last.1 = last.1.max(range.1),
            _ => joined.push(*range),
        }
    }
    joined
}
