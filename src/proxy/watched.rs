//! A connection of which every octet of a chunked body is looked at before pingora reads it: its reader is laxer than
//! [`chunks`](crate::policy::chunks).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::policy::chunks::{Broken, Chunks};

/// The connection. A read that breaks the framing fails as invalid data.
#[derive(Debug)]
pub(super) struct Watched {
    inner: Stream,
    watch: Watch,
}

/// What is watched of a connection: the chunked body that is coming, if one is.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch(Arc<Mutex<Option<Chunks>>>);

impl Watch {
    /// A chunked body begins, with `octets` that were read already.
    pub(super) fn begin(&self, octets: &[u8]) -> Result<(), Broken> {
        *self.0.lock() = Some(Chunks::default());
        self.read(octets)
    }

    /// The request is over, and with it whatever came of its body.
    pub(super) fn end(&self) {
        *self.0.lock() = None;
    }

    fn read(&self, octets: &[u8]) -> Result<(), Broken> {
        let mut coming = self.0.lock();
        let Some(chunks) = coming.as_mut() else { return Ok(()) };
        let read = chunks.read(octets);
        if read.is_err() || chunks.is_over() {
            *coming = None;
        }
        read
    }
}

impl Watched {
    /// The same connection, and its watch.
    pub(super) fn over(inner: Stream) -> (Stream, Watch) {
        let watch = Watch::default();
        (Box::new(Self { inner, watch: watch.clone() }), watch)
    }
}

/// Whether a read failed because of what was read, not because the client is gone.
pub(super) fn is_broken(error: &pingora::Error) -> bool {
    error.root_cause().downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::InvalidData)
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        let came = buffer.filled().get(before..).unwrap_or_default();
        Poll::Ready(self.watch.read(came).map_err(|Broken| io::Error::from(io::ErrorKind::InvalidData)))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for Watched {
    async fn shutdown(&mut self) {
        Shutdown::shutdown(&mut *self.inner).await;
    }
}

#[async_trait]
impl Peek for Watched {
    async fn try_peek(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        self.inner.try_peek(buffer).await
    }
}

impl UniqueID for Watched {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl Ssl for Watched {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.selected_alpn_proto()
    }
}

impl GetTimingDigest for Watched {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }
}

impl GetProxyDigest for Watched {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner.get_proxy_digest()
    }
}

impl GetSocketDigest for Watched {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }
}
