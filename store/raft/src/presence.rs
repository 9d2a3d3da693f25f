//! The task by which a member comes to take part: it makes sure that it may, says of itself what the others
//! should know, and notices when it was removed.

use std::{
    collections::BTreeMap,
    sync::{atomic::Ordering, Arc},
};

use keelstone_etcd_api::ApiError;

use crate::{
    constants::{DESCRIBE_TIME_MAX, FORMATION_INTERVAL, PRESENCE_INTERVAL},
    convert,
    core::Core,
    data_dir::DataOwner,
    formation::{judge, Answer, Verdict},
    peer,
    rules::MemberChange,
    types::StoredMembership,
    RaftError,
};

/// The others are asked in every so many rounds whether this member was removed.
const ROUNDS_A_QUESTION: u64 = 4;

/// What another member said of itself.
struct Description {
    cluster_id: u64,
    young: bool,
    membership: StoredMembership,
    logged: StoredMembership,
}

pub(crate) async fn run(core: Arc<Core>) {
    if !core.takes_part.load(Ordering::Acquire) {
        match form(&core).await {
            Ok(()) => {}
            Err(error) => return core.fail(&error.to_string()),
        }
    }
    let mut listed = false;
    let mut rounds = 0u64;
    loop {
        tokio::time::sleep(PRESENCE_INTERVAL).await;
        rounds += 1;
        let status = core.status.borrow().clone();
        if status.failed.is_some() {
            return;
        }
        let lists_us = status.members.contains_key(&core.config.id);
        let gone = if listed && !lists_us {
            // Removed by an entry of its own log; uncommitted ones can still be undone.
            committed_without_us(&core)
        } else {
            // A follower takes the leader that it last heard for the leader, however long ago that was.
            let ask = lists_us && !status.is_leader() && rounds.is_multiple_of(ROUNDS_A_QUESTION);
            ask && removed_by_others(&core, status.membership_index).await
        };
        if gone {
            return leave(&core).await;
        }
        listed |= lists_us;
        if lists_us && status.leader.is_some() {
            if let Err(error) = publish(&core).await {
                return core.fail(&error);
            }
        }
    }
}

/// Waits until it is sure that this member never took part before; then it does, and forms the cluster if
/// nobody else has.
async fn form(core: &Core) -> Result<(), RaftError> {
    let (id, first) = (core.config.id, core.config.members.len());
    let mut said = false;
    loop {
        let answers: BTreeMap<u64, Answer> =
            describe_all(core).await.into_iter().map(|(other, found)| (other, answer(core, &found))).collect();
        match judge(core.config.cluster_id, first, &answers) {
            Verdict::TakePart => break,
            Verdict::Refuse(why) => return Err(RaftError::Fatal(why)),
            Verdict::Wait => {
                if !std::mem::replace(&mut said, true) {
                    tracing::info!(id = format!("{id:x}"), "waiting for the other members to form the cluster");
                }
                tokio::time::sleep(FORMATION_INTERVAL).await;
            }
        }
    }
    core.initialize().await
}

fn answer(core: &Core, found: &Description) -> Answer {
    let level = |of: &StoredMembership| of.membership().get_node(&core.config.id).map(|info| info.level);
    let applied = level(&found.membership);
    Answer {
        cluster_id: found.cluster_id,
        young: found.young,
        lists_us: applied.is_some(),
        // Whose log has it may not have heard yet that it is committed.
        knows_us: applied.max(level(&found.logged)) > Some(0),
    }
}

/// Asks all other members that are known, at the same time; those that answer are in the result.
async fn describe_all(core: &Core) -> BTreeMap<u64, Description> {
    let mut members = core.config.members.clone();
    members.extend(core.members());
    let asked = members.into_iter().filter(|(id, _)| *id != core.config.id).map(|(id, info)| async move {
        let mut client = core.peers.client(id, &info.peer_address).ok()?;
        let call = client.describe(peer::DescribeRequest { confirmed: false });
        let found = tokio::time::timeout(DESCRIBE_TIME_MAX, call).await.ok()?.ok()?.into_inner();
        let membership = convert::stored_membership_in(found.membership.unwrap_or_default()).ok()?;
        // An older release does not say it.
        let logged = found.logged_membership.map(convert::stored_membership_in).transpose().ok()?.unwrap_or_default();
        let young = found.fresh || found.applied == 0;
        Some((id, Description { cluster_id: found.cluster_id, young, membership, logged }))
    });
    futures::future::join_all(asked).await.into_iter().flatten().collect()
}

fn committed_without_us(core: &Core) -> bool {
    use openraft::async_runtime::WatchReceiver;
    let metrics = core.raft.metrics();
    let committed = metrics.borrow_watched().committed_membership_config.clone();
    committed.log_id().is_some() && committed.membership().get_node(&core.config.id).is_none()
}

/// Whether another member has applied a newer membership that is without this one.
async fn removed_by_others(core: &Core, known_index: u64) -> bool {
    describe_all(core).await.values().any(|found| {
        let newer = found.membership.log_id().as_ref().is_some_and(|log_id| log_id.index() > known_index);
        let ours = found.membership.membership().get_node(&core.config.id);
        found.cluster_id == core.config.cluster_id && newer && ours.is_none()
    })
}

/// Notes for ever that this member was removed, and stops it.
async fn leave(core: &Core) {
    let owner = DataOwner::new(core.config.cluster_id, core.config.id).removed();
    let (env, dir) = (core.env.clone(), core.config.data_dir.clone());
    if let Err(error) = core.env.offload(move || owner.write(&env, &dir)).await {
        tracing::error!(%error, "the removal of this member could not be noted on its disk");
    }
    core.raft.runtime_config().elect(false);
    core.takes_part.store(false, Ordering::Release);
    core.status.send_modify(|status| status.removed = true);
    core.fail("this member was removed from the cluster");
}

/// Says what the membership should say of this member, if it does not. An error is for good.
async fn publish(core: &Core) -> Result<(), String> {
    let config = &core.config;
    let right = core.status.borrow().members.get(&config.id).is_some_and(|info| {
        info.level == config.level && info.client_urls == config.client_urls && info.name == config.name
    });
    if right {
        return Ok(());
    }
    let change = MemberChange::Publish {
        id: config.id,
        name: config.name.clone(),
        client_urls: config.client_urls.clone(),
        level: config.level,
    };
    match core.change_members(change).await {
        Err(RaftError::Api(ApiError::NotCapable)) => Err(format!(
            "this member can do feature level {}, the cluster uses {}: it needs a newer release",
            config.level,
            core.status.borrow().feature_level
        )),
        Ok(_) => Ok(()),
        Err(error) => {
            tracing::debug!(%error, "not published yet");
            Ok(())
        }
    }
}
