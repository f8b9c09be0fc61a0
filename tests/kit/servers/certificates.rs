//! Certificates for servers and clients of one test, and some that nobody should accept.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// Where a certificate and its key are, both in PEM.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// A directory of certificates.
#[derive(Clone, Debug)]
pub(crate) struct Certificates {
    /// Who signed those of the server and the client.
    pub(crate) authority: PathBuf,
    /// For 127.0.0.1, `::1`, `localhost` and `server.dc1.consul`; members of a cluster show it to each other too.
    pub(crate) server: Identity,
    /// Its name, `client`, is no user's.
    pub(crate) client: Identity,
    /// Somebody else, who signed nothing that the server shows.
    pub(crate) wrong_authority: PathBuf,
    /// A client whom that somebody vouches for.
    pub(crate) stranger: Identity,
}

impl Certificates {
    /// Makes new ones in `directory`.
    pub(crate) fn new(directory: &Path) -> Self {
        std::fs::create_dir_all(directory).expect("the directory is made");
        let names = ["localhost", "127.0.0.1", "::1", "server.dc1.consul"];
        let (authority, issuer) = make_authority(directory, "authority");
        let (wrong_authority, wrong_issuer) = make_authority(directory, "wrong-authority");
        Self {
            authority,
            server: make_identity(directory, "server", &names, &issuer),
            client: make_identity(directory, "client", &["client"], &issuer),
            wrong_authority,
            stranger: make_identity(directory, "stranger", &["stranger"], &wrong_issuer),
        }
    }
}

fn make_authority(directory: &Path, name: &str) -> (PathBuf, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().expect("a key");
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = parameters.self_signed(&key).expect("it signs itself");
    let file = write(directory, &format!("{name}.pem"), &certificate.pem());
    (file, Issuer::new(parameters, key))
}

fn make_identity(
    directory: &Path,
    name: &str,
    alternatives: &[&str],
    issuer: &Issuer<'static, KeyPair>,
) -> Identity {
    let key = KeyPair::generate().expect("a key");
    let alternatives: Vec<String> = alternatives.iter().copied().map(str::to_owned).collect();
    let mut parameters = CertificateParams::new(alternatives).expect("good names");
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = parameters.signed_by(&key, issuer).expect("it is signed");
    Identity {
        certificate: write(directory, &format!("{name}.pem"), &certificate.pem()),
        key: write(directory, &format!("{name}.key"), &key.serialize_pem()),
    }
}

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let file = directory.join(name);
    std::fs::write(&file, text).expect("the file is written");
    file
}
