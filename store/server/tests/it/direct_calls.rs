//! The calls of KV that skip the general server: frames as a client may send them, good and bad.

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use keelstone_env::Env;
use keelstone_etcd_api::pb;
use prost::Message;
use tonic::Code;

use crate::common::{get, put, Cluster};

/// What came back: the code, and the message without its prefix.
#[derive(Debug)]
struct Answer {
    code: Code,
    message: Bytes,
}

/// Sends `parts` as the frames of one call's body, and then its end.
async fn call(address: &str, method: &str, parts: Vec<Bytes>) -> Answer {
    let (host, port) = address.rsplit_once(':').unwrap();
    let io = Env::os().net().connect(host, port.parse().unwrap()).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    let driver = Env::os().spawn(connection);
    let frames = parts.into_iter().map(|part| Ok::<_, std::convert::Infallible>(Frame::data(part)));
    let request = http::Request::post(format!("http://{address}/etcdserverpb.KV/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(StreamBody::new(stream::iter(frames)))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let mut code = response.headers().get("grpc-status").cloned();
    let body = response.into_body().collect().await.unwrap();
    code = code.or_else(|| body.trailers().and_then(|trailers| trailers.get("grpc-status").cloned()));
    drop(sender);
    driver.await.unwrap().unwrap();
    let message = body.to_bytes();
    let message = if message.is_empty() { message } else { message.slice(5..) };
    Answer { code: Code::from_bytes(code.expect("a status").as_bytes()), message }
}

fn framed(message: &impl Message) -> Vec<u8> {
    let body = message.encode_to_vec();
    [&[0], &u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body[..]].concat()
}

fn whole(message: &impl Message) -> Vec<Bytes> {
    vec![framed(message).into()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_may_come_in_any_pieces() {
    let cluster = Cluster::start(1).await;
    let address = cluster.endpoints().remove(0);
    let request = framed(&put("a", "one"));
    let bytes: Vec<Bytes> = request.iter().map(|byte| Bytes::copy_from_slice(&[*byte])).collect();
    let halves = vec![Bytes::copy_from_slice(&request[..7]), Bytes::new(), Bytes::copy_from_slice(&request[7..])];
    for (revision, parts) in [(2, bytes), (3, halves), (4, vec![request.into()])] {
        let answer = call(&address, "Put", parts).await;
        assert_eq!(answer.code, Code::Ok);
        let response = pb::PutResponse::decode(answer.message).unwrap();
        assert_eq!(response.header.unwrap().revision, revision);
    }
    let answer = call(&address, "Range", whole(&get("a"))).await;
    let range = pb::RangeResponse::decode(answer.message).unwrap();
    assert_eq!((answer.code, range.count, &range.kvs[0].value[..]), (Code::Ok, 1, &b"one"[..]));
    let txn = pb::TxnRequest::default();
    let answer = call(&address, "Txn", whole(&txn)).await;
    assert!(pb::TxnResponse::decode(answer.message).unwrap().succeeded);
    let delete = pb::DeleteRangeRequest { key: "a".into(), ..Default::default() };
    let answer = call(&address, "DeleteRange", whole(&delete)).await;
    assert_eq!(pb::DeleteRangeResponse::decode(answer.message).unwrap().deleted, 1);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_call_is_refused_and_changes_nothing() {
    let cluster = Cluster::start(1).await;
    let address = cluster.endpoints().remove(0);
    let good = framed(&put("a", "one"));
    let mut compressed = good.clone();
    compressed[0] = 1;
    let mut two = good.clone();
    two.extend_from_slice(&good);
    let torn = good[..good.len() - 1].to_vec();
    // Announces 3.9 GiB: refused at once, not when they have come.
    let huge = vec![0, 0xf0, 0, 0, 0, 1, 2, 3];
    let garbage = vec![0, 0, 0, 0, 3, 0xff, 0xff, 0xff];
    for (what, body, code) in [
        ("nothing", vec![], Code::Internal),
        ("half a prefix", vec![0, 0], Code::Internal),
        ("compressed", compressed, Code::Unimplemented),
        ("two messages", two, Code::Internal),
        ("a torn message", torn, Code::Internal),
        ("a huge message", huge, Code::OutOfRange),
        ("garbage", garbage, Code::Internal),
    ] {
        let answer = call(&address, "Put", vec![body.into()]).await;
        assert_eq!(answer.code, code, "{what}");
        assert!(answer.message.is_empty(), "{what}");
    }
    let unknown = call(&address, "Nonsense", whole(&put("a", "one"))).await;
    assert_eq!(unknown.code, Code::Unimplemented);
    assert_eq!(cluster.members[0].as_ref().unwrap().kv().range(get("a")).await.unwrap().count, 0);
    cluster.stop_all().await;
}
