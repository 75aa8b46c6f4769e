//! What the caller presented: the strict reading of the Authorization header.
//!
//! Laravel's `bearerToken()` (Illuminate/Http/Concerns/InteractsWithInput.php) takes what follows the *last* "Bearer " and
//! cuts it at a comma. A gateway that read the header otherwise could authorise one token and let the backend see another,
//! so everything but one plain `Bearer <token>` is refused here, and the header is rewritten before it is forwarded.

use std::fmt;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::policy::hex;
use crate::policy::refusal::{Refusal, TokenProblem};

/// The longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 4096;
/// The random part of a Sanctum token (`Str::random(40)`).
const ENTROPY: usize = 40;
/// The checksum behind it: crc32b of the random part, in lower-case hex (Sanctum >= 3.3).
const CHECKSUM: usize = 8;

/// How tokens look: `auth.token_prefix` and `auth.checksum`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenGrammar {
    /// What every token begins with, behind an `id|`.
    pub prefix: String,
    /// What is asked of the checksum of an opaque token.
    pub checksum: ChecksumMode,
}

/// `auth.checksum`. The checksum filters typing errors; it is no defence, because anybody can compute it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumMode {
    /// Every opaque token has one, and it is right.
    Required,
    /// A token may lack it (Sanctum before 3.3); one that is there is right.
    IfPresent,
    /// Not looked at.
    Off,
}

/// SHA-256 of a token, everything behind `id|`: what Sanctum stores and what everything here is keyed by.
#[derive(Clone, Copy)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of a token without its `id|`.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Reads 64 hexadecimal digits.
    pub fn from_hex(hex: &str) -> Option<Self> {
        let octets = hex.as_bytes();
        let (pairs, []) = octets.as_chunks::<2>() else { return None };
        let decoded: Vec<u8> =
            pairs.iter().map(|&[high, low]| hex::octet(Some(high), Some(low))).collect::<Option<_>>()?;
        decoded.try_into().ok().map(Self)
    }

    /// 64 lower-case hexadecimal digits, as `personal_access_tokens.token` holds them.
    pub fn to_hex(self) -> String {
        self.0.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    /// Six hexadecimal digits: enough to tell tokens apart in a log, useless to find one.
    pub fn hint(self) -> String {
        self.0.iter().take(3).map(|octet| format!("{octet:02x}")).collect()
    }
}

impl PartialEq for TokenDigest {
    /// In constant time.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenDigest {}

impl std::hash::Hash for TokenDigest {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenDigest({}…)", self.hint())
    }
}

/// A well-formed token, known by nobody yet. Debug shows its kind alone.
pub struct Credential<'a> {
    field: Option<&'a HeaderValue>,
    presented: &'a str,
    digest: TokenDigest,
    form: Form<'a>,
}

/// The two forms of a token.
#[derive(Clone, Copy)]
pub enum Form<'a> {
    /// Sanctum's: looked up by digest. With an id, that row must own the digest.
    Opaque {
        /// The number in front of the bar.
        id: Option<u64>,
    },
    /// A JWT behind the prefix.
    Signed {
        /// Three base64url parts, without the prefix.
        jwt: &'a str,
    },
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.form {
            Form::Opaque { .. } => "Credential(opaque)",
            Form::Signed { .. } => "Credential(signed)",
        })
    }
}

impl<'a> Credential<'a> {
    /// Reads the Authorization fields of a request.
    ///
    /// No field, or another scheme than Bearer, is [`Refusal::NoToken`]; several fields are [`Refusal::ManyAuthorizations`];
    /// a Bearer value that is not exactly one token is [`TokenProblem::Malformed`].
    pub fn from_headers(headers: &'a HeaderMap, grammar: &TokenGrammar) -> Result<Self, Refusal> {
        let mut fields = headers.get_all(AUTHORIZATION).iter();
        let field = fields.next().ok_or(Refusal::NoToken)?;
        if fields.next().is_some() {
            return Err(Refusal::ManyAuthorizations);
        }
        let token = bearer(field)?;
        let credential = Self::parse(token, grammar).ok_or(Refusal::InvalidToken(TokenProblem::Malformed))?;
        Ok(Self { field: Some(field), ..credential })
    }

