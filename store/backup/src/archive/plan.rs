use super::{
    folder::{Folder, Full, SegmentName},
    segment::SegmentReader,
};
use crate::BackupError;

/// The moment that is to be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// As far as the backup goes.
    Latest,
    Revision(i64),
    /// What the backup had seen by then, in milliseconds since 1970.
    Time(u64),
}

/// How a moment is restored: a full backup, then the changes after it, up to `revision`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub full: Full,
    /// In order; empty if the full backup is the moment.
    pub segments: Vec<SegmentName>,
    pub revision: i64,
}

/// What one segment covers, by its frames.
struct Covered {
    name: SegmentName,
    first: i64,
    through: i64,
    /// The last revision that was complete at the target's time.
    at_time: Option<i64>,
}

/// Finds out how to restore `target`; reads all segments once. Blocks.
///
/// # Errors
/// If something is damaged, or the moment is not covered; the text says what is.
pub fn plan(folder: &Folder, target: Target) -> Result<Plan, BackupError> {
    let fulls = folder.fulls()?;
    let covered = folder.segments()?.into_iter().map(|name| cover(folder, name, target));
    let covered = covered.collect::<Result<Vec<_>, _>>()?;
    // The newest full backup that reaches the moment wins.
    for full in fulls.iter().rev() {
        if let Some(plan) = plan_from(full, &covered, target) {
            return Ok(plan);
        }
    }
    let ranges: Vec<String> =
        fulls.iter().map(|full| format!("{} to {}", full.revision, chain(full, &covered).1)).collect();
    let ranges = if ranges.is_empty() { "nothing".to_owned() } else { ranges.join(", ") };
    let asked = match target {
        Target::Latest => "no full backup is there".to_owned(),
        Target::Revision(revision) => format!("revision {revision} is not covered"),
        Target::Time(_) => "that time is not covered".to_owned(),
    };
    Err(BackupError::refused(format!("{asked}; revisions that can be restored: {ranges}")))
}

fn cover(folder: &Folder, name: SegmentName, target: Target) -> Result<Covered, BackupError> {
    let in_file = |error: BackupError| BackupError::damaged(format!("{}: {error}", name.path.display()));
    let mut reader = SegmentReader::open(folder.disk(), &name.path, name.is_open).map_err(in_file)?;
    let first = reader.header().first_revision;
    let mut covered = Covered { first, through: first - 1, at_time: None, name: name.clone() };
    while let Some(frame) = reader.next().map_err(in_file)? {
        covered.through = frame.through;
        if matches!(target, Target::Time(time) if frame.unix_ms <= time) {
            covered.at_time = Some(frame.through);
        }
    }
    Ok(covered)
}

/// The segments that follow `full` without a gap, and how far they reach.
fn chain<'a>(full: &Full, covered: &'a [Covered]) -> (Vec<&'a Covered>, i64) {
    let mut through = full.revision;
    let mut chain = Vec::new();
    for segment in covered {
        if segment.first <= through + 1 && segment.through > through {
            through = segment.through;
            chain.push(segment);
        }
    }
    (chain, through)
}

fn plan_from(full: &Full, covered: &[Covered], target: Target) -> Option<Plan> {
    let (segments, through) = chain(full, covered);
    let revision = match target {
        Target::Latest => through,
        Target::Revision(revision) => revision,
        Target::Time(time) if full.unix_ms > time => return None,
        Target::Time(_) => segments.iter().filter_map(|s| s.at_time).max().unwrap_or(0).max(full.revision),
    };
    if revision < full.revision || revision > through {
        return None;
    }
    let needed = segments.into_iter().filter(|segment| segment.first <= revision);
    Some(Plan { full: full.clone(), segments: needed.map(|s| s.name.clone()).collect(), revision })
}
