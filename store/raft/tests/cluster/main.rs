//! Whole members against each other: elections, forwarding, crashes, snapshots, leases.

mod harness;
mod membership;
mod state;

use std::time::Duration;

use harness::{eventually, local_get, pause, Cluster};
use keelstone_etcd_api::{pb, ApiError};
use keelstone_mvcc::{Op, Response};
use keelstone_raft::{Limits, RaftError};

#[test]
fn any_member_takes_writes_and_serves_linearizable_reads() {
    let cluster = Cluster::start(3, Limits::default());
    cluster.leader();
    for id in 1..=3 {
        let key = format!("key {id}");
        cluster.put_surely(id, &key, "value");
        for other in 1..=3 {
            assert_eq!(cluster.get(other, &key).unwrap().as_deref(), Some("value"), "written at {id}, read at {other}");
        }
    }
    cluster.converge();
}

#[test]
fn errors_of_the_state_machine_come_back_through_a_follower() {
    let cluster = Cluster::start(3, Limits::default());
    let follower = cluster.follower();
    let node = cluster.members.iter().find(|member| member.id() == follower).unwrap().node();
    let revoke = Op::LeaseRevoke(pb::LeaseRevokeRequest { id: 77 });
    let error = cluster.run(node.propose(revoke)).unwrap_err();
    assert!(matches!(error, RaftError::Api(ApiError::LeaseNotFound)), "{error:?}");
}

#[test]
fn the_cluster_survives_its_leader_and_takes_it_back() {
    let mut cluster = Cluster::start(3, Limits::default());
    let first = cluster.leader();
    for at in 0..50 {
        cluster.put_surely(first, &format!("before {at}"), "x");
    }
    let began = tokio::time::Instant::now();
    cluster.member(first).crash();
    let survivor = cluster.up().next().unwrap().id();
    // What is on its way to the dead leader has an unknown fate.
    cluster.put_surely(survivor, "after", "y");
    println!("first write after the crash: {} ms", began.elapsed().as_millis());
    let second = cluster.leader();
    assert_ne!(first, second);
    for member in cluster.up() {
        assert_eq!(cluster.get(member.id(), "after").unwrap().as_deref(), Some("y"));
        for at in 0..50 {
            assert!(local_get(&member.mvcc(), &format!("before {at}")).is_some(), "an acknowledged write is lost");
        }
    }
    cluster.member(first).start();
    assert_eq!(cluster.get(first, "after").unwrap().as_deref(), Some("y"));
    cluster.converge();
}

#[test]
fn everything_acknowledged_survives_a_crash_of_all_members() {
    let mut cluster = Cluster::start(3, Limits::default());
    cluster.leader();
    let revision = (0..30).map(|at| cluster.put_surely(1 + at % 3, &format!("key {at}"), "x")).last().unwrap();
    for member in &mut cluster.members {
        member.crash();
    }
    for member in &mut cluster.members {
        member.start();
    }
    for id in 1..=3 {
        assert_eq!(cluster.get(id, "key 29").unwrap().as_deref(), Some("x"));
        assert_eq!(cluster.member(id).mvcc().revision(), revision);
    }
}

#[test]
fn a_single_member_acknowledges_only_what_it_finds_again() {
    let mut cluster = Cluster::start(1, Limits::default());
    assert_eq!(cluster.leader(), 1);
    for round in 0..3 {
        let revision = cluster.put_surely(1, "key", &format!("{round}"));
        cluster.member(1).crash();
        cluster.member(1).start();
        // Known to be committed or not: what was applied is there before anything is served, or once it leads.
        assert_eq!(cluster.get(1, "key").unwrap(), Some(format!("{round}")));
        assert_eq!(cluster.member(1).mvcc().revision(), revision);
    }
}

#[test]
fn a_member_that_lags_behind_the_log_gets_a_snapshot() {
    let limits = Limits {
        flush_interval: Duration::from_millis(100),
        kept_entries: 5,
        segment_bytes_max: 4096,
        ..Limits::default()
    };
    let mut cluster = Cluster::start(3, limits);
    let lagging = cluster.follower();
    cluster.put_surely(lagging, "early", "x");
    cluster.member(lagging).crash();
    let writer = cluster.leader();
    for at in 0..300 {
        cluster.put_surely(writer, &format!("key {}", at % 100), &format!("{at}"));
    }
    let wal = cluster.member(writer).wal_dir();
    let first_segment = wal.join(format!("{:016x}.wal", 1));
    eventually("the log is purged", || !keelstone_env::Env::os().disk().exists(&first_segment));

    cluster.member(lagging).start();
    assert_eq!(cluster.get(lagging, "key 99").unwrap().as_deref(), Some("299"));
    assert_eq!(cluster.get(lagging, "early").unwrap().as_deref(), Some("x"));
    cluster.converge();
    // What was installed is durable, and the log goes on from there.
    cluster.put_surely(lagging, "late", "y");
    cluster.member(lagging).crash();
    cluster.put_surely(cluster.leader(), "later", "z");
    cluster.member(lagging).start();
    assert_eq!(cluster.get(lagging, "later").unwrap().as_deref(), Some("z"));
    assert_eq!(cluster.get(lagging, "key 0").unwrap().as_deref(), Some("200"));
    cluster.converge();
}

