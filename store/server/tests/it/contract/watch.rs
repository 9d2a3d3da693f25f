use keelstone_etcd_api::pb::{self, watch_request::RequestUnion};

use super::{
    client::{on, said, Client},
    holds, rows, same,
};

fn below(prefix: &str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { range_end: prefix.replace('/', "0").into(), ..on(prefix) }
}

/// Kinds, keys and previous values of the next response's events.
fn shown(answer: &pb::WatchResponse) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let one = |event: &keelstone_etcd_api::mvccpb::Event| {
        let kv = event.kv.clone().unwrap_or_default();
        let prev = event.prev_kv.as_ref().map_or("-".into(), |prev| text(&prev.value));
        format!("{}{}={}<{prev}", if event.r#type == 0 { "+" } else { "-" }, text(&kv.key), text(&kv.value))
    };
    answer.events.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// The next responses' events, until there are so many.
async fn events(stream: &mut super::client::Stream, count: usize) -> Result<String, String> {
    let mut found = Vec::new();
    let mut seen = 0;
    while seen < count {
        let answer = stream.next().await?;
        seen += answer.events.len();
        if !answer.events.is_empty() {
            found.push(shown(&answer));
        }
    }
    Ok(found.join(" "))
}

async fn write(client: &Client, prefix: &str) -> Result<i64, String> {
    client.clear(prefix).await?;
    let first = client.put(&format!("{prefix}a"), "1").await?;
    client.put(&format!("{prefix}a"), "2").await?;
    client.delete(&format!("{prefix}a"), "").await?;
    Ok(first)
}

rows! {
    "create: confirmed before events; a single key and a range" => |client| {
        let mut stream = client.watch().await?;
        let created = stream.create(below("w1/")).await?;
        holds!(created.created && !created.canceled && created.events.is_empty(), created);
        client.put("w1/x", "1").await?;
        same!(events(&mut stream, 1).await?, "+w1/x=1<-");
        Ok(())
    }
    "start_revision: the past is replayed in order" => |client| {
        let start_revision = write(&client, "w2/").await?;
        let mut stream = client.watch().await?;
        stream.create(pb::WatchCreateRequest { start_revision, ..below("w2/") }).await?;
        same!(events(&mut stream, 3).await?, "+w2/a=1<- +w2/a=2<- -w2/a=<-");
        Ok(())
    }
    "start_revision: a future one waits" => |client| {
        let now = client.put("w3/other", "1").await?;
        let mut stream = client.watch().await?;
        stream.create(pb::WatchCreateRequest { start_revision: now + 3, ..below("w3/") }).await?;
        for value in ["1", "2", "3"] {
            client.put("w3/a", value).await?;
        }
        same!(events(&mut stream, 1).await?, "+w3/a=3<-");
        Ok(())
    }
    "start_revision: a compacted one is cancelled with the compact revision" => |client| {
        let first = write(&client, "w4/").await?;
        said(client.kv().compact(pb::CompactionRequest { revision: first + 2, physical: true }).await)?;
        let mut stream = client.watch().await?;
        let created = stream.create(pb::WatchCreateRequest { start_revision: first, ..below("w4/") }).await?;
        holds!(created.created && !created.canceled, created);
        let last = stream.next().await?;
        holds!(last.canceled && last.compact_revision >= first + 2 && last.watch_id == created.watch_id, last);
        same!(last.cancel_reason, "mvcc: required revision has been compacted");
        Ok(())
    }
    "start_revision: a negative one is created and cancelled" => |client| {
        let mut stream = client.watch().await?;
        let answer = stream.create(pb::WatchCreateRequest { start_revision: -1, ..on("w5") }).await?;
        holds!(answer.created && answer.canceled, answer);
        same!(answer.cancel_reason, "mvcc: required revision has been compacted");
        Ok(())
    }
    "filters NOPUT and NODELETE" => |client| {
        let start_revision = write(&client, "w6/").await?;
        for (filter, expected, count) in [(0, "-w6/a=<-", 1), (1, "+w6/a=1<- +w6/a=2<-", 2)] {
            let mut stream = client.watch().await?;
            let filtered = pb::WatchCreateRequest { start_revision, filters: vec![filter], ..below("w6/") };
            stream.create(filtered).await?;
            same!(events(&mut stream, count).await?, expected);
        }
        Ok(())
    }
    "prev_kv is the value at mod_revision - 1" => |client| {
        let start_revision = write(&client, "w7/").await?;
        let mut stream = client.watch().await?;
        stream.create(pb::WatchCreateRequest { start_revision, prev_kv: true, ..below("w7/") }).await?;
        same!(events(&mut stream, 3).await?, "+w7/a=1<- +w7/a=2<1 -w7/a=<2");
        Ok(())
    }
    "watch_id: chosen by the client, else the lowest free one; a second one is refused" => |client| {
        let mut stream = client.watch().await?;
        same!(stream.create(on("w8")).await?.watch_id, 0);
        same!(stream.create(pb::WatchCreateRequest { watch_id: 7, ..on("w8") }).await?.watch_id, 7);
        same!(stream.create(on("w8")).await?.watch_id, 1);
        let twice = stream.create(pb::WatchCreateRequest { watch_id: 7, ..on("w8") }).await?;
        holds!(twice.created && twice.canceled, twice);
        same!(twice.cancel_reason, "mvcc: duplicate watch ID provided on the WatchStream");
        Ok(())
    }
    "many watches on one stream, told apart by their ids" => |client| {
        let mut stream = client.watch().await?;
        for key in ["w9/a", "w9/b", "w9/c"] {
            stream.create(on(key)).await?;
        }
        client.put("w9/c", "1").await?;
        same!(stream.next().await?.watch_id, 2);
        client.put("w9/a", "1").await?;
        same!(stream.next().await?.watch_id, 0);
        Ok(())
    }
    "fragment: what is too large for one response comes in parts" => |client| {
        let value = "x".repeat(600_000);
        let success = (0..2).map(|i| {
            let put = super::client::put(&format!("w10/{i}"), &value);
            pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) }
        });
        let mut revisions = Vec::new();
        for _ in 0..2 {
            let txn = pb::TxnRequest { success: success.clone().collect(), ..Default::default() };
            revisions.push(said(client.kv().txn(txn).await)?.header.unwrap_or_default().revision);
        }
        let mut stream = client.watch().await?;
        let start_revision = revisions[0];
        stream.create(pb::WatchCreateRequest { fragment: true, start_revision, ..below("w10/") }).await?;
        let (mut seen, mut last) = (0, pb::WatchResponse::default());
        while seen < 4 {
            last = stream.next().await?;
            seen += last.events.len();
        }
        holds!(!last.fragment, last.fragment);
        Ok(())
    }
    "cancel: confirmed, then silent" => |client| {
        let mut stream = client.watch().await?;
        stream.create(on("w11/a")).await?;
        stream.create(on("w11/b")).await?;
        stream.send(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: 0 })).await?;
        let cancelled = stream.next().await?;
        holds!(cancelled.canceled && cancelled.watch_id == 0, cancelled);
        client.put("w11/a", "unseen").await?;
        client.put("w11/b", "seen").await?;
        same!(events(&mut stream, 1).await?, "+w11/b=seen<-");
        Ok(())
    }
    "progress request: how far the whole stream is, with the id -1" => |client| {
        let mut stream = client.watch().await?;
        stream.create(on("w12")).await?;
        let revision = client.put("elsewhere", "1").await?;
        // The member of the stream may learn of it a moment later.
        for _ in 0..100 {
            stream.send(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})).await?;
            let answer = stream.next().await?;
            holds!(answer.watch_id == -1 && answer.events.is_empty(), answer);
            if answer.header.unwrap_or_default().revision >= revision {
                return Ok(());
            }
        }
        Err("it never reached the revision".into())
    }
    "all changes of one transaction come in one response" => |client| {
        let mut stream = client.watch().await?;
        stream.create(below("w13/")).await?;
        let success = (0..50).map(|i| {
            let put = super::client::put(&format!("w13/{i:02}"), "x");
            pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) }
        });
        said(client.kv().txn(pb::TxnRequest { success: success.collect(), ..Default::default() }).await)?;
        same!(stream.next().await?.events.len(), 50);
        Ok(())
    }
    "keys that a lease takes with it are deletions" => |client| {
        let mut stream = client.watch().await?;
        stream.create(on("w14")).await?;
        let lease = said(client.lease().lease_grant(pb::LeaseGrantRequest { ttl: 100, id: 0 }).await)?.id;
        said(client.kv().put(pb::PutRequest { lease, ..super::client::put("w14", "1") }).await)?;
        said(client.lease().lease_revoke(pb::LeaseRevokeRequest { id: lease }).await)?;
        same!(events(&mut stream, 2).await?, "+w14=1<- -w14=<-");
        Ok(())
    }
}
