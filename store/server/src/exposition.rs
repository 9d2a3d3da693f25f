//! What `/metrics` says, under the names that etcd's dashboards and alerts ask for.

use std::sync::atomic::Ordering::Relaxed;

use crate::{
    constants::{CLUSTER_VERSION, ETCD_VERSION},
    member::Member,
    method::Method,
    metrics::{family, sample},
};

/// All metrics in Prometheus' text form, under the names that etcd's dashboards use.
pub(crate) fn metrics(member: &Member) -> String {
    let mut text = String::with_capacity(16 << 10);
    let status = member.status();
    let (total, in_use) = member.mvcc.size_bytes();
    let own = &member.metrics;
    let mut one = |name: &str, kind: &str, help: &str, value: i128| {
        family(&mut text, name, kind, help);
        sample(&mut text, name, "", value);
    };
    one("etcd_server_has_leader", "gauge", "Whether a leader is known.", status.leader.is_some().into());
    one("etcd_server_is_leader", "gauge", "Whether this member leads.", status.is_leader().into());
    one("etcd_server_is_learner", "gauge", "Whether this member is a learner.", status.is_learner.into());
    let changes = own.leader_changes_seen.load(Relaxed).into();
    one("etcd_server_leader_changes_seen_total", "counter", "Leader changes seen.", changes);
    one("etcd_server_proposals_committed_total", "gauge", "Committed proposals.", status.committed.into());
    one("etcd_server_proposals_applied_total", "gauge", "Applied proposals.", status.applied.into());
    let (pending, failed) = (own.proposals_pending.load(Relaxed), own.proposals_failed.load(Relaxed));
    one("etcd_server_proposals_pending", "gauge", "Proposals waiting for an answer.", pending.into());
    one("etcd_server_proposals_failed_total", "counter", "Proposals without an answer.", failed.into());
    let reads_failed = own.read_indexes_failed.load(Relaxed).into();
    one("etcd_server_read_indexes_failed_total", "counter", "Linearizable reads that failed.", reads_failed);
    let level = status.feature_level.into();
    one("keelstone_store_feature_level", "gauge", "What all members can do.", level);
    let quota = member.limits.quota_bytes.into();
    one("etcd_server_quota_backend_bytes", "gauge", "Quota of the store in bytes.", quota);
    one("etcd_mvcc_db_total_size_in_bytes", "gauge", "Size of the store on disk.", total.into());
    one("etcd_mvcc_db_total_size_in_use_in_bytes", "gauge", "Size of the live data.", in_use.into());
    let (revision, compacted) = (member.mvcc.revision(), member.mvcc.compacted_revision());
    one("etcd_debugging_mvcc_current_revision", "gauge", "The current revision.", revision.into());
    one("etcd_debugging_mvcc_compact_revision", "gauge", "The last compaction's revision.", compacted.into());
    one("etcd_debugging_mvcc_watcher_total", "gauge", "Watchers.", own.watchers.load(Relaxed).into());
    one("etcd_debugging_mvcc_watch_stream_total", "gauge", "Watch streams.", own.watch_streams.load(Relaxed).into());
    let events = own.watch_events_sent.load(Relaxed).into();
    one("etcd_debugging_mvcc_events_total", "counter", "Events sent to watchers.", events);
    for (name, method) in [("put", Method::Put), ("delete", Method::DeleteRange), ("txn", Method::Txn)] {
        let name = format!("etcd_mvcc_{name}_total");
        one(&name, "counter", "Calls seen by this member.", own.started_total(method).into());
    }
    let ranges = own.started_total(Method::Range).into();
    one("etcd_mvcc_range_total", "counter", "Calls seen by this member.", ranges);
    if let Some(backup) = member.backup_progress() {
        let unix_s = backup.unix_ms / 1000;
        let behind = revision.saturating_sub(backup.revision).max(0);
        let complete = "Up to which revision the backup is complete.";
        one("keelstone_backup_revision", "gauge", complete, backup.revision.into());
        let help = "Revisions that the backup does not hold yet.";
        one("keelstone_backup_behind_revisions", "gauge", help, behind.into());
        one("keelstone_backup_complete_unix_seconds", "gauge", "When the backup was complete last.", unix_s.into());
        one("keelstone_backup_failing", "gauge", "Whether the backup cannot go on.", backup.error.is_some().into());
    }
    family(&mut text, "etcd_server_version", "gauge", "Which version is running.");
    sample(&mut text, "etcd_server_version", &format!("server_version=\"{ETCD_VERSION}\""), 1);
    family(&mut text, "etcd_server_id", "gauge", "Member id in hexadecimal.");
    sample(&mut text, "etcd_server_id", &format!("server_id=\"{:x}\"", member.member_id), 1);
    family(&mut text, "etcd_cluster_version", "gauge", "Which version the cluster has.");
    sample(&mut text, "etcd_cluster_version", &format!("cluster_version=\"{CLUSTER_VERSION}\""), 1);
    calls(&mut text, member);
    traffic(&mut text, member);
    durations(&mut text, member);
    process(&mut text);
    own.write_methods(&mut text);
    text
}

