use keelstone_env::GrpcPeer;
use tonic::{metadata::MetadataMap, Extensions, Request};

/// Metadata that the JSON gateway adds to its calls.
const GATEWAY_HEADER: &str = "grpcgateway-accept";

/// By what a client says who it is, not yet looked at; nothing for the store's own calls, which may do all.
pub(crate) struct Credentials(Option<Client>);

struct Client {
    metadata: MetadataMap,
    extensions: Extensions,
}

impl Credentials {
    /// The store's own.
    pub const INTERNAL: Self = Self(None);

    /// Splits a call into its credentials and its message.
    pub fn split<T>(request: Request<T>) -> (Self, T) {
        let (metadata, extensions, message) = request.into_parts();
        (Self(Some(Client { metadata, extensions })), message)
    }

    pub fn is_internal(&self) -> bool {
        self.0.is_none()
    }

    /// The text of a metadata entry.
    pub fn metadata(&self, name: &str) -> Option<&str> {
        self.0.as_ref()?.metadata.get(name)?.to_str().ok()
    }

    /// The token, under the name that gRPC clients or the one that HTTP clients use.
    pub fn token(&self) -> Option<&str> {
        self.metadata("token").or_else(|| self.metadata("authorization"))
    }

    /// The common name of the client's certificate. A call through the gateway has none: the connection's
    /// certificate is not its client's.
    pub fn common_name(&self) -> Option<&str> {
        let client = self.0.as_ref()?;
        if client.metadata.contains_key(GATEWAY_HEADER) {
            return None;
        }
        let peer = client.extensions.get::<GrpcPeer>()?;
        Some(peer.identity.as_ref()?.common_name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use keelstone_env::Identity;

    use super::*;

    fn request() -> Request<()> {
        let identity = Some(Identity { common_name: "alice".into(), organizations: vec![] });
        let mut request = Request::new(());
        request.extensions_mut().insert(GrpcPeer { address: "127.0.0.1:1".into(), identity });
        request
    }

    #[test]
    fn a_certificate_names_its_user_but_not_through_the_gateway() {
        assert_eq!(Credentials::split(request()).0.common_name(), Some("alice"));
        let mut through = request();
        through.metadata_mut().insert(GATEWAY_HEADER, "application/json".parse().unwrap());
        assert_eq!(Credentials::split(through).0.common_name(), None);
        assert_eq!(Credentials::INTERNAL.common_name(), None);
    }

    #[test]
    fn tokens_are_found_under_both_names() {
        let mut request = request();
        assert_eq!(Credentials::split(Request::new(())).0.token(), None);
        request.metadata_mut().insert("authorization", "a".parse().unwrap());
        request.metadata_mut().insert("token", "t".parse().unwrap());
        assert_eq!(Credentials::split(request).0.token(), Some("t"));
    }
}
