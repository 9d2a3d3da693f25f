//! Applies committed entries: commands become writes of one engine batch, replies and events.

mod auth;
mod command;
mod txn;
mod working;

use bytes::Bytes;
use keelstone_engine::{Batch, Column};
use keelstone_env::bug::{self, Bug};
use keelstone_etcd_api::ApiError;

use crate::{
    read::ReadError,
    record::{self, StateRecord, STATE_KEY},
    shared::{Shared, Writer},
    view::View,
    Entry, MvccError, Payload, Reply, Response,
};

use working::Working;

/// Why a command did not apply.
pub enum ApplyError {
    /// The command is refused, and has changed nothing.
    Refused(ApiError),
    /// The state machine cannot go on; nothing of the whole batch is kept.
    Failed(MvccError),
}

impl From<ApiError> for ApplyError {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

impl From<ReadError> for ApplyError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Api(error) => Self::Refused(error),
            ReadError::Failed(error) => Self::Failed(error),
        }
    }
}

impl From<MvccError> for ApplyError {
    fn from(error: MvccError) -> Self {
        Self::Failed(error)
    }
}

pub fn apply(shared: &Shared, entries: Vec<Entry>) -> Result<Vec<Reply>, MvccError> {
    let mut writer = shared.writer();
    let view = View::clone(&shared.view());
    let mut working = Working::new(view);
    let mut replies = Vec::with_capacity(entries.len());
    let mut changed = false;
    for entry in entries {
        match place(&working.view, entry.index)? {
            Place::AlreadyApplied => replies.push(Ok(Response::None)),
            Place::Next => {
                replies.push(apply_entry(&mut working, entry)?);
                changed = true;
            }
        }
    }
    if !changed {
        return Ok(replies);
    }
    if shared.hub.wants_prev_kv() {
        working.fill_prev_kvs()?;
    }
    let Working { mut view, mut staged, events, lease_events, .. } = working;
    if bug::planted(Bug::AppliedIndexApart) {
        write_index_apart(shared, &mut writer, &view)?;
    }
    staged.put(Column::Meta, Bytes::from_static(STATE_KEY), record::encode(&view.record()));
    staged.note(&view.recent);
    if let Err(error) = shared.write(&mut writer, staged.into_batch()) {
        view.recent.forget();
        return Err(error.into());
    }
    view.snapshot = shared.engine.snapshot()?;
    let revision = view.revision;
    shared.publish(view);
    shared.hub.publish(events, revision);
    shared.notify_leases(lease_events);
    Ok(replies)
}

/// etcd 13766 put back: the applied index is durable before what was applied.
fn write_index_apart(shared: &Shared, writer: &mut Writer, view: &View) -> Result<(), MvccError> {
    let ahead = view.record();
    let record = StateRecord { applied_next: ahead.applied_next, log_id: ahead.log_id, ..shared.view().record() };
    let mut batch = Batch::default();
    batch.put(Column::Meta, STATE_KEY, record::encode(&record));
    shared.write(writer, batch)?;
    Ok(shared.engine.flush()?)
}

enum Place {
    AlreadyApplied,
    Next,
}

fn place(view: &View, index: u64) -> Result<Place, MvccError> {
    if index < view.applied_next {
        return Ok(Place::AlreadyApplied);
    }
    if index > view.applied_next && view.applied_next > 0 {
        return Err(MvccError::OutOfOrder { applied: view.applied_next - 1, got: index });
    }
    Ok(Place::Next)
}

fn apply_entry(working: &mut Working, entry: Entry) -> Result<Reply, MvccError> {
    let reply = match entry.payload {
        Payload::Blank => Ok(Response::None),
        Payload::Membership(membership) => {
            // A copy: the slice would keep the whole message that it came in.
            working.view.membership = membership.to_vec().into();
            Ok(Response::None)
        }
        Payload::Command(command) => match command::apply(working, command, entry.term) {
            Ok(response) => Ok(response),
            Err(ApplyError::Refused(error)) => Err(error),
            Err(ApplyError::Failed(error)) => return Err(error),
        },
    };
    working.view.applied_next = entry.index + 1;
    working.view.log_id = entry.log_id.to_vec().into();
    Ok(reply)
}
