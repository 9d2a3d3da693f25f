//! The state as rows, for backups: out of a pinned view, and into an empty store.

use std::sync::Arc;

use bytes::Bytes;
use keelstone_engine::{Column, Direction, RangeRequest};
use keelstone_etcd_api::{mvccpb, pb};

use crate::{
    auth::{AuthContent, AuthKey},
    load,
    record::{self, LeaseRecord, Revision, StateRecord, DATA_COLUMNS, FORMAT_VERSION, FORMAT_VERSION_WITHOUT_INDEX},
    snapshot::{Chunk, Installer, Pair},
    view::View,
    Applied, LeaseInfo, Mvcc, MvccError,
};

/// One change in history. A deletion has a key and version 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    pub main: i64,
    /// Counts the changes of one main revision from 0.
    pub sub: u32,
    pub kv: mvccpb::KeyValue,
}

impl Row {
    pub fn is_deletion(&self) -> bool {
        self.kv.version == 0
    }
}

/// A pinned view, read as rows as often as wanted.
pub struct Export {
    view: Arc<View>,
    next: Option<Bytes>,
}

impl Mvcc {
    /// A consistent view of everything as rows, at once.
    pub fn export(&self) -> Result<Export, MvccError> {
        let mut export = Export { view: self.shared().view(), next: None };
        export.rewind();
        Ok(export)
    }
}

impl Export {
    /// How far the log was applied in this view.
    pub fn applied(&self) -> Applied {
        self.view.applied()
    }

    pub fn revision(&self) -> i64 {
        self.view.revision
    }

    /// -1 if nothing was compacted.
    pub fn compacted_revision(&self) -> i64 {
        self.view.compacted
    }

    /// By id.
    pub fn leases(&self) -> impl Iterator<Item = LeaseInfo> + '_ {
        self.view.leases.iter().map(|(id, ttl_s)| LeaseInfo { id: *id, ttl_s: *ttl_s })
    }

    pub fn alarms(&self) -> impl Iterator<Item = pb::AlarmMember> + '_ {
        self.view.alarms.iter().map(|(member_id, alarm)| pb::AlarmMember { member_id: *member_id, alarm: *alarm })
    }

    /// Users and roles.
    pub fn auth(&self) -> AuthContent {
        self.view.auth.content()
    }

    /// Begins again with the first row.
    pub fn rewind(&mut self) {
        self.next = Some(record::generation_bounds(self.view.generation).0);
    }

    /// The next rows in the order of their revisions, about 1 MiB; `None` after the last. Rows that compaction
    /// has made unreadable are left out, whether they are removed already or not. Blocks.
    pub fn next_rows(&mut self) -> Result<Option<Vec<Row>>, MvccError> {
        let Some(start) = self.next.take() else { return Ok(None) };
        let request = RangeRequest {
            column: Column::Revisions,
            start,
            end: Some(record::generation_bounds(self.view.generation).1),
            direction: Direction::Ascending,
            limit: usize::MAX,
        };
        let page = self.view.snapshot.range(&request)?;
        self.next = page.pairs.last().filter(|_| page.more).map(|(last, _)| load::after(last));
        let mut rows = Vec::with_capacity(page.pairs.len());
        for (key, value) in page.pairs {
            let at = record::parse_revision_key(&key)?;
            let kv = record::decode_kv(value)?;
            if self.view.index().survives(at, &kv, self.view.compacted)? {
                rows.push(Row { main: at.main, sub: at.sub, kv });
            }
        }
        Ok(Some(rows))
    }
}

/// What an [`Import`] begins with.
#[derive(Clone, Debug)]
pub struct ImportHead {
    pub revision: i64,
    /// -1 if nothing is compacted.
    pub compacted: i64,
    /// Begins the hash of all effects: equal on members that are given equal data, and only there.
    pub hash: u64,
    /// How far the new log counts as applied.
    pub applied: Applied,
}