#[test]
fn a_member_that_crashes_again_and_again_while_it_catches_up_does_so_in_the_end() {
    let limits = Limits {
        flush_interval: Duration::from_millis(50),
        kept_entries: 5,
        segment_bytes_max: 4096,
        ..Limits::default()
    };
    let mut cluster = Cluster::start(3, limits);
    let lagging = cluster.follower();
    let others: Vec<u64> = (1..=3).filter(|id| *id != lagging).collect();
    for round in 0..12u64 {
        cluster.member(lagging).crash();
        for at in 0..40 {
            cluster.put_surely(others[0], &format!("key {at}"), &format!("{round} {}", "x".repeat(2000)));
        }
        cluster.member(lagging).start();
        pause(Duration::from_millis(round * 17 % 120));
    }
    cluster.member(lagging).crash();
    cluster.member(lagging).start();
    let value = cluster.get(lagging, "key 39").unwrap().unwrap();
    assert!(value.starts_with("11 "));
    cluster.converge();
}

#[test]
fn without_a_quorum_reads_and_writes_end_in_an_error() {
    let mut cluster = Cluster::start(3, Limits::default());
    let first = cluster.follower();
    cluster.member(first).crash();
    let second = cluster.follower();
    let last = cluster.leader();
    cluster.member(second).crash();
    let write = cluster.put(last, "key", "value").unwrap_err();
    let leads = cluster.member(last).node().status().is_leader();
    assert!(leads || !write.outcome_unknown(), "no log has it: {write}");
    let read = cluster.get(last, "key").unwrap_err();
    assert!(!read.outcome_unknown(), "{read}");
    cluster.member(second).start();
    cluster.leader();
    cluster.put_surely(last, "other", "value");
    let later = cluster.get(second, "key").unwrap();
    assert!(later.is_none() || write.outcome_unknown(), "{write}, and yet it was committed");
    cluster.put_surely(last, "key", "again");
    assert_eq!(cluster.get(second, "key").unwrap().as_deref(), Some("again"));
}

#[test]
fn a_write_that_its_caller_gave_up_before_anybody_took_it_is_not_done_later() {
    let mut cluster = Cluster::start(3, Limits::default());
    let survivor = cluster.follower();
    // It would find a leader in time.
    cluster.member(survivor).crash();
    cluster.member(survivor).config_mut().timing.request_max = Duration::from_secs(30);
    cluster.member(survivor).start();
    cluster.put_surely(survivor, "before", "x");
    let others: Vec<u64> = cluster.up().map(|member| member.id()).filter(|id| *id != survivor).collect();
    others.iter().for_each(|id| cluster.member(*id).crash());
    let node = cluster.member(survivor).node();
    let put = Op::Put(pb::PutRequest { key: "given up".into(), value: "y".into(), ..Default::default() });
    let given_up = async { tokio::time::timeout(Duration::from_millis(500), node.propose(put)).await };
    assert!(cluster.run(given_up).is_err(), "there is no quorum that could have answered");
    others.iter().for_each(|id| cluster.member(*id).start());
    cluster.put_surely(survivor, "after", "z");
    pause(Duration::from_millis(500));
    assert_eq!(cluster.get(survivor, "given up").unwrap(), None);
}

#[test]
fn a_leader_that_shuts_down_hands_over() {
    let mut cluster = Cluster::start(3, Limits::default());
    let leader = cluster.leader();
    cluster.put_surely(leader, "key", "x");
    let node = cluster.member(leader).node();
    cluster.run(node.shutdown());
    drop(node);
    // Faster than any election time-out: the next write just works.
    cluster.member(leader).crash();
    let next = cluster.leader();
    cluster.put_surely(next, "key", "y");
    let error =
        cluster.run(cluster.members.iter().find(|m| m.id() != next && m.is_up()).unwrap().node().transfer_leader(next));
    assert!(matches!(error, Err(RaftError::Api(ApiError::NotLeader))));
    let heir = cluster.up().map(harness::Member::id).find(|id| *id != next).unwrap();
    let node = cluster.member(next).node();
    cluster.run(node.transfer_leader(heir)).unwrap();
    drop(node);
    assert_eq!(cluster.leader(), heir);
}

