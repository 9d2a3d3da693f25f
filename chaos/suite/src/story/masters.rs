use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{manifests::NAME, Story};
use crate::{
    constants::{FAILOVER_MAX, POLL, SETTLE_MAX},
    failure::{Failure, Outcome},
    http_client::{Connection, Sent},
    report::eventually,
    store_members,
    writer::Writer,
};

/// The leases that the scheduler and the controllers act under.
const LEASES: [&str; 2] = ["kube-scheduler", "kube-controller-manager"];
/// The writer runs so long before the kill.
const WARM_UP: Duration = Duration::from_secs(1);

impl Story {
    /// Kills the master that leads the store; if the scheduler or the controllers lead elsewhere, that one
    /// too, in a round of its own.
    pub async fn the_leading_master_is_killed(&mut self) -> Outcome<()> {
        let mut replicas = 3;
        let mut done: BTreeSet<&str> = BTreeSet::new();
        let mut first = true;
        while done.len() < LEASES.len() {
            let leader = self.store_leader().await?;
            let mut holders = Vec::new();
            for lease in LEASES {
                holders.push((lease, self.holder(lease).await?));
            }
            let victim = match holders.iter().find(|(lease, holder)| !done.contains(lease) && *holder != leader) {
                Some((_, holder)) if !first => holder.clone(),
                _ => leader.clone(),
            };
            let roles: Vec<&str> = holders.iter().filter(|(_, h)| *h == victim).map(|(lease, _)| *lease).collect();
            first = false;
            done.extend(roles.iter().copied());
            // Up, so that controllers and scheduler have to act.
            replicas += 1;
            self.report.chapter(&format!("kill -9 of master {victim}"));
            self.report.does(format!("the store is led by {leader}; leases: {holders:?}"));
            self.kill_and_continue(&victim, &roles, replicas).await?;
        }
        self.run(&["scale", "deployment", NAME, "--replicas=3"]).await?;
        self.only_running_pods(3).await?;
        Ok(())
    }

    async fn kill_and_continue(&mut self, victim: &str, roles: &[&str], replicas: usize) -> Outcome<()> {
        let endpoint = self.endpoint()?;
        let writer = Writer::start(&endpoint, &self.namespace);
        tokio::time::sleep(WARM_UP).await;
        if writer.record().acknowledged.is_empty() {
            return Err(Failure::broken("the writer has nothing acknowledged although all is well"));
        }
        self.report.does(format!("a client writes a ConfigMap each 20 ms through {}", endpoint.address));
        let killed = Instant::now();
        self.cluster.kill(victim, &[]).await?;
        let read = read_again(&mut Connection::new(&endpoint), &self.namespace).await?;
        while !writer.record().answered_since(killed) && killed.elapsed() < SETTLE_MAX {
            tokio::time::sleep(POLL / 10).await;
        }
        let gap = writer.record().longest_gap(killed);
        self.report.sees(format!(
            "a consistent read is answered {:.2} s after the kill; the longest time without an acknowledged write is {:.2} s",
            read.as_secs_f64(),
            gap.as_secs_f64()
        ));
        if read > FAILOVER_MAX || gap > FAILOVER_MAX {
            return Err(Failure::broken(format!("reads and writes must go on within {FAILOVER_MAX:?}")));
        }
        self.run(&["scale", "deployment", NAME, &format!("--replicas={replicas}")]).await?;
        let (pods, took) = self.running_pods(replicas).await?;
        self.endpoints_are(&pods).await?;
        self.report.sees(format!(
            "meanwhile scaled to {replicas}: all run and are endpoints after {:.1} s",
            took.as_secs_f64()
        ));
        for lease in roles {
            let what = format!("{lease} is held by a living master");
            let passed = eventually(&what, SETTLE_MAX, || async {
                let holder = self.holder(lease).await.map_err(|f| f.text().to_owned())?;
                (holder != victim).then_some(holder).ok_or_else(|| "it is not".to_owned())
            });
            let (holder, _) = passed.await?;
            self.report.sees(format!("{lease} is now held by {holder}"));
        }
        self.comes_back(victim).await?;
        let record = writer.stop_and_verify(&endpoint).await.map_err(Failure::Broken)?;
        self.report.sees(format!(
            "all {} acknowledged writes are there ({} were refused or left open, longest gap {:.2} s)",
            record.acknowledged.len(),
            record.failed,
            record.longest_gap(killed).as_secs_f64()
        ));
        Ok(())
    }

    /// Starts a master again and waits until its member has applied what the others had by now.
    pub async fn comes_back(&self, master: &str) -> Outcome<()> {
        self.report.does(format!("keelstone up: {master} comes back"));
        let mut applied = 0;
        for other in self.cluster.masters.iter().filter(|m| *m != master) {
            applied = store_members::status(&self.cluster, other).await.map_or(applied, |s| applied.max(s.applied));
        }
        self.cluster.up().await?;
        let (now, took) = eventually("it catches up", SETTLE_MAX, || async {
            let status = store_members::status(&self.cluster, master).await?;
            (status.applied >= applied).then_some(status.applied).ok_or(format!("{} of {applied}", status.applied))
        })
        .await?;
        self.run(&["--context", master, "get", "deployments"]).await?;
        self.report.sees(format!(
            "{master} has applied {now} entries (the others had {applied}) after {:.1} s and answers itself",
            took.as_secs_f64()
        ));
        Ok(())
    }

    async fn store_leader(&self) -> Outcome<String> {
        let leader = eventually("the store has a leader", SETTLE_MAX, || store_members::leader(&self.cluster));
        Ok(leader.await?.0)
    }

    /// The master that holds a lease; identities are `<master>_<unique>`.
    async fn holder(&self, lease: &str) -> Outcome<String> {
        let what = format!("lease {lease} is held");
        let held = eventually(&what, SETTLE_MAX, || async {
            let lease = self.json(&["-n", "kube-system", "get", "lease", lease]).await?;
            let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
            let master = holder.split('_').next().unwrap_or_default().to_owned();
            self.cluster.masters.contains(&master).then_some(master).ok_or(format!("by {holder:?}"))
        });
        Ok(held.await?.0)
    }
}

/// Time until a consistent read succeeds.
async fn read_again(connection: &mut Connection, namespace: &str) -> Outcome<Duration> {
    let begun = Instant::now();
    let path = format!("/api/v1/namespaces/{namespace}/configmaps?limit=1");
    loop {
        let limit = SETTLE_MAX.saturating_sub(begun.elapsed());
        match connection.get(&path, limit.min(Duration::from_secs(2))).await {
            Sent::Answer { code: 200, .. } => return Ok(begun.elapsed()),
            other if limit.is_zero() => return Err(Failure::broken(format!("no read is answered: {other:?}"))),
            _ => tokio::time::sleep(POLL / 10).await,
        }
    }
}
