//! Connections to servers: TCP or a Unix socket, encrypted or not.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::policy::upstream::{ServerAddress, ServerTls};
use crate::proxy::exchange::ConnectFailure;
use crate::tls::trust::{TrustFiles, server_name};
use crate::tls::{CertificateFiles, Protocols};

/// Where a server can be reached now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// By TCP.
    Tcp(SocketAddr),
    /// On this machine.
    Unix(PathBuf),
}

/// How connections to a server are encrypted.
#[derive(Clone, Debug)]
pub(super) enum Encryption {
    /// They are not.
    None,
    /// They are, and the server has to prove that it has this name.
    Tls(Arc<ClientConfig>, ServerName<'static>),
    /// They should be, and cannot: no connection is made.
    Impossible,
}

impl Encryption {
    /// That of the connections to `address`.
    pub(super) fn new(tls: Option<&ServerTls>, address: &ServerAddress, protocols: Protocols) -> Self {
        let Some(tls) = tls else { return Self::None };
        let identity = tls.identity.clone().map(|(certificate, key)| CertificateFiles { certificate, key });
        let config = TrustFiles { ca: tls.ca.clone(), identity }.load(protocols);
        let name = tls.server_name.as_deref().or(address.host()).and_then(server_name);
        match (config, name) {
            (Ok(config), Some(name)) => Self::Tls(config, name),
            (Err(problem), _) => {
                tracing::error!(server = %address, "no connection can be encrypted: {}", problem.message);
                Self::Impossible
            }
            (Ok(_), None) => Self::Impossible,
        }
    }
}

/// A connection that is not encrypted.
#[derive(Debug)]
pub(super) enum Plain {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connection.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(Plain),
    Encrypted(Box<TlsStream<Plain>>),
}

impl Transport {
    /// Connects, the handshake included, `within` some time.
    pub(super) async fn connect(
        endpoint: &Endpoint,
        encryption: &Encryption,
        within: Duration,
    ) -> Result<Self, ConnectFailure> {
        let connecting = async {
            let plain = match endpoint {
                Endpoint::Tcp(address) => {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    Plain::Tcp(stream)
                }
                Endpoint::Unix(path) => Plain::Unix(UnixStream::connect(path).await?),
            };
            Ok::<_, io::Error>(match encryption {
                Encryption::None => Self::Plain(plain),
                Encryption::Impossible => return Err(io::Error::other(rustls::Error::General("no trust".to_owned()))),
                Encryption::Tls(config, name) => {
                    let connector = TlsConnector::from(Arc::clone(config));
                    Self::Encrypted(Box::new(connector.connect(name.clone(), plain).await?))
                }
            })
        };
        match timeout(within, connecting).await {
            Ok(Ok(transport)) => Ok(transport),
            Ok(Err(error)) => {
                tracing::debug!("no connection to a server: {error}");
                Err(if is_untrusted(&error) { ConnectFailure::Untrusted } else { ConnectFailure::Refused })
            }
            Err(_) => Err(ConnectFailure::Late),
        }
    }

    /// Whether both sides agreed on HTTP/2 in the handshake.
    pub(super) fn speaks_http2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Encrypted(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// Whether nothing came on a connection that is not in use: neither its end nor what nobody asked for.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut octet = [0; 1];
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(self).poll_read(&mut context, &mut ReadBuf::new(&mut octet)).is_pending()
    }
}

/// Whether a handshake failed, not the connection under it.
fn is_untrusted(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

/// Forwards to whichever of its kinds a connection is.
macro_rules! delegate {
    ($connection:ty, $first:path, $second:path) => {
        impl AsyncRead for $connection {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                into: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $first(stream) => Pin::new(stream).poll_read(context, into),
                    $second(stream) => Pin::new(stream).poll_read(context, into),
                }
            }
        }

        impl AsyncWrite for $connection {
            fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    $first(stream) => Pin::new(stream).poll_write(context, octets),
                    $second(stream) => Pin::new(stream).poll_write(context, octets),
                }
            }

            fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $first(stream) => Pin::new(stream).poll_flush(context),
                    $second(stream) => Pin::new(stream).poll_flush(context),
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $first(stream) => Pin::new(stream).poll_shutdown(context),
                    $second(stream) => Pin::new(stream).poll_shutdown(context),
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                slices: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    $first(stream) => Pin::new(stream).poll_write_vectored(context, slices),
                    $second(stream) => Pin::new(stream).poll_write_vectored(context, slices),
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    $first(stream) => stream.is_write_vectored(),
                    $second(stream) => stream.is_write_vectored(),
                }
            }
        }
    };
}

delegate!(Plain, Plain::Tcp, Plain::Unix);
delegate!(Transport, Transport::Plain, Transport::Encrypted);
