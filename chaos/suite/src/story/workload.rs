use super::{
    manifests::{self, NAME},
    Length, Story,
};
use crate::failure::Outcome;

const REPLICAS: usize = 3;

impl Story {
    pub async fn a_deployment_and_a_service(&mut self) -> Outcome<()> {
        self.report.chapter("A Deployment of 3 replicas and a Service become running containers and endpoints");
        let namespace = self.namespace.clone();
        self.run(&["create", "namespace", &namespace]).await?;
        for manifest in [manifests::deployment(&namespace, 3), manifests::service(&namespace)] {
            self.run_with(&["apply", "-f", "-"], Some(&manifest.to_string())).await?;
        }
        let (pods, took) = self.running_pods(REPLICAS).await?;
        self.report.sees(format!("3 pods run after {:.1} s", took.as_secs_f64()));
        let processes = self.processes_of(&pods)?;
        if self.containers_are_real() {
            self.report.sees(format!("their containers are {} processes of this machine", processes.len()));
        }
        self.endpoints_are(&pods).await?;
        self.run(&["get", "pods,deployments,replicasets,services,endpoints,endpointslices", "-o", "wide"]).await?;
        self.report.sees("the Service's endpoints are their addresses");
        Ok(())
    }

    pub async fn logs_scale_and_labels(&mut self) -> Outcome<()> {
        debug_assert!(self.length == Length::Full);
        self.report.chapter("logs, scale, label, annotate, wait, describe");
        let (pods, _) = self.running_pods(REPLICAS).await?;
        if self.containers_are_real() {
            self.shows(&["logs", &format!("deployment/{NAME}")], "started as").await?;
            self.shows(&["logs", "-l", &format!("app={NAME}"), "--tail=1", "--prefix"], &pods[0].name).await?;
        }
        self.run(&["scale", "deployment", NAME, "--replicas=5"]).await?;
        self.run(&["wait", "deployment", NAME, "--for=jsonpath={.status.readyReplicas}=5", "--timeout=60s"]).await?;
        let (five, took) = self.running_pods(5).await?;
        self.endpoints_are(&five).await?;
        self.report.sees(format!("5 pods run and are endpoints; {:.1} s later", took.as_secs_f64()));
        self.run(&["scale", "deployment", NAME, "--replicas=3"]).await?;
        self.only_running_pods(REPLICAS).await?;
        self.run(&["label", "deployment", NAME, "tier=front"]).await?;
        self.shows(&["get", "deployments", "-l", "tier=front", "-o", "name"], NAME).await?;
        self.run(&["annotate", "deployment", NAME, "note=seen"]).await?;
        self.run(&["wait", "pods", "-l", &format!("app={NAME}"), "--for=condition=Ready", "--timeout=60s"]).await?;
        self.shows(&["describe", "deployment", NAME], "NewReplicaSet").await?;
        Ok(())
    }
}
