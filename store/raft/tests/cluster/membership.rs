//! Members that come, go, forget and return.

use std::time::Duration;

use keelstone_env::Env;
use keelstone_etcd_api::ApiError;
use keelstone_mvcc::{AuthChange, AuthCommand, Op};
use keelstone_raft::{discover, Limits, MemberChange, RaftError, Timing};

use crate::harness::{eventually, local_get, pause, Cluster};

fn refused(cluster: &mut Cluster, through: u64, change: MemberChange) -> ApiError {
    let node = cluster.member(through).node();
    match cluster.run(node.change_members(change)) {
        Err(RaftError::Api(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cluster_grows_from_one_to_five_and_shrinks_again_under_load() {
    let mut cluster = Cluster::start(1, Limits::default());
    assert_eq!(cluster.leader(), 1);
    let mut written = 0;
    let mut write = |cluster: &Cluster, through| {
        cluster.put_surely(through, &format!("key {written}"), "x");
        written += 1;
    };
    for size in 2..=5 {
        write(&cluster, 1);
        let joined = cluster.join(1);
        write(&cluster, joined);
        let node = cluster.member(joined).node();
        eventually("it votes", || node.status().voters.len() == size && !node.status().is_learner);
        assert_eq!(node.status().members[&joined].name, format!("m{joined:x}"));
    }
    let members: Vec<u64> = cluster.up().map(|member| member.id()).collect();
    for id in members.iter().rev().take(4) {
        let through = cluster.up().map(|member| member.id()).find(|other| other != id).unwrap();
        let node = cluster.member(through).node();
        // The leader may be the one that goes.
        cluster.run(node.change_members(MemberChange::Remove { id: *id })).unwrap();
        let gone = cluster.member(*id).node();
        eventually("it knows that it was removed", || gone.status().removed);
        drop((node, gone));
        cluster.member(*id).crash();
        write(&cluster, through);
    }
    assert_eq!(cluster.leader(), 1);
    let mvcc = cluster.member(1).mvcc();
    assert!((0..written).all(|at| local_get(&mvcc, &format!("key {at}")).is_some()));
    assert_eq!(refused(&mut cluster, 1, MemberChange::Remove { id: 1 }), ApiError::NotEnoughStarted);
}

#[test]
fn a_removed_member_refuses_to_start_again() {
    let mut cluster = Cluster::start(3, Limits::default());
    let gone = cluster.follower();
    let through = cluster.leader();
    cluster.put_surely(through, "key", "x");
    // It is not there when it is removed, and is told when it returns.
    cluster.member(gone).crash();
    let node = cluster.member(through).node();
    eventually("its silence is noticed", || {
        cluster.run(node.change_members(MemberChange::Remove { id: gone })).is_ok()
    });
    cluster.member(gone).start();
    let returned = cluster.member(gone).node();
    eventually("it learns of it", || returned.status().removed);
    assert!(returned.status().failed.unwrap().contains("removed"));
    drop((returned, node));
    cluster.member(gone).crash();
    let error = cluster.member(gone).try_start().unwrap_err();
    assert!(error.contains("was removed from cluster"), "{error}");
    cluster.put_surely(through, "key", "y");
}

#[test]
fn a_member_that_lost_its_data_takes_no_part_until_it_is_replaced() {
    let mut cluster = Cluster::start(3, Limits::default());
    let through = cluster.leader();
    let lost = cluster.follower();
    eventually("all have said who they are", || {
        let status = cluster.up().next().unwrap().node().status();
        status.members.values().all(|info| info.level > 0)
    });
    cluster.put_surely(through, "key", "x");
    cluster.converge();
    cluster.member(lost).crash();
    cluster.wipe(lost);
    cluster.member(lost).start();
    let node = cluster.member(lost).node();
    eventually("it is refused", || node.status().failed.is_some());
    assert!(node.status().failed.unwrap().contains("replace"), "{:?}", node.status().failed);
    drop(node);
    // Its vote does not count: with one of the other two away there is no quorum.
    let third = (1..=3).find(|id| *id != lost && *id != through).unwrap();
    cluster.member(third).crash();
    assert!(cluster.put(through, "key", "y").is_err());
    cluster.member(third).start();
    cluster.put_surely(through, "key", "z");
    // Replaced: removed under its old id, added under a new one.
    cluster.member(lost).crash();
    let node = cluster.member(through).node();
    cluster.run(node.change_members(MemberChange::Remove { id: lost })).unwrap();
    let joined = cluster.join(through);
    eventually("it votes", || node.status().voters.contains(&joined));
    assert_eq!(cluster.get(joined, "key").unwrap().as_deref(), Some("z"));
}

#[test]
fn a_member_that_lags_lets_nobody_in_again_who_lost_its_data() {
    let mut cluster = Cluster::start(3, Limits::default());
    let through = cluster.leader();
    let lagging = cluster.follower();
    let (id, address) = cluster.add(through, true);
    for value in ["x", "y", "z"] {
        cluster.put_surely(through, "key", value);
    }
    cluster.converge();
    cluster.member(lagging).crash();
    cluster.start_added(id, address.clone());
    let node = cluster.member(through).node();
    eventually("it has said who it is", || node.status().members[&id].level > 0);
    drop(node);
    let others: Vec<u64> = (1..=3).filter(|other| *other != lagging).collect();
    others.iter().chain([&id]).for_each(|other| cluster.member(*other).crash());
    cluster.member(lagging).start();
    let node = cluster.member(lagging).node();
    eventually("it lists the new member", || node.status().members.contains_key(&id));
    assert_eq!(node.status().members[&id].level, 0, "it lags");
    let known = [cluster.info(lagging).peer_address];
    let again = |cluster: &Cluster| {
        let own_urls = [format!("http://{address}")];
        let found = cluster.run(discover(&Env::os(), None, &known, &own_urls, Duration::from_secs(1)));
        found.map(|found| found.member_id).unwrap_err().to_string()
    };
    assert!(again(&cluster).contains("with a leader"), "nobody confirms what it says");
    others.iter().for_each(|other| cluster.member(*other).start());
    eventually("it is told that it must be replaced", || again(&cluster).contains("replaced"));
}

#[test]
fn a_learner_stays_one_where_it_is_to_be_promoted_by_hand() {
    let mut cluster = Cluster::start(3, Limits::default());
    for member in &mut cluster.members {
        member.crash();
        member.config_mut().promote_learners = false;
        member.start();
    }
    let through = cluster.leader();
    cluster.put_surely(through, "key", "x");
    let (id, joined) = cluster.add(through, true);
    let unready = refused(&mut cluster, through, MemberChange::Promote { id });
    assert_eq!(unready, ApiError::LearnerNotReady, "it has not started");
    assert_eq!(refused(&mut cluster, through, MemberChange::Promote { id: through }), ApiError::MemberNotLearner);
    assert_eq!(refused(&mut cluster, through, MemberChange::Promote { id: 99 }), ApiError::MemberNotFound);
    let (url, address) = ("http://127.0.0.1:1".to_owned(), "127.0.0.1:1".to_owned());
    let more = MemberChange::Add { peer_urls: vec![url], peer_address: address, learner: true };
    assert_eq!(refused(&mut cluster, through, more), ApiError::TooManyLearners);
    cluster.start_added(id, joined);
    let node = cluster.member(id).node();
    eventually("it has the data", || local_get(&cluster.member(id).mvcc(), "key").is_some());
    pause(Duration::from_millis(700));
    assert!(node.status().is_learner, "nobody promotes it");
    let leader = cluster.member(through).node();
    eventually("it is in sync", || cluster.run(leader.change_members(MemberChange::Promote { id })).is_ok());
    eventually("it votes", || !node.status().is_learner);
}

#[test]
fn the_feature_level_rises_when_all_members_have_it_and_never_falls() {
    let mut cluster = Cluster::start_at(3, Limits::default(), 1);
    let through = cluster.leader();
    let level = |cluster: &Cluster| cluster.up().map(|member| member.node().status().feature_level).collect::<Vec<_>>();
    eventually("all have said who they are", || level(&cluster) == [1, 1, 1]);
    for id in [1, 2] {
        cluster.member(id).crash();
        cluster.member(id).config_mut().level = 2;
        cluster.member(id).start();
        cluster.put_surely(3, &format!("upgraded {id}"), "x");
    }
    let user_add = |cluster: &Cluster| {
        let user = keelstone_etcd_api::pb::AuthUserAddRequest { name: "alice".into(), ..Default::default() };
        let change = Some(AuthChange::UserAdd(user));
        cluster.run(cluster.members[0].node().propose(Op::Auth(AuthCommand { change })))
    };
    let of = |cluster: &mut Cluster, id: u64, on: u64| cluster.member(on).node().status().members[&id].level;
    eventually("they say so", || of(&mut cluster, 1, 3) == 2 && of(&mut cluster, 2, 3) == 2);
    assert_eq!(level(&cluster), [1, 1, 1], "the third one is older");
    let early = user_add(&cluster);
    assert!(matches!(early, Err(RaftError::Api(ApiError::NotCapable))), "{early:?}");
    let (peer_urls, peer_address) = (vec!["http://127.0.0.1:1".to_owned()], "127.0.0.1:1".to_owned());
    let add = refused(&mut cluster, 1, MemberChange::Add { peer_urls, peer_address, learner: true });
    assert_eq!(add, ApiError::NotCapable);
    cluster.member(3).crash();
    cluster.member(3).config_mut().level = 2;
    cluster.member(3).start();
    eventually("the level rises", || level(&cluster) == [2, 2, 2]);
    user_add(&cluster).unwrap();
    cluster.put_surely(through, "key", "x");
    // An older release must not come back.
    cluster.member(3).crash();
    cluster.member(3).config_mut().level = 1;
    cluster.member(3).start();
    let old = cluster.member(3).node();
    eventually("it is refused", || old.status().failed.is_some_and(|why| why.contains("needs a newer release")));
}

#[test]
fn a_cluster_that_lost_its_quorum_goes_on_from_one_member() {
    let mut cluster = Cluster::start(3, Limits::default());
    let through = cluster.leader();
    for at in 0..20 {
        cluster.put_surely(through, &format!("key {at}"), "x");
    }
    cluster.converge();
    let old_id = cluster.member(1).config_mut().cluster_id;
    for id in 1..=3 {
        cluster.member(id).crash();
    }
    let recovery = cluster.recover(1);
    assert_eq!((recovery.member_id, recovery.cluster_id), (1, old_id));
    assert_eq!(recovery.left_behind.keys().copied().collect::<Vec<_>>(), [2, 3]);
    assert!(recovery.last_index >= 20 && recovery.committed_index <= recovery.last_index);
    cluster.member(1).start();
    assert_eq!(cluster.leader(), 1);
    assert_eq!(cluster.get(1, "key 19").unwrap().as_deref(), Some("x"));
    cluster.put_surely(1, "key 20", "y");
    assert_eq!(cluster.member(1).node().status().voters, [1]);
    // One of the lost returns: it is of another cluster now, and cannot disturb this one.
    cluster.member(2).start();
    pause(Duration::from_millis(1500));
    cluster.put_surely(1, "key 21", "y");
    assert_eq!(local_get(&cluster.member(2).mvcc(), "key 21"), None);
    cluster.member(2).crash();
    let joined = cluster.join(1);
    let node = cluster.member(joined).node();
    eventually("it grows again", || node.status().voters.len() == 2);
    assert_eq!(cluster.get(joined, "key 21").unwrap().as_deref(), Some("y"));
}

#[test]
fn the_election_timeout_is_lease_and_random_wait_together() {
    let timing = Timing::new(Duration::from_millis(1000), Duration::from_millis(100));
    assert_eq!(timing.election_timeout(), Duration::from_millis(1000));
    assert_eq!(Timing::default().election_timeout(), Duration::from_millis(600));
}
