//! What a client may send before anything else is looked at.

use std::fmt::Display;

use crate::config::diff::Effect;
use crate::config::diff::comparison::{Comparison, Keys, told, weaker};
use crate::config::diff::words::{bytes, span};

impl Comparison<'_> {
    pub(super) fn bounds(&mut self) {
        let (old, new) = (&self.old.config.request, &self.new.config.request);
        let size = |size: usize| bytes(size.try_into().unwrap_or(u64::MAX));
        self.bound(&["request", "header_bytes"], old.header_bytes, new.header_bytes, size);
        self.bound(&["request", "headers"], old.headers, new.headers, number);
        self.bound(&["request", "header_timeout"], old.header_timeout, new.header_timeout, span);
        self.bound(&["request", "body_timeout"], old.body_timeout, new.body_timeout, span);
        self.bound(&["request", "idle_timeout"], old.idle_timeout, new.idle_timeout, span);
        self.bound(&["request", "connections"], old.connections, new.connections, number);
        self.bound(&["request", "in_flight"], old.in_flight, new.in_flight, number);
    }

    /// A bound on what clients can do: to raise it takes protection away.
    pub(super) fn bound<T: PartialOrd + Copy>(&mut self, keys: Keys<'_>, old: T, new: T, show: fn(T) -> String) {
        if old == new {
            return;
        }
        let text = format!("{} is {}; it was {}", keys.join("."), show(new), show(old));
        let said = if new > old { weaker(Effect::Loosened, text) } else { told(Effect::Tightened, text) };
        self.say(said, self.spot(&[keys]));
    }
}

/// As it is written.
pub(super) fn number<T: Display>(number: T) -> String {
    number.to_string()
}
