//! Certificates: from PEM files to what rustls serves with, and connects with ([`trust`]). Shared by `check`, which says what is wrong
//! with the files, and by those who use them.

mod names;
pub mod trust;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};

use crate::tls::names::{ByName, Named};

/// Makes the one provider of cryptography the process' own, for those who ask rustls for it: the links to Redis and to services by https.
pub fn install_provider() {
    // One may be installed already; it is the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// `tls:` of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The first is for clients that name no host, or one that no certificate has.
    pub certificates: Vec<CertificateFiles>,
    /// The oldest version that is spoken.
    pub min_version: MinVersion,
    /// Who may sign the certificates that clients have to show; without it none is asked for.
    pub client_ca: Option<PathBuf>,
}

/// A certificate with its chain, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM, the server's own certificate first.
    pub certificate: PathBuf,
    /// PEM: PKCS #8, PKCS #1 or SEC1.
    pub key: PathBuf,
}

/// The oldest TLS version that is spoken. Older ones than 1.2 are not (RFC 8996).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2
    Tls12,
    /// TLS 1.3
    Tls13,
}

/// What is offered by ALPN, the first first.
pub type Protocols = &'static [&'static [u8]];

/// What a listener serves with.
#[derive(Debug)]
pub struct Identity {
    /// rustls' own.
    pub server: Arc<ServerConfig>,
    /// One for each of [`TlsSettings::certificates`].
    pub validities: Vec<Validity>,
}

/// When a certificate is valid, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub from: i64,
    /// The last one.
    pub until: i64,
}

/// What keeps files from being served with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsProblem {
    /// The file, as the setting that names it.
    pub culprit: Culprit,
    /// What is wrong with it, in one sentence without its full stop.
    pub message: String,
}

/// Which setting names a file that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Culprit {
    /// The certificate of the one of [`TlsSettings::certificates`] with this number.
    Certificate(usize),
    /// Its key.
    Key(usize),
    /// [`TlsSettings::client_ca`].
    ClientCa,
}

impl TlsSettings {
    /// Every file that is read.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let pairs = self.certificates.iter().flat_map(|files| [&files.certificate, &files.key]);
        pairs.chain(&self.client_ca).map(PathBuf::as_path)
    }

    /// Reads all files, or says everything that is wrong with them.
    pub fn load(&self, protocols: Protocols) -> Result<Identity, Vec<TlsProblem>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (mut problems, mut named, mut validities) = (Vec::new(), Vec::new(), Vec::new());
        for (at, files) in self.certificates.iter().enumerate() {
            match certified(at, files, &provider) {
                Ok((certificate, validity)) => {
                    named.push(certificate);
                    validities.push(validity);
                }
                Err(problem) => problems.push(problem),
            }
        }
        let verifier = match &self.client_ca {
            Some(path) => {
                client_verifier(path, &provider).map_err(|problem| problems.push(problem)).unwrap_or_default()
            }
            None => None,
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        let server = self.server(named, verifier, provider, protocols)?;
        Ok(Identity { server: Arc::new(server), validities })
    }

    fn server(
        &self,
        named: Vec<Named>,
        verifier: Option<Arc<dyn ClientCertVerifier>>,
        provider: Arc<CryptoProvider>,
        protocols: Protocols,
    ) -> Result<ServerConfig, Vec<TlsProblem>> {
        let versions = ServerConfig::builder_with_provider(provider).with_protocol_versions(&self.min_version.spoken());
        // It fails for versions without a cipher suite, and the provider has them for both.
        let builder = versions.map_err(|error| vec![problem(Culprit::Certificate(0), error.to_string())])?;
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut server = builder.with_cert_resolver(Arc::new(ByName::new(named)));
        server.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(server)
    }
}

impl MinVersion {
    fn spoken(self) -> Vec<&'static SupportedProtocolVersion> {
        match self {
            Self::Tls12 => vec![&version::TLS12, &version::TLS13],
            Self::Tls13 => vec![&version::TLS13],
        }
    }
}

fn problem(culprit: Culprit, message: String) -> TlsProblem {
    TlsProblem { culprit, message }
}

fn certified(at: usize, files: &CertificateFiles, provider: &CryptoProvider) -> Result<(Named, Validity), TlsProblem> {
    let CertificateFiles { certificate, key } = files;
    let chain = certificates(certificate).map_err(|message| problem(Culprit::Certificate(at), message))?;
    let of_key = |message| problem(Culprit::Key(at), message);
    let text = std::fs::read(key).map_err(|error| of_key(unreadable(key, &error)))?;
    let secret = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| of_key(format!("{} holds no private key in PEM", key.display())))?;
    let (names, validity) = chain.first().and_then(|first| names::read(first)).ok_or_else(|| {
        problem(Culprit::Certificate(at), format!("{} is no X.509 certificate", certificate.display()))
    })?;
    let certified = CertifiedKey::from_der(chain, secret, provider).map_err(|error| {
        of_key(match error {
            rustls::Error::InconsistentKeys(_) => {
                format!("the key {} is not the one of {}", key.display(), certificate.display())
            }
            _ => format!("the key {} cannot be used", key.display()),
        })
    })?;
    Ok((Named { names, certified: Arc::new(certified) }, validity))
}

/// Asks clients for a certificate that one of the file's authorities has signed.
fn client_verifier(
    path: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsProblem> {
    let of_ca = |message| problem(Culprit::ClientCa, message);
    let mut roots = RootCertStore::empty();
    for authority in certificates(path).map_err(of_ca)? {
        roots.add(authority).map_err(|_| of_ca(format!("{} is no X.509 certificate", path.display())))?;
    }
    let built = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    built.map(|verifier| Some(verifier as _)).map_err(|error| of_ca(error.to_string()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(format!("{} holds no certificate in PEM", path.display())),
    }
}

/// Why a file that gateway.yaml names is of no use.
pub fn unreadable(path: &Path, error: &std::io::Error) -> String {
    let path = path.display();
    match error.kind() {
        std::io::ErrorKind::NotFound => format!("there is no file {path}"),
        std::io::ErrorKind::PermissionDenied => format!("the file {path} may not be read by this user"),
        kind => format!("the file {path} cannot be read: {kind}"),
    }
}
