//! `keys:` of a signed source: what tokens may be signed with.

use std::path::Path;

use crate::config::compile::Compiler;
use crate::config::compile::files::Emptiness;
use crate::config::document::{AlgorithmDocument, KeyDocument};
use crate::policy::signed::{KeyProblem, VerifyingKey};

impl Compiler<'_> {
    pub(super) fn key(&mut self, path: &[&str], document: &KeyDocument) -> Option<VerifyingKey> {
        let id = document.id.clone();
        let at = [path, &[self.key_of_material(path, document)?]].concat();
        let material = match document.algorithm {
            AlgorithmDocument::HS256 => {
                let path = [path, &["secret"]].concat();
                self.secret(&path, document.secret.as_ref(), document.secret_file.as_deref(), Emptiness::IsAnError)?.0
            }
            _ => self.public_key(path, document)?,
        };
        let key = match document.algorithm {
            AlgorithmDocument::HS256 => VerifyingKey::hmac(id, material.as_bytes()),
            AlgorithmDocument::RS256 => VerifyingKey::rsa(id, material.as_bytes()),
            AlgorithmDocument::ES256 => VerifyingKey::ecdsa(id, material.as_bytes()),
            AlgorithmDocument::EdDSA => VerifyingKey::eddsa(id, material.as_bytes()),
        };
        key.map_err(|problem| match problem {
            KeyProblem::ShortSecret => {
                self.error(&at, "the secret of an HS256 key has at least 32 bytes (RFC 7518 section 3.2)").hint =
                    Some("openssl rand -base64 48 makes one".into());
            }
            KeyProblem::ShortRsa => {
                self.error(&at, "an RSA key has at least 2048 bits (RFC 7518 section 3.3)").hint =
                    Some("openssl genrsa 2048 makes one".into());
            }
            KeyProblem::NotAKey => {
                let message = format!("this is not a public key for {:?} in PEM", document.algorithm);
                self.error(&at, message).hint = Some("it begins with -----BEGIN PUBLIC KEY-----".into());
            }
        })
        .ok()
    }

    /// Which of its keys gives the material, if it is one that goes with the algorithm.
    fn key_of_material(&mut self, path: &[&str], document: &KeyDocument) -> Option<&'static str> {
        let given = [
            ("secret", document.secret.is_some()),
            ("secret_file", document.secret_file.is_some()),
            ("public_key", document.public_key.is_some()),
            ("public_key_file", document.public_key_file.is_some()),
        ];
        let given = || given.iter().filter(|(_, is_given)| *is_given).map(|(key, _)| *key);
        let wanted = if document.algorithm == AlgorithmDocument::HS256 { "secret" } else { "public_key" };
        if let Some(unwanted) = given().find(|key| !key.starts_with(wanted)) {
            let message = format!("a key for {:?} has no `{unwanted}`", document.algorithm);
            self.error(&[path, &[unwanted]].concat(), message).hint =
                Some(format!("it is given by `{wanted}` or `{wanted}_file` alone"));
            return None;
        }
        let first = given().next();
        if first.is_none() && !self.is_struck(path) {
            self.error(path, format!("a key for {:?} needs `{wanted}` or `{wanted}_file`", document.algorithm));
        }
        first
    }

    fn public_key(&mut self, path: &[&str], document: &KeyDocument) -> Option<String> {
        match (&document.public_key, document.public_key_file.as_deref()) {
            (Some(pem), None) => Some(pem.clone()),
            (None, Some(file)) => self.file(&[path, &["public_key_file"]].concat(), file),
            (None, None) => None,
            (Some(_), Some(_)) => {
                self.error(
                    &[path, &["public_key_file"]].concat(),
                    "`public_key` and `public_key_file` are both given",
                )
                .hint = Some("keep one of them".into());
                None
            }
        }
    }

    fn file(&mut self, path: &[&str], file: &Path) -> Option<String> {
        std::fs::read_to_string(file).map_err(|error| self.unreadable(path, file, &error)).ok()
    }
}
