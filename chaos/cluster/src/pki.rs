//! Keys and certificates of a cluster whose hosts lie on the bed, in the files that `keelstone server` and its agents
//! read.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{engine::general_purpose::STANDARD, Engine};
use keelstone_chaos_bed::{Failure, Outcome};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::json;
use time::{Duration, OffsetDateTime};

/// Wall clocks of the bed are up to ten minutes off.
const BACKDATED: Duration = Duration::days(2);
const VALID: Duration = Duration::days(30);

/// An authority and the folder with all that it signed.
pub struct Pki {
    dir: PathBuf,
    /// Names of the authorities' files.
    authorities: Vec<(String, Issuer<'static, KeyPair>)>,
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::impossible(format!("a certificate: {error}"))
}

fn dated(mut params: CertificateParams, name: &str) -> CertificateParams {
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = (now - BACKDATED, now + VALID);
    params
}

impl Pki {
    /// Makes the authorities of the API (`ca`) and of the store (`store-ca`), and the key that signs tokens.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn make(dir: &Path) -> Outcome<Self> {
        fs::create_dir_all(dir)?;
        let mut pki = Self { dir: dir.to_owned(), authorities: Vec::new() };
        for name in ["ca", "store-ca"] {
            let mut params = dated(CertificateParams::default(), &format!("chaos-{name}"));
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            let key = KeyPair::generate().map_err(failed)?;
            let certificate = params.self_signed(&key).map_err(failed)?;
            pki.write(name, &certificate.pem(), &key.serialize_pem())?;
            pki.authorities.push((name.to_owned(), Issuer::new(params, key)));
        }
        let key = KeyPair::generate().map_err(failed)?;
        fs::write(dir.join("sa.key"), key.serialize_pem())?;
        fs::write(dir.join("sa.pub"), key.public_key_pem())?;
        Ok(pki)
    }

    fn write(&self, name: &str, certificate: &str, key: &str) -> Outcome<()> {
        fs::write(self.dir.join(format!("{name}.crt")), certificate)?;
        Ok(fs::write(self.dir.join(format!("{name}.key")), key)?)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// # Errors
    /// There is no such file.
    pub fn read(&self, name: &str) -> Outcome<String> {
        Ok(fs::read_to_string(self.dir.join(name))?)
    }

    /// Makes `<file>.crt` and `<file>.key`. A server has names under which it is reached.
    ///
    /// # Errors
    /// As [`Pki::make`].
    pub fn sign(&self, authority: &str, file: &str, user: &str, groups: &[&str], names: &[String]) -> Outcome<()> {
        let mut params = dated(CertificateParams::new(names.to_vec()).map_err(failed)?, user);
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if !names.is_empty() {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        let issuer = self.authorities.iter().find(|(name, _)| name == authority);
        let (_, issuer) = issuer.ok_or_else(|| failed(format!("no authority {authority}")))?;
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, issuer).map_err(failed)?;
        self.write(file, &certificate.pem(), &key.serialize_pem())
    }

    /// Writes `<file>.kubeconfig` for its certificate; the addresses are `host:port` by name.
    ///
    /// # Errors
    /// As [`Pki::make`].
    pub fn kubeconfig(&self, file: &str, addresses: &[(String, String)]) -> Outcome<PathBuf> {
        let text = |name: &str| Ok::<_, Failure>(STANDARD.encode(self.read(name)?));
        let (ca, certificate) = (text("ca.crt")?, text(&format!("{file}.crt"))?);
        let key = text(&format!("{file}.key"))?;
        let clusters: Vec<_> = addresses
            .iter()
            .map(|(name, address)| {
                let server = format!("https://{address}");
                json!({"name": name, "cluster": {"server": server, "certificate-authority-data": ca}})
            })
            .collect();
        let contexts: Vec<_> = addresses
            .iter()
            .map(|(name, _)| json!({"name": name, "context": {"cluster": name, "user": file}}))
            .collect();
        let user = json!({"client-certificate-data": certificate, "client-key-data": key});
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "clusters": clusters, "contexts": contexts,
            "current-context": addresses.first().map(|(name, _)| name), "users": [{"name": file, "user": user}],
        });
        let path = self.dir.join(format!("{file}.kubeconfig"));
        fs::write(&path, serde_yaml_ng::to_string(&config).map_err(failed)?)?;
        Ok(path)
    }
}
