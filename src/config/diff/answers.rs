//! How answers look: errors, the fields about limits, and what browsers are told.

use crate::config::diff::Effect;
use crate::config::diff::comparison::{Comparison, told, weaker};
use crate::config::diff::words::{bytes, list};
use crate::policy::cors::{Cors, Origins};
use crate::policy::normalise::BackendErrors;

impl Comparison<'_> {
    pub(super) fn answers(&mut self) {
        self.backend_errors();
        if self.old.config.ietf_headers != self.new.config.ietf_headers {
            let verb = if self.new.config.ietf_headers { "are" } else { "are no longer" };
            let said =
                told(Effect::Altered, format!("RateLimit and RateLimit-Policy {verb} sent beside X-RateLimit-*"));
            self.say(said, self.spot(&[&["rate_limit_headers", "ietf"]]));
        }
        match (&self.old.config.policy.cors, &self.new.config.policy.cors) {
            (None, None) => {}
            (None, Some(cors)) => {
                let text = format!("pages of {} may call from a browser", origins(cors));
                self.say(told(Effect::Opened, text), self.spot(&[&["cors"]]));
            }
            (Some(_), None) => {
                let text = "browsers are told nothing any more: pages of other origins cannot call, and OPTIONS goes to the routes";
                self.say(told(Effect::Refused, text), self.spot(&[&["cors"]]));
            }
            (Some(old), Some(new)) => self.cors(old, new),
        }
    }

    fn backend_errors(&mut self) {
        let spot = self.spot(&[&["errors", "backend"], &["errors"]]);
        match (&self.old.config.policy.backend_errors, &self.new.config.policy.backend_errors) {
            (BackendErrors::Normalise { .. }, BackendErrors::Pass) => {
                let text = "a backend's own error bodies pass, with whatever they tell of its insides";
                self.say(weaker(Effect::Disclosed, text), spot);
            }
            (BackendErrors::Pass, BackendErrors::Normalise { .. }) => {
                self.say(told(Effect::Altered, "a backend's own error bodies become envelopes"), spot);
            }
            (BackendErrors::Normalise { body_bytes: old, .. }, BackendErrors::Normalise { body_bytes: new, .. })
                if old != new =>
            {
                let size = |size: &usize| bytes((*size).try_into().unwrap_or(u64::MAX));
                let text = format!("{} of a backend's error body are read; it was {}", size(new), size(old));
                self.say(told(Effect::Altered, text), self.spot(&[&["errors", "body_bytes"]]));
            }
            _ => {}
        }
    }

    fn cors(&mut self, old: &Cors, new: &Cors) {
        if old.origins != new.origins {
            let text = format!("pages of {} may call from a browser; it was {}", origins(new), origins(old));
            let effect = if is_within(&new.origins, &old.origins) { Effect::Refused } else { Effect::Opened };
            self.say(told(effect, text), self.spot(&[&["cors", "origins"]]));
        }
        if old.credentials != new.credentials {
            let verb = if new.credentials { "send" } else { "no longer send" };
            let effect = if new.credentials { Effect::Opened } else { Effect::Altered };
            let text = format!("browsers {verb} what they know of the user by themselves, cookies above all");
            self.say(told(effect, text), self.spot(&[&["cors", "credentials"]]));
        }
        for (key, old, new) in [
            ("methods", &old.methods, &new.methods),
            ("headers", &old.headers, &new.headers),
            ("expose", &old.expose, &new.expose),
            ("max_age", &old.max_age, &new.max_age),
        ] {
            let show = |value: &http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
            let sorted = |value| {
                let mut names: Vec<String> = show(value).split(", ").map(str::to_lowercase).collect();
                names.sort_unstable();
                names
            };
            if sorted(old) != sorted(new) {
                let text = format!("browsers are told `{key}` {}; it was {}", show(new), show(old));
                self.say(told(Effect::Altered, text), self.spot(&[&["cors", key]]));
            }
        }
    }
}

fn origins(cors: &Cors) -> String {
    match &cors.origins {
        Origins::Any => "any origin".to_owned(),
        Origins::These(these) => {
            list(&these.iter().map(|one| one.to_str().unwrap_or_default().to_owned()).collect::<Vec<_>>())
        }
    }
}

fn is_within(these: &Origins, those: &Origins) -> bool {
    match (these, those) {
        (_, Origins::Any) => true,
        (Origins::Any, Origins::These(_)) => false,
        (Origins::These(these), Origins::These(those)) => these.iter().all(|one| those.contains(one)),
    }
}
