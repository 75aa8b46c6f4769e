//! Which tokens are let in, and where they and the counts are kept.

use std::time::Duration;

use crate::config::diff::Effect;
use crate::config::diff::bounds::number;
use crate::config::diff::comparison::{Comparison, Keys, Said, told, weaker};
use crate::config::diff::words::span;
use crate::config::settings::{JwksSettings, RedisSettings, SourceSettings, SqlKind, SqlSettings};
use crate::policy::credential::ChecksumMode;
use crate::policy::signed::{Expected, KeySet};

impl Comparison<'_> {
    pub(super) fn auth(&mut self) {
        let (old, new) = (&self.old.config.auth, &self.new.config.auth);
        if old.grammar.prefix != new.grammar.prefix {
            let text = format!(
                "tokens begin with `{}` instead of `{}`: all others are refused",
                new.grammar.prefix, old.grammar.prefix
            );
            self.say(told(Effect::Refused, text), self.spot(&[&["auth", "token_prefix"]]));
        }
        self.checksum(old.grammar.checksum, new.grammar.checksum);
        self.expiration(old.max_age, new.max_age);
        self.sources(&old.sources, &new.sources);
        if old.cache.ttl != new.cache.ttl || old.cache.stale_cap != new.cache.stale_cap {
            let cached = |ttl: Duration, stale: Duration| {
                format!("{} (and {} more without their store)", span(ttl), span(stale))
            };
            let (now, was) = (cached(new.cache.ttl, new.cache.stale_cap), cached(old.cache.ttl, old.cache.stale_cap));
            let text = format!("known tokens are believed for {now}; it was {was}");
            self.say(told(Effect::Altered, text), self.spot(&[&["auth", "cache"]]));
        }
        let failures = |most: Option<u32>| most.unwrap_or(u32::MAX);
        let show = |most: u32| if most == u32::MAX { "no bound".to_owned() } else { most.to_string() };
        let keys = ["auth", "failures", "per_minute"];
        self.bound(&keys, failures(old.look_ups.failures_per_minute), failures(new.look_ups.failures_per_minute), show);
        self.bound(&["auth", "look_ups", "per_second"], old.look_ups.per_second, new.look_ups.per_second, number);
        self.bound(&["auth", "look_ups", "in_flight"], old.look_ups.in_flight, new.look_ups.in_flight, number);
        self.redis(self.old.config.redis.as_ref(), self.new.config.redis.as_ref());
    }

    fn checksum(&mut self, old: ChecksumMode, new: ChecksumMode) {
        let strictness = |mode| match mode {
            ChecksumMode::Required => 2,
            ChecksumMode::IfPresent => 1,
            ChecksumMode::Off => 0,
        };
        let text = match new {
            ChecksumMode::Required => "opaque tokens without a checksum are refused",
            ChecksumMode::IfPresent => "the checksum of an opaque token is looked at where it has one",
            ChecksumMode::Off => "the checksum of opaque tokens is not looked at",
        };
        let said = match strictness(new).cmp(&strictness(old)) {
            std::cmp::Ordering::Less => weaker(Effect::Opened, text),
            std::cmp::Ordering::Equal => return,
            std::cmp::Ordering::Greater => told(Effect::Refused, text),
        };
        self.say(said, self.spot(&[&["auth", "checksum"]]));
    }

    fn expiration(&mut self, old: Option<Duration>, new: Option<Duration>) {
        let said = match (old, new) {
            (old, new) if old == new => return,
            (None, Some(age)) => {
                told(Effect::Refused, format!("opaque tokens end {} after they were made; age ended none", span(age)))
            }
            (Some(age), None) => {
                weaker(Effect::Opened, format!("opaque tokens no longer end by age; it was {}", span(age)))
            }
            (Some(old), Some(new)) => {
                let text = format!("opaque tokens end {} after they were made; it was {}", span(new), span(old));
                if new > old { weaker(Effect::Opened, text) } else { told(Effect::Refused, text) }
            }
            (None, None) => return,
        };
        self.say(said, self.spot(&[&["auth", "expiration"]]));
    }

    fn sources(&mut self, old: &[SourceSettings], new: &[SourceSettings]) {
        for (at, source) in old.iter().enumerate() {
            if !new.iter().any(|other| name(other) == name(source)) {
                let said = told(Effect::Refused, format!("tokens are refused that only {} knows", name(source)));
                self.say(said, self.old_spot(&["auth", "sources", &at.to_string()]));
            }
        }
        for (at, source) in new.iter().enumerate() {
            let at = at.to_string();
            let spot = self.spot(&[&["auth", "sources", &at], &["auth", "sources"]]);
            match old.iter().find(|other| name(other) == name(source)) {
                None => self.say(told(Effect::Opened, format!("tokens come in that {} knows", name(source))), spot),
                Some(before) => self.source(&["auth", "sources", &at], before, source),
            }
        }
        let order = |of: &[SourceSettings], others: &[SourceSettings]| {
            let is_common = |one: &String| others.iter().any(|other| name(other) == *one);
            of.iter().map(name).filter(is_common).collect::<Vec<_>>()
        };
        if order(old, new) != order(new, old) {
            let said = told(Effect::Altered, "the sources of tokens are asked in another order");
            self.say(said, self.spot(&[&["auth", "sources"]]));
        }
    }

    fn source(&mut self, keys: Keys<'_>, old: &SourceSettings, new: &SourceSettings) {
        let spot = self.spot(&[keys]);
        match (old, new) {
            (
                SourceSettings::Signed { expected: old_one, keys: old_keys, jwks: old_jwks },
                SourceSettings::Signed { expected, keys, jwks },
            ) => {
                for said in [leeway(old_one, expected), published(name(new), old_jwks.as_ref(), jwks.as_ref())]
                    .into_iter()
                    .flatten()
                    .chain(signing_keys(&name(new), old_keys, keys))
                {
                    self.say(said, spot);
                }
            }
            (old, new) if old != new => {
                self.say(told(Effect::Altered, format!("{} is asked in another way", name(new))), spot);
            }
            _ => {}
        }
    }

    fn redis(&mut self, old: Option<&RedisSettings>, new: Option<&RedisSettings>) {
        let spot = self.spot(&[&["redis", "url"], &["redis", "url_file"], &["redis"]]);
        match (old, new) {
            (None, None) => {}
            (Some(_), None) => {
                self.say(
                    weaker(
                        Effect::Loosened,
                        "without Redis each gateway counts limits by itself, and revocations are not heard of",
                    ),
                    spot,
                );
            }
            (None, Some(_)) => {
                self.say(told(Effect::Tightened, "all gateways count limits together, in Redis, from nothing"), spot)
            }
            (Some(old), Some(new)) => {
                if (&old.link.url, &old.link.url_file) != (&new.link.url, &new.link.url_file) {
                    let text = "`redis.url` is another: counts, revocations and tokens are those that are found there";
                    self.say(told(Effect::Altered, text), spot);
                }
                if old.link.key_prefix != new.link.key_prefix {
                    let text = "`redis.key_prefix` is another: counts begin anew, and revocations under the old one are not seen";
                    self.say(told(Effect::Altered, text), self.spot(&[&["redis", "key_prefix"]]));
                }
                if old.deadline != new.deadline {
                    let text = format!(
                        "a decision about limits waits {} for Redis; it was {}",
                        span(new.deadline),
                        span(old.deadline)
                    );
                    self.say(told(Effect::Altered, text), self.spot(&[&["redis", "deadline"]]));
                }
            }
        }
    }
}

