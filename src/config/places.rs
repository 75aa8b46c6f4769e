//! Where in gateway.yaml a rule stands, to be named to whoever asks about it.

use crate::config::yaml::Node;

/// The lines of a file by the keys that stand there. No Debug: secrets may be written out in it.
#[derive(Clone)]
pub struct Places {
    file: String,
    tree: Option<Node>,
}

impl Places {
    pub(super) fn new(file: String, tree: Option<Node>) -> Self {
        Self { file, tree }
    }

    /// `file:line` of the key at `path`; `None` where it is not written.
    pub fn of(&self, path: &[&str]) -> Option<String> {
        let tree = self.tree.as_ref()?;
        tree.get(path)?;
        Some(format!("{}:{}", self.file, tree.nearest(path).line))
    }
}
