use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use keelstone_etcd_api::{
    pb::{self, auth_client::AuthClient},
    ApiError,
};
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::Channel,
    Status,
};

/// A user of the store and its password, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub password: String,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Keeps a token for a user. Every member takes it.
pub(crate) struct Login {
    user: User,
    state: Mutex<State>,
    /// Held by whoever asks for a token: the others wait for the same.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Clone, Default)]
struct State {
    /// None where auth is off: calls go without a token then.
    token: Option<MetadataValue<Ascii>>,
    /// Counts the answers, so that a token that was refused is replaced once; 0 before the first.
    number: u64,
}

/// A token, or none where auth is off, and which one it is.
#[derive(Clone)]
pub(crate) struct Pass {
    pub token: Option<MetadataValue<Ascii>>,
    number: u64,
}

impl Login {
    pub fn new(user: User) -> Self {
        Self { user, state: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }

    fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The token there is, or a new one. With `refused`, one that is not that.
    ///
    /// # Errors
    /// What the member answered to the password.
    pub async fn pass(&self, channel: &Channel, refused: Option<&Pass>) -> Result<Pass, Status> {
        let fresh = |state: &State| {
            let other = refused.is_none_or(|refused| refused.number != state.number);
            (state.number > 0 && other).then(|| Pass { token: state.token.clone(), number: state.number })
        };
        if let Some(pass) = fresh(&self.state()) {
            return Ok(pass);
        }
        let _asking = self.asking.lock().await;
        if let Some(pass) = fresh(&self.state()) {
            return Ok(pass);
        }
        let request = pb::AuthenticateRequest { name: self.user.name.clone(), password: self.user.password.clone() };
        let token = match AuthClient::new(channel.clone()).authenticate(request).await {
            Ok(answer) => {
                let token = answer.into_inner().token.parse();
                Some(token.map_err(|_| Status::internal("the token is no metadata value"))?)
            }
            Err(status) if ApiError::from_status(&status) == Some(ApiError::AuthNotEnabled) => None,
            Err(status) => return Err(status),
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State { token, number: state.number + 1 };
        Ok(Pass { token: state.token.clone(), number: state.number })
    }
}

/// Whether a call was refused for its token alone. It has then certainly changed nothing.
pub(crate) fn wants_new_token(status: &Status) -> bool {
    let refusals = [ApiError::InvalidAuthToken, ApiError::AuthOldRevision, ApiError::UserEmpty];
    ApiError::from_status(status).is_some_and(|error| refusals.contains(&error))
}
