//! Bodies of HTTP/1 messages: content taken out of its framing, and put into it.

use bytes::{Buf as _, Bytes, BytesMut};

use crate::policy::chunks::{Broken, Chunks};

/// A body that comes, as far as it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// So many octets are left of it.
    Sized(u64),
    /// It is framed in chunks.
    Chunked(Chunks),
    /// It ends with its connection.
    UntilClose,
}

/// A body that goes out, as far as it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// So many octets are to follow.
    Sized(u64),
    /// It is framed in chunks.
    Chunked,
    /// It ends with its connection.
    UntilClose,
    /// The message has none, whatever its head says: the answer to HEAD, 204, 304.
    None,
}

/// The last chunk, without trailers.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

impl Incoming {
    /// A body of so many octets, possibly none.
    pub fn sized(octets: u64) -> Self {
        Self::Sized(octets)
    }

    /// A body in chunks.
    pub fn chunked() -> Self {
        Self::Chunked(Chunks::default())
    }

    /// Whether all of it has come.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Sized(left) => *left == 0,
            Self::Chunked(chunks) => chunks.is_over(),
            Self::UntilClose => false,
        }
    }

    /// Takes all content out of what was `read`. What follows the body stays there.
    pub fn take(&mut self, read: &mut BytesMut) -> Result<Bytes, Broken> {
        match self {
            Self::Sized(left) => {
                let length = read.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left = left.saturating_sub(length as u64);
                Ok(read.split_to(length).freeze())
            }
            Self::Chunked(chunks) => unchunk(chunks, read),
            Self::UntilClose => Ok(read.split().freeze()),
        }
    }
}

/// Small chunks are joined, so that one read of them is one write of their content.
fn unchunk(chunks: &mut Chunks, read: &mut BytesMut) -> Result<Bytes, Broken> {
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    while !read.is_empty() && !chunks.is_over() {
        let piece = chunks.read(read)?;
        read.advance(piece.framing);
        let content = read.split_to(piece.content);
        if first.is_empty() {
            first = content.freeze();
        } else if !content.is_empty() {
            if joined.is_empty() {
                joined.extend_from_slice(&first);
            }
            joined.extend_from_slice(&content);
        }
    }
    Ok(if joined.is_empty() { first } else { joined.freeze() })
}

impl Outgoing {
    /// What stands before the next `octets` of content, which are not none.
    pub fn open(&mut self, octets: usize, out: &mut BytesMut) -> Result<(), Broken> {
        match self {
            Self::Sized(left) => *left = left.checked_sub(octets as u64).ok_or(Broken)?,
            Self::Chunked => out.extend_from_slice(format!("{octets:x}\r\n").as_bytes()),
            Self::UntilClose => {}
            Self::None => return Err(Broken),
        }
        Ok(())
    }

    /// What stands behind content.
    pub fn close(&self) -> &'static [u8] {
        match self {
            Self::Chunked => b"\r\n",
            _ => b"",
        }
    }

    /// What ends the body. A body that is shorter than was said has no end.
    pub fn end(&self) -> Result<&'static [u8], Broken> {
        match self {
            Self::Sized(1..) => Err(Broken),
            Self::Chunked => Ok(LAST_CHUNK),
            Self::Sized(0) | Self::UntilClose | Self::None => Ok(b""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn take(body: &mut Incoming, octets: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut read = BytesMut::from(octets);
        (body.take(&mut read).unwrap().to_vec(), read.to_vec())
    }

    #[test]
    fn a_body_ends_where_it_says_and_the_rest_is_left() {
        let mut sized = Incoming::sized(5);
        assert_eq!(take(&mut sized, b"hel"), (b"hel".to_vec(), vec![]));
        assert!(!sized.is_over());
        assert_eq!(take(&mut sized, b"loGET"), (b"lo".to_vec(), b"GET".to_vec()));
        assert!(sized.is_over());
        let mut chunked = Incoming::chunked();
        assert_eq!(take(&mut chunked, b"1\r\na\r\n1\r\nb\r\n0\r\n\r\nGET"), (b"ab".to_vec(), b"GET".to_vec()));
        assert!(chunked.is_over());
        let mut open = Incoming::UntilClose;
        assert_eq!(take(&mut open, b"abc"), (b"abc".to_vec(), vec![]));
        assert!(!open.is_over());
    }

    #[test]
    fn more_or_less_than_was_said_is_not_sent() {
        let mut out = BytesMut::new();
        let mut sized = Outgoing::Sized(3);
        assert_eq!(sized.open(2, &mut out), Ok(()));
        assert_eq!(sized.end(), Err(Broken));
        assert_eq!(sized.open(2, &mut out), Err(Broken));
        assert_eq!(Outgoing::None.open(1, &mut out), Err(Broken));
        assert_eq!((out.len(), Outgoing::None.end()), (0, Ok(&b""[..])));
    }

    proptest! {
        #[test]
        fn what_goes_out_in_chunks_comes_in_again(parts in prop::collection::vec("[a-z]{1,20}", 0..6), cut in 0usize..200) {
            let (mut out, mut body) = (BytesMut::new(), Outgoing::Chunked);
            for part in &parts {
                body.open(part.len(), &mut out).unwrap();
                out.extend_from_slice(part.as_bytes());
                out.extend_from_slice(body.close());
            }
            out.extend_from_slice(body.end().unwrap());
            let mut rest = out.split_off(cut.min(out.len()));
            let mut incoming = Incoming::chunked();
            let mut content = incoming.take(&mut out).unwrap().to_vec();
            out.unsplit(rest.split());
            content.extend(incoming.take(&mut out).unwrap());
            prop_assert!(incoming.is_over());
            prop_assert_eq!(content, parts.concat().into_bytes());
        }
    }
}
