//! A query string as PHP reads it: the parameters a Laravel backend will see, under the names it will see them.

use std::borrow::Cow;

use crate::policy::hex;

/// One parameter.
#[derive(Debug, PartialEq, Eq)]
pub struct Parameter<'q> {
    /// The name as it was sent, decoded.
    pub sent: Cow<'q, str>,
    /// The variable that PHP makes of it.
    pub name: String,
    /// The value, decoded.
    pub value: Cow<'q, str>,
}

/// The parameters of a query in their order. Empty ones are left out.
pub fn parameters(query: &str) -> impl Iterator<Item = Parameter<'_>> {
    query.split('&').filter(|parameter| !parameter.is_empty()).map(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let sent = decode(name);
        Parameter { name: php_name(&sent), sent, value: decode(value) }
    })
}

/// Whether a query asks Symfony to take the request for one of another method (Request::getMethod reads `_method` of a POST).
pub fn overrides_method(query: &str) -> bool {
    parameters(query).any(|parameter| parameter.name == "_method")
}

/// application/x-www-form-urlencoded: `+` is a space, `%XX` an octet; what is no escape stays.
fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        match octet {
            b'+' => octets.push(b' '),
            b'%' => {
                let mut ahead = rest.clone();
                match hex::octet(ahead.next(), ahead.next()) {
                    Some(value) => {
                        octets.push(value);
                        rest = ahead;
                    }
                    None => octets.push(b'%'),
                }
            }
            other => octets.push(other),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&octets).into_owned())
}

/// main/php_variables.c: leading spaces go, NUL ends the name, `.`, space and a `[` that is not closed become `_`, and a `[` that is
/// begins an array.
fn php_name(name: &str) -> String {
    let name = name.trim_start_matches(' ');
    let name = name.split('\0').next().unwrap_or_default();
    let name = match name.split_once('[') {
        Some((base, index)) if index.contains(']') && !base.is_empty() => base,
        _ => name,
    };
    name.replace(['.', ' ', '['], "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_php_makes_of_them() {
        let name = |sent: &str| parameters(sent).next().map(|parameter| parameter.name);
        for sent in [
            "per_page=1",
            "per.page=1",
            "per+page=1",
            "per%20page=1",
            "%20per_page=1",
            "per_page[]=1",
            "per_page[a][b]=1",
            "per[page=1",
            "per_page%00x=1",
            "per%5Fpage=1",
        ] {
            assert_eq!(name(sent).as_deref(), Some("per_page"), "{sent}");
        }
        assert_eq!(name("Per_page=1").as_deref(), Some("Per_page"));
        assert_eq!(name("&&"), None);
    }

    #[test]
    fn a_method_override_is_seen_in_every_spelling() {
        for query in [
            "_method=DELETE",
            "a=1&_method=PUT",
            "%5Fmethod=PUT",
            "_%6Dethod=PUT",
            "_method[]=PUT",
            ".method=PUT",
            "%5f%6d%65%74%68%6f%64=x",
        ] {
            assert!(overrides_method(query), "{query}");
        }
        for query in ["method=x", "a=_method", "x_method=1", "", "__method=1"] {
            assert!(!overrides_method(query), "{query}");
        }
    }
}
