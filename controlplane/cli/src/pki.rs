//! The certificates of a cluster that `keelstone up` makes: an authority for the API (a server certificate
//! for each master and agent, a client certificate for each component and for the administrator), another
//! for the store (so that no certificate of the API, a node's say, opens the store and goes past RBAC), and
//! the key that signs service account tokens. Made once; a second `up` finds them.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

const VALID_DAYS: i64 = 3_650;
/// Certificates begin a little in the past, for clocks that are behind.
const BACKDATED_HOURS: i64 = 1;

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("cannot make a certificate")]
    Rcgen(#[from] rcgen::Error),
    #[error("cannot keep {path}")]
    Io { path: PathBuf, source: io::Error },
}

/// Whose signature a certificate has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    Api,
    Store,
}

impl Authority {
    /// The name of its files: `<name>.crt`, `<name>.key`.
    fn file(self) -> &'static str {
        match self {
            Self::Api => "ca",
            Self::Store => "store-ca",
        }
    }
}

/// What a certificate is for.
pub struct Subject<'a> {
    pub authority: Authority,
    pub file: &'a str,
    pub common_name: &'a str,
    pub organizations: &'a [&'a str],
    /// Names and addresses under which a server is reached.
    pub alt_names: &'a [String],
}

/// A folder with the authority and what it signed.
pub struct Pki {
    dir: PathBuf,
}

impl Pki {
    /// Opens the folder; makes the authority and the token key if they are not there.
    pub fn open(dir: &Path) -> Result<Self, PkiError> {
        fs::create_dir_all(dir).map_err(|source| PkiError::Io { path: dir.into(), source })?;
        let pki = Self { dir: dir.to_owned() };
        for authority in [Authority::Api, Authority::Store] {
            if !pki.path(&format!("{}.crt", authority.file())).exists() {
                pki.make_authority(authority)?;
            }
        }
        if !pki.path("sa.key").exists() {
            let key = KeyPair::generate()?;
            pki.write("sa.pub", &key.public_key_pem())?;
            pki.write("sa.key", &key.serialize_pem())?;
        }
        Ok(pki)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub fn read(&self, name: &str) -> Result<String, PkiError> {
        let path = self.path(name);
        fs::read_to_string(&path).map_err(|source| PkiError::Io { path, source })
    }

    /// Makes `<file>.crt` and `<file>.key` unless they are there.
    pub fn ensure(&self, subject: &Subject<'_>) -> Result<(), PkiError> {
        let (crt, key_file) = (format!("{}.crt", subject.file), format!("{}.key", subject.file));
        if self.path(&crt).exists() && self.path(&key_file).exists() {
            return Ok(());
        }
        let mut params = CertificateParams::new(subject.alt_names.to_vec())?;
        params.distinguished_name = name(subject.common_name, subject.organizations);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if !subject.alt_names.is_empty() {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        set_validity(&mut params);
        let authority_key = KeyPair::from_pem(&self.read(&format!("{}.key", subject.authority.file()))?)?;
        let issuer = Issuer::new(parameters(subject.authority), authority_key);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        self.write(&key_file, &key.serialize_pem())?;
        self.write(&crt, &certificate.pem())
    }

    fn make_authority(&self, authority: Authority) -> Result<(), PkiError> {
        let key = KeyPair::generate()?;
        let certificate = parameters(authority).self_signed(&key)?;
        self.write(&format!("{}.key", authority.file()), &key.serialize_pem())?;
        self.write(&format!("{}.crt", authority.file()), &certificate.pem())
    }

    /// Keys and certificates are readable by their owner only.
    fn write(&self, name: &str, text: &str) -> Result<(), PkiError> {
        let path = self.path(name);
        let write = || -> io::Result<()> {
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            io::Write::write_all(&mut file, text.as_bytes())
        };
        write().map_err(|source| PkiError::Io { path: path.clone(), source })
    }
}

/// An authority's parameters. Its name and key are all that a signed certificate refers to.
fn parameters(authority: Authority) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&format!("keelstone-{}", authority.file()), &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params);
    params
}

fn name(common_name: &str, organizations: &[&str]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for organization in organizations {
        name.push(DnType::OrganizationName, *organization);
    }
    name.push(DnType::CommonName, common_name);
    name
}

fn set_validity(params: &mut CertificateParams) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::hours(BACKDATED_HOURS);
    params.not_after = now + Duration::days(VALID_DAYS);
}

#[cfg(test)]
mod tests {
    use keelstone_env::{ClientTls, Env, ServerTls};

    use super::*;

    fn subject(authority: Authority, file: &str) -> Subject<'_> {
        const NAMES: [&str; 1] = ["127.0.0.1"];
        let alt_names = Box::leak(Box::new(NAMES.map(str::to_owned)));
        Subject { authority, file, common_name: file, organizations: &["people"], alt_names }
    }

    /// Whether a client with this certificate gets through to a server of the store.
    async fn opens_the_store(pki: &Pki, client: &str) -> bool {
        let env = Env::os();
        let server = ServerTls {
            certificate: pki.read("member.crt").unwrap(),
            key: pki.read("member.key").unwrap(),
            client_ca: Some(pki.read("store-ca.crt").unwrap()),
            client_certificate_required: true,
            alpn: Vec::new(),
        };
        let identity = (pki.read(&format!("{client}.crt")).unwrap(), pki.read(&format!("{client}.key")).unwrap());
        let client = ClientTls { ca: pki.read("store-ca.crt").unwrap(), identity: Some(identity), alpn: Vec::new() };
        let (server, client) = (env.tls().server(&server).unwrap(), env.tls().client(&client).unwrap());
        let listener = env.net().bind("127.0.0.1:0").await.unwrap();
        let port = listener.port();
        let accept = async { server.accept(listener.accept().await.unwrap().0).await };
        let connect = async { client.connect(env.net().connect("127.0.0.1", port).await.unwrap(), "127.0.0.1").await };
        let (accepted, _connected) = tokio::join!(accept, connect);
        accepted.is_ok_and(|session| session.peer.is_some())
    }

    #[tokio::test]
    async fn a_certificate_of_the_api_does_not_open_the_store() {
        let dir = std::env::temp_dir().join(format!("keelstone-pki-{}", std::process::id()));
        let pki = Pki::open(&dir).unwrap();
        pki.ensure(&subject(Authority::Store, "member")).unwrap();
        pki.ensure(&subject(Authority::Store, "store-client")).unwrap();
        pki.ensure(&subject(Authority::Api, "node")).unwrap();
        assert!(opens_the_store(&pki, "store-client").await);
        assert!(!opens_the_store(&pki, "node").await);
        let before = pki.read("ca.crt").unwrap();
        assert_eq!(Pki::open(&dir).unwrap().read("ca.crt").unwrap(), before, "made once");
        fs::remove_dir_all(dir).unwrap();
    }
}
