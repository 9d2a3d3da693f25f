//! The certificates of a cluster that `keelstone up` makes: one authority, a server certificate for each
//! master and agent, a client certificate for each component and for the administrator, and the key that
//! signs service account tokens. Made once; a second `up` finds them.

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

/// What a certificate is for.
pub struct Subject<'a> {
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
        if !pki.path("ca.crt").exists() {
            pki.make_authority()?;
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
        let authority_key = KeyPair::from_pem(&self.read("ca.key")?)?;
        let issuer = Issuer::new(authority(), authority_key);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        self.write(&key_file, &key.serialize_pem())?;
        self.write(&crt, &certificate.pem())
    }

    fn make_authority(&self) -> Result<(), PkiError> {
        let key = KeyPair::generate()?;
        let certificate = authority().self_signed(&key)?;
        self.write("ca.key", &key.serialize_pem())?;
        self.write("ca.crt", &certificate.pem())
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

/// The authority's parameters. Its name and key are all that a signed certificate refers to.
fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name("keelstone-ca", &[]);
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
