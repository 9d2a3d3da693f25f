use bytes::{Bytes, BytesMut};
use keelstone_etcd_api::pb;
use keelstone_mvcc::Export;
use prost::Message;
use sha2::{Digest, Sha256};

use super::schema;
use crate::{
    bbolt::{BoltWriter, Layout, PageSink},
    BackupError,
};

/// What a snapshot says beside the pinned view.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// As etcd's own, `3.5.0`: what may read it.
    pub cluster_version: String,
    pub applied_index: u64,
    pub term: u64,
    pub members: Vec<pb::Member>,
}

/// A snapshot file of a pinned view, made while it is read. Holds about a page of rows, whatever the size.
pub struct EtcdSnapshot {
    load: Load<BytesMut>,
    layout: Layout,
    head: Option<Bytes>,
    digest: Option<Sha256>,
}

impl EtcdSnapshot {
    /// Counts the pages of `export`, which is read once for that. Blocks.
    pub fn new(export: Export, about: About) -> Result<Self, BackupError> {
        let mut counting = Load { export, about, writer: Some(BoltWriter::new(())), stage: Stage::Before, last: 0 };
        let layout = loop {
            if let Some((layout, ())) = counting.step()? {
                break layout;
            }
        };
        let Load { mut export, about, .. } = counting;
        export.rewind();
        let writer = Some(BoltWriter::new(BytesMut::new()));
        let load = Load { export, about, writer, stage: Stage::Before, last: 0 };
        Ok(Self { load, layout, head: Some(layout.head()), digest: Some(Sha256::new()) })
    }

    /// Length of the whole file, in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.layout.file_bytes() + <Sha256 as Digest>::output_size() as u64
    }

    pub fn revision(&self) -> i64 {
        self.load.export.revision()
    }

    /// The next bytes of the file, about 1 MiB and never none; `None` after the last. Blocks.
    pub fn next_bytes(&mut self) -> Result<Option<Bytes>, BackupError> {
        let Some(digest) = &mut self.digest else { return Ok(None) };
        if let Some(head) = self.head.take() {
            digest.update(&head);
            return Ok(Some(head));
        }
        loop {
            if let Some((layout, rest)) = self.load.step()? {
                if layout != self.layout {
                    return Err(BackupError::refused("the pinned view has changed while it was read"));
                }
                digest.update(&rest);
                let sum = self.digest.take().map(Sha256::finalize).unwrap_or_default();
                return Ok(Some([&rest[..], &sum[..]].concat().into()));
            }
            let Some(writer) = &mut self.load.writer else { return Ok(None) };
            let bytes = writer.sink().split().freeze();
            if !bytes.is_empty() {
                digest.update(&bytes);
                return Ok(Some(bytes));
            }
        }
    }
}

enum Stage {
    Before,
    Rows,
    After,
}

/// Puts a view into a bbolt file, a page of rows at a time.
struct Load<S> {
    export: Export,
    about: About,
    /// `None` once it is finished.
    writer: Option<BoltWriter<S>>,
    stage: Stage,
    /// Main revision of the last row.
    last: i64,
}

impl<S: PageSink> Load<S> {
    /// Does the next part of the work; the layout once it is done.
    fn step(&mut self) -> Result<Option<(Layout, S)>, BackupError> {
        let Some(writer) = &mut self.writer else { return Err(BackupError::refused("the snapshot is complete")) };
        match self.stage {
            Stage::Before => {
                before_rows(writer, &self.export, &self.about)?;
                writer.begin_bucket(schema::KEY)?;
                self.stage = Stage::Rows;
            }
            Stage::Rows => match self.export.next_rows()? {
                Some(rows) => {
                    for row in rows {
                        let (key, value) = schema::row_out(&row);
                        writer.put(key, value)?;
                        self.last = row.main;
                    }
                }
                None => {
                    // etcd finds its revision in the last row or the compacted revision.
                    let revision = self.export.revision();
                    if revision > self.last.max(self.export.compacted_revision()).max(1) {
                        let (key, value) = schema::skipped_revision(revision);
                        writer.put(key, value)?;
                    }
                    writer.end_bucket()?;
                    self.stage = Stage::After;
                }
            },
            Stage::After => {
                after_rows(writer, &self.export, &self.about)?;
                return self.writer.take().map(BoltWriter::finish).transpose();
            }
        }
        Ok(None)
    }
}

