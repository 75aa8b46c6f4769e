//! `auth:` — how tokens look and who knows them.

use std::time::Duration;

use crate::config::compile::Compiler;
use crate::config::compile::files::Emptiness;
use crate::config::document::{
    AuthDocument, ChecksumDocument, IntrospectionSourceDocument, SignedDocument, SourceDocument, SqlSourceDocument,
};
use crate::config::settings::{
    AuthSettings, CacheSettings, IntrospectionCredentials, IntrospectionSettings, JwksSettings, LookUpSettings,
    SourceSettings, SqlKind, SqlSettings,
};
use crate::policy::credential::{ChecksumMode, TokenGrammar};
use crate::policy::signed::{Expected, KeySet, VerifyingKey};

const DEFAULT_PREFIX: &str = "mb_";
const DEFAULT_LEEWAY: Duration = Duration::from_secs(30);
const DEFAULT_JWKS_REFRESH: Duration = Duration::from_secs(300);
const SHORTEST_JWKS_REFRESH: Duration = Duration::from_secs(10);
const DEFAULT_SQL_TIMEOUT: Duration = Duration::from_millis(500);
const DEFAULT_SQL_POOL: u32 = 16;

impl Compiler<'_> {
    pub(super) fn auth(&mut self, document: &AuthDocument, has_redis: bool) -> AuthSettings {
        let prefix = document.token_prefix.clone().unwrap_or_else(|| DEFAULT_PREFIX.to_owned());
        if !prefix.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')) {
            self.error(&["auth", "token_prefix"], "a token prefix is letters, digits, `_` and `-`");
        }
        let checksum = match document.checksum {
            Some(ChecksumDocument::Required) => ChecksumMode::Required,
            Some(ChecksumDocument::IfPresent) | None => ChecksumMode::IfPresent,
            Some(ChecksumDocument::Off) => ChecksumMode::Off,
        };
        let cache = &document.cache;
        if cache.entries == 0 {
            self.error(&["auth", "cache", "entries"], "auth.cache.entries is 0: every request would look its token up");
        }
        for (key, is_zero) in
            [("per_second", document.look_ups.per_second == 0), ("in_flight", document.look_ups.in_flight == 0)]
        {
            if is_zero {
                self.error(
                    &["auth", "look_ups", key],
                    format!("auth.look_ups.{key} is 0: no new token could be looked up"),
                );
            }
        }
        AuthSettings {
            grammar: TokenGrammar { prefix, checksum },
            sources: self.sources(&document.sources, has_redis),
            max_age: document.expiration.map(|span| span.0).filter(|age| !age.is_zero()),
            cache: CacheSettings {
                ttl: cache.ttl.0,
                negative_ttl: cache.negative_ttl.0,
                entries: cache.entries,
                stale_cap: cache.stale_cap.0,
            },
            look_ups: LookUpSettings {
                per_second: document.look_ups.per_second,
                in_flight: document.look_ups.in_flight,
                failures_per_minute: Some(document.failures.per_minute).filter(|most| *most > 0),
            },
        }
    }

    fn sources(&mut self, documents: &[SourceDocument], has_redis: bool) -> Vec<SourceSettings> {
        let mut sources = Vec::new();
        for (at, document) in documents.iter().enumerate() {
            let at = at.to_string();
            let path = ["auth", "sources", at.as_str()];
            match document {
                SourceDocument::Signed(signed) => sources.push(self.signed(&path, signed)),
                SourceDocument::Redis(redis) if has_redis => {
                    sources.push(SourceSettings::Redis { key_prefix: redis.key_prefix.clone() });
                }
                SourceDocument::Redis(_) => {
                    self.warning(
                        &path,
                        "redis.url is empty, so this source is left out: tokens that only Redis knows are refused",
                    );
                }
                SourceDocument::Sql(sql) => sources.extend(self.sql(&path, sql)),
                SourceDocument::Introspection(service) => sources.extend(self.introspection(&path, service)),
                SourceDocument::File(file) => {
                    self.readable(&[path.as_slice(), &["file", "path"]].concat(), Some(&file.path));
                    sources.push(SourceSettings::File { path: file.path.clone() });
                }
            }
        }
        sources
    }

    fn signed(&mut self, source: &[&str], document: &SignedDocument) -> SourceSettings {
        let path = |key: &'static str| [source, &["signed", key]].concat();
        for (key, text) in [("issuer", &document.issuer), ("audience", &document.audience)] {
            if text.is_empty() {
                self.error(&path(key), format!("`{key}` is empty: any token would do"));
            }
        }
        let is_struck = self.is_struck(&path("keys")) || self.is_struck(&path("jwks"));
        if document.keys.is_empty() && document.jwks.is_none() && !is_struck {
            self.error(&path("keys"), "a signed source needs `keys` or `jwks`").hint =
                Some("such as keys: [{id: k1, algorithm: HS256, secret_file: /run/secrets/key}]".into());
        }
        let mut keys: Vec<VerifyingKey> = Vec::new();
        for (at, key) in document.keys.iter().enumerate() {
            let at = at.to_string();
            let path = [path("keys").as_slice(), &[at.as_str()]].concat();
            if keys.iter().any(|other| other.id() == key.id) {
                self.error(
                    &[path.as_slice(), &["id"]].concat(),
                    format!("a key with the id `{}` is here a second time", key.id),
                )
                .hint = Some("tokens name their key by it: give each its own".into());
            }
            keys.extend(self.key(&path, key));
        }
        let leeway = document.leeway.map_or(DEFAULT_LEEWAY, |span| span.0);
        let expected = Expected { issuer: document.issuer.clone(), audience: document.audience.clone(), leeway };
        let jwks = document.jwks.as_ref().map(|jwks| {
            self.private_url(&[source, &["signed", "jwks", "url"]].concat(), &jwks.url);
            let refresh = jwks.refresh.map_or(DEFAULT_JWKS_REFRESH, |span| span.0);
            if refresh < SHORTEST_JWKS_REFRESH {
                self.error(
                    &[source, &["signed", "jwks", "refresh"]].concat(),
                    "a key set is read again at most every 10s",
                );
            }
            JwksSettings { url: jwks.url.clone(), refresh }
        });
        SourceSettings::Signed { expected, keys: KeySet(keys), jwks }
    }

    /// A url by https, or by http to this machine: keys and answers about tokens come over it.
    fn private_url(&mut self, path: &[&str], url: &str) {
        let uri = http::Uri::try_from(url).ok();
        let host = uri.as_ref().and_then(|uri| uri.host()).unwrap_or_default();
        let is_loopback = host == "localhost"
            || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        let is_private = match uri.as_ref().and_then(|uri| uri.scheme_str()) {
            Some("https") => !host.is_empty(),
            Some("http") => is_loopback,
            _ => false,
        };
        if !is_private {
            self.error(path, "this is not a url by https, or by http to this machine").hint =
                Some("https://…, http://127.0.0.1:… or http://localhost:…: tokens and keys pass there".into());
        }
    }

    fn sql(&mut self, source: &[&str], document: &SqlSourceDocument) -> Option<SourceSettings> {
        let path = |key: &'static str| [source, &["sql", key]].concat();
        let url = self.secret(&path("url"), document.url.as_ref(), document.url_file.as_deref(), Emptiness::IsAnError);
        let Some(url) = url else {
            if document.url.is_none() && document.url_file.is_none() && !self.is_struck(&[source, &["sql"]].concat()) {
                self.error(&[source, &["sql"]].concat(), "an sql source needs `url` or `url_file`");
            }
            return None;
        };
        let url_path = path(if document.url_file.is_some() { "url_file" } else { "url" });
        let scheme = url.0.split_once("://").map(|(scheme, _)| scheme);
        let kind = match scheme {
            Some("mysql" | "mariadb") => SqlKind::MySql,
            Some("postgres" | "postgresql") => SqlKind::Postgres,
            _ => {
                self.error(&url_path, "this is not the url of a database").hint =
                    Some("mysql://user:password@host/database or postgres://user:password@host/database".into());
                return None;
            }
        };
        let is_usable = match kind {
            SqlKind::MySql => url.0.parse::<sqlx::mysql::MySqlConnectOptions>().is_ok(),
            SqlKind::Postgres => url.0.parse::<sqlx::postgres::PgConnectOptions>().is_ok(),
        };
        if !is_usable {
            self.error(&url_path, "this is not a url that can be connected to").hint = Some(
                "are its host, its port and its parameters right? A password is percent-encoded: %40 for @".into(),
            );
        }
        let placeholder = match kind {
            SqlKind::MySql => "?",
            SqlKind::Postgres => "$1",
        };
        if document.query.as_ref().is_some_and(|query| !query.contains(placeholder)) {
            self.error(&path("query"), format!("the query does not ask for the digest: it has no `{placeholder}`"))
                .hint = Some(format!("as in … WHERE token = {placeholder}"));
        }
        if document.last_used_at && document.query.is_some() {
            self.error(
                &path("last_used_at"),
                "`last_used_at` is kept in personal_access_tokens, which `query` may not be about",
            )
            .hint = Some("take one of them out".into());
        }
        let timeout = document.timeout.map_or(DEFAULT_SQL_TIMEOUT, |span| span.0);
        let pool = document.pool.unwrap_or(DEFAULT_SQL_POOL);
        if timeout.is_zero() {
            self.error(&path("timeout"), "the timeout is 0: nobody could answer in time");
        }
        if pool == 0 {
            self.error(&path("pool"), "the pool is 0: a look-up needs a connection");
        }
        let (query, last_used_at) = (document.query.clone(), document.last_used_at);
        let url_file = document.url_file.clone();
        Some(SourceSettings::Sql(SqlSettings { kind, url, url_file, query, timeout, pool, last_used_at }))
    }

    fn introspection(&mut self, source: &[&str], document: &IntrospectionSourceDocument) -> Option<SourceSettings> {
        let path = |key: &'static str| [source, &["introspection", key]].concat();
        self.private_url(&path("url"), &document.url);
        let timeout = document.timeout.map_or(DEFAULT_SQL_TIMEOUT, |span| span.0);
        if timeout.is_zero() {
            self.error(&path("timeout"), "the timeout is 0: nobody could answer in time");
        }
        let password = document.client_secret.is_some() || document.client_secret_file.is_some();
        let bearer = document.secret.is_some() || document.secret_file.is_some();
        let credentials = match (&document.client_id, password, bearer) {
            (Some(id), true, false) => {
                let (inline, file) = (document.client_secret.as_ref(), document.client_secret_file.as_deref());
                let secret = self.secret(&path("client_secret"), inline, file, Emptiness::IsAnError)?;
                IntrospectionCredentials::Basic { id: id.clone(), secret }
            }
            (None, false, true) => {
                let (inline, file) = (document.secret.as_ref(), document.secret_file.as_deref());
                IntrospectionCredentials::Bearer(self.secret(&path("secret"), inline, file, Emptiness::IsAnError)?)
            }
            _ if self.is_struck(&[source, &["introspection"]].concat()) => return None,
            _ => {
                self.error(
                    &[source, &["introspection"]].concat(),
                    "an introspection source shows who it is in one way",
                )
                .hint = Some("`client_id` with `client_secret`, or `secret` alone".into());
                return None;
            }
        };
        Some(SourceSettings::Introspection(IntrospectionSettings { url: document.url.clone(), credentials, timeout }))
    }
}
