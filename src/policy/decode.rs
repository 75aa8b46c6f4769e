//! What a compressed body says: one content coding taken off (RFC 9110 section 8.4), within a bound.
//!
//! A body is decoded whole or not at all, and nothing may follow its end, so what was read is what any other reader reads. One that
//! grows beyond the bound is given up there, however small it came: neither its size nor its window is asked for memory.

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::{Decompress, FlushDecompress, Status};
use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use zstd::bulk::Decompressor;
use zstd::zstd_safe::find_frame_compressed_size;

/// What was done to a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Nothing.
    Identity,
    /// RFC 1952
    Gzip,
    /// RFC 1950; or RFC 1951 alone, which some send under the same name.
    Deflate,
    /// RFC 7932
    Brotli,
    /// RFC 8878
    Zstd,
}

/// The first octets of a frame. Before the format was settled there were others, which their library still reads.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
/// The largest window of a gzip or zlib stream, as its decoder asks for it.
const DEFLATE_WINDOW_BITS: u8 = 15;
/// The smallest window that brotli has.
const BROTLI_LEAST_WINDOW_BITS: u32 = 10;

impl Coding {
    /// The coding that the fields of an answer name; `None` for one that is not known, and for several on top of each other.
    pub fn of(fields: &HeaderMap) -> Option<Self> {
        let mut named =
            fields.get_all(CONTENT_ENCODING).iter().flat_map(|value| value.as_bytes().split(|o| *o == b','));
        match (named.next(), named.next()) {
            (None, _) => Some(Self::Identity),
            (Some(name), None) => Self::named(name.trim_ascii()),
            (Some(_), Some(_)) => None,
        }
    }

    fn named(name: &[u8]) -> Option<Self> {
        let names = [
            ("identity", Self::Identity),
            ("gzip", Self::Gzip),
            ("x-gzip", Self::Gzip),
            ("deflate", Self::Deflate),
            ("br", Self::Brotli),
            ("zstd", Self::Zstd),
        ];
        names.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes())).map(|(_, coding)| coding)
    }

    /// Whether the fields of a request ask for this coding by its name or with `*` (RFC 9110 section 12.5.3). A client that says
    /// nothing takes anything by the letter of it, and most such clients can read no coding at all.
    pub fn is_asked_for(self, fields: &HeaderMap) -> bool {
        let asked = || {
            let values = fields.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
            values.flat_map(|value| value.split(',')).map(|item| item.split_once(';').unwrap_or((item, "")))
        };
        let by_name = asked().find(|(name, _)| Self::named(name.trim().as_bytes()) == Some(self));
        let by_star = || asked().find(|(name, _)| name.trim() == "*");
        by_name.or_else(by_star).is_some_and(|(_, weight)| !is_zero(weight))
    }

    /// The content of `body`, at most `most` octets; `None` when it is longer, broken, cut off, or when something follows its end.
    pub fn decode(self, body: &[u8], most: usize) -> Option<Vec<u8>> {
        let content = match self {
            Self::Identity => body.to_vec(),
            Self::Gzip => inflate(Decompress::new_gzip(DEFLATE_WINDOW_BITS), body, most)?,
            Self::Deflate => inflate(Decompress::new(has_zlib_header(body)), body, most)?,
            Self::Brotli => unbrotli(body, most)?,
            Self::Zstd => unzstd(body, most)?,
        };
        (content.len() <= most).then_some(content)
    }
}

/// Whether the weight behind an item says "not this": `q=0`, with up to three more noughts.
fn is_zero(weight: &str) -> bool {
    let value = weight.trim().strip_prefix(['q', 'Q']).and_then(|rest| rest.trim_start().strip_prefix('='));
    value.and_then(|value| value.trim().parse::<f32>().ok()).is_some_and(|value| value <= 0.0)
}

fn inflate(mut stream: Decompress, body: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut content = Vec::with_capacity(most + 1);
    let status = stream.decompress_vec(body, &mut content, FlushDecompress::Finish).ok()?;
    (status == Status::StreamEnd && stream.total_in() == body.len() as u64).then_some(content)
}

