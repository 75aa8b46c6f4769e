//! Files that gateway.yaml names, and secrets, which stand in it or in a file of their own.

use std::io::{Error, ErrorKind};
use std::path::Path;

use crate::config::compile::Compiler;
use crate::config::units::Secret;
use crate::tls::unreadable;

/// What an empty secret means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Emptiness {
    MeansNone,
    IsAnError,
}

impl Compiler<'_> {
    /// A certificate and its key, which are of no use alone.
    pub(super) fn pair(&mut self, path: &[&str], has_certificate: bool, has_key: bool) {
        let (given, missing) = match (has_certificate, has_key) {
            (true, false) => ("certificate", "key"),
            (false, true) => ("key", "certificate"),
            _ => return,
        };
        let given_path = [path, &[given]].concat();
        self.error(&given_path, format!("`{given}` needs `{missing}` beside it")).hint =
            Some("a certificate and its key belong together".into());
    }

    pub(super) fn readable(&mut self, path: &[&str], file: Option<&Path>) {
        if let Some(file) = file
            && let Err(error) = std::fs::read(file)
        {
            self.unreadable(path, file, &error);
        }
    }

    pub(super) fn unreadable(&mut self, path: &[&str], file: &Path, error: &Error) {
        let hint = match error.kind() {
            ErrorKind::NotFound if file.is_relative() => {
                Some("it is looked for from where the gateway is started".to_owned())
            }
            ErrorKind::PermissionDenied => {
                Some("run `check` as the user that the gateway runs as, and let that user read it".to_owned())
            }
            _ => None,
        };
        self.error(path, unreadable(file, error)).hint = hint;
    }

    /// A secret from its key or from the file that `<key>_file` names, without the line end that editors leave.
    pub(super) fn secret(
        &mut self,
        path: &[&str],
        inline: Option<&Secret>,
        file: Option<&Path>,
        emptiness: Emptiness,
    ) -> Option<Secret> {
        let (key, parent) = path.split_last()?;
        match (inline, file) {
            (Some(_), Some(_)) => {
                self.error(path, format!("`{key}` and `{key}_file` are both given")).hint =
                    Some("keep one of them".into());
                None
            }
            (Some(Secret(text)), None) if text.is_empty() => {
                if emptiness == Emptiness::IsAnError {
                    self.error(path, format!("`{key}` is empty"));
                }
                None
            }
            (Some(inline), None) => Some(inline.clone()),
            (None, Some(file)) => self.secret_of_file(&[parent, &[format!("{key}_file").as_str()]].concat(), file),
            (None, None) => None,
        }
    }

    fn secret_of_file(&mut self, path: &[&str], file: &Path) -> Option<Secret> {
        match std::fs::read_to_string(file) {
            Ok(text) => {
                let text = text.trim_end_matches(['\r', '\n']);
                if text.is_empty() {
                    self.error(path, format!("the file {} is empty", file.display()));
                }
                (!text.is_empty()).then(|| Secret(text.to_owned()))
            }
            Err(error) => {
                self.unreadable(path, file, &error);
                None
            }
        }
    }
}
