//! `check`: everything that is wrong with a configuration, in one go.

use std::path::Path;

use clap::ValueEnum;
use serde::Serialize;

use crate::cli::{Failure, print};
use crate::config::problem::{Problem, Severity};
use crate::config::{Loaded, process_environment};

/// Who reads what `check` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// People: each problem with its line and a mark under it, and how many there are.
    #[default]
    Text,
    /// Programs: one object with `file`, `ok` and `problems`.
    Json,
}

pub(super) fn check(path: &Path, format: Format) -> Result<(), Failure> {
    let loaded = load(path)?;
    match format {
        Format::Text => print(&text(&loaded))?,
        Format::Json => print(&json(&loaded)?)?,
    }
    if loaded.is_broken() { Err(Failure::No) } else { Ok(()) }
}

fn text(loaded: &Loaded) -> String {
    let summary = if loaded.problems.is_empty() {
        format!("{} is fine", loaded.file)
    } else {
        format!("{}: {}", loaded.file, loaded.count())
    };
    format!("{}{summary}\n", loaded.report())
}

/// The file with all of its problems, as `--format json` prints it.
#[derive(Serialize)]
struct Findings<'a> {
    file: &'a str,
    ok: bool,
    problems: Vec<Finding<'a>>,
}

/// One problem. Lines and columns count from one, in characters; `end_column` is the one behind what is marked.
#[derive(Serialize)]
struct Finding<'a> {
    severity: Severity,
    line: usize,
    column: usize,
    end_column: usize,
    message: &'a str,
    hint: Option<&'a str>,
}

impl<'a> From<&'a Problem> for Finding<'a> {
    fn from(problem: &'a Problem) -> Self {
        let Problem { severity, place, message, hint } = problem;
        Self {
            severity: *severity,
            line: place.line,
            column: place.column,
            end_column: place.column + place.width,
            message,
            hint: hint.as_deref(),
        }
    }
}

fn json(loaded: &Loaded) -> Result<String, Failure> {
    let problems = loaded.problems.iter().map(Finding::from).collect();
    let findings = Findings { file: &loaded.file, ok: !loaded.is_broken(), problems };
    let text = serde_json::to_string_pretty(&findings).map_err(|error| Failure::Because(error.to_string()))?;
    Ok(text + "\n")
}

/// Reads a configuration for any command.
pub(super) fn load(path: &Path) -> Result<Loaded, Failure> {
    Loaded::from_path(path, &process_environment).map_err(|error| {
        Failure::Because(format!("cannot read {}: {}; name another file with -c", path.display(), error.kind()))
    })
}