/// What a source is known by. No secret: urls have passwords.
fn name(source: &SourceSettings) -> String {
    match source {
        SourceSettings::Signed { expected, .. } => {
            format!("the issuer `{}` for `{}`", expected.issuer, expected.audience)
        }
        SourceSettings::Redis { key_prefix } => format!("Redis under `{key_prefix}`"),
        SourceSettings::Sql(SqlSettings { kind: SqlKind::MySql, .. }) => "the MySQL database".to_owned(),
        SourceSettings::Sql(SqlSettings { kind: SqlKind::Postgres, .. }) => "the PostgreSQL database".to_owned(),
        SourceSettings::Introspection(service) => format!("the service at {}", host(&service.url)),
        SourceSettings::File { path } => format!("the file {}", path.display()),
    }
}

/// The host of a url; the rest of it may be nobody's business.
fn host(url: &str) -> String {
    http::Uri::try_from(url).ok().and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_default()
}

fn leeway(old: &Expected, new: &Expected) -> Option<Said> {
    let text = || {
        format!(
            "signed tokens of `{}` live {} beyond their end; it was {}",
            new.issuer,
            span(new.leeway),
            span(old.leeway)
        )
    };
    match new.leeway.cmp(&old.leeway) {
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Greater => Some(weaker(Effect::Opened, text())),
        std::cmp::Ordering::Less => Some(told(Effect::Refused, text())),
    }
}

fn published(name: String, old: Option<&JwksSettings>, new: Option<&JwksSettings>) -> Option<Said> {
    match (old.map(|jwks| &jwks.url), new.map(|jwks| &jwks.url)) {
        (old, new) if old == new => None,
        (_, Some(url)) => {
            Some(told(Effect::Opened, format!("{name}: tokens signed with a key published at {} come in", host(url))))
        }
        (_, None) => Some(told(Effect::Refused, format!("{name}: published keys are no longer used"))),
    }
}

fn signing_keys(name: &str, KeySet(old): &KeySet, KeySet(new): &KeySet) -> Vec<Said> {
    let mut all = Vec::new();
    for key in old.iter().filter(|key| !new.contains(key)) {
        all.push(told(Effect::Refused, format!("{name}: tokens signed with the old key `{}` are refused", key.id())));
    }
    for key in new.iter().filter(|key| !old.contains(key)) {
        let text = format!("{name}: tokens signed with the new key `{}` ({:?}) come in", key.id(), key.algorithm());
        all.push(told(Effect::Opened, text));
    }
    all
}
