use futures::{
    future::{join_all, BoxFuture},
    FutureExt,
};
use keelstone_client::Client;
use keelstone_runtime::{Controller, LeaderContext, SharedInformers};

use crate::{
    clusterrole_aggregation::ClusterRoleAggregation, config::ControllersConfig, deployment::DeploymentController,
    endpoints::EndpointsController, endpointslice::EndpointSliceController, garbage_collector::GarbageCollector,
    namespace::NamespaceController, node_lifecycle::NodeLifecycle, pod_gc::PodGc, replicaset::ReplicaSetController,
    root_ca::RootCaPublisher, serviceaccount::ServiceAccountController, taint_eviction::TaintEviction,
};

/// Runs all controllers under one leadership, until it ends. Dropping the future stops them all at once.
///
/// Informers begin with the leadership, by lists that a quorum confirms: a cache warmed up before might lack
/// what the previous leader has written.
pub async fn run(context: LeaderContext, config: ControllersConfig) {
    let informers = SharedInformers::new(&context.client);
    let client = &context.client;
    let stop = &context.stop;
    let nodes = NodeLifecycle::new(client, &informers, config.node_lifecycle.clone());
    let pod_gc = PodGc::new(client, &informers, config.pod_gc.clone());
    let collector = GarbageCollector::new(client, &informers);
    let mut all: Vec<BoxFuture<'_, ()>> =
        keyed(client, &informers, &config).into_iter().map(|controller| controller.run(stop).boxed()).collect();
    all.push(nodes.run(stop).boxed());
    all.push(pod_gc.run(stop).boxed());
    all.push(collector.run(stop).boxed());
    join_all(all).await;
}

fn keyed(client: &Client, informers: &SharedInformers, config: &ControllersConfig) -> Vec<Controller> {
    let mut all = vec![
        DeploymentController::controller(client, informers),
        ReplicaSetController::controller(client, informers),
        EndpointSliceController::controller(client, informers),
        EndpointsController::controller(client, informers),
        TaintEviction::controller(client, informers),
        NamespaceController::controller(client, informers),
        ServiceAccountController::controller(client, informers),
        ClusterRoleAggregation::controller(client, informers),
    ];
    if !config.root_ca.is_empty() {
        all.push(RootCaPublisher::controller(client, informers, &config.root_ca));
    }
    all
}