/// Fills a store from rows. Until [`Import::finish`] returns, and after a crash before that, the old state stays.
pub struct Import {
    installer: Installer,
    applied: Applied,
    chunk: Chunk,
    bytes: usize,
    last: Option<Revision>,
}

/// Bytes of pairs that an import writes at once.
const IMPORT_CHUNK_BYTES: usize = 1 << 20;

impl Mvcc {
    /// Begins to replace the state, which must not be ahead of `head`.
    pub fn begin_import(&self, head: ImportHead) -> Result<Import, MvccError> {
        let state = StateRecord {
            format_version: FORMAT_VERSION_WITHOUT_INDEX,
            generation: 0,
            applied_next: head.applied.index + 1,
            log_id: head.applied.log_id.clone(),
            membership: head.applied.membership.clone(),
            revision: head.revision,
            compacted: head.compacted,
            hash: head.hash,
            swept: 0,
        };
        let chunk = Chunk { format_version: FORMAT_VERSION, state: Some(state), ..Chunk::default() };
        Ok(Import { installer: self.begin_install()?, applied: head.applied, chunk, bytes: 0, last: None })
    }
}

impl Import {
    /// # Errors
    /// If rows do not come in the order of their revisions, or the disk fails.
    pub fn row(&mut self, row: Row) -> Result<(), MvccError> {
        let at = Revision { main: row.main, sub: row.sub };
        if self.last.is_some_and(|last| last >= at) {
            return Err(MvccError::Snapshot(format!("revision {}.{} does not follow", row.main, row.sub)));
        }
        self.last = Some(at);
        let kv = mvccpb::KeyValue { mod_revision: row.main, ..row.kv };
        self.pair(Column::Revisions, &record::revision_key(0, at), record::encode(&kv))
    }

    pub fn lease(&mut self, lease: LeaseInfo) -> Result<(), MvccError> {
        let record = record::encode(&LeaseRecord { ttl_s: lease.ttl_s });
        self.pair(Column::Leases, &record::lease_key(0, lease.id), record)
    }

    /// Users and roles. Tokens of the time before are no good in the new store.
    ///
    /// # Errors
    /// If a name is no text, or the disk fails.
    pub fn auth(&mut self, content: &AuthContent) -> Result<(), MvccError> {
        let mut put = |key: AuthKey, value| self.pair(Column::Auth, &key.encode(0), value);
        for user in content.user_records() {
            let (name, user) = user?;
            put(AuthKey::User(name), record::encode(&user))?;
        }
        for role in content.role_records() {
            let (name, role) = role?;
            put(AuthKey::Role(name), record::encode(&role))?;
        }
        put(AuthKey::Settings, record::encode(&content.settings()))
    }

    fn pair(&mut self, column: Column, key: &Bytes, value: Bytes) -> Result<(), MvccError> {
        let Some(position) = DATA_COLUMNS.iter().position(|known| *known == column) else {
            return Err(MvccError::Snapshot(format!("column {} holds no data", column.name())));
        };
        self.bytes += key.len() + value.len();
        let column = u32::try_from(position).unwrap_or(u32::MAX);
        self.chunk.pairs.push(Pair { column, key: key.slice(1..), value });
        if self.bytes < IMPORT_CHUNK_BYTES {
            return Ok(());
        }
        self.write(false)
    }

    fn write(&mut self, last: bool) -> Result<(), MvccError> {
        self.chunk.last = last;
        let next = Chunk { format_version: FORMAT_VERSION, sequence: self.chunk.sequence + 1, ..Chunk::default() };
        let full = std::mem::replace(&mut self.chunk, next);
        self.bytes = 0;
        self.installer.chunk(full.encode_checked())
    }

    /// Replaces the state in one durable step.
    pub fn finish(mut self) -> Result<(), MvccError> {
        self.write(true)?;
        self.installer.finish(self.applied)
    }
}
