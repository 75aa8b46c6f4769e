//! `CleanPath`: the one canonical form of a request path, which is matched *and* forwarded.
//!
//! A gateway that authorises one spelling of a path and forwards another lets callers past its rules
//! (CVE-2019-9901, CVE-2021-29492 and their kin). So a path is brought to one form here, or refused; nothing
//! later reads the raw path again.

use std::borrow::Cow;
use std::fmt;

use crate::policy::hex;

/// A request path in canonical form: starts with `/`, no empty, `.` or `..` segment, no trailing slash, every
/// character that may stand unescaped does, every other octet is `%XX` in upper case, and the whole is UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleanPath<'a>(Cow<'a, str>);

/// Why a path has no canonical form. The name is the `reason` label of the refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathProblem {
    /// Not origin-form (RFC 9112 section 3.2.1): the first character is not a slash.
    NotAbsolute,
    /// An octet that RFC 3986 does not allow in a path (space, backslash, quote, control, raw non-ASCII …).
    ForbiddenOctet,
    /// `%` that is not followed by two hexadecimal digits.
    BadEscape,
    /// `%2F`, `%5C`, `%3F` or `%23`: one server's data is another's separator (CVE-2021-29492, CVE-2025-66490).
    EncodedSeparator,
    /// A control character, NUL among them, behind an escape.
    EncodedControl,
    /// `%25` before two hexadecimal digits: whoever decodes twice sees another path.
    DoubleEncoding,
    /// `;`, which some servers cut off with all behind it (`/..;/`).
    MatrixParameter,
    /// The decoded octets are not UTF-8, overlong forms among them.
    NotUtf8,
    /// More `..` than segments before them.
    AboveRoot,
    /// A segment that ends in `.php` before the last: PHP servers take what follows it for the path (PATH_INFO, and
    /// Symfony's Request::getPathInfo, which reads `/index.php/admin` as `/admin`).
    ScriptInPath,
}

impl PathProblem {
    /// The closed set of `reason` labels of a refused path.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotAbsolute => "path_not_absolute",
            Self::ForbiddenOctet => "path_forbidden_octet",
            Self::BadEscape => "path_bad_escape",
            Self::EncodedSeparator => "path_encoded_separator",
            Self::EncodedControl => "path_encoded_control",
            Self::DoubleEncoding => "path_double_encoding",
            Self::MatrixParameter => "path_matrix_parameter",
            Self::NotUtf8 => "path_not_utf8",
            Self::AboveRoot => "path_above_root",
            Self::ScriptInPath => "path_script",
        }
    }
}

impl<'a> CleanPath<'a> {
    /// Brings `raw`, the path of a request target without its query, to canonical form.
    ///
    /// Borrows when the path already is canonical, which is the common case.
    pub fn parse(raw: &'a str) -> Result<Self, PathProblem> {
        if !raw.starts_with('/') {
            return Err(PathProblem::NotAbsolute);
        }
        let path = if is_canonical(raw) { Cow::Borrowed(raw) } else { Cow::Owned(resolve(&unescape(raw)?)?) };
        if has_path_info(&path) { Err(PathProblem::ScriptInPath) } else { Ok(Self(path)) }
    }

    /// The canonical path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The canonical path where it differs from what the client sent, so that the target has to be rewritten.
    pub fn rewritten(self) -> Option<String> {
        match self.0 {
            Cow::Borrowed(_) => None,
            Cow::Owned(path) => Some(path),
        }
    }
}

impl fmt::Display for CleanPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// unreserved of RFC 3986 section 2.3: these mean the same escaped and not, so they are never escaped.
fn is_unreserved(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~')
}

/// pchar of RFC 3986 section 3.3 without escapes and without `;`, which has a refusal of its own.
fn is_plain(octet: u8) -> bool {
    is_unreserved(octet)
        || matches!(octet, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@')
}

/// One look at each octet: no escape, no empty or dotted segment, no trailing slash.
///
/// A segment that merely begins with a dot (`/.well-known`) takes the slow way, which leaves it alone.
fn is_canonical(path: &str) -> bool {
    let mut previous = 0;
    for octet in path.bytes() {
        let suspicious = match octet {
            b'/' => previous == b'/',
            b'.' => previous == b'/',
            other => !is_plain(other),
        };
        if suspicious {
            return false;
        }
        previous = octet;
    }
    previous != b'/' || path.len() == 1
}

/// Undoes every escape that need not be one, upper-cases the rest, and refuses what has no one meaning.
fn unescape(raw: &str) -> Result<String, PathProblem> {
    let mut canonical = String::with_capacity(raw.len());
    let mut decoded = Vec::with_capacity(raw.len());
    let mut octets = raw.bytes();
    while let Some(octet) = octets.next() {
        match octet {
            b'%' => {
                let value = hex::octet(octets.next(), octets.next()).ok_or(PathProblem::BadEscape)?;
                push_escaped(&mut canonical, value)?;
                decoded.push(value);
            }
            b';' => return Err(PathProblem::MatrixParameter),
            b'/' => {
                canonical.push('/');
                decoded.push(octet);
            }
            plain if is_plain(plain) => {
                canonical.push(char::from(plain));
                decoded.push(plain);
            }
            _ => return Err(PathProblem::ForbiddenOctet),
        }
    }
    if is_doubly_escaped(&canonical) {
        return Err(PathProblem::DoubleEncoding);
    }
    match std::str::from_utf8(&decoded) {
        Ok(text) if text.chars().any(char::is_control) => Err(PathProblem::EncodedControl),
        Ok(_) => Ok(canonical),
        Err(_) => Err(PathProblem::NotUtf8),
    }
}

fn push_escaped(canonical: &mut String, value: u8) -> Result<(), PathProblem> {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    match value {
        b'/' | b'\\' | b'?' | b'#' => Err(PathProblem::EncodedSeparator),
        b';' => Err(PathProblem::MatrixParameter),
        control if control.is_ascii_control() => Err(PathProblem::EncodedControl),
        plain if is_unreserved(plain) => {
            canonical.push(char::from(plain));
            Ok(())
        }
        other => {
            let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or('0');
            canonical.extend(['%', digit(other >> 4), digit(other & 0xF)]);
            Ok(())
        }
    }
}

/// Looks at the canonical form, so that `%25%32%65` is caught as `%252e` is.
fn is_doubly_escaped(canonical: &str) -> bool {
    canonical.split("%25").skip(1).any(|rest| {
        let mut octets = rest.bytes();
        hex::octet(octets.next(), octets.next()).is_some()
    })
}

/// remove_dot_segments of RFC 3986 section 5.2.4, with empty segments dropped and no way above the root.
fn resolve(path: &str) -> Result<String, PathProblem> {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop().ok_or(PathProblem::AboveRoot)?;
            }
            named => kept.push(named),
        }
    }
    Ok(format!("/{}", kept.join("/")))
}

