use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt};
use keelstone_etcd_api::pb::{self, watch_server::Watch};
use tonic::{Code, Request, Response, Status, Streaming};

use super::{Services, StreamCount};
use crate::{
    auth::Credentials,
    method::Method,
    watch::{self, Tasks},
};

#[tonic::async_trait]
impl Watch for Services {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<pb::WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let mut count = StreamCount::start(&self.member, Method::Watch);
        let tasks = Tasks::of(request.extensions(), &self.member.env);
        let (credentials, requests) = Credentials::split(request);
        let require_leader = match self.check(Method::Watch, &credentials) {
            Ok(wanted) => wanted,
            Err(error) => return Err(count.refuse(error)),
        };
        let requests = futures::stream::unfold(requests, |mut requests| async move {
            // A broken stream ends like a closed one; the reader's side shows that it is gone.
            let request = requests.message().await.ok().flatten()?;
            Some((request, requests))
        });
        let responses = watch::start(Arc::clone(&self.member), tasks, Box::pin(requests), credentials, require_leader);
        let counted = async_stream::stream! {
            let mut code = Code::Ok;
            for await response in responses {
                if let Err(error) = &response {
                    code = error.code();
                }
                yield response.map_err(Status::from);
            }
            count.ends(code);
        };
        Ok(Response::new(counted.boxed()))
    }
}
