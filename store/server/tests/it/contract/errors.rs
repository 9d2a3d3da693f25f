use keelstone_etcd_api::{
    pb::{self, request_op::Request as Op},
    ApiError,
};

use super::{
    client::{fails, get, put, Client},
    holds, rows, Checked,
};
use crate::requests::delete;

async fn txn_fails(client: &Client, success: Vec<Op>, error: ApiError) -> Checked {
    let success = success.into_iter().map(|request| pb::RequestOp { request: Some(request) }).collect();
    fails(client.kv().txn(pb::TxnRequest { success, ..Default::default() }).await, error)
}

fn puts(count: usize) -> Vec<Op> {
    (0..count).map(|i| Op::RequestPut(put(&format!("e/{i}"), "x"))).collect()
}

rows! {
    "key is not provided, in every request" => |client| {
        fails(client.kv().range(get("")).await, ApiError::EmptyKey)?;
        fails(client.kv().put(put("", "x")).await, ApiError::EmptyKey)?;
        fails(client.kv().delete_range(delete("", "")).await, ApiError::EmptyKey)?;
        txn_fails(&client, vec![Op::RequestPut(put("", "x"))], ApiError::EmptyKey).await?;
        txn_fails(&client, vec![Op::RequestRange(get(""))], ApiError::EmptyKey).await?;
        let compare = vec![pb::Compare::default()];
        fails(client.kv().txn(pb::TxnRequest { compare, ..Default::default() }).await, ApiError::EmptyKey)
    }
    "value is provided, lease is provided" => |client| {
        let put_of = |request| async { client.kv().put(request).await };
        fails(put_of(pb::PutRequest { ignore_value: true, ..put("e", "x") }).await, ApiError::ValueProvided)?;
        fails(put_of(pb::PutRequest { ignore_lease: true, lease: 7, ..put("e", "x") }).await, ApiError::LeaseProvided)
    }
    "key not found, of a put that keeps what is not there" => |client| {
        let put_of = |request| async { client.kv().put(request).await };
        fails(put_of(pb::PutRequest { ignore_value: true, ..put("e/none", "") }).await, ApiError::KeyNotFound)?;
        fails(put_of(pb::PutRequest { ignore_lease: true, ..put("e/none", "x") }).await, ApiError::KeyNotFound)
    }
    "requested lease not found, of a put" => |client| {
        fails(client.kv().put(pb::PutRequest { lease: 99_999, ..put("e", "x") }).await, ApiError::LeaseNotFound)
    }
    "too many operations in txn request, at the bound and beyond" => |client| {
        let success = puts(128).into_iter().map(|request| pb::RequestOp { request: Some(request) }).collect();
        super::client::said(client.kv().txn(pb::TxnRequest { success, ..Default::default() }).await)?;
        txn_fails(&client, puts(129), ApiError::TooManyOps).await?;
        let compare = vec![pb::Compare { key: "e".into(), ..Default::default() }; 129];
        fails(client.kv().txn(pb::TxnRequest { compare, ..Default::default() }).await, ApiError::TooManyOps)
    }
    "duplicate key given in txn request: two puts, a put and a deletion" => |client| {
        let twice = vec![Op::RequestPut(put("e", "1")), Op::RequestPut(put("e", "2"))];
        txn_fails(&client, twice, ApiError::DuplicateKey).await?;
        let overlap = vec![Op::RequestPut(put("e", "1")), Op::RequestDeleteRange(delete("d", "f"))];
        txn_fails(&client, overlap, ApiError::DuplicateKey).await
    }
    "invalid sort option" => |client| {
        fails(client.kv().range(pb::RangeRequest { sort_order: 9, ..get("e") }).await, ApiError::InvalidSortOption)?;
        fails(client.kv().range(pb::RangeRequest { sort_target: 9, ..get("e") }).await, ApiError::InvalidSortOption)
    }
    "request is too large" => |client| {
        fails(client.kv().put(put("e", &"x".repeat(1_600_000))).await, ApiError::RequestTooLarge)
    }
    "a message beyond what the connection takes" => |client| {
        let refused = client.kv().put(put("e", &"x".repeat(3 << 20))).await.map(drop);
        holds!(matches!(&refused, Err(status) if status.code() == tonic::Code::ResourceExhausted
            || status.code() == tonic::Code::OutOfRange), refused);
        Ok(())
    }
    "an operation of a txn that is none" => |client| {
        let empty = pb::TxnRequest { success: vec![pb::RequestOp { request: None }], ..Default::default() };
        let refused = client.kv().txn(empty).await.map(drop);
        holds!(matches!(&refused, Err(status) if status.code() == tonic::Code::InvalidArgument), refused);
        Ok(())
    }
    "metadata hasleader: served while there is a leader" => |client| {
        let mut request = tonic::Request::new(get("e"));
        request.metadata_mut().insert("hasleader", "true".parse().unwrap());
        super::client::said(client.kv().range(request).await).map(drop)
    }
    "metadata client-api-version: what is no version is refused" => |client| {
        let mut request = tonic::Request::new(get("e"));
        request.metadata_mut().insert("client-api-version", "3.5.1".parse().unwrap());
        super::client::said(client.kv().range(request).await)?;
        let mut request = tonic::Request::new(get("e"));
        request.metadata_mut().insert_bin("client-api-version-bin", tonic::metadata::MetadataValue::from_bytes(b"x"));
        super::client::said(client.kv().range(request).await).map(drop)
    }
    "a method that there is not" => |client| {
        let mut grpc = tonic::client::Grpc::new(client.channel.clone());
        grpc.ready().await.map_err(|error| error.to_string())?;
        let path = http::uri::PathAndQuery::from_static("/etcdserverpb.KV/Nonsense");
        let codec = tonic_prost::ProstCodec::<pb::RangeRequest, pb::RangeResponse>::default();
        let refused = grpc.unary(tonic::Request::new(get("e")), path, codec).await.map(drop);
        holds!(matches!(&refused, Err(status) if status.code() == tonic::Code::Unimplemented), refused);
        Ok(())
    }
}