    /// Reads a token, with or without its `id|`; `None` when it is malformed.
    pub fn parse(presented: &'a str, grammar: &TokenGrammar) -> Option<Self> {
        if presented.len() > MAX_TOKEN {
            return None;
        }
        let (id, token) = match presented.split_once('|') {
            Some((id, token)) => (Some(row_id(id)?), token),
            None => (None, presented),
        };
        let rest = token.strip_prefix(grammar.prefix.as_str())?;
        let form = if rest.contains('.') {
            (id.is_none() && is_jwt(rest)).then_some(Form::Signed { jwt: rest })?
        } else {
            is_opaque(rest, grammar.checksum).then_some(Form::Opaque { id })?
        };
        Some(Self { field: None, presented, digest: TokenDigest::of(token), form })
    }

    /// What the token is looked up and cached by.
    pub fn digest(&self) -> TokenDigest {
        self.digest
    }

    /// The token as it was presented, with its `id|`.
    pub fn presented(&self) -> &'a str {
        self.presented
    }

    /// Opaque or signed.
    pub fn form(&self) -> Form<'a> {
        self.form
    }

    /// The Authorization value a backend is sent: this token and nothing else, marked as sensitive.
    ///
    /// The client's own value where it already has this form.
    pub fn authorization(&self) -> HeaderValue {
        let is_canonical =
            |field: &&HeaderValue| field.as_bytes().strip_prefix(b"Bearer ") == Some(self.presented.as_bytes());
        if let Some(field) = self.field.filter(is_canonical) {
            let mut value = field.clone();
            value.set_sensitive(true);
            return value;
        }
        let mut value = HeaderValue::try_from(format!("Bearer {}", self.presented))
            .unwrap_or_else(|_| HeaderValue::from_static("Bearer"));
        value.set_sensitive(true);
        value
    }
}

/// The token of a field: the scheme in any case, one or more spaces, and nothing but visible ASCII to the end.
fn bearer(field: &HeaderValue) -> Result<&str, Refusal> {
    let octets = field.as_bytes();
    let scheme_end = octets.iter().position(|octet| !octet.is_ascii_alphabetic()).unwrap_or(octets.len());
    let (scheme, rest) = octets.split_at(scheme_end);
    let is_bearer = scheme.eq_ignore_ascii_case(b"Bearer") && matches!(rest.first(), None | Some(b' ' | b'\t'));
    if !is_bearer {
        return Err(Refusal::NoToken);
    }
    let malformed = Refusal::InvalidToken(TokenProblem::Malformed);
    let Some(token) = field.to_str().ok().and_then(|text| text.get(scheme_end..)) else { return Err(malformed) };
    let token = token.trim_start_matches(' ');
    let is_plain = !token.is_empty() && token.bytes().all(|octet| octet.is_ascii_graphic());
    is_plain.then_some(token).ok_or(malformed)
}

/// A positive row number without leading zeros: MySQL would find row 7 for `07`, but no application issues that.
fn row_id(text: &str) -> Option<u64> {
    let is_number = text.bytes().all(|octet| octet.is_ascii_digit()) && !text.starts_with('0');
    is_number.then(|| text.parse().ok())?
}

fn is_jwt(text: &str) -> bool {
    let is_base64url = |part: &str| {
        !part.is_empty() && part.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
    };
    text.split('.').count() == 3 && text.split('.').all(is_base64url)
}

fn is_opaque(text: &str, mode: ChecksumMode) -> bool {
    if !text.bytes().all(|octet| octet.is_ascii_alphanumeric()) {
        return false;
    }
    match text.split_at_checked(ENTROPY) {
        Some((_, "")) => mode != ChecksumMode::Required,
        Some((entropy, checksum)) if checksum.len() == CHECKSUM => {
            mode == ChecksumMode::Off || checksum == crc32b(entropy)
        }
        _ => false,
    }
}

