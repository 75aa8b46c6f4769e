//! The framing of a chunked body, octet by octet: the strict subset of RFC 9112 section 7.1 on which all parsers agree.
//!
//! httparse, with which pingora reads chunks, takes any octet for a part of an extension, a bare line feed too (CVE-2025-55315), and a
//! line without a digit for the last chunk. Whoever stands in front of us may see another end of the body there.

/// The framing is not what RFC 9112 says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// A chunked body as far as it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunks(State);

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
/// As many as 64 bits have.
const MOST_DIGITS: u8 = 16;

impl Default for Chunks {
    fn default() -> Self {
        Self(SIZE)
    }
}

impl Chunks {
    /// Whether the whole body has come.
    pub fn is_over(&self) -> bool {
        self.0 == State::Over
    }

    /// Reads on. What follows the end of the body is not looked at.
    pub fn read(&mut self, mut octets: &[u8]) -> Result<(), Broken> {
        while let Some((octet, rest)) = octets.split_first() {
            match self.0 {
                State::Over => return Ok(()),
                State::Content { left } => {
                    let taken = octets.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    let left = left.saturating_sub(taken as u64);
                    self.0 = if left == 0 { State::ContentCr } else { State::Content { left } };
                    octets = octets.get(taken..).unwrap_or_default();
                }
                state => {
                    self.0 = state.after(*octet).ok_or(Broken)?;
                    octets = rest;
                }
            }
        }
        Ok(())
    }
}

impl State {
    /// The state after an octet of framing; `None` where that octet may not stand.
    fn after(self, octet: u8) -> Option<Self> {
        let is_text = octet == b'\t' || (octet >= b' ' && octet != 0x7F);
        match (self, octet) {
            (Self::Size { digits, size }, digit) if digit.is_ascii_hexdigit() && digits < MOST_DIGITS => {
                let value = u64::from(char::from(digit).to_digit(16)?);
                Some(Self::Size { digits: digits + 1, size: (size << 4) | value })
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

    /// Whether `body` is over, or not yet, or broken.
    fn read(body: &[u8]) -> Result<bool, Broken> {
        let mut chunks = Chunks::default();
        chunks.read(body).map(|()| chunks.is_over())
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
        for body in ["", "5", "5\r\nhel", "5\r\nhello\r\n0\r\n", "5;\u{e9}", "ffffffffffffffff\r\nx"] {
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
            let (first, second) = body.split_at(cut.min(body.len()));
            let mut chunks = Chunks::default();
            let cut = chunks.read(first.as_bytes()).and_then(|()| chunks.read(second.as_bytes())).map(|()| chunks.is_over());
            prop_assert_eq!(cut, read(body.as_bytes()));
        }
    }
}
