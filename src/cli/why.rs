//! `why`: what became of a request, from its line in the log.

use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::check::load;
use crate::cli::{ConfigArgument, Failure, print};
use crate::config::places::Places;
use crate::explain::bounded::Lines;
use crate::explain::line::{Read, read};
use crate::explain::story::story;

#[derive(Args)]
pub(super) struct Why {
    /// The id of the request: the X-Request-Id of its answer.
    request_id: String,
    /// Where the log is; `-` reads it from standard input.
    #[arg(long, value_name = "FILE", default_value = "-")]
    log: PathBuf,
    #[command(flatten)]
    config: ConfigArgument,
}

pub(super) fn why(asked: &Why) -> Result<(), Failure> {
    if asked.request_id.is_empty() {
        return Err("which request? Its id is the X-Request-Id of its answer".to_owned().into());
    }
    let input: Box<dyn BufRead> = match asked.log.as_os_str() == "-" {
        true => Box::new(BufReader::new(std::io::stdin().lock())),
        false => Box::new(BufReader::with_capacity(64 << 10, open(&asked.log)?)),
    };
    let places = places(&asked.config.config);
    let mut lines = Lines::new(input);
    let (mut found, mut unreadable) = (0_u64, 0_u64);
    while let Some(line) = lines.next_line().map_err(|error| format!("cannot read the log: {}", error.kind()))? {
        match read(line, &asked.request_id) {
            Read::Access(line) => {
                print(&story(&line, places.as_ref()))?;
                found += 1;
            }
            Read::Unreadable => unreadable += 1,
            Read::Other => {}
        }
    }
    tell_skipped(lines.skipped, unreadable);
    match found {
        0 => Err(format!("{} is not in this log; {HINT}", plain_id(&asked.request_id)).into()),
        _ => Ok(()),
    }
}

/// What may be the matter when a request is not found.
const HINT: &str = "is it the log of that gateway and of that time? With observability.log.sample below 1 most successes have no line, \
    and above level: info no fault of a caller has one";

/// An id as one word of a message: it may be anything that was typed.
fn plain_id(id: &str) -> String {
    crate::telemetry::plain(id).into_owned()
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| format!("cannot read {}: {}", path.display(), error.kind()).into())
}

/// Where the rules stand, if there is a file that says so: a log is often read where the configuration is not.
fn places(path: &Path) -> Option<Places> {
    load(path).ok()?.into_located().ok().map(|located| located.places)
}

/// On standard error, because it is no part of any story.
fn tell_skipped(long: u64, unreadable: u64) {
    let mut errors = std::io::stderr();
    if long > 0 {
        // Nobody is left to tell if this fails.
        let _ = writeln!(errors, "mailtrixy-gateway: {long} lines are longer than any access line and were left out");
    }
    if unreadable > 0 {
        let _ = writeln!(
            errors,
            "mailtrixy-gateway: {unreadable} lines name the request and are neither JSON nor in the columns of log.format: text; was \
             something put before them?"
        );
    }
}
