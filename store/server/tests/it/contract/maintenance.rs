use keelstone_etcd_api::{
    pb::{self, maintenance_client::MaintenanceClient},
    ApiError,
};

use super::{
    client::{fails, said, Client},
    holds, rows, same,
};

async fn alarm(client: &Client, action: i32, alarm: i32) -> Result<Vec<pb::AlarmMember>, String> {
    let request = pb::AlarmRequest { action, member_id: 0, alarm };
    Ok(said(client.maintenance().alarm(request).await)?.alarms)
}

rows! {
    "Status: version, sizes, leader, indexes, storage version, quota, downgrade" => |client| {
        let status = said(client.maintenance().status(pb::StatusRequest {}).await)?;
        let version: Vec<u64> = status.version.split('.').filter_map(|part| part.parse().ok()).collect();
        // A kube-apiserver asks for progress only from versions that answer it rightly.
        holds!(version.len() == 3 && version >= vec![3, 5, 13], status.version);
        holds!(status.leader != 0 && status.raft_term > 0 && status.raft_index > 0, status);
        holds!(status.raft_applied_index > 0 && status.db_size > 0 && status.db_size_quota > 0, status);
        holds!(!status.storage_version.is_empty() && status.downgrade_info.is_some() && !status.is_learner, status);
        Ok(())
    }
    "Alarm: GET, ACTIVATE, DEACTIVATE; NOSPACE refuses writes and is shown" => |client| {
        same!(alarm(&client, 0, 0).await?.len(), 0);
        let member = said(client.maintenance().status(pb::StatusRequest {}).await)?.leader;
        let activate = pb::AlarmRequest { action: 1, member_id: member, alarm: 1 };
        said(client.maintenance().alarm(activate).await)?;
        same!(alarm(&client, 0, 1).await?.len(), 1);
        let refused = client.kv().put(super::client::put("m1", "x")).await;
        let status = said(client.maintenance().status(pb::StatusRequest {}).await)?;
        let deactivate = pb::AlarmRequest { action: 2, member_id: member, alarm: 1 };
        said(client.maintenance().alarm(deactivate).await)?;
        same!(alarm(&client, 0, 0).await?.len(), 0);
        holds!(status.errors.iter().any(|error| error.contains("NOSPACE")), status.errors);
        fails(refused, ApiError::NoSpace)?;
        client.put("m1", "x").await.map(drop)
    }
    "Defragment answers and loses nothing" => |client| {
        client.put("m2", "x").await?;
        said(client.maintenance().defragment(pb::DefragmentRequest {}).await)?;
        same!(client.get("m2").await?.count, 1);
        Ok(())
    }
    "Hash" => |client| {
        said(client.maintenance().hash(pb::HashRequest {}).await).map(drop)
    }
    "HashKV: equal on all members at one revision; with hash_revision" => |client| {
        let revision = client.put("m3", "x").await?;
        let mut hashes = Vec::new();
        for endpoint in &client.endpoints {
            let options = keelstone_env::ChannelOptions::default();
            let channel = keelstone_env::channel(&keelstone_env::Env::os(), endpoint, options).unwrap();
            // Reading there first, so that it has applied the write.
            Client { channel: channel.clone(), ..client.clone() }.get("m3").await?;
            let answer = said(MaintenanceClient::new(channel).hash_kv(pb::HashKvRequest { revision }).await)?;
            same!(answer.hash_revision, revision);
            hashes.push((answer.hash, answer.compact_revision));
        }
        hashes.dedup();
        same!(hashes.len(), 1);
        Ok(())
    }
    "HashKV: a future and a compacted revision" => |client| {
        let revision = client.put("m4", "x").await?;
        let future = pb::HashKvRequest { revision: revision + 1_000_000 };
        fails(client.maintenance().hash_kv(future).await, ApiError::FutureRevision)?;
        said(client.kv().compact(pb::CompactionRequest { revision, physical: true }).await)?;
        let compacted = pb::HashKvRequest { revision: revision - 1 };
        fails(client.maintenance().hash_kv(compacted).await, ApiError::Compacted)
    }
    "Snapshot: chunks with what remains, the version, and a checksum at the end" => |client| {
        let mut stream = said(client.maintenance().snapshot(pb::SnapshotRequest {}).await)?;
        let (mut bytes, mut remaining, mut version) = (0, 1, String::new());
        while let Some(chunk) = stream.message().await.map_err(|status| said::<()>(Err(status)).unwrap_err())? {
            bytes += chunk.blob.len();
            remaining = chunk.remaining_bytes;
            version = chunk.version;
        }
        holds!(bytes > 32 && remaining == 0 && !version.is_empty(), bytes, remaining, version);
        Ok(())
    }
    "MoveLeader: on the leader alone, to a voter alone; to itself is nothing" => |client| {
        let status = said(client.maintenance().status(pb::StatusRequest {}).await)?;
        let own = status.header.unwrap_or_default().member_id;
        if own != status.leader {
            let to_leader = pb::MoveLeaderRequest { target_id: status.leader };
            fails(client.maintenance().move_leader(to_leader).await, ApiError::NotLeader)?;
        }
        let mut leader = MaintenanceClient::new(client.leader.clone());
        let target_id = said(leader.status(pb::StatusRequest {}).await)?.leader;
        fails(leader.move_leader(pb::MoveLeaderRequest { target_id: 5 }).await, ApiError::BadLeaderTransferee)?;
        said(leader.move_leader(pb::MoveLeaderRequest { target_id }).await).map(drop)
    }
    "MoveLeader: hands leadership to another member" => |client| {
        if client.members == 1 {
            return Ok(());
        }
        let mut leader = MaintenanceClient::new(client.leader.clone());
        let old = said(leader.status(pb::StatusRequest {}).await)?.leader;
        let members = said(client.cluster().member_list(pb::MemberListRequest::default()).await)?.members;
        let target_id = members.iter().map(|member| member.id).find(|id| *id != old).unwrap_or_default();
        said(leader.move_leader(pb::MoveLeaderRequest { target_id }).await)?;
        same!(said(leader.status(pb::StatusRequest {}).await)?.leader, target_id);
        Ok(())
    }
    "Downgrade: VALIDATE of the version below; others are refused" => |client| {
        let validate = |version: &str| pb::DowngradeRequest { action: 0, version: version.into() };
        let answer = said(client.maintenance().downgrade(validate("3.5.0")).await)?;
        same!(answer.version, "3.6.0");
        for (version, text) in [("3.2.0", "invalid downgrade target version"), ("x", "wrong downgrade target version format")] {
            let refused = client.maintenance().downgrade(validate(version)).await;
            let found = refused.as_ref().err().map(|status| status.message().to_owned()).unwrap_or_default();
            holds!(found.contains(text), version, found);
        }
        Ok(())
    }
    "Downgrade: CANCEL without one going on" => |client| {
        let refused = client.maintenance().downgrade(pb::DowngradeRequest { action: 2, ..Default::default() }).await;
        let text = match refused {
            Ok(_) => "succeeded".to_owned(),
            Err(status) if status.code() == tonic::Code::Unimplemented => return said::<()>(Err(status)),
            Err(status) => status.message().to_owned(),
        };
        same!(text, "etcdserver: no inflight downgrade job");
        Ok(())
    }
}
