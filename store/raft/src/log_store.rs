//! openraft's log storage over the WAL.

use std::{fmt::Debug, io, ops::Bound, ops::RangeBounds};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::{stream, Stream, StreamExt};
use keelstone_env::{
    bug::{self, Bug},
    fault::{self, Point, Sight},
};
use keelstone_wal::{LogEntry, Wal};
use openraft::{
    storage::{IOFlushed, RaftLogStorage},
    LogState, OptionalSend, RaftLogReader,
};
use prost::Message;

use crate::{
    constants::APPEND_BYTES_MAX,
    convert, peer,
    types::{self, Entry, LogId, TypeConfig, Vote},
};

/// The log and the vote. Clones share one WAL.
#[derive(Clone)]
pub(crate) struct LogStore {
    wal: Wal,
}

impl LogStore {
    pub(crate) fn new(wal: Wal) -> Self {
        Self { wal }
    }

    /// The entries of `start..end` that exist; with `bytes_max`, possibly only the first ones.
    pub(crate) async fn entries(&self, start: u64, end: u64, bytes_max: Option<u64>) -> io::Result<Vec<Entry>> {
        fault::pause(Point::LogRead).await;
        let entries = self.wal.read(start, end, bytes_max).await?;
        entries.into_iter().map(entry_in).collect()
    }

    pub(crate) fn purged(&self) -> io::Result<Option<LogId>> {
        self.wal.state().purged.map(|(_, mark)| decode_log_id(mark)).transpose()
    }

    /// The committed mark, as far as the log reaches.
    pub(crate) fn committed(&self) -> io::Result<Option<LogId>> {
        let state = self.wal.state();
        let Some(committed) = state.committed.map(decode_log_id).transpose()? else { return Ok(None) };
        let last = state.last.map(|(index, term)| types::log_id(term, index)).max(self.purged()?);
        Ok(Some(committed).min(last))
    }
}

/// A log id on disk: a version byte (1), the term and the index, big endian. Never empty, also for the very
/// first entry, which has term 0 and index 0.
const LOG_ID_VERSION: u8 = 1;
const LOG_ID_BYTES: usize = 17;

pub(crate) fn encode_log_id(log_id: &LogId) -> Bytes {
    let mut out = BytesMut::with_capacity(LOG_ID_BYTES);
    out.put_u8(LOG_ID_VERSION);
    out.put_u64(log_id.committed_leader_id().term);
    out.put_u64(log_id.index());
    out.freeze()
}

pub(crate) fn decode_log_id(mut bytes: Bytes) -> io::Result<LogId> {
    if bytes.len() != LOG_ID_BYTES || bytes.get_u8() != LOG_ID_VERSION {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a stored log id cannot be read"));
    }
    let term = bytes.get_u64();
    Ok(types::log_id(term, bytes.get_u64()))
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn entry_in(entry: LogEntry) -> io::Result<Entry> {
    let kind = peer::EntryKind::try_from(i32::from(entry.kind)).map_err(invalid)?;
    let payload = convert::payload_in(kind, entry.body).map_err(invalid)?;
    Ok(Entry { log_id: types::log_id(entry.term, entry.index), payload })
}

fn entry_out(entry: Entry) -> LogEntry {
    let (index, term) = (entry.log_id.index(), entry.log_id.committed_leader_id().term);
    let (kind, body) = convert::payload_out(entry.payload);
    LogEntry { index, term, kind: kind as u8, body }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (start, end) = bounds(&range);
        self.entries(start, end, None).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.entries(start, end, Some(APPEND_BYTES_MAX)).await
    }

    /// Reads page by page: what is committed at once may be far larger than what should be in memory.
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = bounds(&range);
        let pages = stream::unfold(Some((self.clone(), start)), move |state| async move {
            let (log, start) = state?;
            if start >= end {
                return None;
            }
            match log.entries(start, end, Some(APPEND_BYTES_MAX)).await {
                Err(error) => Some((vec![Err(error)], None)),
                Ok(entries) => {
                    let next = entries.last()?.log_id.index() + 1;
                    Some((entries.into_iter().map(Ok).collect(), Some((log, next))))
                }
            }
        });
        Box::pin(pages.flat_map(stream::iter))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        saved_vote(&self.wal)
    }
}

/// The newest vote in the log.
pub(crate) fn saved_vote(wal: &Wal) -> Result<Option<Vote>, io::Error> {
    let Some(vote) = wal.vote() else { return Ok(None) };
    let vote = peer::Vote::decode(vote).map_err(invalid)?;
    convert::vote_in(Some(vote)).map(Some).map_err(invalid)
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let last_purged_log_id = self.purged()?;
        let last = self.wal.state().last.map(|(index, term)| types::log_id(term, index));
        Ok(LogState { last_purged_log_id, last_log_id: last.or(last_purged_log_id) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        fault::pause(Point::LogVote).await;
        Ok(self.wal.save_vote(convert::vote_out(vote).encode_to_vec().into()).await?)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        match committed {
            Some(committed) => Ok(self.wal.save_committed(encode_log_id(&committed)).await?),
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        self.committed()
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<LogEntry> = entries.into_iter().map(entry_out).collect();
        fault::pause(Point::LogAppend).await;
        if bug::planted(Bug::FlushedBeforeSync) {
            callback.io_completed(Ok(()));
            return Ok(self.wal.append(entries, Box::new(|_| ())).await?);
        }
        let flushed = Box::new(|result: Result<(), _>| callback.io_completed(result.map_err(io::Error::from)));
        Ok(self.wal.append(entries, flushed).await?)
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        fault::pause(Point::LogTruncate).await;
        fault::sight(Sight::LogTruncated);
        Ok(self.wal.truncate(last.map_or(0, |last| last.index() + 1)).await?)
    }

    async fn purge(&mut self, through: LogId) -> Result<(), io::Error> {
        fault::pause(Point::LogPurge).await;
        fault::sight(Sight::LogPurged);
        Ok(self.wal.purge(through.index(), encode_log_id(&through)).await?)
    }
}
