//! The certificates of the autoscaling API: an own CA, and a serving certificate below it.
//!
//! Both lie in one folder (`ca.pem`, `ca.key`, `serving.pem`, `serving.key`, `certificates.json` with
//! what they were made for) and are made when they are missing, damaged, made for other names, or
//! near their end. `ca.pem` is what an APIService's `caBundle` must hold; it changes once in years.
//! Keys are readable by the owner only, and are never sent anywhere. Whom TLS lets in: [`Clients`].

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::clients::{Authority, Clients};

/// Seconds in a day.
const DAY: i64 = 86_400;
/// How long the CA lasts, and how long before its end a new one is made.
const CA_DAYS: (i64, i64) = (3650, 365);
/// The same for the serving certificate.
const SERVING_DAYS: (i64, i64) = (90, 30);

/// The last second of the year 9999, the last that a certificate can name.
const LAST_SECOND: i64 = 253_402_300_799;

/// Settings of the certificates.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// Folder of the certificates; made if it is not there.
    pub dir: PathBuf,
    /// Names and addresses that clients call the server by, such as `SERVICE.NAMESPACE.svc`.
    pub names: Vec<String>,
    /// Who may ask.
    pub clients: Clients,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk said no.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A certificate could not be made.
    #[error("make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// A file holds no certificates or key.
    #[error("read {}: {reason}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The TLS library refused the settings.
    #[error("set up TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

impl Error {
    pub(super) fn io(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// TLS as the server uses it; renews its certificate in place.
pub struct Tls {
    config: TlsConfig,
    now: fn() -> i64,
    current: Arc<Current>,
    server: Mutex<Admission>,
}

/// Whom the settings for connections let in.
struct Admission {
    authority: Option<Authority>,
    server: Option<Arc<ServerConfig>>,
}

/// What was made, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    version: u32,
    names: Vec<String>,
    ca_until: i64,
    serving_until: i64,
}

impl Tls {
    /// Reads the certificates of the folder and makes what is missing.
    ///
    /// # Errors
    /// When the folder cannot be written or the client CA not read.
    pub fn open(config: TlsConfig) -> Result<Self, Error> {
        Self::open_at(config, || taffrail_kit::clock::unix_millis() / 1000)
    }

    fn open_at(config: TlsConfig, now: fn() -> i64) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = prepare(&config, now(), &provider)?;
        let current = Arc::new(Current { key: RwLock::new(Arc::new(key)), provider });
        let (authority, server) = match &config.clients {
            Clients::Anybody => (None, Some(server_config(None, &current)?)),
            Clients::OfCluster => (None, None),
            Clients::OfFile(path) => {
                let authority = Authority::of_file(path)?;
                let server = server_config(Some((&authority, path)), &current)?;
                (Some(authority), Some(server))
            }
        };
        let server = Mutex::new(Admission { authority, server });
        Ok(Self { config, now, current, server })
    }

    /// The CA that clients must trust, as PEM: an APIService's `caBundle` before base64.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn ca_pem(&self) -> Result<String, Error> {
        let path = self.config.dir.join("ca.pem");
        std::fs::read_to_string(&path).map_err(Error::io("read", &path))
    }

    /// Settings for accepting one connection; `None` while it is not known who may ask.
    #[must_use]
    pub fn server_config(&self) -> Option<Arc<ServerConfig>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).server.clone()
    }

    /// From now on lets in clients of `authority`; says whether that is news. Only for
    /// [`Clients::OfCluster`]: otherwise the settings stand.
    ///
    /// # Errors
    /// When `authority` holds no certificates; those let in before still are.
    pub fn admit(&self, authority: &Authority) -> Result<bool, Error> {
        let mut admission = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let known = admission.authority.as_ref() == Some(authority);
        if known || self.config.clients != Clients::OfCluster {
            return Ok(false);
        }
        let origin = Path::new("the cluster's CA of front proxies");
        let server = server_config(Some((authority, origin)), &self.current)?;
        *admission = Admission { authority: Some(authority.clone()), server: Some(server) };
        Ok(true)
    }

    /// Makes new certificates when those at hand are near their end; new connections get them. To be
    /// called every hour or so.
    ///
    /// # Errors
    /// As [`Tls::open`]; the old certificate stays in use.
    pub fn renew(&self) -> Result<(), Error> {
        let key = prepare(&self.config, (self.now)(), &self.current.provider)?;
        *self.current.key.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
        Ok(())
    }
}

