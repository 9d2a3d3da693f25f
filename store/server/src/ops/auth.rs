use bytes::Bytes;
use keelstone_etcd_api::{pb, ApiError};
use keelstone_mvcc::{AuthChange, AuthCommand, AuthEnable, Caller, Op};
use keelstone_raft::RaftError;

use crate::{
    auth::Credentials,
    constants::{AUTHENTICATE_TRIES_MAX, TOKEN_SECRET_BYTES},
    member::Member,
};

impl Member {
    /// Carries out a change of users or roles; its answer is but a header.
    pub async fn auth_change(
        &self,
        change: AuthChange,
        credentials: &Credentials,
    ) -> Result<Option<pb::ResponseHeader>, RaftError> {
        let command = AuthCommand { change: Some(change) };
        let _place = self.admit_write(&command)?;
        self.propose_for(Op::Auth(command), credentials).await?;
        Ok(Some(self.header(self.mvcc.revision())))
    }

    pub async fn auth_enable(&self, credentials: &Credentials) -> Result<pb::AuthEnableResponse, RaftError> {
        let change = AuthChange::Enable(AuthEnable { token_secret: self.new_secret(), secret_only: false });
        Ok(pb::AuthEnableResponse { header: self.auth_change(change, credentials).await? })
    }

    fn new_secret(&self) -> Bytes {
        let mut secret = vec![0; TOKEN_SECRET_BYTES];
        self.env.random().fill(&mut secret);
        secret.into()
    }

    /// A store that was restored with auth on has no secret for tokens yet: a backup must not hold it.
    async fn ensure_secret(&self) -> Result<(), RaftError> {
        if !self.mvcc.auth().token_secret().is_empty() {
            return Ok(());
        }
        let change = AuthChange::Enable(AuthEnable { token_secret: self.new_secret(), secret_only: true });
        self.propose(Op::Auth(AuthCommand { change: Some(change) })).await?;
        // The leader has it; this member may not yet.
        self.read_index().await.map(drop)
    }

    pub async fn auth_status(&self, credentials: &Credentials) -> Result<pb::AuthStatusResponse, RaftError> {
        let caller = self.reader(credentials).await?;
        let users = self.mvcc.auth();
        users.check_root(caller.as_ref())?;
        let (header, status) = (Some(self.header(self.mvcc.revision())), users.status());
        Ok(pb::AuthStatusResponse { header, enabled: status.enabled, auth_revision: status.revision })
    }

    /// Exchanges a password for a token.
    pub async fn authenticate(&self, request: pb::AuthenticateRequest) -> Result<pb::AuthenticateResponse, RaftError> {
        let _place = self.admit(0)?;
        self.read_index().await?;
        for _ in 0..AUTHENTICATE_TRIES_MAX {
            let users = self.mvcc.auth();
            if !users.status().enabled {
                return Err(ApiError::AuthNotEnabled.into());
            }
            let known = users.password(&request.name).ok_or(ApiError::AuthFailed)?;
            if known.no_password {
                return Err(ApiError::NoPasswordUser.into());
            }
            let checked = self.auth.passwords.verify(&self.env, request.password.clone(), known.hash.clone());
            let checked = self.within(async { checked.await.map_err(RaftError::Api) }, || RaftError::Timeout).await?;
            if !checked {
                tracing::info!(user = %request.name, "wrong password");
                return Err(ApiError::AuthFailed.into());
            }
            self.ensure_secret().await?;
            let users = self.mvcc.auth();
            // The password may have been changed while it was checked.
            if users.password(&request.name).as_ref() == Some(&known) {
                let token = self.auth.tokens.issue(&self.env, &users, &request.name)?;
                return Ok(pb::AuthenticateResponse { header: Some(self.header(self.mvcc.revision())), token });
            }
        }
        Err(ApiError::AuthOldRevision.into())
    }

    pub async fn user_add(
        &self,
        mut request: pb::AuthUserAddRequest,
        credentials: &Credentials,
    ) -> Result<pb::AuthUserAddResponse, RaftError> {
        let password = std::mem::take(&mut request.password);
        request.hashed_password = match &request.options {
            Some(options) if options.no_password => String::new(),
            _ => self.hashed(password).await?,
        };
        let header = self.auth_change(AuthChange::UserAdd(request), credentials).await?;
        Ok(pb::AuthUserAddResponse { header })
    }

    pub async fn user_change_password(
        &self,
        mut request: pb::AuthUserChangePasswordRequest,
        credentials: &Credentials,
    ) -> Result<pb::AuthUserChangePasswordResponse, RaftError> {
        request.hashed_password = self.hashed(std::mem::take(&mut request.password)).await?;
        let header = self.auth_change(AuthChange::UserChangePassword(request), credentials).await?;
        Ok(pb::AuthUserChangePasswordResponse { header })
    }

    async fn hashed(&self, password: String) -> Result<String, RaftError> {
        let _place = self.admit(password.len())?;
        let hash = async { self.auth.passwords.hash(&self.env, password).await.map_err(RaftError::Api) };
        self.within(hash, || RaftError::Timeout).await
    }

    pub async fn user_get(
        &self,
        request: pb::AuthUserGetRequest,
        credentials: &Credentials,
    ) -> Result<pb::AuthUserGetResponse, RaftError> {
        let caller = self.reader(credentials).await?;
        let roles = self.mvcc.auth().user_roles(caller.as_ref(), &request.name)?;
        Ok(pb::AuthUserGetResponse { header: Some(self.header(self.mvcc.revision())), roles })
    }

    pub async fn user_list(&self, credentials: &Credentials) -> Result<pb::AuthUserListResponse, RaftError> {
        let caller = self.reader(credentials).await?;
        let users = self.mvcc.auth().users(caller.as_ref())?;
        Ok(pb::AuthUserListResponse { header: Some(self.header(self.mvcc.revision())), users })
    }

    pub async fn role_get(
        &self,
        request: pb::AuthRoleGetRequest,
        credentials: &Credentials,
    ) -> Result<pb::AuthRoleGetResponse, RaftError> {
        let caller = self.reader(credentials).await?;
        let perm = self.mvcc.auth().role_permissions(caller.as_ref(), &request.role)?;
        Ok(pb::AuthRoleGetResponse { header: Some(self.header(self.mvcc.revision())), perm })
    }

    pub async fn role_list(&self, credentials: &Credentials) -> Result<pb::AuthRoleListResponse, RaftError> {
        let caller = self.reader(credentials).await?;
        let roles = self.mvcc.auth().roles(caller.as_ref())?;
        Ok(pb::AuthRoleListResponse { header: Some(self.header(self.mvcc.revision())), roles })
    }

    /// Waits until users and roles are as new as any member's, and says who wants to read them.
    async fn reader(&self, credentials: &Credentials) -> Result<Option<Caller>, RaftError> {
        let _place = self.admit(0)?;
        self.read_index().await?;
        Ok(self.caller(credentials)?)
    }
}
