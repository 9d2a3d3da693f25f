use keelstone_etcd_api::{
    pb::{self, compare::TargetUnion, request_op::Request as Op, response_op::Response as OpResponse},
    ApiError,
};

use super::{
    client::{fails, get, put, said, Client},
    holds, rows, same,
};
use crate::requests::delete;

/// Three keys below `prefix`, the second one written twice.
async fn three(client: &Client, prefix: &str) -> Result<(i64, pb::RangeRequest), String> {
    client.clear(prefix).await?;
    let first = client.put(&format!("{prefix}a"), "3").await?;
    client.put(&format!("{prefix}b"), "1").await?;
    client.put(&format!("{prefix}c"), "2").await?;
    client.put(&format!("{prefix}b"), "9").await?;
    let range = pb::RangeRequest { range_end: prefix.replace('/', "0").into(), ..get(prefix) };
    Ok((first, range))
}

async fn keys(client: &Client, request: pb::RangeRequest) -> Result<String, String> {
    let answer = said(client.kv().range(request).await)?;
    let last = |kv: &keelstone_etcd_api::mvccpb::KeyValue| kv.key.last().map_or('?', |byte| char::from(*byte));
    Ok(answer.kvs.iter().map(last).collect())
}

fn ops(requests: Vec<Op>) -> Vec<pb::RequestOp> {
    requests.into_iter().map(|request| pb::RequestOp { request: Some(request) }).collect()
}

fn when(key: &str, result: i32, target: i32, union: TargetUnion) -> pb::Compare {
    pb::Compare { result, target, key: key.to_owned().into(), target_union: Some(union), ..Default::default() }
}

async fn decides(client: &Client, compare: pb::Compare) -> Result<bool, String> {
    let txn = pb::TxnRequest { compare: vec![compare], ..Default::default() };
    Ok(said(client.kv().txn(txn).await)?.succeeded)
}

