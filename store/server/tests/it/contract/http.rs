use keelstone_etcd_api::healthpb::{health_client::HealthClient, HealthCheckRequest};
use tonic_reflection::pb::v1::{
    server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest,
    server_reflection_response::MessageResponse, ServerReflectionRequest,
};

use super::{client::said, holds, rows, same};
use crate::web;

/// Metrics that etcd's dashboards and alerts ask for.
const METRICS: &[&str] = &[
    "etcd_server_has_leader",
    "etcd_server_is_leader",
    "etcd_server_is_learner",
    "etcd_server_id",
    "etcd_server_version",
    "etcd_server_leader_changes_seen_total",
    "etcd_server_proposals_committed_total",
    "etcd_server_proposals_applied_total",
    "etcd_server_proposals_pending",
    "etcd_server_proposals_failed_total",
    "etcd_server_read_indexes_failed_total",
    "etcd_server_quota_backend_bytes",
    "etcd_server_health_success",
    "etcd_server_health_failures",
    "etcd_cluster_version",
    "etcd_disk_wal_fsync_duration_seconds",
    "etcd_disk_backend_commit_duration_seconds",
    "etcd_disk_wal_write_bytes_total",
    "etcd_network_client_grpc_received_bytes_total",
    "etcd_network_client_grpc_sent_bytes_total",
    "etcd_network_peer_sent_bytes_total",
    "etcd_network_peer_received_bytes_total",
    "etcd_mvcc_db_total_size_in_bytes",
    "etcd_mvcc_db_total_size_in_use_in_bytes",
    "etcd_mvcc_put_total",
    "etcd_mvcc_delete_total",
    "etcd_mvcc_txn_total",
    "etcd_mvcc_range_total",
    "etcd_debugging_mvcc_current_revision",
    "etcd_debugging_mvcc_compact_revision",
    "etcd_debugging_mvcc_watcher_total",
    "etcd_debugging_mvcc_watch_stream_total",
    "etcd_debugging_mvcc_events_total",
    "etcd_debugging_lease_granted_total",
    "etcd_debugging_lease_revoked_total",
    "etcd_debugging_lease_renewed_total",
    "grpc_server_started_total",
    "grpc_server_handled_total",
    "grpc_server_handling_seconds",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_open_fds",
    "process_max_fds",
    "process_start_time_seconds",
    "os_fd_used",
    "os_fd_limit",
];

rows! {
    "/health: in etcd's words; serializable" => |client| {
        for path in ["/health", "/health?serializable=true", "/health?exclude=NOSPACE"] {
            let answer = web::get(client.endpoint(), path).await;
            same!((answer.status, answer.body.as_str()), (200, r#"{"health":"true","reason":""}"#));
        }
        same!(web::post(client.endpoint(), "/health", "").await.status, 405);
        Ok(())
    }
    "/health: 503 with an alarm, unless that is excluded" => |client| {
        let alarm = |action| keelstone_etcd_api::pb::AlarmRequest { action, member_id: 7, alarm: 1 };
        said(client.maintenance().alarm(alarm(1)).await)?;
        let refused = web::get(client.endpoint(), "/health").await;
        let excluded = web::get(client.endpoint(), "/health?exclude=NOSPACE").await;
        said(client.maintenance().alarm(alarm(2)).await)?;
        same!(refused.status, 503);
        same!((&refused.json()[0]["health"], &refused.json()[0]["reason"]), (&"false".into(), &"ALARM NOSPACE".into()));
        same!(excluded.status, 200);
        Ok(())
    }
    "/livez and /readyz: checks by name, excluded ones, verbose" => |client| {
        for path in ["/livez", "/readyz", "/livez/serializable_read", "/readyz/data_corruption",
            "/readyz/serializable_read", "/readyz/linearizable_read", "/readyz/non_learner"] {
            let answer = web::get(client.endpoint(), path).await;
            same!((path, answer.status, answer.body.as_str()), (path, 200, "ok\n"));
        }
        let verbose = web::get(client.endpoint(), "/readyz?verbose&exclude=non_learner").await.body;
        holds!(verbose.contains("[+]linearizable_read ok") && verbose.contains("[+]non_learner excluded: ok"), verbose);
        same!(web::get(client.endpoint(), "/readyz/nonsense").await.status, 404);
        Ok(())
    }
    "/version: server, cluster, storage" => |client| {
        let answer = web::get(client.endpoint(), "/version").await.json().remove(0);
        for name in ["etcdserver", "etcdcluster", "storage"] {
            holds!(answer[name].as_str().is_some_and(|version| version.starts_with("3.")), name, answer);
        }
        Ok(())
    }
    "/metrics: every name that dashboards ask for" => |client| {
        client.put("metrics", "1").await?;
        let text = web::get(client.endpoint(), "/metrics").await.body;
        let missing: Vec<_> = METRICS.iter().filter(|name| !text.contains(&format!("# TYPE {name} "))).collect();
        holds!(missing.is_empty(), missing);
        holds!(text.contains("etcd_server_has_leader 1\n"), "a leader");
        Ok(())
    }
    "/v3 and /v3beta: the gateway" => |client| {
        for path in ["/v3/kv/range", "/v3beta/kv/range"] {
            same!(web::post(client.endpoint(), path, r#"{"key":"bm9uZQ=="}"#).await.status, 200);
        }
        same!(web::post(client.endpoint(), "/v3/kv/nonsense", "{}").await.status, 404);
        Ok(())
    }
    "grpc.health.v1: Check and Watch" => |client| {
        let mut health = HealthClient::new(client.channel.clone());
        for service in ["", "etcdserverpb.KV"] {
            let request = HealthCheckRequest { service: service.into() };
            same!(said(health.check(request).await)?.status, 1);
        }
        let unknown = health.check(HealthCheckRequest { service: "nonsense".into() }).await.map(drop);
        holds!(matches!(&unknown, Err(status) if status.code() == tonic::Code::NotFound), unknown);
        let mut watch = said(health.watch(HealthCheckRequest::default()).await)?;
        same!(watch.message().await.map_err(|status| status.to_string())?.unwrap_or_default().status, 1);
        Ok(())
    }
    "reflection: the services by name" => |client| {
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut reflection = ServerReflectionClient::new(client.channel.clone());
        let requests = futures::stream::once(async move { request });
        let mut answers = said(reflection.server_reflection_info(requests).await)?;
        let answer = answers.message().await.map_err(|status| status.to_string())?.unwrap_or_default();
        let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
            return Err("no list".into());
        };
        let names: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
        for name in ["etcdserverpb.KV", "etcdserverpb.Auth", "v3lockpb.Lock", "v3electionpb.Election"] {
            holds!(names.iter().any(|found| found == name), name, names);
        }
        Ok(())
    }
}
