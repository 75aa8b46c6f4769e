//! A connection with its buffers: what was read and is not used yet, and what is written and not sent yet.
//!
//! Reads grow with what comes, so that an idle connection costs little and a large body few system calls. A head and a small body
//! leave together, in one.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::policy::body::Outgoing;
use crate::policy::chunks::Broken;
use crate::policy::fields::Fields;

/// The least room for a read, and the most.
const LEAST_READ: usize = 4 << 10;
const MOST_READ: usize = 64 << 10;
/// Room for the first octets of a connection that was idle.
const AT_REST: usize = 64;
/// Content up to this length is copied behind what is waiting to be sent, so that both leave in one write.
const WORTH_COPYING: usize = 8 << 10;

/// A connection, its buffers, and nothing of a protocol.
#[derive(Debug)]
pub(super) struct Channel<S> {
    stream: S,
    /// What was read and is not used yet.
    pub read: BytesMut,
    out: BytesMut,
    room: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Channel<S> {
    pub(super) fn new(stream: S) -> Self {
        Self::begun(stream, BytesMut::new())
    }

    /// A connection of which something was read already.
    pub(super) fn begun(stream: S, read: BytesMut) -> Self {
        Self { stream, read, out: BytesMut::new(), room: LEAST_READ }
    }

    /// The connection, and what was read of it and is not used.
    pub(super) fn into_parts(self) -> (S, BytesMut) {
        (self.stream, self.read)
    }

    /// The connection itself.
    pub(super) fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Reads once; 0 is the end of the connection. May be dropped and called again.
    pub(super) async fn fill(&mut self) -> io::Result<usize> {
        self.read.reserve(self.room);
        let room = self.read.capacity() - self.read.len();
        let read = self.stream.read_buf(&mut self.read).await?;
        self.room = match read {
            read if read >= room => (self.room * 4).min(MOST_READ),
            read if read < LEAST_READ => LEAST_READ,
            _ => self.room,
        };
        Ok(read)
    }

    /// The same for a connection that is likely to stay silent: its buffers are given back, and what comes first is read into a small one.
    pub(super) async fn fill_at_rest(&mut self) -> io::Result<usize> {
        if self.read.is_empty() {
            self.read = BytesMut::with_capacity(AT_REST);
            self.out = BytesMut::new();
        }
        self.stream.read_buf(&mut self.read).await
    }

    /// Whether something waits to be sent.
    pub(super) fn is_pending(&self) -> bool {
        !self.out.is_empty()
    }

    /// Puts octets behind what waits to be sent.
    pub(super) fn put(&mut self, octets: &[u8]) {
        self.out.extend_from_slice(octets);
    }

    /// Puts `name: value` for each field, and the empty line.
    pub(super) fn put_fields(&mut self, fields: &Fields) {
        for (name, value) in fields.iter() {
            self.put(name.as_str().as_bytes());
            self.put(b": ");
            self.put(value.as_bytes());
            self.put(b"\r\n");
        }
        self.put(b"\r\n");
    }

    /// Sends what waits.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        // Not by its Buf: that would be one slice in a vectored write, which costs the kernel more.
        self.stream.write_all(&self.out).await?;
        self.out.clear();
        self.stream.flush().await
    }

    /// Sends content as `body` frames it, behind what waits, and the end of the body with it when it is the last.
    ///
    /// Content that is not what the head of its message has said is not sent.
    pub(super) async fn send(&mut self, body: &mut Outgoing, bytes: Bytes, is_last: bool) -> io::Result<()> {
        let unfit = |Broken| io::Error::from(io::ErrorKind::InvalidData);
        let mut tail = BytesMut::new();
        if !bytes.is_empty() {
            body.open(bytes.len(), &mut self.out).map_err(unfit)?;
            tail.extend_from_slice(body.close());
        }
        if is_last {
            tail.extend_from_slice(body.end().map_err(unfit)?);
        }
        if bytes.len() <= WORTH_COPYING {
            self.put(&bytes);
            self.put(&tail);
        } else {
            let mut all = (&mut self.out).chain(bytes).chain(tail);
            self.stream.write_all_buf(&mut all).await?;
        }
        self.flush().await
    }
}
