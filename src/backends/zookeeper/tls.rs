//! TLS: what to trust and what to show, and by whose cryptography.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use zookeeper_client::TlsOptions;

use crate::kv::{BoxError, Error, Result};

/// What to trust and what to show, for the client and for whoever looks why it fails.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) options: TlsOptions,
    pub(super) config: Arc<ClientConfig>,
}

impl Tls {
    /// Refuses what is no PEM text, and a key that does not belong to its certificate.
    pub(super) fn new(ca: &str, identity: Option<&(String, String)>) -> Result<Self> {
        choose_provider();
        let unusable =
            |what: &str, error: BoxError| Error::invalid(format!("the {what} is not usable")).because(error);
        let authority = |error: BoxError| unusable("certificate authority", error);
        let client = |error: BoxError| unusable("client certificate", error);
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
            let certificate = certificate.map_err(|error| authority(error.into()))?;
            roots.add(certificate).map_err(|error| authority(error.into()))?;
        }
        let options = TlsOptions::new().with_pem_ca(ca).map_err(|error| authority(error.into()))?;
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| authority(error.into()))?
            .with_root_certificates(roots);
        let Some((certificate, key)) = identity else {
            return Ok(Self { options, config: Arc::new(builder.with_no_client_auth()) });
        };
        let chain =
            CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<std::result::Result<_, _>>();
        let chain = chain.map_err(|error| client(error.into()))?;
        let secret = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| client(error.into()))?;
        let config = builder.with_client_auth_cert(chain, secret).map_err(|error| client(error.into()))?;
        let options = options.with_pem_identity(certificate, key).map_err(|error| client(error.into()))?;
        Ok(Self { options, config: Arc::new(config) })
    }
}

/// The client takes the cryptography that the process has chosen, and panics where none is and several are built in.
/// Where the program has made no choice it is ring, which all stores here use.
fn choose_provider() {
    if CryptoProvider::get_default().is_none() {
        // Another thread may be faster, which is as good.
        let _ = ring::default_provider().install_default();
    }
}
