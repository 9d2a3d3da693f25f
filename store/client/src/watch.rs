use futures::StreamExt;
use keelstone_env::fault::{self, Point};
use keelstone_etcd_api::{
    pb::{self, watch_client::WatchClient, watch_request::RequestUnion},
    ApiError,
};
use tokio::sync::{mpsc, watch};
use tonic::{transport::Channel, Request, Status, Streaming};

use crate::{attempt::judge, constants::WATCH_REQUESTS_MAX, KvError, WatchStream};

/// A watch that one member has confirmed.
pub(crate) struct OpenWatch {
    requests: mpsc::Sender<pb::WatchRequest>,
    created: pb::WatchResponse,
    answers: Streaming<pb::WatchResponse>,
}

/// Opens one watch on a stream of its own and waits for the store's first answer, so that a member that does
/// not answer is found out here and another one can be tried.
///
/// The stream asks for a leader: a member cut off from the quorum ends it instead of going silent.
pub(crate) async fn open(
    mut client: WatchClient<Channel>,
    request: Request<pb::WatchCreateRequest>,
) -> Result<OpenWatch, Status> {
    let (metadata, _, create) = request.into_parts();
    let (requests, receiver) = mpsc::channel(WATCH_REQUESTS_MAX);
    let first = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    requests.try_send(first).map_err(|_| Status::internal("a new queue refused a message"))?;
    let outgoing = futures::stream::unfold(receiver, |mut receiver| async move {
        let message: pb::WatchRequest = receiver.recv().await?;
        Some((message, receiver))
    });
    let mut request = Request::new(outgoing);
    // The token alone: a deadline would end the stream.
    if let Some(token) = metadata.get("token") {
        request.metadata_mut().insert("token", token.clone());
    }
    request.metadata_mut().insert("hasleader", "true".parse().map_err(|_| Status::internal("metadata"))?);
    fault::pause(Point::ClientWatch).await;
    let mut answers = client.watch(request).await?.into_inner();
    let created = answers.message().await?.ok_or_else(|| Status::unavailable("the watch stream ended"))?;
    if let Some(refused) = refusal(&created) {
        return Err(refused.into());
    }
    Ok(OpenWatch { requests, created, answers })
}

/// Why a watch was refused, if it was for who asked for it.
fn refusal(created: &pb::WatchResponse) -> Option<ApiError> {
    let refusals =
        [ApiError::PermissionDenied, ApiError::InvalidAuthToken, ApiError::AuthOldRevision, ApiError::UserEmpty];
    refusals.into_iter().find(|error| created.canceled && created.cancel_reason.contains(error.text()))
}

impl OpenWatch {
    /// The watch's responses; an error once its member gives no sign of life.
    pub(crate) fn into_stream(
        self,
        mut progress_requests: mpsc::Receiver<()>,
        mut down: watch::Receiver<bool>,
    ) -> WatchStream {
        let Self { requests, created, mut answers } = self;
        let stream = async_stream::stream! {
            let mut ended = created.canceled;
            let mut asked_for_progress = true;
            yield Ok(created);
            while !ended {
                let answer = tokio::select! {
                    biased;
                    wanted = progress_requests.recv(), if asked_for_progress => {
                        asked_for_progress = wanted.is_some();
                        if asked_for_progress {
                            let union = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
                            // A full queue holds such a request already; a closed one shows below.
                            let _ = requests.try_send(pb::WatchRequest { request_union: Some(union) });
                        }
                        continue;
                    }
                    answer = answers.message() => answer,
                    () = gone(&mut down) => Err(Status::unavailable("the member gives no sign of life")),
                };
                match answer {
                    Ok(Some(response)) => {
                        ended = response.canceled;
                        yield Ok(response);
                    }
                    Ok(None) => {
                        ended = true;
                        yield Err(KvError::Unreachable("the watch stream ended".into()));
                    }
                    Err(status) => {
                        ended = true;
                        yield Err(judge(&status).0);
                    }
                }
            }
        };
        stream.boxed()
    }
}

/// Resolves when the member is down; never if nobody looks any more.
async fn gone(down: &mut watch::Receiver<bool>) {
    if down.wait_for(|down| *down).await.is_err() {
        std::future::pending::<()>().await;
    }
}
