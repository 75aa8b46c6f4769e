//! Path patterns.

/// A path pattern: literal segments, `{name}` for one segment, a last `**` for the path itself and all below it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    pub(in crate::policy) text: String,
    pub(in crate::policy) segments: Vec<Segment>,
}

/// One part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::policy) enum Segment {
    Literal(Box<str>),
    Any,
    Below,
}

/// Why a text is no path pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternProblem {
    /// It does not begin with a slash.
    NotAbsolute,
    /// `**` somewhere else than at the end.
    BelowNotLast,
    /// `{`, `}` or `*` that is neither a whole `{name}` segment nor a whole last `**`.
    BadPlaceholder,
    /// A literal with a character that could also be spelled as an escape; only letters, digits and `-._~` have one spelling.
    BadLiteral,
    /// An empty, `.` or `..` segment, or a trailing slash: no canonical path looks like that.
    NotCanonical,
}

impl Pattern {
    /// Reads a pattern. Literals are limited to unreserved characters, which a canonical path spells in one way only.
    pub fn parse(text: &str) -> Result<Self, PatternProblem> {
        let rest = text.strip_prefix('/').ok_or(PatternProblem::NotAbsolute)?;
        let mut segments = Vec::new();
        if !rest.is_empty() {
            for segment in rest.split('/') {
                if segments.last() == Some(&Segment::Below) {
                    return Err(PatternProblem::BelowNotLast);
                }
                segments.push(Segment::parse(segment)?);
            }
        }
        Ok(Self { text: text.to_owned(), segments })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern matches one path alone.
    pub fn is_literal(&self) -> bool {
        self.segments.iter().all(|segment| matches!(segment, Segment::Literal(_)))
    }

    /// Whether the two patterns match the same paths: they differ in nothing but placeholder names.
    pub fn same_paths(&self, other: &Self) -> bool {
        self.segments == other.segments
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, PatternProblem> {
        if text == "**" {
            return Ok(Self::Below);
        }
        if let Some(name) = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
            let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            return is_name.then_some(Self::Any).ok_or(PatternProblem::BadPlaceholder);
        }
        if text.contains(['{', '}', '*']) {
            return Err(PatternProblem::BadPlaceholder);
        }
        if matches!(text, "" | "." | "..") {
            return Err(PatternProblem::NotCanonical);
        }
        let is_unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        text.bytes().all(is_unreserved).then(|| Self::Literal(text.into())).ok_or(PatternProblem::BadLiteral)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_says_what_is_wrong_with_it() {
        use PatternProblem::*;
        for (text, problem) in [
            ("contacts", NotAbsolute),
            ("/a/**/b", BelowNotLast),
            ("/a/*", BadPlaceholder),
            ("/a/{}", BadPlaceholder),
            ("/a/x{id}", BadPlaceholder),
            ("/a/{id", BadPlaceholder),
            ("/a b", BadLiteral),
            ("/a%20b", BadLiteral),
            ("/a@b", BadLiteral),
            ("/a/", NotCanonical),
            ("/a//b", NotCanonical),
            ("/a/../b", NotCanonical),
        ] {
            assert_eq!(Pattern::parse(text), Err(problem), "{text}");
        }
    }
}
