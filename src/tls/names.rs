//! Which certificate a client is shown: the one for the host it names (SNI, RFC 6066 section 3).

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;

use crate::tls::Validity;

/// A certificate and the names it is for.
#[derive(Debug)]
pub(super) struct Named {
    /// In lower case; `*.example.com` is for one more label.
    pub names: Vec<String>,
    pub certified: Arc<CertifiedKey>,
}

/// All certificates of a listener.
#[derive(Debug)]
pub(super) struct ByName {
    certificates: Vec<Named>,
}

impl ByName {
    pub(super) fn new(certificates: Vec<Named>) -> Self {
        Self { certificates }
    }

    /// The one that has the name itself, else the one with a wildcard for it, else the first: a client that is shown a certificate
    /// of another name at least learns what is wrong.
    fn choose(&self, host: Option<&str>) -> Option<&Named> {
        let host = host.unwrap_or_default().to_ascii_lowercase();
        let wildcard = host.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        let with = |name: &String| self.certificates.iter().find(|certificate| certificate.names.contains(name));
        with(&host).or_else(|| wildcard.as_ref().and_then(with)).or_else(|| self.certificates.first())
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name()).map(|certificate| Arc::clone(&certificate.certified))
    }
}

/// The names a certificate is for, and when it is valid; `None` when it cannot be read.
pub(super) fn read(certificate: &CertificateDer<'_>) -> Option<(Vec<String>, Validity)> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let alternatives = certificate.subject_alternative_name().ok()?;
    let names = alternatives.iter().flat_map(|extension| &extension.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    let validity = certificate.validity();
    let validity = Validity { from: validity.not_before.timestamp(), until: validity.not_after.timestamp() };
    Some((names.collect(), validity))
}
