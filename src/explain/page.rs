//! How an explanation is laid out: a line a fact, with where it stands in gateway.yaml, and nothing that a terminal would obey.

use std::fmt::{self, Write as _};

use crate::telemetry::plain;

/// Whether a request comes through a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It does.
    Passes,
    /// It is refused there.
    Refused,
    /// It is not known, or it does not come there.
    Open,
}

/// One step on the way of a request, with what is to be said of it.
#[derive(Debug)]
pub struct Step {
    mark: Mark,
    name: &'static str,
    facts: Vec<String>,
}

impl Step {
    /// A step without facts.
    pub fn new(name: &'static str, mark: Mark) -> Self {
        Self { mark, name, facts: Vec::new() }
    }

    /// The same with one more fact.
    #[must_use]
    pub fn fact(mut self, fact: impl Into<String>) -> Self {
        self.facts.push(fact.into());
        self
    }

    /// The same with one more fact, where there is one.
    #[must_use]
    pub fn maybe(self, fact: Option<String>) -> Self {
        match fact {
            Some(fact) => self.fact(fact),
            None => self,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.mark {
            Mark::Passes => "ok",
            Mark::Refused => "NO",
            Mark::Open => "",
        };
        let (mut mark, mut name) = (mark, self.name);
        for fact in &self.facts {
            writeln!(f, "{mark:>4}  {name:<9} {}", plain(fact))?;
            (mark, name) = ("", "");
        }
        Ok(())
    }
}

/// A sentence with the places that it is about, behind it in brackets.
pub fn with_places(sentence: impl Into<String>, places: impl IntoIterator<Item = Option<String>>) -> String {
    let mut places: Vec<String> = places.into_iter().flatten().collect();
    places.dedup();
    let mut text = sentence.into();
    if !places.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(text, " ({})", places.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_its_name_once_and_no_fact_moves_the_cursor() {
        let step = Step::new("route", Mark::Passes).fact("contacts").fact("be\u{1b}[2Jfore\nall");
        assert_eq!(step.to_string(), "  ok  route     contacts\n                be\\u{1b}[2Jfore\\nall\n");
        assert_eq!(Step::new("route", Mark::Open).maybe(None).to_string(), "");
    }

    #[test]
    fn a_place_that_is_not_written_is_not_named() {
        let places = [Some("g.yaml:1".to_owned()), Some("g.yaml:1".to_owned()), None];
        assert_eq!(with_places("A scope", places), "A scope (g.yaml:1)");
        assert_eq!(with_places("A scope", [None]), "A scope");
    }
}
