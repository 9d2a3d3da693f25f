use futures::StreamExt;
use keelstone_etcd_api::pb::{self, watch_client::WatchClient, watch_request::RequestUnion};
use tokio::sync::mpsc;
use tonic::{transport::Channel, Request, Status};

use crate::{attempt::judge, constants::WATCH_REQUESTS_MAX, KvError, WatchStream};

/// Opens one watch on a stream of its own and waits for the store's first answer, so that a member that does
/// not answer is found out here and another one can be tried.
///
/// The stream asks for a leader: a member cut off from the quorum ends it instead of going silent.
pub(crate) async fn open(
    mut client: WatchClient<Channel>,
    create: pb::WatchCreateRequest,
) -> Result<WatchStream, Status> {
    let (requests, receiver) = mpsc::channel(WATCH_REQUESTS_MAX);
    let first = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    requests.try_send(first).map_err(|_| Status::internal("a new queue refused a message"))?;
    let outgoing = futures::stream::unfold(receiver, |mut receiver| async move {
        let message: pb::WatchRequest = receiver.recv().await?;
        Some((message, receiver))
    });
    let mut request = Request::new(outgoing);
    request.metadata_mut().insert("hasleader", "true".parse().map_err(|_| Status::internal("metadata"))?);
    let mut answers = client.watch(request).await?.into_inner();
    let created = answers.message().await?.ok_or_else(|| Status::unavailable("the watch stream ended"))?;
    let ended = created.canceled;
    let rest = async_stream::stream! {
        // Held so that the sending side stays open as long as the watch is read.
        let _requests = requests;
        let mut ended = ended;
        while !ended {
            match answers.message().await {
                Ok(Some(response)) => {
                    ended = response.canceled;
                    yield Ok(response);
                }
                Ok(None) => {
                    yield Err(KvError::Unreachable("the watch stream ended".into()));
                    ended = true;
                }
                Err(status) => {
                    yield Err(judge(&status).0);
                    ended = true;
                }
            }
        }
    };
    Ok(futures::stream::once(async move { Ok(created) }).chain(rest).boxed())
}
