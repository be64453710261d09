//! Who may ask the autoscaling API: everybody, or those with a certificate of certain CAs and, where
//! names are given, with one of these as its common name.
//!
//! Until the cluster has said who may ask ([`Clients::OfCluster`]), nobody may.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore};
use rustls::{Error as TlsError, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::tls::Error;

/// Who may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Everybody who reaches the port.
    Anybody,
    /// Those with a certificate of one of the CAs in a PEM file.
    OfFile(PathBuf),
    /// Those that the cluster names: nobody until `Tls::admit` was called.
    OfCluster,
}

/// CAs, and the names that their certificates must have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authority {
    /// Certificates of the CAs, in PEM.
    pub pem: String,
    /// The common names that are let in; when there are none, any.
    pub names: Vec<String>,
}

impl Authority {
    /// The CAs of a file, with any name.
    pub(super) fn of_file(path: &Path) -> Result<Self, Error> {
        let pem = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        Ok(Self { pem, names: Vec::new() })
    }

    /// What checks clients. `origin` is where the CAs come from, for the error.
    pub(super) fn verifier(
        &self,
        origin: &Path,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        let bad = |reason: String| Error::Pem { path: origin.to_owned(), reason };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.pem.as_bytes()) {
            let certificate = certificate.map_err(|e| bad(e.to_string()))?;
            roots.add(certificate).map_err(|e| bad(e.to_string()))?;
        }
        if roots.is_empty() {
            return Err(bad("it holds no certificate".to_owned()));
        }
        let issued = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .build()
            .map_err(|e| bad(e.to_string()))?;
        if self.names.is_empty() {
            return Ok(issued);
        }
        Ok(Arc::new(Named { issued, names: self.names.clone() }))
    }
}

/// Lets in whom `issued` lets in, if its name is one of `names`.
#[derive(Debug)]
struct Named {
    issued: Arc<dyn ClientCertVerifier>,
    names: Vec<String>,
}

impl ClientCertVerifier for Named {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.issued.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        let verified = self.issued.verify_client_cert(certificate, between, now)?;
        match common_name(certificate) {
            Some(name) if self.names.contains(&name) => Ok(verified),
            _ => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.issued.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.issued.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.issued.supported_verify_schemes()
    }
}

/// The common name of a certificate; `None` also when it has several, which would be ambiguous.
fn common_name(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let mut names = certificate.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?.to_owned();
    names.next().is_none().then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DistinguishedName as Subject, DnType, KeyPair};

    fn certificate(subject: &[(DnType, &str)]) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["front-proxy-client".to_owned()]).unwrap();
        params.distinguished_name = Subject::new();
        for (kind, text) in subject {
            params.distinguished_name.push(kind.clone(), *text);
        }
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_name_is_the_common_name_alone() {
        let named = certificate(&[(DnType::OrganizationName, "o"), (DnType::CommonName, "n")]);
        assert_eq!(common_name(&named).as_deref(), Some("n"));
        let nameless = certificate(&[(DnType::OrganizationName, "front-proxy-client")]);
        assert_eq!(common_name(&nameless), None);
    }

    #[test]
    fn an_authority_must_hold_certificates() {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (pem, expected) in [("", "no certificate"), ("text", "no certificate"), (broken, "c: ")]
        {
            let authority = Authority { pem: pem.to_owned(), names: Vec::new() };
            let error = authority.verifier(Path::new("c"), &provider).expect_err(pem).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..64), at in 0usize..600) {
            common_name(&bytes);
            let mut whole = certificate(&[(DnType::CommonName, "n")]);
            let at = at % whole.len();
            bytes.truncate(whole.len() - at);
            whole[at..at + bytes.len()].copy_from_slice(&bytes);
            common_name(&whole);
        }
    }
}
