//! After the faults: every member answers, all agree, and the whole log can be read.

use std::{collections::BTreeSet, time::Duration};

use keelstone_checkers::Violation;
use keelstone_etcd_api::pb;
use keelstone_store_client::EtcdKv;
use tokio::time::Instant;

use super::{workloads, Scenario};
use crate::{constants::*, simulation::Stage};

const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// A write after the load, outside of its keys.
const PROBE: &str = "probe";

pub async fn settle(scenario: &Scenario) -> Result<(), Violation> {
    let end = Instant::now() + LIVENESS_TIME_MAX;
    while scenario.clients.shared.stage() != Stage::Healed {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    for name in &scenario.clients.names {
        answers(scenario, name, end).await?;
    }
    agree(scenario, end).await?;
    loop {
        match scenario.log.read(&scenario.kv(0)).await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > end => {
                return Err(Violation::new("liveness", format!("the log cannot be read: {error}")));
            }
            Err(_) => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}

/// This member alone takes a write and a linearizable read; one whose disk is damaged may refuse to live.
async fn answers(scenario: &Scenario, name: &str, end: Instant) -> Result<(), Violation> {
    let kv = scenario.clients.kv_of(name);
    loop {
        let probe = async {
            kv.put(workloads::put(PROBE, name)).await?;
            kv.range(pb::RangeRequest { key: PROBE.into(), ..Default::default() }).await
        };
        match probe.await {
            Ok(answer) if answer.kvs.first().is_some_and(|kv| kv.value == name) => return Ok(()),
            Ok(answer) => return Err(Violation::new("liveness", format!("{name} reads back {answer:?}"))),
            Err(_) if scenario.clients.shared.is_away(name) => return Ok(()),
            Err(error) if Instant::now() > end => {
                return Err(Violation::new("liveness", format!("{name} does not answer after the faults: {error}")));
            }
            Err(_) => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}

/// All members come to the same applied index with the same state.
async fn agree(scenario: &Scenario, end: Instant) -> Result<(), Violation> {
    loop {
        let mut members = scenario.members.all();
        members.retain(|name, _| !scenario.clients.shared.is_away(name));
        let here = scenario.clients.names.iter().filter(|name| !scenario.clients.shared.is_away(name)).count();
        let states: BTreeSet<(u64, u64)> = members.values().map(|member| member.mvcc.state_hash()).collect();
        let leaders: BTreeSet<Option<u64>> = members.values().map(|member| member.status.borrow().leader).collect();
        if members.len() == here && states.len() == 1 && leaders.len() == 1 {
            return Ok(());
        }
        if Instant::now() > end {
            let story = format!("members do not come to agree: states {states:?}, leaders {leaders:?}");
            return Err(Violation::new("liveness", story));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