/// The buckets whose names come before `key`.
fn before_rows<S: PageSink>(writer: &mut BoltWriter<S>, export: &Export, about: &About) -> Result<(), BackupError> {
    let mut alarms: Vec<Vec<u8>> = export.alarms().map(|alarm| alarm.encode_to_vec()).collect();
    alarms.sort();
    bucket(writer, schema::ALARM, alarms.into_iter().map(|alarm| (alarm, Vec::new())))?;
    let auth = export.auth();
    let enabled = (schema::AUTH_ENABLED, vec![u8::from(auth.enabled)]);
    bucket(writer, schema::AUTH, [enabled, (schema::AUTH_REVISION, auth.revision.to_be_bytes().to_vec())])?;
    bucket(
        writer,
        schema::AUTH_ROLES,
        sorted(auth.roles.iter().map(|role| (role.name.clone(), role.encode_to_vec()))),
    )?;
    bucket(
        writer,
        schema::AUTH_USERS,
        sorted(auth.users.iter().map(|user| (user.name.clone(), user.encode_to_vec()))),
    )?;
    bucket(writer, schema::CLUSTER, [(schema::CLUSTER_VERSION, about.cluster_version.clone().into_bytes())])
}

/// The buckets whose names come after `key`.
fn after_rows<S: PageSink>(writer: &mut BoltWriter<S>, export: &Export, about: &About) -> Result<(), BackupError> {
    let leases = export.leases().map(|lease| {
        let value = schema::LeaseValue { id: lease.id, ttl_s: lease.ttl_s, remaining_s: 0 };
        (lease.id.to_be_bytes().to_vec(), value.encode_to_vec())
    });
    bucket(writer, schema::LEASE, sorted(leases))?;
    let members = about.members.iter().map(|member| (format!("{:016x}", member.id), member_json(member)));
    bucket(writer, schema::MEMBERS, sorted(members))?;
    bucket(writer, schema::MEMBERS_REMOVED, Vec::<(Vec<u8>, Vec<u8>)>::new())?;
    let mut meta = vec![
        (schema::CONF_STATE, conf_state_json(about)),
        (schema::CONSISTENT_INDEX, about.applied_index.to_be_bytes().to_vec()),
        (schema::TERM, about.term.to_be_bytes().to_vec()),
    ];
    if export.compacted_revision() >= 0 {
        let compacted = schema::revision_bytes(export.compacted_revision(), 0).to_vec();
        meta.push((schema::FINISHED_COMPACT, compacted.clone()));
        meta.push((schema::SCHEDULED_COMPACT, compacted));
    }
    bucket(writer, schema::META, sorted(meta))
}

fn bucket<S: PageSink, K: Into<Bytes>, V: Into<Bytes>>(
    writer: &mut BoltWriter<S>,
    name: &'static str,
    pairs: impl IntoIterator<Item = (K, V)>,
) -> Result<(), BackupError> {
    writer.begin_bucket(name)?;
    for (key, value) in pairs {
        writer.put(key, value)?;
    }
    writer.end_bucket()
}

fn sorted<K: Ord, V: Ord>(pairs: impl IntoIterator<Item = (K, V)>) -> Vec<(K, V)> {
    let mut pairs: Vec<(K, V)> = pairs.into_iter().collect();
    pairs.sort();
    pairs
}

fn member_json(member: &pb::Member) -> Vec<u8> {
    let json = serde_json::json!({
        "id": member.id, "peerURLs": member.peer_ur_ls, "isLearner": member.is_learner,
        "name": member.name, "clientURLs": member.client_ur_ls,
    });
    json.to_string().into_bytes()
}

fn conf_state_json(about: &About) -> Vec<u8> {
    let ids = |learner: bool| -> Vec<u64> {
        about.members.iter().filter(|member| member.is_learner == learner).map(|member| member.id).collect()
    };
    let json = serde_json::json!({ "voters": ids(false), "learners": ids(true), "auto_leave": false });
    json.to_string().into_bytes()
}
