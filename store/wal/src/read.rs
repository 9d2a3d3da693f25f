//! Reading entries: from memory, or from disk where they were evicted.

use std::{io, sync::Arc};

use bytes::Bytes;
use keelstone_env::OpenMode;

use crate::{constants, memory::Place, memory::Slot, segment, wal::Shared, LogEntry, WalError};

pub(crate) async fn read(
    shared: &Arc<Shared>,
    start: u64,
    end: u64,
    bytes_max: u64,
) -> Result<Vec<LogEntry>, WalError> {
    loop {
        let slots = shared.memory().slots(start, end, bytes_max);
        let Some((first, _)) = slots.first() else { return Ok(Vec::new()) };
        let first = *first;
        if slots.iter().all(|(_, slot)| slot.body.is_some()) {
            return Ok(slots.into_iter().filter_map(|(index, slot)| whole(index, slot)).collect());
        }
        let from_disk = {
            let shared = Arc::clone(shared);
            shared.env.clone().offload(move || fill(&shared, slots)).await
        };
        match from_disk {
            Ok(entries) => return Ok(entries),
            // A purge may have removed the segment meanwhile; then less is asked for the next time.
            Err(WalError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                if shared.memory().first().is_none_or(|now| now > first) {
                    continue;
                }
                return Err(WalError::Io(error));
            }
            Err(error) => return Err(error),
        }
    }
}

fn whole(index: u64, slot: Slot) -> Option<LogEntry> {
    Some(LogEntry { index, term: slot.term, kind: slot.kind, body: slot.body? })
}

/// Fetches the missing bodies; neighbours in one segment come with one read.
fn fill(shared: &Shared, mut slots: Vec<(u64, Slot)>) -> Result<Vec<LogEntry>, WalError> {
    let mut at = 0;
    while at < slots.len() {
        let run = run(&slots[at..]);
        if run.is_empty() {
            at += 1;
            continue;
        }
        let content = fetch(shared, &run)?;
        for (slot, (place, body)) in slots[at..].iter_mut().zip(run.iter().zip(content)) {
            if crc32c::crc32c(&body) != place.crc {
                return Err(WalError::Corrupt {
                    segment: segment::path(&shared.options.dir, place.sequence),
                    offset: place.offset,
                    reason: format!("entry {} is damaged", slot.0),
                });
            }
            slot.1.body = Some(body);
        }
        at += run.len();
    }
    Ok(slots.into_iter().filter_map(|(index, slot)| whole(index, slot)).collect())
}

/// The places of the first slots, as long as they miss their body, lie in one segment and are not too much.
fn run(slots: &[(u64, Slot)]) -> Vec<Place> {
    let mut run: Vec<Place> = Vec::new();
    for (_, slot) in slots {
        let (None, Some(place)) = (&slot.body, slot.place) else { break };
        if let Some(first) = run.first() {
            let bytes = (place.offset + u64::from(place.length)).saturating_sub(first.offset);
            let ascending = run.last().is_some_and(|last| last.offset < place.offset);
            if place.sequence != first.sequence || !ascending || bytes > constants::READ_BYTES_MAX as u64 {
                break;
            }
        }
        run.push(place);
    }
    run
}

fn fetch(shared: &Shared, run: &[Place]) -> Result<Vec<Bytes>, WalError> {
    let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(Vec::new()) };
    let file = shared.env.disk().open(&segment::path(&shared.options.dir, first.sequence), OpenMode::Read)?;
    let bytes = last.offset + u64::from(last.length) - first.offset;
    let mut content = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
    file.read_exact_at(&mut content, first.offset)?;
    let content = Bytes::from(content);
    let slice = |place: &Place| {
        let at = usize::try_from(place.offset - first.offset).unwrap_or(usize::MAX);
        content.slice(at..at + place.length as usize)
    };
    Ok(run.iter().map(slice).collect())
}
