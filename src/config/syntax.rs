//! What is not YAML, in words for somebody who edits a file rather than for somebody who writes a parser.

use crate::config::problem::{Place, Problem};

/// What the parser says (a part of it), what is wrong, and what to do.
const WORDS: [(&str, &str, &str); 16] = [
    ("mapping values are not allowed", "a `:` is not expected here", INDENTATION),
    (
        "simple key expect",
        "a `:` is missing in what stands above",
        "each line is `key: value`, or `- ` and an entry of a list",
    ),
    ("did not find expected key", "this line does not fit to the ones above it", INDENTATION),
    ("did not find expected '-'", "a `- ` or less indentation is expected here", INDENTATION),
    (
        "invalid indentation in quoted",
        "a quote is opened here and not closed",
        "close it, or double it to have one in the text",
    ),
    (
        "invalid indentation in flow",
        "this line begins while a `[` or `{` above it is still open",
        "close that one, or indent what belongs into it",
    ),
    ("invalid indentation", "this line is not indented far enough", OPEN),
    ("tab", "a tab cannot indent a line", "use spaces"),
    (
        "quoted scalar, found unexpected end",
        "a quote is opened and never closed",
        "close it, or double it to have one in the text",
    ),
    (
        "unknown escape character",
        "this escape is not known in \"double quotes\"",
        "'single quotes' take a backslash as it is",
    ),
    (
        "flow sequence, expected ',' or ']'",
        "a list that begins with `[` is not closed",
        "write `,` between its entries and `]` at its end",
    ),
    (
        "flow mapping, did not find",
        "keys that begin with `{` are not closed",
        "write `,` between them and `}` at their end; put ${NAME} in quotes here",
    ),
    (
        "trailing content after",
        "something follows the closing quote",
        "put all of the value into the quotes, or a `,` between two values",
    ),
    ("unexpected character", "a value cannot begin with this character", "put the value in quotes"),
    (
        "unknown anchor",
        "this alias refers to nothing above it",
        "an anchor is `&name`, its alias `*name`; a value that begins with `*` needs quotes",
    ),
    ("misplaced bracket", "this bracket closes nothing", "remove it, or open one before it"),
];
const OPEN: &str = "is a bracket or a quote above it still open? Else indent it like its neighbours";
const INDENTATION: &str = "is the line indented like its neighbours? A text with `: ` in it needs quotes";

/// The problem for what the parser says about a place.
pub fn problem(place: Place, said: &str) -> Problem {
    match WORDS.iter().find(|(part, ..)| said.contains(part)) {
        Some((_, message, hint)) => Problem::error(place, format!("this is not YAML: {message}")).hint(*hint),
        None => Problem::error(place, format!("this is not YAML: {}", said.replace('`', "'"))),
    }
}