#[test]
fn a_lease_lives_while_it_is_kept_alive_and_dies_after() {
    let mut cluster = Cluster::start(3, Limits::default());
    let follower = cluster.follower();
    let node = cluster.member(follower).node();
    let grant = Op::LeaseGrant(pb::LeaseGrantRequest { ttl: 2, id: 5 });
    assert!(matches!(cluster.run(node.propose(grant)).unwrap(), Response::LeaseGrant(_)));
    let put = pb::PutRequest { key: "leased".into(), value: "x".into(), lease: 5, ..Default::default() };
    cluster.run(node.propose(Op::Put(put))).unwrap();
    assert_eq!(cluster.run(node.lease_keep_alive(6)).unwrap(), 0);
    assert_eq!(cluster.run(node.lease_time_to_live(6)).unwrap(), None);
    for _ in 0..4 {
        pause(Duration::from_millis(700));
        assert_eq!(cluster.run(node.lease_keep_alive(5)).unwrap(), 2);
    }
    // A new leader gives it its full time again.
    let leader = cluster.leader();
    cluster.member(leader).crash();
    assert_eq!(cluster.run(node.lease_keep_alive(5)).unwrap(), 2);
    let (remaining_s, granted_s) = cluster.run(node.lease_time_to_live(5)).unwrap().unwrap();
    assert!((0..=2).contains(&remaining_s) && granted_s == 2);
    assert_eq!(cluster.get(follower, "leased").unwrap().as_deref(), Some("x"));
    let mvcc = cluster.member(follower).mvcc();
    eventually("the lease ends", || mvcc.lease(5).is_none());
    assert_eq!(local_get(&mvcc, "leased"), None);
    assert_eq!(cluster.run(node.lease_keep_alive(5)).unwrap(), 0);
}

#[test]
fn a_member_can_be_added_and_removed() {
    let mut cluster = Cluster::start(3, Limits::default());
    let leader = cluster.leader();
    cluster.put_surely(leader, "key", "x");
    let joining = cluster.add_member();
    let node = cluster.member(leader).node();
    let info = cluster.info(joining);
    cluster.run(node.add_learner(joining, info.clone())).unwrap();
    let again = cluster.run(node.add_learner(joining, info)).unwrap_err();
    assert!(matches!(again, RaftError::Api(ApiError::MemberExists)));
    eventually("the new member catches up", || {
        cluster.members.iter().all(|member| local_get(&member.mvcc(), "key").is_some())
    });
    assert!(cluster.member(joining).node().status().is_learner);
    cluster.run(node.change_voters(1..=4)).unwrap();
    assert_eq!(cluster.get(joining, "key").unwrap().as_deref(), Some("x"));
    assert!(!cluster.member(joining).node().status().is_learner);
    let removed = (1..=3).find(|id| *id != leader).unwrap();
    cluster.run(node.change_voters((1..=4).filter(|id| *id != removed))).unwrap();
    cluster.member(removed).crash();
    cluster.put_surely(joining, "key", "y");
    assert_eq!(node.status().members.len(), 3);
    let unknown = cluster.run(node.change_voters([leader, 99])).unwrap_err();
    assert!(matches!(unknown, RaftError::Api(ApiError::MemberNotFound)), "{unknown:?}");
}

#[test]
fn many_leases_end_beside_traffic() {
    const LEASES: i64 = 20_000;
    let mut cluster = Cluster::start(3, Limits::default());
    let leader = cluster.leader();
    let node = cluster.member(leader).node();
    cluster.run(async {
        for some in (1..=LEASES).collect::<Vec<_>>().chunks(4_000) {
            let grants = some.iter().map(|id| node.propose(Op::LeaseGrant(pb::LeaseGrantRequest { ttl: 2, id: *id })));
            for granted in futures::future::join_all(grants).await {
                granted.unwrap();
            }
        }
    });
    let mvcc = cluster.member(leader).mvcc();
    let mut puts = 0;
    eventually("all leases end", || {
        cluster.put_surely(leader, "key", "x");
        puts += 1;
        mvcc.leases().is_empty()
    });
    println!("{puts} puts went on meanwhile");
    cluster.converge();
}

#[test]
fn a_refused_transaction_changes_nothing_on_any_member() {
    let mut cluster = Cluster::start(3, Limits::default());
    let follower = cluster.follower();
    cluster.put_surely(follower, "key", "x");
    let put = pb::PutRequest { key: "key".into(), value: "y".into(), ..Default::default() };
    let range = pb::RangeRequest { key: "key".into(), revision: 1_000, ..Default::default() };
    let op = |request| pb::RequestOp { request: Some(request) };
    let success = vec![op(pb::request_op::Request::RequestPut(put)), op(pb::request_op::Request::RequestRange(range))];
    let node = cluster.member(follower).node();
    let refused = cluster.run(node.propose(Op::Txn(pb::TxnRequest { success, ..Default::default() })));
    assert!(matches!(refused, Err(RaftError::Api(ApiError::FutureRevision))), "{refused:?}");
    let revision = cluster.put_surely(follower, "other", "x");
    for id in 1..=3 {
        assert_eq!(cluster.get(id, "key").unwrap().as_deref(), Some("x"));
        assert_eq!(cluster.member(id).mvcc().revision(), revision);
    }
    cluster.converge();
}
