//! The task by which a member whose state was found to be damaged (alarm CORRUPT under its id) replaces it with
//! another member's. It serves nothing until then; it goes on voting and keeping the log, which is not in doubt.

use std::sync::{Arc, PoisonError};

use keelstone_etcd_api::pb;
use keelstone_mvcc::{Applied, Command, Op};
use prost::Message;

use crate::{
    constants::{QUARANTINE_POLL_INTERVAL, REPAIR_RETRY_PAUSE},
    convert,
    core::{Core, Leader},
    log_store::encode_log_id,
    peer, service,
    snapshot::SnapshotHandle,
    state_check::is_quarantined,
    RaftError,
};

pub(crate) async fn run(core: Arc<Core>) {
    loop {
        tokio::time::sleep(QUARANTINE_POLL_INTERVAL).await;
        if !is_quarantined(&core) {
            continue;
        }
        tracing::error!("this member's state is damaged: it is replaced with another member's");
        while is_quarantined(&core) {
            match repair(&core).await {
                Ok(index) => tracing::info!(index, "this member's state was replaced"),
                Err(error) => tracing::warn!(%error, "the state could not be replaced yet"),
            }
            tokio::time::sleep(REPAIR_RETRY_PAUSE).await;
        }
    }
}

/// Replaces the state, then takes the alarm back; returns the index of the new state.
async fn repair(core: &Core) -> Result<u64, RaftError> {
    let members = core.members();
    let status = core.status.borrow().clone();
    if status.is_leader() {
        if let Some(heir) = status.voters.iter().copied().find(|id| *id != core.config.id) {
            core.raft.trigger().transfer_leader(heir).await?;
        }
        return Err(RaftError::Unknown("this member leads; it hands leadership over first".into()));
    }
    // The leader first, which has applied most.
    let mut others: Vec<_> = members.into_iter().filter(|(id, _)| *id != core.config.id).collect();
    others.sort_by_key(|(id, _)| status.leader != Some(*id));
    let mut last = RaftError::NoLeader;
    for (id, info) in others {
        let Ok(client) = core.peers.client(id, &info.peer_address) else { continue };
        match replace(core, client).await {
            Ok(index) => {
                disarm(core).await?;
                return Ok(index);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Nothing is applied meanwhile: entries that the new state has already are skipped afterwards.
async fn replace(core: &Core, mut client: crate::peers::Client) -> Result<u64, RaftError> {
    let failed = |status: tonic::Status| RaftError::Unknown(status.message().to_owned());
    let _applying = core.progress.applying.lock().await;
    let index = core.mvcc.applied().index;
    let mut parts = client.fetch_state(peer::FetchStateRequest { index }).await.map_err(failed)?.into_inner();
    let (_, meta) = service::receive_head(&mut parts).await.map_err(failed)?;
    let spooled = service::receive(core, &mut parts).await.map_err(failed)?;
    let Some(log_id) = meta.last_log_id else { return Err(RaftError::Unknown("the state is empty".into())) };
    let applied = Applied {
        index: log_id.index(),
        log_id: encode_log_id(&log_id),
        membership: convert::stored_membership_out(&meta.last_membership).encode_to_vec().into(),
    };
    let mvcc = Arc::clone(&core.mvcc);
    core.env.offload(move || SnapshotHandle::Spooled(spooled).install(&mvcc, applied)).await?;
    core.progress.hashes.lock().unwrap_or_else(PoisonError::into_inner).clear();
    core.progress.note_hash(&core.mvcc);
    core.progress.applied.send_replace(log_id.index() + 1);
    Ok(log_id.index())
}

/// Takes the alarm back, through the leader.
async fn disarm(core: &Core) -> Result<(), RaftError> {
    let request = pb::AlarmRequest {
        action: pb::alarm_request::AlarmAction::Deactivate.into(),
        member_id: core.config.id,
        alarm: pb::AlarmType::Corrupt.into(),
    };
    let command = Command { caller: None, proposer_term: core.term(), op: Some(Op::Alarm(request)) }.encode_to_vec();
    let Leader::At(mut client) = core.leader(core.deadline()).await? else { return Err(RaftError::NoLeader) };
    let call = client.forward(peer::ForwardRequest { commands: vec![command.into()] });
    match tokio::time::timeout_at(core.deadline(), call).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(status)) => Err(RaftError::Unknown(status.message().to_owned())),
        Err(_) => Err(RaftError::Unknown("the leader did not answer in time".into())),
    }
}
