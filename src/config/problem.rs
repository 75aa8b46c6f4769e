//! What is wrong with a configuration, and how that is shown.

use std::fmt::{self, Write as _};

use serde::Serialize;

/// A place in a file: line and column count from one, in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The first character.
    pub column: usize,
    /// How many characters to mark.
    pub width: usize,
}

impl Place {
    /// Where something stands that another problem is about.
    pub fn told(self) -> String {
        format!("the first is in line {}, column {}", self.line, self.column)
    }
}

/// Whether a configuration can be used in spite of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, and is probably not what was meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One problem: where, what, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Error or warning.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// What is wrong, in one sentence without its full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem that keeps the configuration from being used.
    pub fn error(place: Place, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, place, message: message.into(), hint: None }
    }

    /// A problem that does not.
    pub fn warning(place: Place, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(place, message) }
    }

    /// The same problem with advice.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// How many problems there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Errors.
    pub errors: usize,
    /// Warnings.
    pub warnings: usize,
}

impl Count {
    /// Counts them.
    pub fn of(problems: &[Problem]) -> Self {
        let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
        Self { errors, warnings: problems.len() - errors }
    }
}

impl fmt::Display for Count {
    /// `2 errors, 1 warning`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errors {
            0 => f.write_str("no errors")?,
            1 => f.write_str("1 error")?,
            errors => write!(f, "{errors} errors")?,
        }
        match self.warnings {
            0 => Ok(()),
            1 => f.write_str(", 1 warning"),
            warnings => write!(f, ", {warnings} warnings"),
        }
    }
}

/// Problems with the file they are in, shown as `file:line:column: error: …` with the line and a mark under it.
pub struct Report<'a> {
    /// The file's name as the operator gave it.
    pub file: &'a str,
    /// Its text.
    pub text: &'a str,
    /// What is wrong with it.
    pub problems: &'a [Problem],
    /// What of its text is secret.
    pub blots: &'a [Blot],
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted: Vec<&Problem> = self.problems.iter().collect();
        sorted.sort_by_key(|problem| (problem.place, problem.severity));
        sorted.into_iter().try_for_each(|problem| self.write_one(f, problem))
    }
}

impl Report<'_> {
    fn write_one(&self, f: &mut fmt::Formatter<'_>, problem: &Problem) -> fmt::Result {
        let Problem { severity, place, message, hint } = problem;
        writeln!(f, "{}:{}:{}: {severity}: {message}", self.file, place.line, place.column)?;
        if let Some(line) = place.line.checked_sub(1).and_then(|at| self.text.lines().nth(at)) {
            writeln!(f, "{:>5} | {}", place.line, without_secrets(place.line, line, self.blots))?;
            writeln!(f, "      | {}{}", indent(line, place.column), "^".repeat(place.width))?;
        }
        match hint {
            Some(hint) => writeln!(f, "      = {hint}"),
            None => Ok(()),
        }
    }
}

/// What stands before a column, as white space that is as wide.
fn indent(line: &str, column: usize) -> String {
    line.chars().take(column.saturating_sub(1)).map(|c| if c == '\t' { '\t' } else { ' ' }).collect()
}

/// The part of a file that is not to be shown: from a line and column up to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blot {
    /// The first character.
    pub from: (usize, usize),
    /// The first one behind it.
    pub to: (usize, usize),
}

/// A line with its secrets blotted out, every other character in its place.
fn without_secrets(number: usize, line: &str, blots: &[Blot]) -> String {
    let is_secret =
        |column: usize| blots.iter().any(|blot| blot.from <= (number, column) && (number, column) < blot.to);
    line.chars().enumerate().map(|(at, c)| if c != ' ' && is_secret(at + 1) { '*' } else { c }).collect()
}

/// `did you mean …` for a name that is near one of `known`.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let near = |other: &&str| strsim::damerau_levenshtein(name, other) <= 1 + name.len().max(other.len()) / 4;
    let best = known.into_iter().filter(near).min_by_key(|other| strsim::damerau_levenshtein(name, other))?;
    Some(format!("did you mean `{best}`?"))
}

/// `one of a, b, c`, for a name that must be among `known`.
pub fn one_of<'a>(known: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for name in known {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}`{name}`", if text.is_empty() { "expected one of " } else { ", " });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_shows_the_place_the_line_and_the_advice_in_the_order_of_the_file() {
        let text = "a: 1\nroutes: {x: {pth: /x}}\n";
        let problems = [
            Problem::warning(Place { line: 2, column: 14, width: 3 }, "unknown key `pth`").hint("did you mean `path`?"),
            Problem::error(Place { line: 1, column: 4, width: 1 }, "too small"),
        ];
        insta::assert_snapshot!(Report { file: "g.yaml", text, problems: &problems, blots: &[] }, @r"
        g.yaml:1:4: error: too small
            1 | a: 1
              |    ^
        g.yaml:2:14: warning: unknown key `pth`
            2 | routes: {x: {pth: /x}}
              |              ^^^
              = did you mean `path`?
        ");
    }

    #[test]
    fn a_blot_hides_its_characters_on_every_line_it_covers() {
        let blots = [Blot { from: (1, 5), to: (1, 8) }, Blot { from: (2, 3), to: (4, 2) }];
        let shown = |line| without_secrets(line, "abcd efgh", &blots);
        assert_eq!(
            [shown(1), shown(2), shown(3), shown(4), shown(5)],
            ["abcd **gh", "ab** ****", "**** ****", "*bcd efgh", "abcd efgh"]
        );
    }

    #[test]
    fn only_names_that_are_near_are_proposed() {
        assert_eq!(did_you_mean("limt", ["limit", "list"]), Some("did you mean `limit`?".into()));
        assert_eq!(did_you_mean("contact", ["contacts", "ai"]), Some("did you mean `contacts`?".into()));
        assert_eq!(did_you_mean("zebra", ["limit", "list"]), None);
    }
}