/// Whether a canonical path goes on behind a script.
fn has_path_info(path: &str) -> bool {
    const SCRIPT: &[u8] = b".php/";
    path.as_bytes().windows(SCRIPT.len()).any(|window| window.eq_ignore_ascii_case(SCRIPT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn clean(raw: &str) -> Result<String, PathProblem> {
        CleanPath::parse(raw).map(|path| path.as_str().to_owned())
    }

    #[test]
    fn a_canonical_path_is_borrowed_unchanged() {
        for path in ["/", "/api/v1/contacts", "/a/b.c/~d/x@y:z", "/a..b/c."] {
            let parsed = CleanPath::parse(path).unwrap();
            assert_eq!(parsed.as_str(), path);
            assert_eq!(parsed.rewritten(), None, "{path}");
        }
    }

    #[test]
    fn every_spelling_of_a_path_has_one_form() {
        for spelling in [
            "/a/b",
            "/a/b/",
            "//a//b",
            "/a/./b",
            "/a/b/.",
            "/a/x/../b",
            "/a/%2e/b",
            "/a/x/%2E%2e/b",
            "/%61/%62",
            "/a/.%2e/a/b",
        ] {
            assert_eq!(clean(spelling).as_deref(), Ok("/a/b"), "{spelling}");
        }
        assert_eq!(clean("/%c3%a9%20x").as_deref(), Ok("/%C3%A9%20x"));
        assert_eq!(clean("/.well-known/x").as_deref(), Ok("/.well-known/x"));
        assert_eq!(clean("/100%25").as_deref(), Ok("/100%25"));
        assert_eq!(clean("/a/b.php/").as_deref(), Ok("/a/b.php"));
    }

    #[test]
    fn what_has_no_one_meaning_is_refused() {
        use PathProblem::*;
        for (raw, problem) in [
            ("", NotAbsolute),
            ("a/b", NotAbsolute),
            ("*", NotAbsolute),
            ("http://x/a", NotAbsolute),
            ("/a b", ForbiddenOctet),
            ("/a\\b", ForbiddenOctet),
            ("/a#b", ForbiddenOctet),
            ("/a\tb", ForbiddenOctet),
            ("/é", ForbiddenOctet),
            ("/a{b}", ForbiddenOctet),
            ("/a%2", BadEscape),
            ("/a%", BadEscape),
            ("/a%zz", BadEscape),
            ("/a%u002e", BadEscape),
            ("/a%2fb", EncodedSeparator),
            ("/a%2Fb", EncodedSeparator),
            ("/a%5cb", EncodedSeparator),
            ("/a%3fb", EncodedSeparator),
            ("/a%23b", EncodedSeparator),
            ("/a%00", EncodedControl),
            ("/a%0d%0aX:y", EncodedControl),
            ("/a%7f", EncodedControl),
            ("/a%c2%85", EncodedControl),
            ("/a%252e", DoubleEncoding),
            ("/a%25%32%65", DoubleEncoding),
            ("/a%2525", DoubleEncoding),
            ("/a/..;/b", MatrixParameter),
            ("/a%3bx", MatrixParameter),
            ("/a;x=1", MatrixParameter),
            ("/a%c0%ae", NotUtf8),
            ("/a%c0%af", NotUtf8),
            ("/a%ff", NotUtf8),
            ("/..", AboveRoot),
            ("/a/../../b", AboveRoot),
            ("/a/%2e%2e/%2e%2e/b", AboveRoot),
            ("/index.php/a", ScriptInPath),
            ("/a/b.PHP/c", ScriptInPath),
            ("/a/b%2eph%70/c", ScriptInPath),
        ] {
            assert_eq!(clean(raw), Err(problem), "{raw}");
        }
    }

    proptest! {
        #[test]
        fn parsing_twice_changes_nothing(raw in "/[ -~é]{0,40}") {
            if let Ok(once) = clean(&raw) {
                prop_assert_eq!(clean(&once), Ok(once.clone()));
            }
        }

        #[test]
        fn a_canonical_path_holds_nothing_that_a_server_could_resolve(raw in "/[a-z./%25ef2c;\\\\]{0,24}") {
            if let Ok(path) = clean(&raw) {
                prop_assert!(path.split('/').skip(1).all(|s| !matches!(s, "." | "..")), "{}", path);
                prop_assert!(!path.contains("//") && !path.contains(';') && !path.contains('\\'));
                prop_assert!(!path.to_lowercase().contains("%2f") && !path.to_lowercase().contains("%5c"));
            }
        }
    }
}