fn counter(text: &mut String, name: &str, help: &str, value: u64) {
    family(text, name, "counter", help);
    sample(text, name, "", value);
}

fn calls(text: &mut String, member: &Member) {
    let own = &member.metrics;
    counter(text, "etcd_server_health_success", "Health checks that succeeded.", own.health_successes.load(Relaxed));
    counter(text, "etcd_server_health_failures", "Health checks that failed.", own.health_failures.load(Relaxed));
    for (name, method) in [("granted", Method::LeaseGrant), ("revoked", Method::LeaseRevoke)] {
        let name = format!("etcd_debugging_lease_{name}_total");
        counter(text, &name, "Calls to this member that succeeded.", own.succeeded_total(method));
    }
    let renewed = own.leases_renewed.load(Relaxed);
    counter(text, "etcd_debugging_lease_renewed_total", "Keep-alives that this member acknowledged.", renewed);
}

fn traffic(text: &mut String, member: &Member) {
    let meters = &member.metrics.meters;
    for (side, traffic) in [("client_grpc", &meters.clients), ("peer", &meters.peers)] {
        let received = format!("etcd_network_{side}_received_bytes_total");
        counter(text, &received, "Bytes received, HTTP and TLS included.", traffic.received_bytes.load(Relaxed));
        let sent = format!("etcd_network_{side}_sent_bytes_total");
        counter(text, &sent, "Bytes sent, HTTP and TLS included.", traffic.sent_bytes.load(Relaxed));
    }
}

fn durations(text: &mut String, member: &Member) {
    let meters = &member.metrics.meters;
    let written = meters.log_written_bytes.load(Relaxed);
    family(text, "etcd_disk_wal_write_bytes_total", "gauge", "Bytes written to the log.");
    sample(text, "etcd_disk_wal_write_bytes_total", "", written);
    for (name, help, histogram) in [
        ("etcd_disk_wal_fsync_duration_seconds", "Syncs of the log.", &meters.log_sync),
        ("etcd_disk_backend_commit_duration_seconds", "Batches applied to the engine.", &meters.engine_write),
        ("keelstone_engine_flush_duration_seconds", "Flushes of the engine, beside traffic.", &meters.engine_flush),
    ] {
        family(text, name, "histogram", help);
        histogram.write(text, name);
    }
}

/// What the usual collectors say about a process; nothing where the kernel does not say it.
fn process(text: &mut String) {
    let Some(stats) = keelstone_env::process_stats() else { return };
    family(text, "process_cpu_seconds_total", "counter", "CPU time spent.");
    sample(text, "process_cpu_seconds_total", "", stats.cpu_s);
    family(text, "process_start_time_seconds", "gauge", "Start time since 1970.");
    sample(text, "process_start_time_seconds", "", stats.start_time_s);
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Resident memory.", stats.resident_bytes),
        ("process_virtual_memory_bytes", "Virtual memory.", stats.virtual_bytes),
        ("process_open_fds", "Open file descriptors.", stats.open_files),
        ("process_max_fds", "Bound of file descriptors.", stats.open_files_max),
        ("os_fd_used", "Open file descriptors.", stats.open_files),
        ("os_fd_limit", "Bound of file descriptors.", stats.open_files_max),
    ] {
        family(text, name, "gauge", help);
        sample(text, name, "", value);
    }
}