/// The certificate in use.
#[derive(Debug)]
struct Current {
    key: RwLock<Arc<CertifiedKey>>,
    provider: Arc<CryptoProvider>,
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Settings that let in everybody, or the clients of an authority that comes from somewhere.
fn server_config(
    clients: Option<(&Authority, &Path)>,
    current: &Arc<Current>,
) -> Result<Arc<ServerConfig>, Error> {
    let builder = ServerConfig::builder_with_provider(current.provider.clone())
        .with_safe_default_protocol_versions()?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some((authority, origin)) => {
            builder.with_client_cert_verifier(authority.verifier(origin, &current.provider)?)
        }
    };
    let mut server = builder.with_cert_resolver(current.clone());
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(server))
}

/// Makes what is missing, then reads the serving certificate and its key.
fn prepare(config: &TlsConfig, now: i64, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
    let folder = &config.dir;
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let record = read_record(folder);
    let ca_key = record.as_ref().filter(|r| r.ca_until - CA_DAYS.1 * DAY > now).and_then(|_| {
        let text = std::fs::read_to_string(folder.join("ca.key")).ok()?;
        folder.join("ca.pem").exists().then(|| KeyPair::from_pem(&text).ok())?
    });
    let fresh = record
        .as_ref()
        .is_some_and(|r| r.names == config.names && r.serving_until - SERVING_DAYS.1 * DAY > now);
    if let (Some(_), true) = (&ca_key, fresh) {
        match load(folder, provider) {
            Ok(key) => return Ok(key),
            Err(error) => warn!(%error, "serving certificate is unusable, making a new one"),
        }
    }
    make(config, now, ca_key, record)?;
    load(folder, provider)
}

/// Makes a serving certificate, and a CA first when there is no key of one.
fn make(
    config: &TlsConfig,
    now: i64,
    ca_key: Option<KeyPair>,
    record: Option<Record>,
) -> Result<(), Error> {
    let folder = &config.dir;
    let mut record = record.unwrap_or_default();
    // The name and the key make the CA: the same two sign on for the certificate on disk.
    let ca_key = match ca_key {
        Some(key) => key,
        None => {
            let key = KeyPair::generate()?;
            record.ca_until = now + CA_DAYS.0 * DAY;
            let certificate = ca_params(now, record.ca_until)?.self_signed(&key)?;
            write(folder, "ca.key", &key.serialize_pem())?;
            write(folder, "ca.pem", &certificate.pem())?;
            info!(folder = %folder.display(), "made a new CA for the autoscaling API");
            key
        }
    };
    let key = KeyPair::generate()?;
    let until = now + SERVING_DAYS.0 * DAY;
    let mut params = CertificateParams::new(config.names.clone())?;
    params.distinguished_name = named("taffrail-collector");
    validity(&mut params, now, until);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let issuer = Issuer::new(ca_params(now, record.ca_until)?, ca_key);
    let certificate = params.signed_by(&key, &issuer)?;
    write(folder, "serving.key", &key.serialize_pem())?;
    write(folder, "serving.pem", &certificate.pem())?;
    let record = Record { version: 1, names: config.names.clone(), serving_until: until, ..record };
    let text = serde_json::to_string(&record).unwrap_or_default();
    // Last: without it the certificates are made again.
    write(folder, "certificates.json", &text)?;
    info!(names = ?config.names, "made a new serving certificate for the autoscaling API");
    Ok(())
}

fn ca_params(now: i64, until: i64) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = named("taffrail autoscaling CA");
    validity(&mut params, now, until);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// Valid from an hour ago (clocks differ) to `until`, in seconds since the epoch.
fn validity(params: &mut CertificateParams, now: i64, until: i64) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since = |seconds: i64| Duration::from_secs(seconds.clamp(0, LAST_SECOND) as u64);
    (params.not_before, params.not_after) = (epoch + since(now - 3600), epoch + since(until));
}

fn read_record(folder: &Path) -> Option<Record> {
    let text = std::fs::read_to_string(folder.join("certificates.json")).ok()?;
    serde_json::from_str(&text).ok().filter(|record: &Record| record.version == 1)
}

fn load(folder: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
    let (chain_path, key_path) = (folder.join("serving.pem"), folder.join("serving.key"));
    let bytes = std::fs::read(&chain_path).map_err(Error::io("read", &chain_path))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(|e| Error::Pem { path: chain_path, reason: e.to_string() })?;
    let bytes = std::fs::read(&key_path).map_err(Error::io("read", &key_path))?;
    let key = PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|e| Error::Pem { path: key_path, reason: e.to_string() })?;
    Ok(CertifiedKey::from_der(chain, key, provider)?)
}

