//! gateway.yaml, from text to rules.
//!
//! `run`, `check` and a reload go the same way: [`read`] the text, [`compile`] the document, and use the result only if no
//! problem is an error.

pub mod compile;
mod decode;
pub mod diff;
pub mod document;
pub mod obstacle;
pub mod places;
pub mod problem;
pub mod read;
pub mod redis_url;
pub mod reference;
pub mod schema;
pub mod secrets;
pub mod settings;
mod syntax;
pub mod units;
pub mod yaml;

use std::net::SocketAddr;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::config::places::Places;
use crate::config::problem::{Blot, Count, Problem, Report, Severity};
use crate::config::read::Environment;
use crate::config::settings::Config;
use crate::config::yaml::Node;

/// A file as it was found, with everything that is wrong with it. No Debug: secrets may be written out in it.
pub struct Loaded {
    /// The file's name as the operator gave it.
    pub file: String,
    /// Its text.
    pub text: String,
    /// Errors and warnings.
    pub problems: Vec<Problem>,
    blots: Vec<Blot>,
    config: Option<Config>,
    tree: Option<Node>,
}

/// A configuration that can be used, and where everything in it was written. No Debug, as [`Loaded`].
pub struct Located {
    /// What it says.
    pub config: Config,
    /// Where it says so.
    pub places: Places,
}

impl Loaded {
    /// Reads and compiles `path`.
    pub fn from_path(path: &Path, environment: Environment<'_>) -> std::io::Result<Self> {
        Ok(Self::from_text(path.display().to_string(), std::fs::read_to_string(path)?, environment))
    }

    /// Reads and compiles `text`, which is called `file` in messages.
    pub fn from_text(file: String, text: String, environment: Environment<'_>) -> Self {
        let (mut problems, mut blots) = (Vec::new(), Vec::new());
        let reading = read::read(&text, environment, &mut problems, &mut blots);
        let digest = Sha256::digest(&text).into();
        let config = reading.as_ref().map(|reading| compile::compile(reading, digest, &mut problems));
        secrets::keep(&mut problems, &text, &blots);
        problems.sort_by_key(|problem| (problem.place, problem.severity));
        Self { file, text, problems, blots, config, tree: reading.map(|reading| reading.tree) }
    }

    /// Whether a problem keeps the configuration from being used.
    pub fn is_broken(&self) -> bool {
        self.config.is_none() || self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// The configuration, or what is wrong with it as a text to show.
    pub fn into_config(self) -> Result<Config, String> {
        let report = self.report();
        if self.is_broken() { Err(report) } else { self.config.ok_or(report) }
    }

    /// The same with the places of what it says.
    pub fn into_located(mut self) -> Result<Located, String> {
        let (tree, report) = (self.tree.take(), self.report());
        let places = Places::new(self.file.clone(), tree.ok_or(report)?);
        Ok(Located { config: self.into_config()?, places })
    }

    /// Where the admin listener is, by a broken configuration too; its default where that itself cannot be read.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.config.as_ref().map(|config| config.process.admin)
    }

    /// How many errors and warnings there are.
    pub fn count(&self) -> Count {
        Count::of(&self.problems)
    }

    /// All problems as a text to show.
    pub fn report(&self) -> String {
        Report { file: &self.file, text: &self.text, problems: &self.problems, blots: &self.blots }.to_string()
    }
}

/// The variables of this process.
pub fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
