//! TLS: what to trust and what to show, and by whose cryptography.

use rustls::crypto::{CryptoProvider, ring};
use zookeeper_client::TlsOptions;

use crate::kv::{Error, Result};

/// What the client takes; refuses what is no PEM text.
pub(super) fn options(ca: &str, identity: Option<&(String, String)>) -> Result<TlsOptions> {
    let unusable = |what: &str, error: zookeeper_client::Error| {
        Error::invalid(format!("the {what} is not usable")).because(error)
    };
    let options =
        TlsOptions::new().with_pem_ca(ca).map_err(|error| unusable("certificate authority", error))?;
    match identity {
        Some((certificate, key)) => {
            options.with_pem_identity(certificate, key).map_err(|error| unusable("client certificate", error))
        }
        None => Ok(options),
    }
}

/// The client takes the provider that the process has chosen, and panics where none is and several are built in. Where
/// the program has made no choice it is ring, which all stores here use.
pub(super) fn choose_provider() -> Result<()> {
    if CryptoProvider::get_default().is_none() {
        // Another thread may be faster, which is as good.
        let _ = ring::default_provider().install_default();
    }
    match CryptoProvider::get_default() {
        Some(_) => Ok(()),
        None => Err(Error::invalid("no cryptography could be chosen for TLS")),
    }
}