/// PHP's `hash('crc32b', …)`: the IEEE CRC-32 in eight lower-case hexadecimal digits.
pub fn crc32b(entropy: &str) -> String {
    format!("{:08x}", crc32fast::hash(entropy.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VECTOR: &str = "mb_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789abcdf8c8ab1e";
    const PLAIN: &str = "mb_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789abcd";

    fn grammar(checksum: ChecksumMode) -> TokenGrammar {
        TokenGrammar { prefix: "mb_".into(), checksum }
    }

    fn read(values: &[&[u8]]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        }
        match Credential::from_headers(&headers, &grammar(ChecksumMode::IfPresent)) {
            Ok(credential) => match credential.form() {
                Form::Opaque { id } => format!("opaque {id:?}"),
                Form::Signed { .. } => "signed".into(),
            },
            Err(Refusal::NoToken) => "none".into(),
            Err(Refusal::ManyAuthorizations) => "many".into(),
            Err(Refusal::InvalidToken(TokenProblem::Malformed)) => "malformed".into(),
            Err(other) => panic!("{other:?}"),
        }
    }

    /// Illuminate\Http\Concerns\InteractsWithInput::bearerToken(), Laravel 13.
    fn laravel_bearer_token(header: &str) -> Option<&str> {
        let at = header.to_ascii_lowercase().rfind("bearer ")?;
        let rest = &header[at + 7..];
        Some(rest.split_once(',').map_or(rest, |(first, _)| first))
    }

    #[test]
    fn the_vectors_of_sanctum_hold() {
        assert_eq!(crc32b(&"A".repeat(40)), "2ae98c30");
        let credential = Credential::parse(VECTOR, &grammar(ChecksumMode::Required)).unwrap();
        assert_eq!(credential.digest().to_hex(), "22b2b94c15649fc1147f36547824d8e7688d0bdc5161c4f6b8007dafd0ff7641");
        let with_id = format!("12|{VECTOR}");
        assert_eq!(
            Credential::parse(&with_id, &grammar(ChecksumMode::Required)).unwrap().digest(),
            credential.digest()
        );
    }

    #[test]
    fn one_plain_bearer_token_is_read_and_nothing_else() {
        let bearer = |token: &str| format!("Bearer {token}").into_bytes();
        assert_eq!(read(&[]), "none");
        assert_eq!(read(&[b""]), "none");
        assert_eq!(read(&[b"Basic dXNlcjpwYXNz"]), "none");
        assert_eq!(read(&[b"Bearerx mb_a"]), "none");
        assert_eq!(read(&[format!("Basic x, Bearer {VECTOR}").as_bytes()]), "none");
        assert_eq!(read(&[&bearer(VECTOR)]), "opaque None");
        assert_eq!(read(&[&bearer(PLAIN)]), "opaque None");
        assert_eq!(read(&[&bearer(&format!("12|{VECTOR}"))]), "opaque Some(12)");
        assert_eq!(read(&[format!("bearer {VECTOR}").as_bytes()]), "opaque None");
        assert_eq!(read(&[format!("BEARER  {VECTOR}").as_bytes()]), "opaque None");
        assert_eq!(read(&[&bearer("mb_eyJh.eyJz.c2ln")]), "signed");
        assert_eq!(read(&[&bearer(VECTOR), &bearer(VECTOR)]), "many");
    }

    #[test]
    fn a_bearer_value_that_is_not_exactly_one_token_is_malformed() {
        for value in [
            "Bearer".into(),
            "Bearer ".into(),
            format!("Bearer\t{VECTOR}"),
            format!("Bearer {VECTOR} "),
            format!("Bearer {VECTOR},"),
            format!("Bearer {VECTOR}, Bearer {VECTOR}"),
            format!("Bearer {VECTOR} x"),
            "Bearer 1|".into(),
            format!("Bearer 01|{VECTOR}"),
            format!("Bearer 0|{VECTOR}"),
            format!("Bearer a|{VECTOR}"),
            format!("Bearer |{VECTOR}"),
            format!("Bearer 1|2|{VECTOR}"),
            format!("Bearer 99999999999999999999|{VECTOR}"),
            format!("Bearer {}", VECTOR.replace("mb_", "MB_")),
            format!("Bearer {}", &VECTOR[3..]),
            format!("Bearer {}", VECTOR.replace("f8c8ab1e", "f8c8ab1f")),
            format!("Bearer {}", VECTOR.replace("f8c8ab1e", "F8C8AB1E")),
            format!("Bearer {}x", VECTOR),
            "Bearer mb_a.b".into(),
            "Bearer mb_a.b.c.d".into(),
            "Bearer mb_a..c".into(),
            "Bearer mb_a.b.c=".into(),
            "Bearer 1|mb_a.b.c".into(),
            format!("Bearer mb_a.b.{}", "c".repeat(MAX_TOKEN)),
            "Bearer mb_ä".into(),
        ] {
            assert_eq!(read(&[value.as_bytes()]), "malformed", "{value}");
        }
    }

    #[test]
    fn the_checksum_mode_decides_about_the_last_eight_characters() {
        let wrong = VECTOR.replace("f8c8ab1e", "00000000");
        for (mode, with, without, bad) in [
            (ChecksumMode::Required, true, false, false),
            (ChecksumMode::IfPresent, true, true, false),
            (ChecksumMode::Off, true, true, true),
        ] {
            let is_read = |token: &str| Credential::parse(token, &grammar(mode)).is_some();
            assert_eq!((is_read(VECTOR), is_read(PLAIN), is_read(&wrong)), (with, without, bad), "{mode:?}");
        }
    }

    #[test]
    fn nothing_that_can_be_printed_shows_the_token() {
        let credential = Credential::parse(VECTOR, &grammar(ChecksumMode::IfPresent)).unwrap();
        let printed = format!("{credential:?} {:?} {:?}", credential.digest(), credential.authorization());
        assert_eq!(printed, "Credential(opaque) TokenDigest(22b2b9…) Sensitive");
    }

    proptest! {
        #[test]
        fn laravel_reads_the_same_token_from_the_header_we_forward(
            before in "(Bearer |Basic x, |bearer x )?", scheme in "(?i:bearer)", space in " {1,3}",
            id in "([1-9][0-9]{0,3}\\|)?", entropy in "[A-Za-z0-9]{40}", after in "(| |,|, Bearer mb_x|[A-Za-z0-9]{8})"
        ) {
            let value = HeaderValue::try_from(format!("{before}{scheme}{space}{id}mb_{entropy}{after}")).unwrap();
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
            let read = Credential::from_headers(&headers, &grammar(ChecksumMode::Off));
            let is_plain = before.is_empty() && (after.is_empty() || after.len() == 8);
            prop_assert_eq!(read.is_ok(), is_plain);
            if let Ok(credential) = read {
                let forwarded = credential.authorization();
                prop_assert_eq!(laravel_bearer_token(forwarded.to_str().unwrap()), Some(credential.presented));
            }
        }

        #[test]
        fn any_sanctum_token_is_read(entropy in "[A-Za-z0-9]{40}", id in proptest::option::of(1u64..)) {
            let token = format!("mb_{entropy}{}", crc32b(&entropy));
            let presented = id.map_or(token.clone(), |id| format!("{id}|{token}"));
            let credential = Credential::parse(&presented, &grammar(ChecksumMode::Required));
            prop_assert_eq!(credential.map(|c| c.digest()), Some(TokenDigest::of(&token)));
        }

        #[test]
        fn no_field_panics_or_is_read_in_two_ways(octets in disputed(), mode in any_mode()) {
            let Ok(value) = HeaderValue::from_bytes(&octets) else { return Ok(()) };
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
            if let Ok(credential) = Credential::from_headers(&headers, &grammar(mode)) {
                let forwarded = credential.authorization();
                let forwarded = forwarded.to_str().unwrap();
                prop_assert_eq!(laravel_bearer_token(forwarded), Some(credential.presented()));
                let of_sanctum = credential.presented().split_once('|').map_or(credential.presented(), |(_, token)| token);
                prop_assert_eq!(credential.digest(), TokenDigest::of(of_sanctum));
                prop_assert!(octets.ends_with(credential.presented().as_bytes()));
            }
        }
    }

    fn any_mode() -> impl Strategy<Value = ChecksumMode> {
        prop_oneof![Just(ChecksumMode::Required), Just(ChecksumMode::IfPresent), Just(ChecksumMode::Off)]
    }

    /// Fields as somebody writes them who wants two readers to disagree: pieces that mean something to either, and any octets.
    fn disputed() -> impl Strategy<Value = Vec<u8>> {
        const WORDS: [&str; 14] = [
            "Bearer ",
            "bearer ",
            "BEARER",
            "Basic x",
            " ",
            "\t",
            ",",
            "|",
            "7|",
            "07|",
            "mb_",
            "mb_a.b.c",
            "eyJh.eyJz.c2ln",
            "=",
        ];
        let piece = prop_oneof![
            4 => proptest::sample::select(&WORDS[..]).prop_map(|word| word.as_bytes().to_vec()),
            2 => proptest::sample::select(&[VECTOR, PLAIN][..]).prop_map(|token| token.as_bytes().to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 0..8),
        ];
        let start = prop_oneof![Just(&b"Bearer "[..]), Just(&b"bearer  "[..]), Just(&b""[..])];
        (start, proptest::collection::vec(piece, 0..5)).prop_map(|(start, pieces)| [start, &pieces.concat()].concat())
    }
}
