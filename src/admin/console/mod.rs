//! The console: one page at / of the admin listener, for whoever looks after the gateway. It is read only.
//!
//! HTML made here for each request, complete without JavaScript; a few lines of script refresh it. maud escapes everything that is
//! written into it but the style and the script, which are constants, and the only ones that a browser runs: the
//! Content-Security-Policy names their hashes and allows nothing else.

mod attention;
mod configuration;
mod figures;
#[cfg(test)]
mod hostile;
mod limits;
mod listeners;
mod page;
mod parts;
mod refusals;
mod routes;
mod stores;
mod upstreams;
mod words;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Response};
use http_body_util::Full;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::admin::console::figures::Figures;
use crate::config::settings::{Config, ListenerSettings};
use crate::policy::upstream::Upstream;
use crate::proxy::history::Known;
use crate::proxy::pool::state::ServerState;
use crate::proxy::snapshot::{Foundation, Live, Snapshot};
use crate::telemetry::recent::{Busiest, Refused};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("refresh.js");

/// What every page is sent with, beside its policy.
const FIELDS: [(HeaderName, &str); 6] = [
    (CONTENT_TYPE, "text/html; charset=utf-8"),
    (CACHE_CONTROL, "no-store"),
    (http::header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (http::header::X_FRAME_OPTIONS, "DENY"),
    (http::header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Makes the page.
pub struct Console {
    process: Process,
    live: Arc<Live>,
    foundation: Arc<Foundation>,
    draining: watch::Receiver<bool>,
    security_policy: HeaderValue,
}

/// What stays as it is while the process runs.
pub struct Process {
    /// Its configuration.
    file: PathBuf,
    /// Where clients connect, with the ports that the system chose.
    listeners: Vec<(SocketAddr, ListenerSettings)>,
    /// Where this is.
    admin: SocketAddr,
    threads: usize,
    started: Instant,
}

/// Everything a page shows, as it is at one moment.
struct Glance<'g> {
    config: &'g Config,
    process: &'g Process,
    pools: Vec<PoolState>,
    replicas: Option<u32>,
    standing: Standing,
    figures: Figures,
    history: Known,
    refused: Vec<Refused>,
    busiest: Option<Busiest>,
    up: Duration,
    now: SystemTime,
}

/// An upstream and its servers.
struct PoolState {
    upstream: Arc<Upstream>,
    servers: Vec<ServerState>,
}

/// How the gateway is, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Serving,
    /// No upstream has a healthy server.
    NotReady,
    Draining,
}

impl Process {
    /// A process that starts now.
    pub fn new(
        file: PathBuf,
        listeners: Vec<(SocketAddr, ListenerSettings)>,
        admin: SocketAddr,
        threads: usize,
    ) -> Self {
        Self { file, listeners, admin, threads, started: Instant::now() }
    }
}

impl Console {
    /// Shows what is in force in `live` and what `foundation` has seen.
    pub fn new(
        process: Process,
        live: Arc<Live>,
        foundation: Arc<Foundation>,
        draining: watch::Receiver<bool>,
    ) -> Self {
        Self { process, live, foundation, draining, security_policy: security_policy() }
    }

    /// The page as it is now; `None` while it is switched off.
    pub fn page(&self) -> Option<Response<Full<Bytes>>> {
        let snapshot = self.live.load();
        snapshot.config.console.enabled.then(|| {
            let html = page::page(&self.glance(&snapshot)).into_string();
            let mut response = Response::new(Full::new(html.into()));
            let fields = response.headers_mut();
            fields.extend(FIELDS.map(|(name, value)| (name, HeaderValue::from_static(value))));
            fields.insert(CONTENT_SECURITY_POLICY, self.security_policy.clone());
            response
        })
    }

    fn glance<'g>(&'g self, snapshot: &'g Snapshot) -> Glance<'g> {
        let pool = |pool: &Arc<crate::proxy::pool::Pool>| PoolState {
            upstream: Arc::clone(&pool.upstream),
            servers: pool.states(),
        };
        let standing = match (*self.draining.borrow(), snapshot.is_ready()) {
            (true, _) => Standing::Draining,
            (false, true) => Standing::Serving,
            (false, false) => Standing::NotReady,
        };
        Glance {
            config: &snapshot.config,
            process: &self.process,
            pools: snapshot.pools().iter().map(pool).collect(),
            replicas: snapshot.replicas(),
            standing,
            figures: Figures::new(&self.foundation.metrics),
            history: self.foundation.history.known(),
            refused: self.foundation.recent.refusals(),
            busiest: self.foundation.recent.busiest(),
            up: self.process.started.elapsed(),
            now: SystemTime::now(),
        }
    }
}

/// Nothing but the page's own style, script and icon; the script may ask for the page again.
fn security_policy() -> HeaderValue {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    let policy = format!(
        "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    // Base64 is made of characters that a field may have; without a policy the page would be less guarded, so there is one in any case.
    HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
}
