//! Connections of ours to servers: whom we believe, and who we say that we are. A server is always verified.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest as _, Sha256};

use crate::tls::{CertificateFiles, Protocols, certificates, unreadable};

/// The files that decide about trust.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustFiles {
    /// Whom to believe; the machine's own roots if it is not said.
    pub ca: Option<PathBuf>,
    /// Who we are, where a server asks.
    pub identity: Option<CertificateFiles>,
}

/// Which of the files is wrong, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustProblem {
    /// The setting that names it.
    pub key: &'static str,
    /// What is wrong with it, in one sentence without its full stop.
    pub message: String,
}

impl TrustFiles {
    /// What rustls connects with, offering `protocols` by ALPN; or what is wrong with the files.
    pub fn load(&self, protocols: Protocols) -> Result<Arc<ClientConfig>, TrustProblem> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        // It fails for versions without a cipher suite, and the provider has them.
        let builder = versions.map_err(|error| problem("ca", error.to_string()))?.with_root_certificates(self.roots()?);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(CertificateFiles { certificate, key }) => {
                let chain = certificates(certificate).map_err(|message| problem("certificate", message))?;
                let text = std::fs::read(key).map_err(|error| problem("key", unreadable(key, &error)))?;
                let secret = PrivateKeyDer::from_pem_slice(&text)
                    .map_err(|_| problem("key", format!("{} holds no private key in PEM", key.display())))?;
                builder.with_client_auth_cert(chain, secret).map_err(|_| {
                    problem("key", format!("the key {} is not the one of {}", key.display(), certificate.display()))
                })?
            }
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, TrustProblem> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(path) => {
                for authority in certificates(path).map_err(|message| problem("ca", message))? {
                    let added = roots.add(authority);
                    added.map_err(|_| problem("ca", format!("{} is no X.509 certificate", path.display())))?;
                }
            }
            // Single certificates of the machine that cannot be read leave the others.
            None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        }
        match roots.is_empty() {
            true => {
                Err(problem("tls", "this machine trusts nobody: no certificate authorities are installed".to_owned()))
            }
            false => Ok(roots),
        }
    }

    /// What tells one state of the files from another: a changed one is another trust.
    pub fn fingerprint(&self) -> [u8; 32] {
        let identity = self.identity.iter().flat_map(|files| [&files.certificate, &files.key]);
        let mut all = Sha256::new();
        for path in self.ca.iter().chain(identity) {
            // One that cannot be read is a problem that is told already.
            all.update(Sha256::digest(std::fs::read(path).unwrap_or_default()));
        }
        all.finalize().into()
    }
}

/// The name or address that a server has to have in its certificate; `None` for what can be neither.
pub fn server_name(text: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(text.to_owned()).ok()
}

fn problem(key: &'static str, message: String) -> TrustProblem {
    TrustProblem { key, message }
}
