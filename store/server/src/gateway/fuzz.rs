//! Bytes and texts that somebody has bent: whatever comes in, the decoders answer or refuse, and what they make of it
//! is not larger than what came.

use bytes::Bytes;
use keelstone_etcd_api::pb;
use keelstone_mvcc::check;
use proptest::{collection::vec, prelude::*};
use prost::Message;

use super::{frames::Frames, json, values::Values};

/// Decoded messages may take more memory than their bytes, but not without bound.
const GROWTH_MAX: usize = 4;

/// A transaction that has something of everything.
fn sample() -> pb::TxnRequest {
    use pb::request_op::Request as Op;
    let op = |request| pb::RequestOp { request: Some(request) };
    let put =
        pb::PutRequest { key: "key".into(), value: "value".into(), lease: 7, prev_kv: true, ..Default::default() };
    let range =
        pb::RangeRequest { key: "a".into(), range_end: "z".into(), limit: -1, revision: 1 << 40, ..Default::default() };
    let delete = pb::DeleteRangeRequest { key: "k".into(), ..Default::default() };
    let compare = pb::Compare {
        key: "key".into(),
        result: 3,
        target: 3,
        target_union: Some(pb::compare::TargetUnion::Value("x".into())),
        range_end: "l".into(),
    };
    let inner = pb::TxnRequest { success: vec![op(Op::RequestDeleteRange(delete))], ..Default::default() };
    pb::TxnRequest {
        compare: vec![compare],
        success: vec![op(Op::RequestPut(put)), op(Op::RequestTxn(inner))],
        failure: vec![op(Op::RequestRange(range))],
    }
}

/// Overwrites, removes and inserts.
#[derive(Clone, Debug)]
struct Bend {
    at: prop::sample::Index,
    byte: u8,
    how: u8,
}

fn bends() -> impl Strategy<Value = Vec<Bend>> {
    vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..4).prop_map(|(at, byte, how)| Bend { at, byte, how }), 1..12)
}

fn bend(mut bytes: Vec<u8>, bends: &[Bend]) -> Vec<u8> {
    for Bend { at, byte, how } in bends {
        if bytes.is_empty() {
            break;
        }
        let at = at.index(bytes.len());
        match how {
            0 => bytes[at] = *byte,
            1 => bytes[at] ^= 1 << (byte % 8),
            2 => drop(bytes.remove(at)),
            _ => bytes.insert(at, *byte),
        }
    }
    bytes
}

/// Everything that a request passes before it enters the log.
fn check_all(request: &pb::TxnRequest) {
    let _ = check::txn(request, 128);
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(pb::request_op::Request::RequestRange(range)) => drop(check::range(range)),
            Some(pb::request_op::Request::RequestPut(put)) => drop(check::put(put)),
            Some(pb::request_op::Request::RequestDeleteRange(delete)) => drop(check::delete_range(delete)),
            Some(pb::request_op::Request::RequestTxn(inner)) => check_all(inner),
            None => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn bent_messages_are_read_or_refused(bends in bends()) {
        let bytes = bend(sample().encode_to_vec(), &bends);
        if let Ok(request) = pb::TxnRequest::decode(&bytes[..]) {
            prop_assert!(request.encoded_len() <= bytes.len() * GROWTH_MAX);
            check_all(&request);
        }
        let _ = pb::WatchRequest::decode(&bytes[..]);
        let _ = pb::LeaseGrantRequest::decode(&bytes[..]);
        let pool = json::pool().unwrap();
        let shape = json::shape(&pool, "etcdserverpb.KV/Txn").unwrap();
        let _ = json::encode(&shape.input, Bytes::from(bytes));
    }

    #[test]
    fn bent_json_is_read_or_refused(bends in bends()) {
        let pool = json::pool().unwrap();
        let shape = json::shape(&pool, "etcdserverpb.KV/Txn").unwrap();
        let text = json::encode(&shape.input, sample().encode_to_vec().into()).unwrap();
        let text = bend(text, &bends);
        if let Ok(message) = json::decode(&shape.input, &text) {
            prop_assert!(message.len() <= text.len() * GROWTH_MAX);
            check_all(&pb::TxnRequest::decode(&message[..]).unwrap());
        }
    }

    #[test]
    fn what_is_written_is_read_again(value in vec(any::<u8>(), 0..64), revision in any::<i64>()) {
        let pool = json::pool().unwrap();
        let shape = json::shape(&pool, "etcdserverpb.KV/Range").unwrap();
        let request = pb::RangeRequest { key: value.into(), revision, sort_order: 2, serializable: true, ..Default::default() };
        let text = json::encode(&shape.input, request.encode_to_vec().into()).unwrap();
        let again = json::decode(&shape.input, &text).unwrap();
        prop_assert_eq!(pb::RangeRequest::decode(&again[..]).unwrap(), request);
    }

    #[test]
    fn bent_streams_end(bytes in vec(any::<u8>(), 0..200), cut in any::<prop::sample::Index>()) {
        let whole = Bytes::from(bytes);
        let cut = cut.index(whole.len() + 1);
        let body = || {
            let parts = [whole.slice(..cut), whole.slice(cut..)];
            let frames = parts.map(|part| Ok::<_, tonic::Status>(http_body::Frame::data(part)));
            http_body_util::StreamBody::new(futures::stream::iter(frames))
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut frames = Frames::new(body());
            while let Ok(Some(_)) = frames.next().await {}
            let mut values = Values::new(body(), 100);
            while let Ok(Some(_)) = values.next().await {}
        });
    }
}
