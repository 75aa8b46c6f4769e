//! `auth:` — how tokens look and who knows them.

use std::path::Path;
use std::time::Duration;

use crate::config::compile::{Compiler, Emptiness};
use crate::config::document::{
    AlgorithmDocument, AuthDocument, ChecksumDocument, IntrospectionSourceDocument, KeyDocument, SignedDocument,
    SourceDocument, SqlSourceDocument,
};
use crate::config::settings::{
    AuthSettings, CacheSettings, IntrospectionCredentials, IntrospectionSettings, JwksSettings, LookUpSettings,
    SourceSettings, SqlKind, SqlSettings,
};
use crate::policy::credential::{ChecksumMode, TokenGrammar};
use crate::policy::signed::{Expected, KeyProblem, KeySet, VerifyingKey};

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
                    if let Err(error) = std::fs::metadata(&file.path) {
                        let path = [path.as_slice(), &["file", "path"]].concat();
                        self.error(&path, format!("{} cannot be read: {}", file.path.display(), error.kind()));
                    }
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
        if document.keys.is_empty() && document.jwks.is_none() {
            self.error(&path("keys"), "a signed source needs `keys` or `jwks`");
        }
        let mut keys: Vec<VerifyingKey> = Vec::new();
        for (at, key) in document.keys.iter().enumerate() {
            let at = at.to_string();
            let path = [path("keys").as_slice(), &[at.as_str()]].concat();
            if keys.iter().any(|other| other.id() == key.id) {
                self.error(&[path.as_slice(), &["id"]].concat(), format!("a key `{}` is here a second time", key.id));
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
            self.error(path, "this is not a url by https, or by http to this machine");
        }
    }

    fn sql(&mut self, source: &[&str], document: &SqlSourceDocument) -> Option<SourceSettings> {
        let path = |key: &'static str| [source, &["sql", key]].concat();
        let url = self.secret(&path("url"), document.url.as_ref(), document.url_file.as_deref(), Emptiness::IsAnError);
        let Some(url) = url else {
            if document.url.is_none() && document.url_file.is_none() {
                self.error(source, "an sql source needs `url` or `url_file`");
            }
            return None;
        };
        let scheme = url.0.split_once("://").map(|(scheme, _)| scheme);
        let kind = match scheme {
            Some("mysql" | "mariadb") => SqlKind::MySql,
            Some("postgres" | "postgresql") => SqlKind::Postgres,
            _ => {
                self.error(&path("url"), "this is not the url of a database").hint =
                    Some("mysql://user:password@host/database or postgres://user:password@host/database".into());
                return None;
            }
        };
        let is_usable = match kind {
            SqlKind::MySql => url.0.parse::<sqlx::mysql::MySqlConnectOptions>().is_ok(),
            SqlKind::Postgres => url.0.parse::<sqlx::postgres::PgConnectOptions>().is_ok(),
        };
        if !is_usable {
            self.error(&path("url"), "this is not a url that can be connected to");
        }
        let placeholder = match kind {
            SqlKind::MySql => "?",
            SqlKind::Postgres => "$1",
        };
        if document.query.as_ref().is_some_and(|query| !query.contains(placeholder)) {
            self.error(&path("query"), format!("the query does not ask for the digest: it has no `{placeholder}`"));
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
        if timeout.is_zero() || pool == 0 {
            self.error(source, "an sql source needs some time and at least one connection");
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
            _ => {
                self.error(source, "an introspection source shows who it is in one way").hint =
                    Some("`client_id` with `client_secret`, or `secret` alone".into());
                return None;
            }
        };
        Some(SourceSettings::Introspection(IntrospectionSettings { url: document.url.clone(), credentials, timeout }))
    }

    fn key(&mut self, path: &[&str], document: &KeyDocument) -> Option<VerifyingKey> {
        let id = document.id.clone();
        let (wanted, unwanted) = match document.algorithm {
            AlgorithmDocument::HS256 => ("secret", document.public_key.is_some() || document.public_key_file.is_some()),
            _ => ("public_key", document.secret.is_some() || document.secret_file.is_some()),
        };
        if unwanted {
            self.error(
                path,
                format!("a key for {:?} is given by `{wanted}` or `{wanted}_file` alone", document.algorithm),
            );
            return None;
        }
        let at = [path, &[wanted]].concat();
        if document.algorithm == AlgorithmDocument::HS256 && document.secret.is_none() && document.secret_file.is_none()
        {
            self.error(path, "a key for HS256 needs `secret` or `secret_file`");
            return None;
        }
        let material = match document.algorithm {
            AlgorithmDocument::HS256 => {
                self.secret(&at, document.secret.as_ref(), document.secret_file.as_deref(), Emptiness::IsAnError)?.0
            }
            _ => self.public_key(path, document)?,
        };
        let key = match document.algorithm {
            AlgorithmDocument::HS256 => VerifyingKey::hmac(id, material.as_bytes()),
            AlgorithmDocument::RS256 => VerifyingKey::rsa(id, material.as_bytes()),
            AlgorithmDocument::ES256 => VerifyingKey::ecdsa(id, material.as_bytes()),
            AlgorithmDocument::EdDSA => VerifyingKey::eddsa(id, material.as_bytes()),
        };
        key.map_err(|problem| {
            let message = match problem {
                KeyProblem::ShortSecret => {
                    "the secret of an HS256 key has at least 32 bytes (RFC 7518 section 3.2)".to_owned()
                }
                KeyProblem::ShortRsa => "an RSA key has at least 2048 bits (RFC 7518 section 3.3)".to_owned(),
                KeyProblem::NotAKey => format!("this is not a public key for {:?} in PEM", document.algorithm),
            };
            self.error(&at, message);
        })
        .ok()
    }

    fn public_key(&mut self, path: &[&str], document: &KeyDocument) -> Option<String> {
        match (&document.public_key, document.public_key_file.as_deref()) {
            (Some(pem), None) => Some(pem.clone()),
            (None, Some(file)) => self.file(&[path, &["public_key_file"]].concat(), file),
            (None, None) => {
                self.error(path, format!("a key for {:?} needs `public_key` or `public_key_file`", document.algorithm));
                None
            }
            (Some(_), Some(_)) => {
                self.error(path, "`public_key` and `public_key_file` are both given").hint =
                    Some("keep one of them".into());
                None
            }
        }
    }

    fn file(&mut self, path: &[&str], file: &Path) -> Option<String> {
        std::fs::read_to_string(file)
            .map_err(|error| {
                self.error(path, format!("{} cannot be read: {}", file.display(), error.kind()));
            })
            .ok()
    }
}
