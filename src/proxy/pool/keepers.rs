//! What goes on beside requests for as long as a pool lives: names are resolved again, servers checked, old connections closed.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Method, StatusCode};
use tokio::time::timeout;

use crate::policy::upstream::{HealthCheck, ServerAddress};
use crate::proxy::exchange::Conversation;
use crate::proxy::headers::RequestHead;
use crate::proxy::pool::Pool;
use crate::proxy::pool::server::Server;
use crate::proxy::transport::Endpoint;

/// How often names are resolved again, and how long one may take.
const RESOLVE_EVERY: Duration = Duration::from_secs(10);
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);
const TIDY_EVERY: Duration = Duration::from_secs(1);

/// Starts them.
pub(super) fn start(pool: &Arc<Pool>) {
    tokio::spawn(keep_tidy(Arc::downgrade(pool)));
    for (at, server) in pool.servers.iter().enumerate() {
        if server.endpoint().is_none() || matches!(&server.address, ServerAddress::Tcp { host, .. } if is_name(host)) {
            tokio::spawn(keep_resolved(Arc::downgrade(pool), at));
        }
        if let Some(health) = pool.upstream.health.clone() {
            tokio::spawn(keep_checked(Arc::downgrade(pool), at, health));
        }
    }
}

fn is_name(host: &str) -> bool {
    host.parse::<std::net::IpAddr>().is_err()
}

/// Shows on the metric which servers are used, again and again: an ejection ends by itself, and the pool that a reload replaced takes
/// the series of its servers with it. And closes connections that were kept long enough.
async fn keep_tidy(pool: Weak<Pool>) {
    while let Some(strong) = pool.upgrade() {
        let now = strong.clock.steady();
        for server in &strong.servers {
            strong.show(server, now);
            server.sweep();
        }
        drop(strong);
        tokio::time::sleep(TIDY_EVERY).await;
    }
}

/// Resolves one name away from requests, again and again.
async fn keep_resolved(pool: Weak<Pool>, at: usize) {
    loop {
        let Some((host, port)) = pool.upgrade().and_then(|pool| match &pool.servers.get(at)?.address {
            ServerAddress::Tcp { host, port } => Some((host.clone(), *port)),
            ServerAddress::Unix(_) => None,
        }) else {
            return;
        };
        let resolved = timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((host.as_str(), port))).await;
        let Some(strong) = pool.upgrade() else { return };
        let Some(server) = strong.servers.get(at) else { return };
        let is_known = server.endpoint().is_some();
        match resolved {
            Ok(Ok(addresses)) => found_among(server, addresses.collect()),
            // The last known address goes on being used.
            Ok(Err(_)) | Err(_) if is_known => {}
            Ok(Err(error)) => tracing::warn!(server = &*server.name, "the name does not resolve: {error}"),
            Err(_) => tracing::warn!(server = &*server.name, "the name does not resolve in time"),
        }
        let pause = if server.endpoint().is_some() { RESOLVE_EVERY } else { Duration::from_secs(1) };
        drop(strong);
        tokio::time::sleep(pause).await;
    }
}

/// Keeps to the address in use while the name still has it; of several others, IPv4 comes first, as backends on one host listen.
fn found_among(server: &Server, mut addresses: Vec<SocketAddr>) {
    let used = server.endpoint();
    let is_used = |address: &SocketAddr| used.as_deref() == Some(&Endpoint::Tcp(*address));
    addresses.sort_by_key(|address| (!is_used(address), address.is_ipv6()));
    if let Some(address) = addresses.first() {
        server.found(Endpoint::Tcp(*address));
    }
}

/// Checks one server for as long as its pool lives. The first check comes at once.
async fn keep_checked(pool: Weak<Pool>, at: usize, health: HealthCheck) {
    let (mut failures, mut successes) = (0u32, 0u32);
    loop {
        let Some(strong) = pool.upgrade() else { return };
        let Some(server) = strong.servers.get(at) else { return };
        let is_well = timeout(health.timeout, is_well(server, &health)).await.unwrap_or(false);
        (failures, successes) =
            if is_well { (0, successes.saturating_add(1)) } else { (failures.saturating_add(1), 0) };
        if failures >= health.unhealthy_after {
            strong.checked(server, false);
        } else if successes >= health.healthy_after {
            strong.checked(server, true);
        }
        drop(strong);
        // A tenth of jitter keeps replicas and servers out of step.
        tokio::time::sleep(health.every.mul_f64(0.95 + fastrand::f64() / 10.0)).await;
    }
}

/// Asks on a connection of its own: a check tells whether one can be made.
async fn is_well(server: &Server, health: &HealthCheck) -> bool {
    let Ok(mut conversation) = server.connect(health.timeout).await else { return false };
    status(&mut conversation, server, health).await.is_some_and(|status| health.expects(status))
}

async fn status(conversation: &mut Conversation, server: &Server, health: &HealthCheck) -> Option<StatusCode> {
    let agent = HeaderValue::from_static("mailtrixy-gateway health");
    let fields = vec![(HOST, server.host.clone()), (USER_AGENT, agent)].into();
    let head = RequestHead { method: Method::GET, target: health.path.parse().ok()?, fields };
    conversation.begin(head, true).ok()?;
    conversation.flush().await.ok()?;
    loop {
        let head = conversation.head().await.ok()?;
        if !head.status.is_informational() {
            return Some(head.status);
        }
    }
}
