//! Files in memory and stores for tests.

#![allow(dead_code)] // each test binary uses some of it

use std::{io, sync::Arc};

use bytes::Bytes;
use keelstone_backup::{
    bbolt::Bolt,
    etcd::{Epoch, ImportPlace},
    BackupError,
};
use keelstone_engine::MemEngine;
use keelstone_env::DiskFile;
use keelstone_etcd_api::{authpb, pb};
use keelstone_mvcc::{
    Applied, AuthChange, AuthCommand, AuthContent, AuthEnable, Command, Entry, Mvcc, MvccOptions, Op, Payload, Row,
};

/// A file that is bytes.
pub struct BytesFile(pub Bytes);

impl DiskFile for BytesFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let found = self.0.get(start..start.saturating_add(buffer.len()));
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&mut self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_len(&mut self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub fn open(file: Vec<u8>) -> Result<Bolt, BackupError> {
    let length = file.len() as u64;
    Bolt::open(Arc::new(BytesFile(file.into())), length)
}

pub fn empty() -> Mvcc {
    Mvcc::open(Arc::new(MemEngine::volatile()), MvccOptions::default()).unwrap()
}

/// A store that applies commands.
pub struct Store {
    pub mvcc: Arc<Mvcc>,
    pub next: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self { mvcc: Arc::new(empty()), next: 0 }
    }
}

impl Store {
    pub fn apply(&mut self, ops: &[Op]) {
        let entries = ops.iter().zip(self.next..).map(|(op, index)| Entry {
            index,
            term: 1,
            log_id: Bytes::from_static(b"x"),
            payload: Payload::Command(Command { proposer_term: 1, op: Some(op.clone()), caller: None }),
        });
        self.mvcc.apply(entries.collect()).unwrap();
        self.next += ops.len() as u64;
    }
}

pub fn place(epoch: Epoch) -> ImportPlace {
    ImportPlace { applied: Applied { index: 1, log_id: Bytes::from_static(b"y"), membership: Bytes::new() }, epoch }
}

/// All that a store holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    pub revision: i64,
    pub compacted: i64,
    pub leases: Vec<keelstone_mvcc::LeaseInfo>,
    pub auth: AuthContent,
    pub rows: Vec<Row>,
}

pub fn content(mvcc: &Mvcc) -> Content {
    let mut export = mvcc.export().unwrap();
    let mut rows = Vec::new();
    while let Some(more) = export.next_rows().unwrap() {
        rows.extend(more);
    }
    Content {
        revision: export.revision(),
        compacted: export.compacted_revision(),
        leases: export.leases().collect(),
        auth: export.auth(),
        rows,
    }
}

pub fn put(key: &str, value: &str, lease: i64) -> Op {
    Op::Put(pb::PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), lease, ..Default::default() })
}

pub fn delete(key: &str) -> Op {
    Op::DeleteRange(pb::DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() })
}

/// With a time to live of 60 s and the id.
pub fn grant(id: i64) -> Op {
    Op::LeaseGrant(pb::LeaseGrantRequest { id, ttl: 60 + id })
}

pub fn compact(revision: i64) -> Op {
    Op::Compact(pb::CompactionRequest { revision, physical: false })
}

pub fn auth(change: AuthChange) -> Op {
    Op::Auth(AuthCommand { change: Some(change) })
}

/// A user with this hash of a password, or without one if it is empty.
pub fn user(name: &str, hash: &str) -> Op {
    auth(AuthChange::UserAdd(pb::AuthUserAddRequest {
        name: name.to_owned(),
        hashed_password: hash.to_owned(),
        options: hash.is_empty().then_some(authpb::UserAddOptions { no_password: true }),
        ..Default::default()
    }))
}

pub fn grant_role(user: &str, role: &str) -> Op {
    let (user, role) = (user.to_owned(), role.to_owned());
    auth(AuthChange::UserGrantRole(pb::AuthUserGrantRoleRequest { user, role }))
}

/// A role that may read and write keys.
pub fn role(name: &str, key: &str, range_end: &str) -> [Op; 2] {
    let perm = authpb::Permission { perm_type: 2, key: key.to_owned().into(), range_end: range_end.to_owned().into() };
    let grant = pb::AuthRoleGrantPermissionRequest { name: name.to_owned(), perm: Some(perm) };
    [
        auth(AuthChange::RoleAdd(pb::AuthRoleAddRequest { name: name.to_owned() })),
        auth(AuthChange::RoleGrantPermission(grant)),
    ]
}

pub fn enable() -> Op {
    auth(AuthChange::Enable(AuthEnable { token_secret: Bytes::from_static(b"secret"), secret_only: false }))
}
