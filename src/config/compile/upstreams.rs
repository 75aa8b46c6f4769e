//! `upstreams:` — where requests go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::config::compile::{Compiler, Named, is_plain_name};
use crate::config::document::{
    BalanceDocument, CircuitDocument, HealthDocument, ServerHttp2Document, ServerTlsDocument, UpstreamDocument,
};
use crate::config::units::Span;
use crate::policy::upstream::{
    Balance, Circuit, Ejection, HealthCheck, Http2, InFlightBound, ServerTls, Timeouts, Upstream, WeightedServer,
};
use crate::tls::CertificateFiles;
use crate::tls::trust::{TrustFiles, server_name};

const DEFAULT_RETRIES: u32 = 1;
const MOST_RETRIES: u32 = 10;
const DEFAULT_IN_FLIGHT_WAIT: Duration = Duration::from_millis(100);

impl Compiler<'_> {
    pub(super) fn upstreams(&mut self, documents: &BTreeMap<String, UpstreamDocument>) -> Named<Upstream> {
        documents.iter().map(|(name, document)| (name.clone(), Arc::new(self.upstream(name, document)))).collect()
    }

    fn upstream(&mut self, name: &str, document: &UpstreamDocument) -> Upstream {
        let path = |key| ["upstreams", name, key];
        if !is_plain_name(name) {
            self.error(&["upstreams", name], format!("an upstream cannot be called `{name}`")).hint =
                Some("letters, digits, `-`, `_` and `.`".into());
        }
        let timeouts = self.timeouts(name, document);
        let retries = document.retries.unwrap_or(DEFAULT_RETRIES);
        if retries > MOST_RETRIES {
            self.error(
                &path("retries"),
                format!("at most {MOST_RETRIES} retries: more would only hammer a sick upstream"),
            );
        }
        self.failures_and_time(name, "eject", document.eject.failures, document.eject.duration);
        Upstream {
            name: name.into(),
            servers: self.servers(name, &document.servers),
            balance: match document.balance {
                BalanceDocument::RoundRobin => Balance::RoundRobin,
                BalanceDocument::LeastRequests => Balance::LeastRequests,
                BalanceDocument::Hash => Balance::Hash,
            },
            in_flight: self.in_flight(name, document),
            timeouts,
            retries,
            health: document.health.as_ref().map(|health| self.health(name, health)),
            eject: Ejection { failures: document.eject.failures, duration: document.eject.duration.0 },
            tls: document.tls.as_ref().and_then(|tls| self.server_tls(name, tls, &document.servers)),
            http2: self.server_http2(name, document),
            circuit: self.circuit(name, document.circuit),
        }
    }

    fn timeouts(&mut self, name: &str, document: &UpstreamDocument) -> Timeouts {
        let given = &document.timeouts;
        let timeouts = Timeouts {
            connect: given.connect.0,
            response: given.response.0,
            total: given.total.map(|span| span.0),
            idle: given.idle.0,
            websocket: given.websocket.0,
        };
        let all = [
            ("connect", Some(timeouts.connect)),
            ("response", Some(timeouts.response)),
            ("total", timeouts.total),
            ("websocket", Some(timeouts.websocket)),
        ];
        for (key, timeout) in all {
            if timeout.is_some_and(|timeout| timeout.is_zero()) {
                self.error(
                    &["upstreams", name, "timeouts", key],
                    format!("the {key} timeout is 0: no server could answer in time"),
                );
            }
        }
        timeouts
    }

    /// Reads the files, so that `check` says what is wrong with them.
    fn server_tls(&mut self, name: &str, document: &ServerTlsDocument, servers: &[String]) -> Option<ServerTls> {
        let path = |key| ["upstreams", name, "tls", key];
        let identity = match (&document.certificate, &document.key) {
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (None, None) => None,
            _ => None,
        };
        self.pair(&["upstreams", name, "tls"], document.certificate.is_some(), document.key.is_some());
        if document.server_name.as_deref().is_some_and(|name| server_name(name).is_none()) {
            self.error(&path("server_name"), "this can be no name of a server").hint =
                Some("a host name or an IP address, as in the servers' certificates".into());
        }
        if document.server_name.is_none() && servers.iter().any(|server| server.starts_with("unix:")) {
            self.error(&["upstreams", name, "tls"], "a socket has no name that a certificate could have").hint =
                Some("say which one it is: server_name: backend.internal".into());
        }
        let to_files = |(certificate, key): (_, _)| CertificateFiles { certificate, key };
        let files = TrustFiles { ca: document.ca.clone(), identity: identity.clone().map(to_files) };
        if let Err(problem) = files.load(&[]) {
            self.error(&path(problem.key), problem.message);
        }
        Some(ServerTls {
            server_name: document.server_name.clone(),
            ca: files.ca.clone(),
            identity,
            fingerprint: files.fingerprint(),
        })
    }

    fn server_http2(&mut self, name: &str, document: &UpstreamDocument) -> Http2 {
        match document.http2 {
            ServerHttp2Document::Off => Http2::Off,
            ServerHttp2Document::PriorKnowledge => Http2::PriorKnowledge,
            ServerHttp2Document::Negotiated => {
                if document.tls.is_none() && !self.is_written(&["upstreams", name, "tls"]) {
                    self.error(&["upstreams", name, "http2"], "HTTP/2 is negotiated in the handshake of `tls`").hint =
                        Some("add `tls: {}`, or write `prior_knowledge` if all servers speak it".into());
                }
                Http2::Negotiated
            }
        }
    }

    fn circuit(&mut self, name: &str, document: Option<CircuitDocument>) -> Option<Circuit> {
        let document = document?;
        self.failures_and_time(name, "circuit", document.failures, document.duration);
        Some(Circuit { failures: document.failures, duration: document.duration.0 })
    }

    fn failures_and_time(&mut self, name: &str, key: &str, failures: u32, duration: Span) {
        if failures == 0 {
            let message = format!("{key}.failures is 0: healthy servers would be left alone too");
            self.error(&["upstreams", name, key, "failures"], message).hint =
                Some("it counts failures in a row, at least 1".into());
        }
        if duration.0.is_zero() {
            self.error(&["upstreams", name, key, "for"], format!("{key}.for is 0: nothing would be left alone")).hint =
                Some("such as 30s".into());
        }
    }

    fn in_flight(&mut self, name: &str, document: &UpstreamDocument) -> Option<InFlightBound> {
        if document.in_flight == Some(0) {
            self.error(&["upstreams", name, "in_flight"], "in_flight is 0: no server could take a request");
        }
        let has_bound = document.in_flight.is_some() || self.is_written(&["upstreams", name, "in_flight"]);
        if document.in_flight_wait.is_some() && !has_bound {
            self.error(&["upstreams", name, "in_flight_wait"], "`in_flight_wait` needs `in_flight`").hint =
                Some("without a bound no request waits: add `in_flight`, or take this out".into());
        }
        let wait = document.in_flight_wait.map_or(DEFAULT_IN_FLIGHT_WAIT, |span| span.0);
        document.in_flight.map(|requests| InFlightBound { requests, wait })
    }

    fn servers(&mut self, name: &str, texts: &[String]) -> Vec<WeightedServer> {
        if texts.is_empty() && !self.is_struck(&["upstreams", name, "servers"]) {
            self.error(&["upstreams", name, "servers"], format!("the upstream `{name}` has no servers")).hint =
                Some("such as servers: [\"127.0.0.1:8000\"]".into());
        }
        let mut servers: Vec<WeightedServer> = Vec::new();
        for (at, text) in texts.iter().enumerate() {
            let at = at.to_string();
            let path = ["upstreams", name, "servers", at.as_str()];
            match WeightedServer::parse(text) {
                Some(server) if servers.iter().any(|other| other.address == server.address) => {
                    self.error(&path, format!("the server {} is listed twice", server.address)).hint =
                        Some("one that is to have more requests has a `?weight=2`".into());
                }
                Some(server) => servers.push(server),
                None => {
                    let hint = match text.contains("://") {
                        true => "host:port alone; `tls: {}` of the upstream encrypts, and a path is the route's",
                        false => "host:port, 10.0.0.7:8080, [::1]:8080, unix:/path or host:port?weight=2 (1 to 100)",
                    };
                    self.error(&path, format!("`{text}` is not a server")).hint = Some(hint.into());
                }
            }
        }
        servers
    }

    fn health(&mut self, name: &str, document: &HealthDocument) -> HealthCheck {
        let path = |key| ["upstreams", name, "health", key];
        let is_target = document.path.starts_with('/')
            && http::Uri::try_from(document.path.as_str()).is_ok()
            && !document.path.contains('#');
        if !is_target {
            self.error(&path("path"), format!("`{}` is not a path to ask for", document.path)).hint =
                Some("such as /up".into());
        }
        let or = |span: Option<Span>, default| span.map_or(default, |span| span.0);
        let every = or(document.every, Duration::from_secs(5));
        let timeout = or(document.timeout, Duration::from_secs(1));
        for (key, span) in [("every", every), ("timeout", timeout)] {
            if span.is_zero() {
                self.error(&path(key), format!("health.{key} is 0: a check needs some time"));
            }
        }
        let unhealthy_after = document.unhealthy_after.unwrap_or(3);
        let healthy_after = document.healthy_after.unwrap_or(2);
        for (key, count) in [("unhealthy_after", unhealthy_after), ("healthy_after", healthy_after)] {
            if count == 0 {
                self.error(&path(key), format!("health.{key} is 0; it counts checks in a row, at least 1"));
            }
        }
        let status = document.status.and_then(|status| StatusCode::from_u16(status).ok());
        if document.status.is_some() && status.is_none_or(|status| status.is_informational()) {
            self.error(&path("status"), "this is no status that an answer can have").hint =
                Some("200 to 599; left out, 200 to 399 is healthy".into());
        }
        HealthCheck { path: document.path.clone(), status, every, timeout, unhealthy_after, healthy_after }
    }
}
