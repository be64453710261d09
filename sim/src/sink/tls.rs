//! Certificates of the sink: from an authority that the agent is told to trust, or from nowhere.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A certificate authority with one server, and a second certificate that nobody vouches for.
#[derive(Debug)]
pub struct Authority {
    pem: String,
    known: Arc<ServerConfig>,
    unknown: Arc<ServerConfig>,
    strange: AtomicBool,
}

impl Authority {
    /// An authority that vouches for `name`.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(name: &str) -> io::Result<Self> {
        let (pem, known) = pair(name).map_err(io::Error::other)?;
        let (_, unknown) = pair(name).map_err(io::Error::other)?;
        Ok(Self { pem, known, unknown, strange: AtomicBool::new(false) })
    }

    /// Writes the authority's certificate, for clients to trust.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, &self.pem)
    }

    pub(super) fn server(&self) -> Arc<ServerConfig> {
        let strange = self.strange.load(Ordering::Relaxed);
        if strange { self.unknown.clone() } else { self.known.clone() }
    }

    pub(super) fn set_strange(&self, strange: bool) {
        self.strange.store(strange, Ordering::Relaxed);
    }
}

fn pair(
    name: &str,
) -> Result<(String, Arc<ServerConfig>), Box<dyn std::error::Error + Send + Sync>> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate()?;
    let authority = params.self_signed(&key)?;
    let issuer = Issuer::from_params(&params, &key);
    let server_key = KeyPair::generate()?;
    let server = CertificateParams::new([name.to_owned()])?.signed_by(&server_key, &issuer)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![server.der().clone()], private)?;
    Ok((authority.pem(), Arc::new(config)))
}
