//! The framing of a chunked body, octet by octet: the strict subset of RFC 9112 section 7.1 on which all parsers agree.
//!
//! Laxer readers take any octet for a part of an extension, a bare line feed too (CVE-2025-55315), and a line without a digit for the
//! last chunk. Whoever stands in front of us may see another end of the body there.

/// The framing is not what RFC 9112 says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// A chunked body as far as it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunks {
    state: State,
    /// Octets of framing since the last content.
    framing: usize,
}

/// What octets of a chunked body begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// So many octets of framing.
    pub framing: usize,
    /// And so many of content behind them.
    pub content: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In a size, of which so many digits have come.
    Size { digits: u8, size: u64 },
    /// Behind the semicolon.
    Extension { size: u64 },
    /// Before the LF that ends the line of a size.
    SizeEnd { size: u64 },
    /// So many octets of content are left.
    Content { left: u64 },
    /// Before the CR behind a content.
    ContentCr,
    /// Before the LF behind it.
    ContentLf,
    /// At the beginning of a line behind the last chunk.
    Trailers,
    /// In such a line.
    Trailer,
    /// Before the LF that ends it.
    TrailerEnd,
    /// Before the LF that ends the body.
    BodyEnd,
    /// The body is over.
    Over,
}

const SIZE: State = State::Size { digits: 0, size: 0 };
/// As many as 64 bits have; zeros may stand in front.
const MOST_DIGITS: u8 = 16;
/// Sizes stay below this: readers differ where a signed number ends.
const LARGEST: u64 = 1 << 60;
/// The most octets between two contents, or behind the last: extensions and trailers, which nobody reads.
const MOST_FRAMING: usize = 8 << 10;

impl Default for Chunks {
    fn default() -> Self {
        Self { state: SIZE, framing: 0 }
    }
}

impl Chunks {
    /// Whether the whole body has come.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Reads on, to the end of the first content in `octets` or of what there is of it. What follows the end of the body is not
    /// looked at.
    pub fn read(&mut self, octets: &[u8]) -> Result<Piece, Broken> {
        let mut framing = 0;
        for octet in octets {
            match self.state {
                State::Content { left } => {
                    let content = (octets.len() - framing).min(usize::try_from(left).unwrap_or(usize::MAX));
                    let left = left.saturating_sub(content as u64);
                    let state = if left == 0 { State::ContentCr } else { State::Content { left } };
                    *self = Self { state, framing: 0 };
                    return Ok(Piece { framing, content });
                }
                State::Over => break,
                state => self.state = state.after(*octet).ok_or(Broken)?,
            }
            framing += 1;
            self.framing += 1;
            if self.framing > MOST_FRAMING {
                return Err(Broken);
            }
        }
        Ok(Piece { framing, content: 0 })
    }
}

impl State {
    /// The state after an octet of framing; `None` where that octet may not stand.
    fn after(self, octet: u8) -> Option<Self> {
        let is_text = octet == b'\t' || (octet >= b' ' && octet != 0x7F);
        match (self, octet) {
            (Self::Size { digits, size }, digit) if digit.is_ascii_hexdigit() && digits < MOST_DIGITS => {
                let value = u64::from(char::from(digit).to_digit(16)?);
                (size < LARGEST >> 4).then_some(Self::Size { digits: digits + 1, size: (size << 4) | value })
            }
            (Self::Size { digits: 1.., size }, b'\r') | (Self::Extension { size }, b'\r') => {
                Some(Self::SizeEnd { size })
            }
            (Self::Size { digits: 1.., size }, b';') => Some(Self::Extension { size }),
            (Self::Extension { .. }, _) if is_text => Some(self),
            (Self::SizeEnd { size: 0 }, b'\n') | (Self::TrailerEnd, b'\n') => Some(Self::Trailers),
            (Self::SizeEnd { size }, b'\n') => Some(Self::Content { left: size }),
            (Self::ContentCr, b'\r') => Some(Self::ContentLf),
            (Self::ContentLf, b'\n') => Some(SIZE),
            (Self::Trailers, b'\r') => Some(Self::BodyEnd),
            (Self::Trailer, b'\r') => Some(Self::TrailerEnd),
            (Self::Trailers | Self::Trailer, _) if is_text => Some(Self::Trailer),
            (Self::BodyEnd, b'\n') => Some(Self::Over),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The content of `body`, and whether it is over; or broken.
    fn read_parts(parts: &[&[u8]]) -> Result<(Vec<u8>, bool), Broken> {
        let (mut chunks, mut content) = (Chunks::default(), Vec::new());
        for part in parts {
            let mut rest = *part;
            while !rest.is_empty() && !chunks.is_over() {
                let piece = chunks.read(rest)?;
                let (read, left) = rest.split_at(piece.framing + piece.content);
                content.extend_from_slice(&read[piece.framing..]);
                rest = left;
            }
        }
        Ok((content, chunks.is_over()))
    }

    fn read(body: &[u8]) -> Result<bool, Broken> {
        read_parts(&[body]).map(|(_, is_over)| is_over)
    }

    #[test]
    fn content_is_taken_out_of_its_framing() {
        let body = b"5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nX: y\r\n\r\nGET";
        assert_eq!(read_parts(&[body]), Ok((b"hello!".to_vec(), true)));
    }

    #[test]
    fn framing_without_content_comes_to_an_end() {
        let long = |length| "x".repeat(length);
        assert_eq!(read(format!("5;{}\r\nhello\r\n", long(8_000)).as_bytes()), Ok(false));
        assert_eq!(read(format!("5;{}", long(9_000)).as_bytes()), Err(Broken));
        assert_eq!(read(format!("0\r\n{}", "a: b\r\n".repeat(2_000)).as_bytes()), Err(Broken));
    }

    #[test]
    fn a_chunked_body_has_one_form() {
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "05;a=\"b\"\r\nhello\r\n0;c\r\nX: y\r\n\r\n",
            "A\r\n0123456789\r\n000\r\n\r\nGET",
        ] {
            assert_eq!(read(body.as_bytes()), Ok(true), "{body:?}");
        }
        for body in ["", "5", "5\r\nhel", "5\r\nhello\r\n0\r\n", "5;\u{e9}", "0fffffffffffffff\r\nx"] {
            assert_eq!(read(body.as_bytes()), Ok(false), "{body:?}");
        }
        for body in [
            "\r\n",
            ";a\r\n",
            " 5\r\n",
            "5 \r\n",
            "5\n",
            "5;\n",
            "5;a\rb",
            "5;a\0",
            "0x5",
            "+5",
            "5\r\nhelloX",
            "5\r\nhello\n",
            "00000000000000005\r\n",
            "ffffffffffffffff\r\n",
            "1000000000000000\r\n",
            "0\n",
            "0\r\n\n",
            "0\r\nX: y\n",
            "0\r\nX\0",
            "0\r\n\rX",
        ] {
            assert_eq!(read(body.as_bytes()), Err(Broken), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn it_is_read_alike_however_it_is_cut(body in "([0-9a-f;]|\r\n|5\r\nhello\r\n|0\r\n\r\n|\n|x){0,9}", cut in 0usize..40) {
            let (first, second) = body.as_bytes().split_at(cut.min(body.len()));
            prop_assert_eq!(read_parts(&[first, second]), read_parts(&[body.as_bytes()]));
        }
    }
}
