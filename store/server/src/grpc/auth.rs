use keelstone_etcd_api::pb::{self, auth_server::Auth};
use keelstone_mvcc::AuthChange;
use tonic::{Request, Response, Status};

use super::Services;
use crate::{auth::Credentials, method::Method};

/// Calls that change users or roles, and whose answer is but a header.
macro_rules! change {
    ($self:ident, $request:ident, $name:ident, $response:ident) => {{
        let (credentials, request) = Credentials::split($request);
        let change = async {
            let header = $self.member.auth_change(AuthChange::$name(request), &credentials).await?;
            Ok(pb::$response { header })
        };
        $self.unary(Method::$name, &credentials, change).await
    }};
}

#[tonic::async_trait]
impl Auth for Services {
    async fn auth_enable(
        &self,
        request: Request<pb::AuthEnableRequest>,
    ) -> Result<Response<pb::AuthEnableResponse>, Status> {
        let (credentials, _) = Credentials::split(request);
        self.unary(Method::AuthEnable, &credentials, self.member.auth_enable(&credentials)).await
    }

    async fn auth_disable(
        &self,
        request: Request<pb::AuthDisableRequest>,
    ) -> Result<Response<pb::AuthDisableResponse>, Status> {
        let (credentials, request) = Credentials::split(request);
        let change = async {
            let header = self.member.auth_change(AuthChange::Disable(request), &credentials).await?;
            Ok(pb::AuthDisableResponse { header })
        };
        self.unary(Method::AuthDisable, &credentials, change).await
    }

    async fn auth_status(
        &self,
        request: Request<pb::AuthStatusRequest>,
    ) -> Result<Response<pb::AuthStatusResponse>, Status> {
        let (credentials, _) = Credentials::split(request);
        self.unary(Method::AuthStatus, &credentials, self.member.auth_status(&credentials)).await
    }

    async fn authenticate(
        &self,
        request: Request<pb::AuthenticateRequest>,
    ) -> Result<Response<pb::AuthenticateResponse>, Status> {
        let (credentials, request) = Credentials::split(request);
        self.unary(Method::Authenticate, &credentials, self.member.authenticate(request)).await
    }

    async fn user_add(
        &self,
        request: Request<pb::AuthUserAddRequest>,
    ) -> Result<Response<pb::AuthUserAddResponse>, Status> {
        let (credentials, request) = Credentials::split(request);
        self.unary(Method::UserAdd, &credentials, self.member.user_add(request, &credentials)).await
    }

    async fn user_get(
        &self,
        request: Request<pb::AuthUserGetRequest>,
    ) -> Result<Response<pb::AuthUserGetResponse>, Status> {
        let (credentials, request) = Credentials::split(request);
        self.unary(Method::UserGet, &credentials, self.member.user_get(request, &credentials)).await
    }

    async fn user_list(
        &self,
        request: Request<pb::AuthUserListRequest>,
    ) -> Result<Response<pb::AuthUserListResponse>, Status> {
        let (credentials, _) = Credentials::split(request);
        self.unary(Method::UserList, &credentials, self.member.user_list(&credentials)).await
    }

    async fn user_delete(
        &self,
        request: Request<pb::AuthUserDeleteRequest>,
    ) -> Result<Response<pb::AuthUserDeleteResponse>, Status> {
        change!(self, request, UserDelete, AuthUserDeleteResponse)
    }

    async fn user_change_password(
        &self,
        request: Request<pb::AuthUserChangePasswordRequest>,
    ) -> Result<Response<pb::AuthUserChangePasswordResponse>, Status> {
        let (credentials, request) = Credentials::split(request);
        let change = self.member.user_change_password(request, &credentials);
        self.unary(Method::UserChangePassword, &credentials, change).await
    }

    async fn user_grant_role(
        &self,
        request: Request<pb::AuthUserGrantRoleRequest>,
    ) -> Result<Response<pb::AuthUserGrantRoleResponse>, Status> {
        change!(self, request, UserGrantRole, AuthUserGrantRoleResponse)
    }

    async fn user_revoke_role(
        &self,
        request: Request<pb::AuthUserRevokeRoleRequest>,
    ) -> Result<Response<pb::AuthUserRevokeRoleResponse>, Status> {
        change!(self, request, UserRevokeRole, AuthUserRevokeRoleResponse)
    }

    async fn role_add(
        &self,
        request: Request<pb::AuthRoleAddRequest>,
    ) -> Result<Response<pb::AuthRoleAddResponse>, Status> {
        change!(self, request, RoleAdd, AuthRoleAddResponse)
    }

    async fn role_get(
        &self,
        request: Request<pb::AuthRoleGetRequest>,
    ) -> Result<Response<pb::AuthRoleGetResponse>, Status> {
        let (credentials, request) = Credentials::split(request);
        self.unary(Method::RoleGet, &credentials, self.member.role_get(request, &credentials)).await
    }

    async fn role_list(
        &self,
        request: Request<pb::AuthRoleListRequest>,
    ) -> Result<Response<pb::AuthRoleListResponse>, Status> {
        let (credentials, _) = Credentials::split(request);
        self.unary(Method::RoleList, &credentials, self.member.role_list(&credentials)).await
    }

    async fn role_delete(
        &self,
        request: Request<pb::AuthRoleDeleteRequest>,
    ) -> Result<Response<pb::AuthRoleDeleteResponse>, Status> {
        change!(self, request, RoleDelete, AuthRoleDeleteResponse)
    }

    async fn role_grant_permission(
        &self,
        request: Request<pb::AuthRoleGrantPermissionRequest>,
    ) -> Result<Response<pb::AuthRoleGrantPermissionResponse>, Status> {
        change!(self, request, RoleGrantPermission, AuthRoleGrantPermissionResponse)
    }

    async fn role_revoke_permission(
        &self,
        request: Request<pb::AuthRoleRevokePermissionRequest>,
    ) -> Result<Response<pb::AuthRoleRevokePermissionResponse>, Status> {
        change!(self, request, RoleRevokePermission, AuthRoleRevokePermissionResponse)
    }
}
