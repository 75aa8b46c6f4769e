//! Two hexadecimal digits as one octet: escapes in paths and queries, digests in records.

/// The octet that `high` and `low` spell in either case; `None` when one is missing or no hexadecimal digit.
pub(super) fn octet(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |octet: u8| char::from(octet).to_digit(16).and_then(|d| u8::try_from(d).ok());
    Some(digit(high?)? << 4 | digit(low?)?)
}
