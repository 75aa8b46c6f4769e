//! Certificates for the tests, and clients that speak TLS.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::client::Connection;

/// A certificate and its key, in PEM.
pub struct Certificate {
    pub certificate: String,
    pub key: String,
}

/// Somebody who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL takes a certificate for self-signed whose issuer has the same name.
        params.distinguished_name.push(DnType::CommonName, "the tests' authority");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Signs a certificate for these names, valid for years.
    pub fn sign(&self, names: &[&str]) -> Certificate {
        self.sign_until(names, 2096)
    }

    /// Signs a certificate that ends with the first second of a year.
    pub fn sign_until(&self, names: &[&str], year: i32) -> Certificate {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Certificate { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Certificate {
    /// Writes `<name>.crt` and `<name>.key`.
    pub fn write(&self, folder: &Path, name: &str) {
        std::fs::write(folder.join(format!("{name}.crt")), &self.certificate).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), &self.key).unwrap();
    }
}

/// What a server at 127.0.0.1 and its client need to know each other by: `ca.crt`, `server.crt`, `server.key`, `client.crt` and
/// `client.key` in a folder.
pub fn acquainted() -> tempfile::TempDir {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    std::fs::write(folder.path().join("ca.crt"), authority.pem()).unwrap();
    for name in ["server", "client"] {
        authority.sign(&["127.0.0.1"]).write(folder.path(), name);
    }
    folder
}

/// A client that trusts one authority.
pub struct TlsClient {
    roots: RootCertStore,
    /// What it shows of itself.
    pub shows: Option<Certificate>,
    /// What it speaks.
    pub versions: Vec<&'static SupportedProtocolVersion>,
    /// What it offers by ALPN.
    pub protocols: Vec<&'static [u8]>,
}

impl TlsClient {
    /// It shows no certificate, speaks every version and offers nothing by ALPN.
    pub fn trusting(authority: &Authority) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.0.der().clone()).unwrap();
        Self { roots, shows: None, versions: rustls::ALL_VERSIONS.to_vec(), protocols: vec![] }
    }

    /// Connects and shakes hands with `host`.
    pub async fn connect(&self, address: SocketAddr, host: &str) -> std::io::Result<TlsStream<TcpStream>> {
        self.connect_after(address, host, b"").await
    }

    /// The same, with octets before the handshake.
    pub async fn connect_after(
        &self,
        address: SocketAddr,
        host: &str,
        first: &[u8],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_root_certificates(self.roots.clone());
        let mut config = match &self.shows {
            Some(Certificate { certificate, key }) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let mut tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        tcp.write_all(first).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(host.to_owned()).unwrap(), tcp).await
    }

    /// The same, to speak HTTP/1 over.
    pub async fn open(&self, address: SocketAddr, host: &str) -> Connection {
        Connection::over(self.connect(address, host).await.expect("a handshake"))
    }
}

/// What a server encrypts with: its certificate, who has to have signed that of its clients, and what it takes by ALPN.
pub fn acceptor(shows: &Certificate, asks: Option<&Authority>, protocols: &[&[u8]]) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let builder = match asks {
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.0.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let chain = vec![CertificateDer::from_pem_slice(shows.certificate.as_bytes()).unwrap()];
    let mut config =
        builder.with_single_cert(chain, PrivateKeyDer::from_pem_slice(shows.key.as_bytes()).unwrap()).unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// The certificate that a server showed.
pub fn shown(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}
