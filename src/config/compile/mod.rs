//! [`Document`] → [`Config`]: names resolved, values in range, and every problem at once with its place.

mod auth;
mod contract;
mod cors;
mod files;
mod keys;
mod leftovers;
mod limits;
mod listeners;
mod observability;
mod routes;
mod upstreams;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::compile::files::Emptiness;
use crate::config::document::{BackendErrorsDocument, Document, ErrorsDocument, LinkTlsDocument, RedisDocument};
use crate::config::problem::{Place, Problem, did_you_mean, one_of};
use crate::config::read::Reading;
use crate::config::redis_url::{RedisUrl, Shape};
use crate::config::settings::{
    Config, ConsoleSettings, LinkSettings, LinkTls, ProcessSettings, RedisSettings, RequestBounds, TrustedProxies,
};
use crate::config::units::{Bytes, Threads};
use crate::config::yaml::Node;
use crate::policy::Policy;
use crate::policy::limit::CountedBy;
use crate::policy::normalise::BackendErrors;
use crate::policy::route::{Route, RouteTable};
use crate::policy::upstream::Upstream;

/// More fields than any client has a use for; an answer may have as many.
const MOST_HEADERS: usize = 256;
const DEFAULT_ADMIN: &str = "127.0.0.1:9090";
const DEFAULT_DEADLINE_MS: u64 = 25;
const DEFAULT_KEY_PREFIX: &str = "mb:";

/// Compiles a reading. What cannot be compiled is noted in `problems` and replaced by something harmless, so that the rest is
/// checked too; whether the result may be used is for the caller to decide by the problems. `digest` is that of the text.
pub fn compile(reading: &Reading, digest: [u8; 32], problems: &mut Vec<Problem>) -> Config {
    let mut compiler = Compiler { tree: &reading.tree, problems };
    compiler.config(&reading.document, digest)
}

struct Compiler<'a> {
    tree: &'a Node,
    problems: &'a mut Vec<Problem>,
}

