use std::time::{Duration, Instant};

use super::Story;
use crate::{
    constants::{NO_QUORUM_ANSWER_MAX, SETTLE_MAX},
    failure::{Failure, Outcome},
    report::eventually,
    store_members,
    writer::Writer,
};

/// The writer runs so long before the master freezes.
const WARM_UP: Duration = Duration::from_secs(1);

impl Story {
    /// A master that is stopped accepts connections and answers none: it must count as dead, and what it
    /// believes when it wakes up must not hurt.
    pub async fn the_leading_master_is_frozen(&mut self) -> Outcome<()> {
        let (leader, _) =
            eventually("the store has a leader", SETTLE_MAX, || store_members::leader(&self.cluster)).await?;
        self.report.chapter(&format!("SIGSTOP to master {leader}, which leads the store"));
        let endpoint = self.endpoint()?;
        let writer = Writer::start(&endpoint, &self.namespace);
        tokio::time::sleep(WARM_UP).await;
        let frozen = Instant::now();
        self.cluster.kill(&leader, &["--stop"]).await?;
        let goes_on = eventually("writes go on", NO_QUORUM_ANSWER_MAX, || async {
            writer.record().answered_since(frozen).then_some(()).ok_or("none is acknowledged".to_owned())
        });
        let went_on = goes_on.await;
        let gap = writer.record().longest_gap(frozen);
        let listed = self.quiet(&["get", "configmaps", "-o", "name"]).await;
        // Whatever was seen: it must not stay frozen.
        self.cluster.kill(&leader, &["--continue"]).await?;
        went_on?;
        if !listed.ok() {
            return Err(Failure::broken(format!("a read through the balancer: {}", listed.all())));
        }
        self.report.sees(format!("writes went on; the longest time without one is {:.2} s", gap.as_secs_f64()));
        self.comes_back(&leader).await?;
        let record = writer.stop_and_verify(&endpoint).await.map_err(Failure::Broken)?;
        self.report.sees(format!(
            "all {} acknowledged writes are there ({} were refused or left open)",
            record.acknowledged.len(),
            record.failed
        ));
        Ok(())
    }
}
