//! States that differ: found, quarantined, repaired.

use keelstone_etcd_api::pb;
use keelstone_mvcc::{Command, Entry, Op, Payload};
use keelstone_raft::Limits;

use crate::harness::{eventually, local_get, Cluster};

fn corrupt(id: u64) -> pb::AlarmMember {
    pb::AlarmMember { member_id: id, alarm: pb::AlarmType::Corrupt.into() }
}

/// Makes a member take something for the next entry that the log does not have there.
fn plant(cluster: &mut Cluster, id: u64, key: &str) {
    let mvcc = cluster.member(id).mvcc();
    let applied = mvcc.applied();
    let put = pb::PutRequest { key: key.to_owned().into(), value: "wrong".into(), ..Default::default() };
    let command = Command { caller: None, proposer_term: 1, op: Some(Op::Put(put)) };
    let entry = Entry { index: applied.index + 1, term: 1, log_id: applied.log_id, payload: Payload::Command(command) };
    mvcc.apply(vec![entry]).unwrap()[0].as_ref().unwrap();
}

fn found_and_repaired(planted_on_leader: bool) {
    let mut cluster = Cluster::start(3, Limits::default());
    let damaged = if planted_on_leader { cluster.leader() } else { cluster.follower() };
    for at in 0..20 {
        cluster.put_surely(damaged, &format!("key {at}"), "x");
    }
    cluster.converge();
    plant(&mut cluster, damaged, "key 3");
    let other = (1..=3).find(|id| *id != damaged).unwrap();
    // A leader that skips it has no answer of its own.
    let put = pb::PutRequest { key: "key 4".into(), value: "y".into(), ..Default::default() };
    let node = cluster.member(other).node();
    let _ = cluster.run(node.propose(Op::Put(put)));
    drop(node);
    let mvcc = cluster.member(damaged).mvcc();
    // It may be over between two looks: only a member with the alarm is repaired.
    let is_repaired = || local_get(&mvcc, "key 3").as_deref() == Some("x");
    eventually("the alarm is raised", || mvcc.alarms().contains(&corrupt(damaged)) || is_repaired());
    // The others go on meanwhile.
    cluster.put_surely(other, "key 5", "y");
    eventually("the alarm is taken back", || cluster.up().all(|member| member.mvcc().alarms().is_empty()));
    cluster.put_surely(other, "key 6", "y");
    cluster.converge();
    assert_eq!(local_get(&mvcc, "key 3").as_deref(), Some("x"));
    assert_eq!(local_get(&mvcc, "key 4").as_deref(), Some("y"));
    // The repaired state survives a crash.
    cluster.member(damaged).crash();
    cluster.put_surely(other, "key 7", "y");
    cluster.member(damaged).start();
    assert_eq!(cluster.get(damaged, "key 7").unwrap().as_deref(), Some("y"));
    cluster.converge();
}

#[test]
fn a_follower_that_differs_is_repaired() {
    found_and_repaired(false);
}

#[test]
fn a_leader_that_differs_is_repaired_by_the_others() {
    found_and_repaired(true);
}