impl Compiler<'_> {
    fn config(&mut self, document: &Document, digest: [u8; 32]) -> Config {
        self.presence(document);
        let process = self.process(document);
        let before = self.problems.len();
        let redis = self.redis(&document.redis);
        // A broken url is not an empty one.
        let has_redis = redis.is_some() || self.problems.len() > before || self.is_struck(&["redis"]);
        let auth = self.auth(&document.auth, has_redis);
        let limits = self.limits(&document.limits);
        let upstreams = self.upstreams(&document.upstreams);
        let routes = self.routes(document, &limits, &upstreams);
        self.slots(redis.as_ref(), &routes);
        let routes = RouteTable::new(routes);
        self.shadowed(&routes);
        let backend_errors = self.backend_errors(&document.errors, upstreams.values());
        let contract = self.contract(&document.errors);
        let cors = document.cors.as_ref().map(|cors| self.cors(cors));
        Config {
            policy: Arc::new(Policy {
                routes,
                limits: limits.into_values().collect(),
                upstreams: upstreams.into_values().collect(),
                backend_errors,
                contract,
                cors,
            }),
            process,
            console: ConsoleSettings { enabled: document.console.enabled, workspaces: document.console.workspaces },
            request: self.request(document),
            redis,
            auth,
            trusted_proxies: TrustedProxies(document.trusted_proxies.clone()),
            ietf_headers: document.rate_limit_headers.ietf,
            log: self.log(&document.observability.log),
            tracing: self.tracing(&document.observability.tracing),
            grace: document.shutdown.grace.0,
            delay: document.shutdown.delay.0,
            hand_over: document.hand_over.as_ref().map(|hand_over| hand_over.socket.clone()),
            digest,
        }
    }

    /// A problem with the value at `path`; with its key where the value is a collection, and with the nearest key above it that is
    /// there where it is missing.
    fn error(&mut self, path: &[&str], message: impl Into<String>) -> &mut Problem {
        self.push(Problem::error(self.place(path), message))
    }

    /// The same for what keeps nothing from working.
    fn warning(&mut self, path: &[&str], message: impl Into<String>) -> &mut Problem {
        self.push(Problem::warning(self.place(path), message))
    }

    fn place(&self, path: &[&str]) -> Place {
        match self.tree.get(path) {
            Some(node) if node.is_empty() || !node.is_collection() => node.place,
            _ => self.tree.key_place(path),
        }
    }

    /// Whether something stands at `path`, be it as broken as it may. What was written and could not be read is not missing.
    fn is_written(&self, path: &[&str]) -> bool {
        self.tree.get(path).is_some()
    }

    /// Whether what stands at `path`, or a part of it, has a problem already: then its default says nothing.
    fn is_struck(&self, path: &[&str]) -> bool {
        self.tree.get(path).is_some_and(Node::has_struck)
    }

    fn push(&mut self, problem: Problem) -> &mut Problem {
        self.problems.push(problem);
        let last = self.problems.len() - 1;
        #[expect(clippy::indexing_slicing, reason = "pushed in the line above")]
        &mut self.problems[last]
    }

    /// A name that stands nowhere. Silent when it was written and could not be read: that is a problem of its own already.
    fn unknown_name<'n>(
        &mut self,
        path: &[&str],
        what: &str,
        name: &str,
        section: &str,
        known: impl Iterator<Item = &'n String> + Clone,
    ) {
        if self.is_written(&[section, name]) || self.tree.get(&[section]).is_some_and(Node::is_struck) {
            return;
        }
        let names = || known.clone().map(String::as_str);
        let hint = did_you_mean(name, names()).unwrap_or_else(|| {
            if names().next().is_none() { format!("`{section}:` has none") } else { one_of(names()) }
        });
        self.error(path, format!("there is no {what} `{name}`")).hint = Some(hint);
    }

    fn presence(&mut self, document: &Document) {
        match document.version {
            Some(1) => {}
            Some(other) => {
                self.error(&["version"], format!("version {other} is not known to this gateway")).hint =
                    Some("write `version: 1`".into());
            }
            None if self.tree.get(&["version"]).is_none() => {
                self.error(&[], "the key `version` is missing").hint = Some("write `version: 1` at the top".into());
            }
            None => {}
        }
        for (key, is_empty, example) in [
            ("listeners", document.listeners.is_empty(), "listeners: [{address: 0.0.0.0:8080}]"),
            (
                "routes",
                document.routes.is_empty(),
                "routes: {contacts: {path: /contacts/**, scope: contacts, upstream: main}}",
            ),
        ] {
            if is_empty && self.tree.get(&[key]).is_none() {
                self.error(&[], format!("the key `{key}` is missing")).hint = Some(format!("such as {example}"));
            } else if is_empty && self.tree.get(&[key]).is_some_and(|node| node.is_empty()) {
                self.error(&[key], format!("`{key}` is empty: the gateway would answer nobody")).hint =
                    Some(format!("such as {example}"));
            }
        }
    }

    fn process(&mut self, document: &Document) -> ProcessSettings {
        let listeners = self.listeners(&document.listeners);
        let admin = document.admin.as_ref().map_or(DEFAULT_ADMIN, |admin| admin.address.as_str());
        let admin = self.address(&["admin", "address"], admin);
        let public = |admin| listeners.iter().find(|listener| listeners::is_taken(listener.address, admin));
        if let Some(public) = admin.and_then(public) {
            let message = format!("the admin listener would be public: {} is one of `listeners`", public.address);
            self.error(&["admin", "address"], message).hint =
                Some("give it a port of its own, where only operators reach it: 127.0.0.1:9090".into());
        }
        ProcessSettings {
            listeners,
            admin: admin.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 9090))),
            threads: match document.threads {
                Threads::Count(count) => count,
                Threads::Auto => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            },
        }
    }

    fn address(&mut self, path: &[&str], text: &str) -> Option<SocketAddr> {
        match text.parse() {
            Ok(address) => Some(address),
            Err(_) => {
                self.error(path, format!("`{text}` is not an address to listen on")).hint =
                    Some("an IP address and a port: 0.0.0.0:8080 or [::]:8080".into());
                None
            }
        }
    }

    fn request(&mut self, document: &Document) -> RequestBounds {
        let request = &document.request;
        for (key, is_zero) in [
            ("headers", request.headers == 0),
            ("connections", request.connections == 0),
            ("in_flight", request.in_flight == 0),
            ("header_timeout", request.header_timeout.0.is_zero()),
            ("body_timeout", request.body_timeout.0.is_zero()),
            ("idle_timeout", request.idle_timeout.0.is_zero()),
        ] {
            if is_zero {
                self.error(&["request", key], format!("request.{key} is 0: no request could pass"));
            }
        }
        if request.headers > MOST_HEADERS {
            self.error(&["request", "headers"], format!("at most {MOST_HEADERS} header fields can be read"));
        }
        RequestBounds {
            header_bytes: self.size(&["request", "header_bytes"], request.header_bytes, 1 << 10, 1 << 20),
            headers: request.headers,
            header_timeout: request.header_timeout.0,
            body_timeout: request.body_timeout.0,
            idle_timeout: request.idle_timeout.0,
            connections: request.connections,
            in_flight: request.in_flight,
        }
    }

    fn size(&mut self, path: &[&str], Bytes(bytes): Bytes, least: u64, most: u64) -> usize {
        if !(least..=most).contains(&bytes) {
            let show = |bytes| bytesize::ByteSize(bytes).display().iec().to_string();
            self.error(path, format!("{} must be from {} to {}", path.join("."), show(least), show(most)));
        }
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    fn redis(&mut self, document: &RedisDocument) -> Option<RedisSettings> {
        let url =
            self.secret(&["redis", "url"], document.url.as_ref(), document.url_file.as_deref(), Emptiness::MeansNone)?;
        let url_file = document.url_file.clone();
        if RedisUrl::parse(&url.0).is_none() {
            let key = if url_file.is_some() { "url_file" } else { "url" };
            self.error(&["redis", key], "this is not the url of a Redis").hint = Some(
                "redis://[user:password@]host:port[/db], redis+sentinel://host:port,host:port/service, redis+cluster://host:port,host:port; rediss for TLS"
                    .into(),
            );
        }
        let tls = self.link_tls(&document.tls, &url.0);
        self.readable(&["redis", "password_file"], document.password_file.as_deref());
        let deadline = document.deadline.map_or(std::time::Duration::from_millis(DEFAULT_DEADLINE_MS), |span| span.0);
        if deadline.is_zero() {
            self.error(&["redis", "deadline"], "redis.deadline is 0: no decision could be made in time");
        }
        let key_prefix = document.key_prefix.clone().unwrap_or_else(|| DEFAULT_KEY_PREFIX.to_owned());
        if key_prefix.contains(['{', '}']) {
            self.error(
                &["redis", "key_prefix"],
                "a key prefix cannot hold braces: they mark the part of a key that chooses its Cluster slot",
            );
        }
        let password_file = document.password_file.clone();
        Some(RedisSettings { deadline, link: LinkSettings { url, url_file, password_file, tls, key_prefix } })
    }

    fn link_tls(&mut self, document: &LinkTlsDocument, url: &str) -> LinkTls {
        let files = [("ca", &document.ca), ("certificate", &document.certificate), ("key", &document.key)];
        for (key, file) in files {
            self.readable(&["redis", "tls", key], file.as_deref());
        }
        self.pair(&["redis", "tls"], document.certificate.is_some(), document.key.is_some());
        if files.iter().any(|(_, file)| file.is_some()) && !url.starts_with("rediss") {
            self.error(&["redis", "tls"], "`tls` is given, and the url is without it").hint =
                Some("write rediss:// instead of redis://, or take `tls` out".into());
        }
        LinkTls { ca: document.ca.clone(), certificate: document.certificate.clone(), key: document.key.clone() }
    }

    /// In a Cluster the counters of an address and those of a workspace live on different nodes.
    fn slots(&mut self, redis: Option<&RedisSettings>, routes: &[Arc<Route>]) {
        let url = redis.and_then(|redis| RedisUrl::parse(&redis.link.url.0));
        if url.is_none_or(|url| url.shape != Shape::Cluster) {
            return;
        }
        for route in routes {
            let of_address = route.limits.iter().filter(|limit| limit.by == CountedBy::ClientIp).count();
            if of_address > 0 && of_address < route.limits.len() {
                self.error(
                    &["routes", &route.name, "limit"],
                    "in a Redis Cluster these limits cannot be taken in one step",
                )
                .hint = Some("take those by client_ip apart from the others, or use Redis without Cluster".into());
            }
        }
    }

    fn backend_errors<'u>(
        &mut self,
        document: &ErrorsDocument,
        upstreams: impl Iterator<Item = &'u Arc<Upstream>>,
    ) -> BackendErrors {
        let body_bytes = self.size(&["errors", "body_bytes"], document.body_bytes, 1 << 10, 16 << 20);
        match document.backend {
            BackendErrorsDocument::Pass => BackendErrors::Pass,
            BackendErrorsDocument::Normalise => {
                let mut private_hosts: Vec<String> = upstreams
                    .flat_map(|upstream| &upstream.servers)
                    .filter_map(|server| server.address.host().map(str::to_lowercase))
                    .collect();
                private_hosts.sort_unstable();
                private_hosts.dedup();
                BackendErrors::Normalise { body_bytes, private_hosts }
            }
        }
    }
}

/// Names are used as labels and in keys, so they are short and plain.
fn is_plain_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

type Named<T> = BTreeMap<String, Arc<T>>;
