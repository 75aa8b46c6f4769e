//! `listeners:`: addresses, and the files of their certificates, which are read here so that `check` says what is wrong with them.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::compile::Compiler;
use crate::config::document::{Http2Document, ListenerDocument, MinVersionDocument, TlsDocument};
use crate::config::settings::ListenerSettings;
use crate::tls::{CertificateFiles, Culprit, MinVersion, TlsSettings, Validity};

impl Compiler<'_> {
    pub(super) fn listeners(&mut self, documents: &[ListenerDocument]) -> Vec<ListenerSettings> {
        let mut listeners: Vec<ListenerSettings> = Vec::new();
        for (at, document) in documents.iter().enumerate() {
            let at = at.to_string();
            let path = ["listeners", at.as_str(), "address"];
            let tls = document.tls.as_ref().map(|tls| self.tls(&at, tls));
            let http2 = self.http2(&at, document);
            let Some(address) = self.address(&path, &document.address) else { continue };
            if let Some(other) = listeners.iter().find(|listener| is_taken(listener.address, address)) {
                self.error(&path, format!("{address} is taken by the listener {}", other.address)).hint =
                    Some("two listeners need two ports".into());
            }
            let proxy_protocol = document.proxy_protocol.clone();
            listeners.push(ListenerSettings { address, tls, http2, proxy_protocol });
        }
        listeners
    }

    fn http2(&mut self, listener: &str, document: &ListenerDocument) -> bool {
        if document.tls.is_some() && document.http2 == Some(Http2Document::Cleartext) {
            let path = ["listeners", listener, "http2"];
            self.error(&path, "this listener encrypts: HTTP/2 is offered in the handshake").hint =
                Some("leave `http2` out, or write `off`".into());
        }
        match document.http2 {
            Some(Http2Document::Cleartext) => true,
            Some(Http2Document::Off) => false,
            None => document.tls.is_some(),
        }
    }

    fn tls(&mut self, listener: &str, document: &TlsDocument) -> TlsSettings {
        let first = CertificateFiles { certificate: document.certificate.clone(), key: document.key.clone() };
        let more = document
            .certificates
            .iter()
            .map(|more| CertificateFiles { certificate: more.certificate.clone(), key: more.key.clone() });
        let settings = TlsSettings {
            certificates: std::iter::once(first).chain(more).collect(),
            min_version: match document.min_version {
                MinVersionDocument::Tls12 => MinVersion::Tls12,
                MinVersionDocument::Tls13 => MinVersion::Tls13,
            },
            client_ca: document.client_ca.clone(),
        };
        match settings.load(&[]) {
            Ok(identity) => self.certificate_dates(listener, &settings, &identity.validities),
            Err(problems) => {
                for problem in problems {
                    self.error(&borrowed(&place(listener, problem.culprit)), problem.message);
                }
            }
        }
        settings
    }

    /// A certificate out of its time is a warning: to serve with it is less of an outage than not to serve.
    fn certificate_dates(&mut self, listener: &str, settings: &TlsSettings, validities: &[Validity]) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        for (at, (files, validity)) in settings.certificates.iter().zip(validities).enumerate() {
            let state = match validity {
                Validity { until, .. } if *until < now => "has expired",
                Validity { from, .. } if *from > now => "is not valid yet",
                _ => continue,
            };
            let path = place(listener, Culprit::Certificate(at));
            self.warning(&borrowed(&path), format!("the certificate {} {state}", files.certificate.display())).hint =
                Some("put a valid one in its place; it is read again when the file changes".into());
        }
    }
}

/// Whether who listens on `one` keeps others from `other`. Port 0 is another one each time.
pub(super) fn is_taken(one: SocketAddr, other: SocketAddr) -> bool {
    let is_all = |address: SocketAddr| address.ip().is_unspecified();
    let is_same_place = one.is_ipv4() == other.is_ipv4() && (is_all(one) || is_all(other));
    one.port() != 0 && one.port() == other.port() && (one.ip() == other.ip() || is_same_place)
}

/// Where the file of a problem is named.
fn place(listener: &str, culprit: Culprit) -> Vec<String> {
    let (at, key) = match culprit {
        Culprit::Certificate(at) => (at, "certificate"),
        Culprit::Key(at) => (at, "key"),
        Culprit::ClientCa => (0, "client_ca"),
    };
    let mut path = vec!["listeners".to_owned(), listener.to_owned(), "tls".to_owned()];
    if let Some(further) = at.checked_sub(1) {
        path.extend(["certificates".to_owned(), further.to_string()]);
    }
    path.push(key.to_owned());
    path
}

fn borrowed(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}
