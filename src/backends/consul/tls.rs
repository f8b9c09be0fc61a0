//! Whom we trust, and who we are: the settings of TLS.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

use crate::kv::{BoxError, Error, Result};

/// What TLS is to be like.
#[derive(Clone, Default)]
pub(super) struct Trust {
    pub(super) ca: Option<Vec<u8>>,
    pub(super) identity: Option<(Vec<u8>, Vec<u8>)>,
    pub(super) server_name: Option<String>,
}

impl Trust {
    /// The settings, ready to be used. Refuses what can never be.
    pub(super) fn config(&self) -> Result<ClientConfig> {
        self.build().map_err(|error| Error::invalid(format!("the TLS settings are not usable: {error}")))
    }

    fn build(&self) -> Result<ClientConfig, BoxError> {
        let config = builder()?.with_root_certificates(self.roots()?);
        let Some((certificate, key)) = &self.identity else { return Ok(config.with_no_client_auth()) };
        let chain = certificates(certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("the client key: {error}"))?;
        Ok(config.with_client_auth_cert(chain, key)?)
    }

    fn roots(&self) -> Result<RootCertStore, BoxError> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(pem) => {
                for certificate in certificates(pem)? {
                    roots.add(certificate)?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        Ok(roots)
    }
}

/// The settings where there is no TLS: nobody is trusted.
pub(super) fn none() -> Result<ClientConfig> {
    let config = builder().map_err(|error| Error::invalid("TLS is not usable").because(error))?;
    Ok(config.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, BoxError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, BoxError> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| format!("a certificate: {error}"))?;
    if found.is_empty() { Err("there is no certificate in the PEM text".into()) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused() {
        for trust in [
            Trust { ca: Some(b"nonsense".to_vec()), ..Trust::default() },
            Trust { identity: Some((b"no".to_vec(), b"pem".to_vec())), ..Trust::default() },
        ] {
            let error = trust.config().unwrap_err().to_string();
            assert!(error.contains("no certificate"), "{error}");
        }
    }
}
