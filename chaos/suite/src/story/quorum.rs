use std::time::Duration;

use super::{manifests::NAME, Story};
use crate::{
    constants::{NO_QUORUM_ANSWER_MAX, SETTLE_MAX},
    failure::{Failure, Outcome},
};

/// Writes without a quorum may be carried out later: they must not matter to the story.
const DELETED: &str = "deleted-without-quorum";

impl Story {
    pub async fn two_masters_are_away(&mut self) -> Outcome<()> {
        self.report.chapter("Two masters away: no quorum");
        let replicas = self.pods().await.map_err(Failure::Broken)?.iter().filter(|p| !p.leaving).count();
        let (pods, _) = self.running_pods(replicas).await?;
        let processes = self.processes_of(&pods)?;
        self.run(&["create", "configmap", DELETED]).await?;
        let away: Vec<String> = self.cluster.masters.iter().take(2).cloned().collect();
        for master in &away {
            self.cluster.kill(master, &[]).await?;
        }
        self.report.does(format!("kill -9 of {}", away.join(" and ")));
        // A leader that was left over needs its lease's time to see that it leads no one.
        tokio::time::sleep(Duration::from_secs(2)).await;
        self.answers_from_memory().await?;
        self.the_rest_says_why().await?;
        if self.containers_are_real() {
            let still = self.processes_of(&pods)?;
            if still != processes {
                return Err(Failure::broken("the running containers are not the same any more"));
            }
            self.report.sees(format!("the {} processes of the {replicas} pods run on, untouched", still.len()));
        }
        for master in &away {
            self.comes_back(master).await?;
        }
        self.all_nodes_ready().await?;
        let (after, _) = self.running_pods(replicas).await?;
        if after.iter().map(|p| &p.name).ne(pods.iter().map(|p| &p.name)) {
            return Err(Failure::broken(format!("pods were replaced without need: {pods:?} became {after:?}")));
        }
        self.report.sees("nodes are Ready, and the same pods run");
        let replicas = if replicas == 3 { 4 } else { 3 };
        self.run(&["scale", "deployment", NAME, &format!("--replicas={replicas}")]).await?;
        let (pods, took) = self.running_pods(replicas).await?;
        self.endpoints_are(&pods).await?;
        self.report.sees(format!("all continues: scaled to {replicas} in {:.1} s", took.as_secs_f64()));
        Ok(())
    }

    async fn answers_from_memory(&self) -> Outcome<()> {
        self.shows(&["get", "--raw", "/apis/apps/v1"], "deployments").await?;
        let namespace = &self.namespace;
        self.shows(&["api-resources", "--api-group=apps", "-o", "name"], "deployments.apps").await?;
        self.shows(&["auth", "can-i", "create", "pods"], "yes").await?;
        let path = format!("/api/v1/namespaces/{namespace}/pods?resourceVersion=0");
        self.report.command(&["get", "--raw", &path]);
        let said = self.quiet(&["get", "--raw", &path]).await;
        if !said.ok() || !said.out.contains(NAME) {
            return Err(Failure::broken(format!("a read at resourceVersion=0 must be answered: {}", said.err)));
        }
        self.report.sees(format!("discovery, access and the pods ({} bytes) are answered from memory", said.out.len()));
        Ok(())
    }

    async fn the_rest_says_why(&self) -> Outcome<()> {
        let requests: [&[&str]; 4] = [
            &["get", "pods"],
            &["create", "configmap", "without-quorum", "--from-literal=a=b"],
            &["label", "service", NAME, "quorum=lost"],
            &["delete", "configmap", DELETED],
        ];
        for arguments in requests {
            self.report.command(arguments);
            let said = self.kubectl.run_with(arguments, None, SETTLE_MAX).await;
            self.report.output(&said);
            if said.ok() {
                return Err(Failure::broken(format!("kubectl {} succeeded without a quorum", arguments.join(" "))));
            }
            if !said.err.contains("quorum") {
                return Err(Failure::broken(format!("the answer does not say that the quorum is lost: {}", said.err)));
            }
            if said.took > NO_QUORUM_ANSWER_MAX {
                return Err(Failure::broken(format!("that took {:?}; at most {NO_QUORUM_ANSWER_MAX:?}", said.took)));
            }
            self.report.sees(format!("refused after {:.1} s, saying why", said.took.as_secs_f64()));
        }
        Ok(())
    }
}
