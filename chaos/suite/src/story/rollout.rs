use super::{manifests::NAME, Story};
use crate::{
    failure::{Failure, Outcome},
    kubectl::Said,
};

const DEPLOYMENT: &str = "deployment/web";

impl Story {
    pub async fn rollouts(&mut self) -> Outcome<()> {
        self.report.chapter("A rollout, its history, and back again");
        self.run(&["set", "env", DEPLOYMENT, "GREETING=good-day"]).await?;
        self.rolled_out().await?;
        self.shows(&["get", DEPLOYMENT, "-o", "jsonpath={.spec.template.spec.containers[0].env[0].value}"], "good-day")
            .await?;
        self.shows(&["rollout", "history", DEPLOYMENT], "2").await?;
        self.run(&["rollout", "undo", DEPLOYMENT]).await?;
        self.rolled_out().await?;
        let said = self
            .shows(&["get", DEPLOYMENT, "-o", "jsonpath={.spec.template.spec.containers[0].env[0].value}"], "hello")
            .await?;
        self.report.sees(format!("the old template ({}) runs again", said.out));
        self.run(&["set", "image", DEPLOYMENT, &format!("{NAME}=keelstone.local/busybox:2"), "--dry-run=server"])
            .await?;
        self.run(&["rollout", "pause", DEPLOYMENT]).await?;
        self.run(&["set", "env", DEPLOYMENT, "GREETING=paused"]).await?;
        let (before, _) = self.running_pods(3).await?;
        self.run(&["rollout", "resume", DEPLOYMENT]).await?;
        self.rolled_out().await?;
        let (after, _) = self.running_pods(3).await?;
        if after.iter().any(|p| before.iter().any(|b| b.name == p.name)) {
            return Err(Failure::broken("a pod of the old template outlived the rollout"));
        }
        self.report.sees("what was set while paused runs once it was resumed");
        Ok(())
    }

    async fn rolled_out(&self) -> Outcome<Said> {
        self.shows(&["rollout", "status", DEPLOYMENT, "--timeout=60s"], "successfully rolled out").await
    }
}