/// RFC 1950 section 2.2: the method is 8, and the two octets are a multiple of 31. A stream without the header that began like that
/// would be a stored block with bits in its padding.
fn has_zlib_header(body: &[u8]) -> bool {
    matches!(body, [method, flags, ..] if method & 0x0F == 8 && u16::from_be_bytes([*method, *flags]) % 31 == 0)
}

fn unbrotli(body: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut state =
        BrotliState::new_strict(StandardAlloc::default(), StandardAlloc::default(), StandardAlloc::default());
    let (mut content, mut read, mut written, mut total) = (vec![0; most + 1], 0, 0, 0);
    let mut decode_until = |state: &mut BrotliState<_, _, _>, end: usize| {
        let (mut unread, mut room) = (end - read, content.len() - written);
        BrotliDecompressStream(&mut unread, &mut read, body, &mut room, &mut written, &mut content, &mut total, state)
    };
    // The first octet says how large a window the encoder had, 16 MiB at the most. One that holds all the content that is let
    // through gives the same content.
    let begun = decode_until(&mut state, body.len().min(1));
    let enough = usize::BITS - most.leading_zeros();
    state.window_bits = state.window_bits.min(enough.max(BROTLI_LEAST_WINDOW_BITS));
    let ended = match begun {
        BrotliResult::NeedsMoreInput => decode_until(&mut state, body.len()),
        ended => ended,
    };
    let is_whole = matches!(ended, BrotliResult::ResultSuccess) && read == body.len();
    content.truncate(written);
    is_whole.then_some(content)
}

