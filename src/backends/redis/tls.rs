//! The way to a server: TCP without delay, and TLS over it.

use std::io;
use std::sync::Arc;

use rustls_native_certs::load_native_certs;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::kv::{BoxError, Error, Result};

/// Whom to trust, and who we are, in PEM.
#[derive(Clone, Default)]
pub(super) struct Tls {
    pub(super) ca: Option<Vec<u8>>,
    pub(super) identity: Option<(Vec<u8>, Vec<u8>)>,
    pub(super) server_name: Option<String>,
}

/// How to get to a server, ready to be used.
#[derive(Clone)]
pub(super) struct Way {
    tls: Option<(TlsConnector, Option<ServerName<'static>>)>,
    /// What it may be when a server closes a new connection without a word.
    pub(super) hint: &'static str,
}

/// What bytes go through.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Way {
    pub(super) fn new(tls: Option<&Tls>) -> Result<Self> {
        let hint = match tls {
            None => "perhaps it wants TLS",
            Some(Tls { identity: None, .. }) => "perhaps it wants a client certificate",
            Some(_) => "perhaps it does not trust the client certificate",
        };
        let Some(tls) = tls else { return Ok(Self { tls: None, hint }) };
        let bad = |error: BoxError| Error::invalid("the TLS settings are not usable").because(error);
        let name = tls.server_name.clone().map(ServerName::try_from).transpose();
        let name = name.map_err(|error| bad(error.into()))?;
        let config = config(tls).map_err(bad)?;
        Ok(Self { tls: Some((TlsConnector::from(Arc::new(config)), name)), hint })
    }

    /// Connects to `address`, which is `host:port`.
    pub(super) async fn open(&self, address: &str) -> io::Result<Box<dyn Stream>> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let Some((connector, name)) = &self.tls else { return Ok(Box::new(tcp)) };
        let named = |host: &str| {
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            ServerName::try_from(host).map_err(io::Error::other)
        };
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let name = name.clone().map_or_else(|| named(host), Ok)?;
        Ok(Box::new(connector.connect(name, tcp).await?))
    }
}

/// The provider is named here: with none, or with two in one program, rustls would panic.
fn config(tls: &Tls) -> Result<ClientConfig, BoxError> {
    let mut roots = RootCertStore::empty();
    match &tls.ca {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                roots.add(certificate?)?;
            }
        }
        None => {
            roots.add_parsable_certificates(load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err("there is no certificate authority to trust".into());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    match &tls.identity {
        None => Ok(config.with_no_client_auth()),
        Some((certificate, key)) => {
            let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>()?;
            Ok(config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key)?)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_refused_before_anything_is_sent() {
        let nonsense = [
            Tls { ca: Some(b"no pem".to_vec()), ..Tls::default() },
            Tls { identity: Some((b"no".to_vec(), b"pem".to_vec())), ..Tls::default() },
            Tls { server_name: Some("a b".to_owned()), ..Tls::default() },
        ];
        for tls in nonsense {
            let error = Way::new(Some(&tls)).map(drop).unwrap_err();
            assert!(error.to_string().contains("TLS settings"), "{error}");
        }
    }
}
