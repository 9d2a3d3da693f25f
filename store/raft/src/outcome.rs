//! Answers to forwarded commands, as they go over the wire and back.

use bytes::Bytes;
use keelstone_etcd_api::ApiError;
use keelstone_mvcc::{Reply, Response};
use prost::Message;

use crate::{
    peer::{self, outcome::Kind},
    RaftError,
};

/// What became of one proposal.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Applied, with this answer.
    Answered(Reply),
    /// In a log, fate unknown.
    Unknown(String),
    /// Certainly not in a log; another member may be asked.
    NotLeader,
}

impl Outcome {
    pub(crate) fn into_wire(self) -> peer::Outcome {
        let (kind, body) = match self {
            Self::NotLeader => (Kind::NotLeader, Bytes::new()),
            Self::Unknown(why) => (Kind::Unknown, why.into()),
            Self::Answered(Err(error)) => (Kind::Error, Bytes::from_static(error.text().as_bytes())),
            Self::Answered(Ok(response)) => response_out(&response),
        };
        peer::Outcome { kind: kind.into(), body }
    }

    pub(crate) fn from_wire(outcome: peer::Outcome) -> Self {
        let kind = outcome.kind();
        match kind {
            Kind::NotLeader => Self::NotLeader,
            Kind::TooMany => Self::Answered(Err(ApiError::TooManyRequests)),
            Kind::Unknown => Self::Unknown(String::from_utf8_lossy(&outcome.body).into_owned()),
            Kind::Error => match ApiError::ALL.iter().find(|error| error.text().as_bytes() == outcome.body) {
                Some(error) => Self::Answered(Err(*error)),
                None => Self::Unknown("the leader answered with an error that is not known here".into()),
            },
            _ => match response_in(kind, outcome.body) {
                Some(response) => Self::Answered(Ok(response)),
                None => Self::Unknown("the leader's answer cannot be read".into()),
            },
        }
    }

    /// The end of a proposal that is not tried again.
    pub(crate) fn into_result(self) -> Result<Response, RaftError> {
        match self {
            Self::Answered(reply) => reply.map_err(RaftError::Api),
            Self::Unknown(why) => Err(RaftError::Unknown(why)),
            Self::NotLeader => Err(RaftError::NoLeader),
        }
    }
}

fn response_out(response: &Response) -> (Kind, Bytes) {
    match response {
        Response::None => (Kind::None, Bytes::new()),
        Response::Put(response) => (Kind::Put, encode(response)),
        Response::DeleteRange(response) => (Kind::DeleteRange, encode(response)),
        Response::Txn(response) => (Kind::Txn, encode(response)),
        Response::Compact(response) => (Kind::Compact, encode(response)),
        Response::LeaseGrant(response) => (Kind::LeaseGrant, encode(response)),
        Response::LeaseRevoke(response) => (Kind::LeaseRevoke, encode(response)),
        Response::Alarm(response) => (Kind::Alarm, encode(response)),
    }
}

fn encode(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

fn response_in(kind: Kind, body: Bytes) -> Option<Response> {
    Some(match kind {
        Kind::None => Response::None,
        Kind::Put => Response::Put(Message::decode(body).ok()?),
        Kind::DeleteRange => Response::DeleteRange(Message::decode(body).ok()?),
        Kind::Txn => Response::Txn(Message::decode(body).ok()?),
        Kind::Compact => Response::Compact(Message::decode(body).ok()?),
        Kind::LeaseGrant => Response::LeaseGrant(Message::decode(body).ok()?),
        Kind::LeaseRevoke => Response::LeaseRevoke(Message::decode(body).ok()?),
        Kind::Alarm => Response::Alarm(Message::decode(body).ok()?),
        Kind::NotLeader | Kind::Unknown | Kind::Error | Kind::TooMany => return None,
    })
}