rows! {
    "every header has cluster, member, revision and term" => |client| {
        let header = client.get("none").await?.header.unwrap_or_default();
        holds!(header.cluster_id != 0 && header.member_id != 0 && header.revision > 0 && header.raft_term > 0, header);
        Ok(())
    }
    "Range: key and range_end, a zero byte means all from key on" => |client| {
        let (_, range) = three(&client, "kv1/").await?;
        same!(keys(&client, range.clone()).await?, "abc");
        same!(keys(&client, get("kv1/b")).await?, "b");
        let rest = pb::RangeRequest { range_end: vec![0].into(), ..get("kv1/b") };
        let found = said(client.kv().range(rest).await)?.kvs;
        holds!(found.len() >= 2 && found[0].key == "kv1/b", found.len());
        Ok(())
    }
    "Range: limit, count ignores it, more" => |client| {
        let (_, range) = three(&client, "kv2/").await?;
        let answer = said(client.kv().range(pb::RangeRequest { limit: 2, ..range.clone() }).await)?;
        same!((answer.kvs.len(), answer.count, answer.more), (2, 3, true));
        let answer = said(client.kv().range(pb::RangeRequest { limit: 3, ..range }).await)?;
        same!((answer.kvs.len(), answer.count, answer.more), (3, 3, false));
        Ok(())
    }
    "Range: revision" => |client| {
        let (first, range) = three(&client, "kv3/").await?;
        same!(keys(&client, pb::RangeRequest { revision: first + 1, ..range.clone() }).await?, "ab");
        same!(said(client.kv().range(pb::RangeRequest { revision: first + 2, ..range }).await)?.kvs[1].value, "1");
        Ok(())
    }
    "Range: three orders, five targets" => |client| {
        let (_, range) = three(&client, "kv4/").await?;
        let (ascending, descending) = (["abc", "acb", "abc", "acb", "cab"], ["cba", "bac", "cba", "bca", "bac"]);
        for target in 0..5_usize {
            for (order, expected) in [(1, ascending[target]), (2, descending[target])] {
                let sort_target = i32::try_from(target).unwrap();
                let found = keys(&client, pb::RangeRequest { sort_order: order, sort_target, ..range.clone() }).await?;
                same!((target, order, found.as_str()), (target, order, expected));
            }
        }
        Ok(())
    }
    "Range: serializable" => |client| {
        // Stale at most until this member has applied what another one acknowledged.
        let answer = said(client.kv().range(pb::RangeRequest { serializable: true, ..get("none") }).await)?;
        same!(answer.count, 0);
        Ok(())
    }
    "Range: keys_only, count_only" => |client| {
        let (_, range) = three(&client, "kv5/").await?;
        let answer = said(client.kv().range(pb::RangeRequest { keys_only: true, ..range.clone() }).await)?;
        holds!(answer.kvs.len() == 3 && answer.kvs.iter().all(|kv| kv.value.is_empty() && kv.mod_revision > 0), answer);
        let answer = said(client.kv().range(pb::RangeRequest { count_only: true, ..range }).await)?;
        same!((answer.kvs.len(), answer.count), (0, 3));
        Ok(())
    }
    "Range: four bounds of revisions, count ignores them" => |client| {
        let (first, range) = three(&client, "kv6/").await?;
        let bounds = [
            (pb::RangeRequest { min_mod_revision: first + 2, ..range.clone() }, "bc"),
            (pb::RangeRequest { max_mod_revision: first + 2, ..range.clone() }, "ac"),
            (pb::RangeRequest { min_create_revision: first + 1, ..range.clone() }, "bc"),
            (pb::RangeRequest { max_create_revision: first + 1, ..range.clone() }, "ab"),
        ];
        for (request, expected) in bounds {
            same!(keys(&client, request.clone()).await?, expected);
            same!(said(client.kv().range(request).await)?.count, 3);
        }
        Ok(())
    }
    "Range: a compacted revision stays readable at the boundary, before it is refused" => |client| {
        let (first, range) = three(&client, "kv7/").await?;
        said(client.kv().compact(pb::CompactionRequest { revision: first + 1, physical: true }).await)?;
        fails(client.kv().range(pb::RangeRequest { revision: first, ..range.clone() }).await, ApiError::Compacted)?;
        same!(keys(&client, pb::RangeRequest { revision: first + 1, ..range }).await?, "ab");
        Ok(())
    }
    "RangeStream: chunks of one revision; header, count and more come last" => |client| {
        let (_, range) = three(&client, "kv8/").await?;
        let mut stream = said(client.kv().range_stream(range).await)?;
        let (mut keys, mut last) = (0, pb::RangeResponse::default());
        while let Some(chunk) = stream.message().await.map_err(|status| super::client::said::<()>(Err(status)).unwrap_err())? {
            last = chunk.range_response.unwrap_or_default();
            keys += last.kvs.len();
        }
        holds!(keys == 3 && last.count == 3 && last.header.is_some() && !last.more, keys, last);
        Ok(())
    }
    "RangeStream: another order than by key is not served" => |client| {
        let (_, range) = three(&client, "kv8/").await?;
        said(client.kv().range_stream(range.clone()).await)?;
        let sorted = pb::RangeRequest { sort_order: 2, sort_target: 3, ..range };
        let refused = match client.kv().range_stream(sorted).await {
            Ok(stream) => stream.into_inner().message().await.map(drop),
            Err(status) => Err(status),
        };
        holds!(matches!(&refused, Err(status) if status.code() == tonic::Code::Unimplemented), refused);
        Ok(())
    }
    "Put: prev_kv" => |client| {
        client.put("kv9/a", "1").await?;
        let answer = said(client.kv().put(pb::PutRequest { prev_kv: true, ..put("kv9/a", "2") }).await)?;
        same!(answer.prev_kv.unwrap_or_default().value, "1");
        Ok(())
    }
    "Put: ignore_value and ignore_lease keep them" => |client| {
        let lease = said(client.lease().lease_grant(pb::LeaseGrantRequest { ttl: 100, id: 0 }).await)?.id;
        said(client.kv().put(pb::PutRequest { lease, ..put("kv10/a", "1") }).await)?;
        said(client.kv().put(pb::PutRequest { ignore_lease: true, ..put("kv10/a", "2") }).await)?;
        let kv = client.get("kv10/a").await?.kvs.remove(0);
        same!((kv.lease, &kv.value[..]), (lease, &b"2"[..]));
        said(client.kv().put(pb::PutRequest { ignore_value: true, ..put("kv10/a", "") }).await)?;
        let kv = client.get("kv10/a").await?.kvs.remove(0);
        same!((kv.lease, &kv.value[..]), (0, &b"2"[..]));
        Ok(())
    }
    "DeleteRange: deleted and prev_kvs" => |client| {
        three(&client, "kv11/").await?;
        let answer = client.delete("kv11/b", "kv110").await?;
        same!((answer.deleted, answer.prev_kvs.len()), (2, 2));
        let answer = said(client.kv().delete_range(pb::DeleteRangeRequest { prev_kv: false, ..delete("kv11/a", "") }).await)?;
        same!((answer.deleted, answer.prev_kvs.len()), (1, 0));
        Ok(())
    }
    "Txn: five targets, four comparisons" => |client| {
        client.clear("kv12/").await?;
        let created = client.put("kv12/a", "m").await?;
        let at = |difference: i64| {
            [
                TargetUnion::Version(1 + difference),
                TargetUnion::CreateRevision(created + difference),
                TargetUnion::ModRevision(created + difference),
                TargetUnion::Value(["l", "m", "n"][usize::try_from(difference + 1).unwrap()].into()),
                TargetUnion::Lease(difference),
            ]
        };
        // EQUAL, GREATER, LESS, NOT_EQUAL with what is one less, the same, one more.
        let expected = [[false, true, false], [true, false, false], [false, false, true], [true, false, true]];
        for (result, row) in expected.into_iter().enumerate() {
            for (difference, expected) in (-1..=1).zip(row) {
                for (target, union) in at(difference).into_iter().enumerate() {
                    let (result, target) = (i32::try_from(result).unwrap(), i32::try_from(target).unwrap());
                    let found = decides(&client, when("kv12/a", result, target, union)).await?;
                    same!((result, target, difference, found), (result, target, difference, expected));
                }
            }
        }
        Ok(())
    }
    "Txn: a comparison over a range holds for all its keys" => |client| {
        three(&client, "kv13/").await?;
        let over = |version| pb::Compare {
            range_end: "kv130".into(),
            ..when("kv13/", 1, 0, TargetUnion::Version(version))
        };
        same!(decides(&client, over(0)).await?, true);
        same!(decides(&client, over(1)).await?, false);
        Ok(())
    }
    "Txn: nested ones compare with what was before, and see what was written; one revision" => |client| {
        client.clear("kv14/").await?;
        client.put("kv14/a", "1").await?;
        let inner = pb::TxnRequest {
            compare: vec![when("kv14/a", 0, 3, TargetUnion::Value("1".into()))],
            success: ops(vec![Op::RequestPut(put("kv14/b", "2")), Op::RequestRange(get("kv14/a"))]),
            failure: ops(vec![Op::RequestPut(put("kv14/b", "no"))]),
        };
        let success = ops(vec![Op::RequestPut(put("kv14/a", "2")), Op::RequestTxn(inner)]);
        let answer = said(client.kv().txn(pb::TxnRequest { success, ..Default::default() }).await)?;
        holds!(answer.succeeded && answer.responses.len() == 2, answer);
        let Some(OpResponse::ResponseTxn(inner)) = &answer.responses[1].response else { return Err("no txn".into()) };
        holds!(inner.succeeded && inner.responses.len() == 2, inner);
        let Some(OpResponse::ResponseRange(read)) = &inner.responses[1].response else { return Err("no range".into()) };
        same!(read.kvs[0].value, "2");
        let (a, b) = (client.get("kv14/a").await?, client.get("kv14/b").await?);
        same!(a.kvs[0].mod_revision, b.kvs[0].mod_revision);
        Ok(())
    }
    "Txn: a part that fails changes nothing" => |client| {
        client.clear("kv15/").await?;
        let before = client.get("kv15/a").await?.header.unwrap_or_default().revision;
        let future = pb::RangeRequest { revision: before + 1_000_000, ..get("kv15/a") };
        let success = ops(vec![Op::RequestPut(put("kv15/a", "1")), Op::RequestRange(future)]);
        fails(client.kv().txn(pb::TxnRequest { success, ..Default::default() }).await, ApiError::FutureRevision)?;
        for endpoint in &client.endpoints {
            let options = keelstone_env::ChannelOptions::default();
            let channel = keelstone_env::channel(&keelstone_env::Env::os(), endpoint, options).unwrap();
            let answer = said(Client { channel, ..client.clone() }.kv().range(get("kv15/a")).await)?;
            same!((answer.count, answer.header.unwrap_or_default().revision), (0, before));
        }
        Ok(())
    }
    "Compact: refuses what is compacted and what is to come" => |client| {
        let revision = client.put("kv16/a", "1").await?;
        said(client.kv().compact(pb::CompactionRequest { revision, physical: false }).await)?;
        let again = client.kv().compact(pb::CompactionRequest { revision, physical: false }).await;
        fails(again, ApiError::Compacted)?;
        let future = pb::CompactionRequest { revision: revision + 1_000_000, physical: false };
        fails(client.kv().compact(future).await, ApiError::FutureRevision)
    }
}