/// Replaces a file as a whole, readable by the owner only.
fn write(folder: &Path, name: &str, text: &str) -> Result<(), Error> {
    let (path, temporary) = (folder.join(name), folder.join(format!("{name}.tmp")));
    let step = |path: &Path| Error::io("write", path);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&temporary).map_err(step(&temporary))?;
    file.write_all(text.as_bytes()).map_err(step(&temporary))?;
    file.sync_all().map_err(step(&temporary))?;
    std::fs::rename(&temporary, &path).map_err(step(&path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn config(folder: &Path) -> TlsConfig {
        let names = vec!["metrics.taffrail.svc".to_owned(), "127.0.0.1".to_owned()];
        TlsConfig { dir: folder.to_owned(), names, clients: Clients::Anybody }
    }

    fn files(folder: &Path) -> (String, String) {
        let read = |name| std::fs::read_to_string(folder.join(name)).unwrap();
        (read("ca.pem"), read("serving.pem"))
    }

    #[test]
    fn certificates_are_kept_until_their_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let open = |now: fn() -> i64| Tls::open_at(config(path), now).unwrap();
        let tls = open(|| NOW);
        let first = files(path);
        assert_eq!(tls.ca_pem().unwrap(), first.0);
        open(|| NOW + 59 * DAY);
        assert_eq!(files(path), first, "not yet due");
        open(|| NOW + 61 * DAY);
        let second = files(path);
        assert_eq!(second.0, first.0, "the CA stays");
        assert_ne!(second.1, first.1, "the serving certificate is due");
        open(|| NOW + 3300 * DAY);
        assert_ne!(files(path).0, first.0, "the CA is due");
    }

    #[test]
    fn damaged_files_and_other_names_make_new_certificates() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        Tls::open_at(config(path), || NOW).unwrap();
        let first = files(path);
        std::fs::write(path.join("serving.key"), "no key").unwrap();
        Tls::open_at(config(path), || NOW).unwrap();
        let second = files(path);
        assert_eq!(second.0, first.0);
        assert_ne!(second.1, first.1);
        let other = TlsConfig { names: vec!["other.svc".into()], ..config(path) };
        Tls::open_at(other, || NOW).unwrap();
        assert_ne!(files(path).1, second.1);
        std::fs::write(path.join("ca.key"), "no key").unwrap();
        Tls::open_at(config(path), || NOW).unwrap();
        assert_ne!(files(path).0, first.0);
    }

    #[test]
    fn keys_are_for_the_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        Tls::open_at(config(folder.path()), || NOW).unwrap();
        for name in ["ca.key", "serving.key"] {
            let mode = std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn a_client_ca_must_hold_certificates() {
        let folder = tempfile::tempdir().unwrap();
        let client_ca = folder.path().join("clients.pem");
        std::fs::write(&client_ca, "nothing").unwrap();
        let config = TlsConfig { clients: Clients::OfFile(client_ca), ..config(folder.path()) };
        let error = Tls::open_at(config, || NOW).err().expect("refused").to_string();
        assert!(error.contains("holds no certificate"), "{error}");
    }

    #[test]
    fn nobody_is_let_in_before_the_cluster_says_whom() {
        let folder = tempfile::tempdir().unwrap();
        let config = TlsConfig { clients: Clients::OfCluster, ..config(folder.path()) };
        let tls = Tls::open_at(config, || NOW).unwrap();
        assert!(tls.server_config().is_none());
        let nothing = Authority { pem: "no certificate".into(), names: Vec::new() };
        tls.admit(&nothing).unwrap_err();
        assert!(tls.server_config().is_none());
        let authority = Authority { pem: tls.ca_pem().unwrap(), names: Vec::new() };
        assert!(tls.admit(&authority).unwrap());
        assert!(!tls.admit(&authority).unwrap(), "no news");
        assert!(tls.server_config().is_some());
        tls.admit(&nothing).unwrap_err();
        assert!(tls.server_config().is_some(), "what was let in stays");
    }

    #[test]
    fn a_cluster_does_not_overrule_the_settings() {
        let folder = tempfile::tempdir().unwrap();
        let tls = Tls::open_at(config(folder.path()), || NOW).unwrap();
        let authority = Authority { pem: tls.ca_pem().unwrap(), names: Vec::new() };
        assert!(!tls.admit(&authority).unwrap());
    }
}
