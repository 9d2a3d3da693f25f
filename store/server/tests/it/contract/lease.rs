use keelstone_etcd_api::{pb, ApiError};

use super::{
    client::{fails, put, said, Client},
    holds, rows, same,
};

async fn grant(client: &Client, id: i64, ttl: i64) -> Result<pb::LeaseGrantResponse, String> {
    said(client.lease().lease_grant(pb::LeaseGrantRequest { ttl, id }).await)
}

async fn keep_alive(client: &Client, ids: Vec<i64>) -> Result<Vec<i64>, String> {
    let requests = futures::stream::iter(ids.into_iter().map(|id| pb::LeaseKeepAliveRequest { id }));
    let mut answers = said(client.lease().lease_keep_alive(requests).await)?;
    let mut left = Vec::new();
    while let Some(answer) = answers.message().await.map_err(|status| status.to_string())? {
        left.push(answer.ttl);
    }
    Ok(left)
}

async fn left(client: &Client, id: i64) -> Result<pb::LeaseTimeToLiveResponse, String> {
    said(client.lease().lease_time_to_live(pb::LeaseTimeToLiveRequest { id, keys: true }).await)
}

rows! {
    "LeaseGrant: with an id, without one, an id twice" => |client| {
        let granted = grant(&client, 1_001, 100).await?;
        same!((granted.id, granted.ttl, granted.error.as_str()), (1_001, 100, ""));
        holds!(grant(&client, 0, 100).await?.id > 0, "an id");
        let again = client.lease().lease_grant(pb::LeaseGrantRequest { ttl: 100, id: 1_001 }).await;
        fails(again, ApiError::LeaseExists)
    }
    "LeaseGrant: the least TTL is one and a half election time-outs, in whole seconds" => |client| {
        same!(grant(&client, 0, 0).await?.ttl, 2);
        same!(grant(&client, 0, 1).await?.ttl, 2);
        Ok(())
    }
    "LeaseGrant: a TTL beyond nine billion seconds is refused" => |client| {
        grant(&client, 0, 9_000_000_000).await?;
        let more = client.lease().lease_grant(pb::LeaseGrantRequest { ttl: 9_000_000_001, id: 0 }).await;
        fails(more, ApiError::LeaseTtlTooLarge)
    }
    "LeaseRevoke: takes its keys with it; a missing one is an error" => |client| {
        grant(&client, 1_002, 100).await?;
        said(client.kv().put(pb::PutRequest { lease: 1_002, ..put("l1", "x") }).await)?;
        said(client.lease().lease_revoke(pb::LeaseRevokeRequest { id: 1_002 }).await)?;
        same!(client.get("l1").await?.count, 0);
        fails(client.lease().lease_revoke(pb::LeaseRevokeRequest { id: 1_002 }).await, ApiError::LeaseNotFound)
    }
    "LeaseKeepAlive: answers the TTL; 0 for a missing one, and the stream goes on" => |client| {
        grant(&client, 1_003, 100).await?;
        same!(keep_alive(&client, vec![1_003, 99_999, 1_003]).await?, [100, 0, 100]);
        Ok(())
    }
    "LeaseTimeToLive: remaining and granted seconds, keys; -1 for a missing one" => |client| {
        grant(&client, 1_004, 100).await?;
        said(client.kv().put(pb::PutRequest { lease: 1_004, ..put("l2", "x") }).await)?;
        let answer = left(&client, 1_004).await?;
        holds!((90..=100).contains(&answer.ttl) && answer.granted_ttl == 100 && answer.keys == ["l2"], answer);
        same!(left(&client, 99_999).await?.ttl, -1);
        Ok(())
    }
    "LeaseLeases lists them" => |client| {
        grant(&client, 1_005, 100).await?;
        let leases = said(client.lease().lease_leases(pb::LeaseLeasesRequest {}).await)?.leases;
        holds!(leases.iter().any(|lease| lease.id == 1_005), leases);
        Ok(())
    }
    "a key changes its lease, or loses it" => |client| {
        grant(&client, 1_006, 100).await?;
        grant(&client, 1_007, 100).await?;
        said(client.kv().put(pb::PutRequest { lease: 1_006, ..put("l3", "x") }).await)?;
        said(client.kv().put(pb::PutRequest { lease: 1_007, ..put("l3", "x") }).await)?;
        holds!(left(&client, 1_006).await?.keys.is_empty() && left(&client, 1_007).await?.keys == ["l3"], "keys");
        client.put("l3", "y").await?;
        said(client.lease().lease_revoke(pb::LeaseRevokeRequest { id: 1_007 }).await)?;
        same!(client.get("l3").await?.count, 1);
        Ok(())
    }
    "an expired lease takes its keys with it" => |client| {
        let lease = grant(&client, 0, 1).await?.id;
        said(client.kv().put(pb::PutRequest { lease, ..put("l4", "x") }).await)?;
        for _ in 0..100 {
            if client.get("l4").await?.count == 0 {
                same!(left(&client, lease).await?.ttl, -1);
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        Err("the key is still there".into())
    }
}