fn unzstd(body: &[u8], most: usize) -> Option<Vec<u8>> {
    let is_one_frame = body.starts_with(&ZSTD_MAGIC) && find_frame_compressed_size(body).ok() == Some(body.len());
    // Decoded at one go, a frame needs no window but its content.
    is_one_frame.then(|| Decompressor::new().ok()?.decompress(body, most).ok())?
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const ALL: [Coding; 5] = [Coding::Identity, Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];

    fn brotli(content: &[u8], window_bits: i32, quality: i32) -> Vec<u8> {
        let params = brotli::enc::BrotliEncoderParams { lgwin: window_bits, quality, ..Default::default() };
        let mut body = Vec::new();
        brotli::BrotliCompress(&mut &content[..], &mut body, &params).unwrap();
        body
    }

    fn encode(coding: Coding, content: &[u8]) -> Vec<u8> {
        match coding {
            Coding::Identity => content.to_vec(),
            Coding::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            Coding::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            Coding::Brotli => brotli(content, 22, 9),
            Coding::Zstd => zstd::bulk::compress(content, 9).unwrap(),
        }
    }

    fn fields(name: http::HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn one_coding_is_known_by_its_name() {
        let of = |values: &[&str]| Coding::of(&fields(CONTENT_ENCODING, values));
        assert_eq!(of(&[]), Some(Coding::Identity));
        for (name, coding) in
            [("identity", Coding::Identity), ("GZIP", Coding::Gzip), (" x-gzip ", Coding::Gzip), ("br", Coding::Brotli)]
        {
            assert_eq!(of(&[name]), Some(coding), "{name}");
        }
        for values in [&["gzip, br"][..], &["gzip", "br"], &["gzip,"], &["compress"], &[""], &["gzip;q=1"]] {
            assert_eq!(of(values), None, "{values:?}");
        }
    }

    #[test]
    fn a_coding_is_asked_for_by_name_or_by_star_and_not_with_a_weight_of_nought() {
        let asked = |values: &[&str]| Coding::Gzip.is_asked_for(&fields(ACCEPT_ENCODING, values));
        for values in [&["gzip"][..], &["br, GZip;q=0.1"], &["br", "gzip"], &["*"], &["br;q=1, * ; q=0.5"], &["x-gzip"]]
        {
            assert!(asked(values), "{values:?}");
        }
        for values in
            [&[][..], &[""], &["br"], &["gzip;q=0"], &["gzip; q=0.000, *"], &["*;q=0"], &["identity"], &["gzipped"]]
        {
            assert!(!asked(values), "{values:?}");
        }
    }

    #[test]
    fn deflate_is_read_with_its_header_and_without() {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(b"The name field is required.").unwrap();
        let bare = encoder.finish().unwrap();
        assert_eq!(Coding::Deflate.decode(&bare, 100).unwrap(), b"The name field is required.");
    }

    #[test]
    fn a_body_up_to_the_bound_is_read_and_a_longer_one_is_not() {
        for length in [0, 1, 1000, 1023, 1024, 1025, 65_535, 65_536, 65_537] {
            let content: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            for coding in ALL {
                let body = encode(coding, &content);
                assert_eq!(coding.decode(&body, length), Some(content.clone()), "{coding:?} {length}");
                assert_eq!(coding.decode(&body, length + 1), Some(content.clone()), "{coding:?} {length}");
                assert!(length == 0 || coding.decode(&body, length - 1).is_none(), "{coding:?} {length}");
            }
        }
    }

    #[test]
    fn what_would_become_twenty_megabytes_is_given_up() {
        let content = vec![b' '; 20 << 20];
        for coding in ALL {
            assert_eq!(coding.decode(&encode(coding, &content), 64 << 10), None, "{coding:?}");
        }
    }

    #[test]
    fn a_frame_that_says_that_it_is_short_is_not_believed() {
        let mut body = encode(Coding::Zstd, &[b' '; 4000]);
        // The content's length, in two octets, less 256.
        assert_eq!(body[5..7], (4000u16 - 256).to_le_bytes());
        body[5..7].copy_from_slice(&0u16.to_le_bytes());
        assert_eq!(Coding::Zstd.decode(&body, 5000), None);
    }

    #[test]
    fn half_a_body_is_none_and_nothing_may_follow_one() {
        let content = br#"{"message":"The name field is required.","errors":{"name":["The name field is required."]}}"#;
        for coding in [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd] {
            let body = encode(coding, content);
            for end in 0..body.len() {
                assert_eq!(coding.decode(&body[..end], 1000), None, "{coding:?} {end}");
            }
            for more in [&b"\0"[..], b"more", &body] {
                assert_eq!(coding.decode(&[&body, more].concat(), 1000), None, "{coding:?} {more:?}");
            }
        }
    }

    #[test]
    fn a_sum_that_is_wrong_is_noticed() {
        for coding in [Coding::Gzip, Coding::Deflate] {
            let mut body = encode(coding, b"The name field is required.");
            let at = body.len() - if coding == Coding::Gzip { 8 } else { 4 };
            body[at] ^= 1;
            assert_eq!(coding.decode(&body, 1000), None, "{coding:?}");
        }
    }

    proptest! {
        #[test]
        fn brotli_reads_the_same_whatever_window_its_encoder_had(
            (words, repeats) in (prop::collection::vec("[a-z ]{1,40}", 1..40), 1usize..200),
            (window_bits, quality) in (10i32..=24, 0i32..=11),
        ) {
            let content = words.concat().repeat(repeats).into_bytes();
            let body = brotli(&content, window_bits, quality);
            prop_assert_eq!(Coding::Brotli.decode(&body, content.len()), Some(content.clone()));
            prop_assert_eq!(Coding::Brotli.decode(&body, content.len() - 1), None);
            prop_assert_eq!(Coding::Brotli.decode(&body, 16 << 20), Some(content));
        }

        #[test]
        fn any_octets_are_read_within_the_bound_or_not_at_all(octets in prop::collection::vec(any::<u8>(), 0..400), most in 0usize..2000) {
            for coding in ALL {
                prop_assert!(coding.decode(&octets, most).is_none_or(|content| content.len() <= most));
            }
        }
    }
}
