//! Where in gateway.yaml a rule stands, to be named to whoever asks about it.

use crate::config::yaml::Node;

/// The lines of a file by the keys that stand there. No Debug: secrets may be written out in it.
pub struct Places {
    file: String,
    tree: Node,
}

impl Places {
    pub(super) fn new(file: String, tree: Node) -> Self {
        Self { file, tree }
    }

    /// `file:line` of the key at `path`; `None` where it is not written.
    pub fn of(&self, path: &[&str]) -> Option<String> {
        self.line(path).map(|line| format!("{}:{line}", self.file))
    }

    /// The line of the key at `path`; `None` where it is not written.
    pub fn line(&self, path: &[&str]) -> Option<usize> {
        self.tree.get(path).map(|_| self.nearest(path))
    }

    /// The line of the key at `path`, or of the nearest one above it that is written.
    pub fn nearest(&self, path: &[&str]) -> usize {
        self.tree.key_place(path).line
    }
}
