//! The process: binds its listeners, serves until it is told to end, and lets requests in flight finish.
//!
//! pingora's own `Server` is not used: it sleeps through its whole grace period, goes on without a listener that it could not bind,
//! and hands its sockets over without asking whether anybody takes them.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::server::Fds;
use pingora::services::Service as _;
use pingora::services::listening::Service;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::admin::console::{Console, Process};
use crate::admin::{self, Health};
use crate::config::settings::{Config, ListenerSettings};
use crate::proxy::Gateway;
use crate::proxy::edge::Edge;
use crate::proxy::hand_over::{self, Inherited};
use crate::proxy::reload::Reloader;
use crate::proxy::seats::Seats;
use crate::proxy::snapshot::{Foundation, Live, Snapshot};
use crate::proxy::tls::Tls;
use crate::telemetry::Telemetry;
use crate::telemetry::access::AccessLog;
use crate::telemetry::log::Log;
use crate::telemetry::metrics::Metrics;
use crate::tls::Protocols;

/// What an encrypted listener speaks, with HTTP/2 and without.
const HTTP2_OR_1: Protocols = &[b"h2", b"http/1.1"];
const HTTP1: Protocols = &[b"http/1.1"];

/// Listeners that are bound and not served yet.
pub struct Bound {
    listeners: Vec<(SocketAddr, TcpListener, ListenerSettings)>,
    admin: (SocketAddr, TcpListener),
    inherited: Option<Inherited>,
}

impl Bound {
    /// Takes the listeners of a configuration that were handed over and binds the others, or says which one cannot be had.
    pub fn new(config: &Config, mut inherited: Option<Inherited>) -> Result<Self, String> {
        let mut have = |address| match inherited.as_mut().and_then(|inherited| inherited.take(address)) {
            Some(listener) => Ok((address, listener)),
            None => bind(address),
        };
        let mut listeners = Vec::new();
        for settings in &config.process.listeners {
            let (address, listener) = have(settings.address)?;
            listeners.push((address, listener, settings.clone()));
        }
        let admin = have(config.process.admin)?;
        Ok(Self { listeners, admin, inherited })
    }

    /// The same sockets once more, to be handed over.
    fn duplicates(&self) -> std::io::Result<Vec<(SocketAddr, TcpListener)>> {
        let listeners = self.listeners.iter().map(|(address, listener, _)| (*address, listener));
        let all = listeners.chain([(self.admin.0, &self.admin.1)]);
        all.map(|(address, listener)| Ok((address, listener.try_clone()?))).collect()
    }

    /// Where the gateway listens; the port that the system chose where the configuration says 0.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|(address, ..)| *address).collect()
    }

    /// Where the admin listener is.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.0
    }
}

fn bind(address: SocketAddr) -> Result<(SocketAddr, TcpListener), String> {
    let bound = || -> std::io::Result<_> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok((listener.local_addr()?, listener))
    };
    bound().map_err(|error| format!("cannot listen on {address}: {error}; another process may have it"))
}

/// Serves `config` until SIGTERM or SIGINT, and then until requests in flight are done or their grace is over.
///
/// `path` is watched for changes.
pub async fn run(bound: Bound, config: Config, path: PathBuf, log: Arc<Log>) -> Result<(), String> {
    let metrics = Arc::new(Metrics::new().map_err(|error| error.to_string())?);
    metrics.build(env!("CARGO_PKG_VERSION"), option_env!("GATEWAY_REVISION").unwrap_or("unknown"));
    let foundation = Arc::new(Foundation::new(Arc::clone(&metrics)));
    let telemetry = Arc::new(Telemetry::new(
        Arc::clone(&metrics),
        Arc::clone(&foundation.recent),
        AccessLog::new(Arc::clone(&log)),
    ));
    telemetry.export(config.tracing.as_ref());
    let live = Arc::new(Live::new(Snapshot::build(config, &foundation, None).await));
    let (in_flight, connections) = (Seats::new(), Seats::new());
    let (shutdown, draining) = watch::channel(false);
    let (end, ending) = watch::channel(false);
    let gateway = Arc::new(Gateway {
        live: Arc::clone(&live),
        telemetry: Arc::clone(&telemetry),
        in_flight: Arc::clone(&in_flight),
        draining: draining.clone(),
    });
    let mut signals = Signals::new()?;
    let listeners = Arc::new(bound.duplicates().map_err(|error| format!("cannot keep the listeners: {error}"))?);
    let listeners_served = bound.listeners.iter().map(|(address, _, settings)| (*address, settings.clone())).collect();
    let process = Process::new(path.clone(), listeners_served, bound.admin.0, live.load().config.process.threads);
    let console = Console::new(process, Arc::clone(&live), Arc::clone(&foundation), ending.clone());
    let health = Health {
        live: Arc::clone(&live),
        draining: ending,
        metrics,
        log: Arc::clone(&log),
        console: Arc::new(console),
    };
    let (admin_address, admin_listener) = bound.admin;
    let admin = tokio::spawn(admin::serve(admin_listener, health));
    let mut services = JoinSet::new();
    for (address, listener, settings) in bound.listeners {
        let tls = encryption(address, &settings, &gateway.telemetry.metrics)?;
        let name = address.to_string();
        let edge = Edge::new(Arc::clone(&gateway), Arc::clone(&connections), &name, &settings, tls.clone());
        services.spawn(serve(address, listener, edge, tls, draining.clone()));
        tracing::info!(%address, tls = settings.tls.is_some(), "listening");
    }
    tracing::info!(address = %admin_address, "admin listening");
    if let Some(inherited) = bound.inherited {
        inherited.confirm();
        tracing::info!("took over from the predecessor");
    }
    tell_systemd(&[NotifyState::Ready, NotifyState::MainPid(std::process::id())]);
    let reloader = Reloader::new(path, Arc::clone(&live), foundation, Arc::clone(&telemetry), log);
    loop {
        tokio::select! {
            () = reloader.watch() => {}
            signal = signals.next() => match signal {
                Signal::Reload => reloader.reload().await,
                Signal::HandOver => match hand_over(&live, &listeners).await {
                    Ok(()) => {
                        admin.abort();
                        tracing::info!("handed over to the successor");
                        break;
                    }
                    Err(why) => tracing::error!("not handed over, and serving on: {why}"),
                },
                Signal::End => {
                    tell_systemd(&[NotifyState::Stopping]);
                    let _ = end.send(true);
                    delay(live.load().config.delay, &mut signals).await;
                    break;
                }
            },
            Some(ended) = services.join_next() => return Err(format!("a listener ended by itself: {ended:?}")),
        }
    }
    // Nothing may keep a listener open that nobody serves.
    drop(listeners);
    let grace = live.load().config.grace;
    tracing::info!("draining: no new connections, requests in flight have {grace:?}");
    let _ = end.send(true);
    let _ = shutdown.send(true);
    tokio::select! {
        () = drain(&connections, &in_flight, &mut services, grace) => {}
        () = signals.end() => tracing::warn!(requests = in_flight.taken(), "told to end again: what is in flight is cut off"),
    }
    live.load().flush().await;
    telemetry.flush().await;
    admin.abort();
    Ok(())
}

/// Serves on as if nothing were, but that /readyz says otherwise: whoever sends clients here looks now and then. A second signal ends it.
async fn delay(delay: Duration, signals: &mut Signals) {
    if delay.is_zero() {
        return;
    }
    tracing::info!("not ready any more: new connections are taken for {delay:?}");
    tokio::select! {
        () = tokio::time::sleep(delay) => {}
        () = signals.end() => {}
    }
}

/// Hands the listeners to the successor that waits for them.
async fn hand_over(live: &Live, listeners: &Arc<Vec<(SocketAddr, TcpListener)>>) -> Result<(), String> {
    let socket = live.load().config.hand_over.clone();
    let socket = socket.ok_or_else(|| "gateway.yaml has no `hand_over: {socket: …}`".to_owned())?;
    let listeners = Arc::clone(listeners);
    let handed = tokio::task::spawn_blocking(move || hand_over::hand_over(&socket, &listeners)).await;
    handed.unwrap_or_else(|error| Err(error.to_string()))
}

/// Tells systemd, where it wants to be told.
fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::warn!("systemd was not told: {error}");
    }
}

/// Waits for every connection to end by itself, which an idle one does within a second.
async fn drain(connections: &Seats, in_flight: &Seats, services: &mut JoinSet<()>, grace: Duration) {
    let done = async {
        while services.join_next().await.is_some() {}
        connections.empty().await;
    };
    match timeout(grace, done).await {
        Ok(()) => tracing::info!("all requests are answered"),
        Err(_) => tracing::warn!(requests = in_flight.taken(), "the grace is over: what is in flight is cut off"),
    }
}

/// How a listener encrypts, if it does.
fn encryption(
    address: SocketAddr,
    settings: &ListenerSettings,
    metrics: &Arc<Metrics>,
) -> Result<Option<Arc<Tls>>, String> {
    let Some(tls) = &settings.tls else { return Ok(None) };
    let protocols = if settings.http2 { HTTP2_OR_1 } else { HTTP1 };
    Tls::new(tls.clone(), protocols, address.to_string(), Arc::clone(metrics)).map(|tls| Some(Arc::new(tls)))
}

/// One listener with pingora's accept loop behind it, until `shutdown`.
async fn serve(
    address: SocketAddr,
    listener: TcpListener,
    edge: Edge,
    tls: Option<Arc<Tls>>,
    shutdown: watch::Receiver<bool>,
) {
    let name = address.to_string();
    let mut inherited = Fds::new();
    inherited.add(name.clone(), listener.into_raw_fd());
    let mut service = Service::new(name.clone(), edge);
    service.add_listener(ListenerConfig::tcp(name).l4_buffer(L4BufferSettings::unbuffered()));
    let serving = service.start_service(Some(Arc::new(Mutex::new(inherited))), shutdown, 1);
    let watching = async {
        match tls {
            Some(tls) => tls.watch().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = serving => {}
        () = watching => {}
    }
}

/// The signals the process listens to.
struct Signals {
    hangup: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
}

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signal {
    Reload,
    HandOver,
    End,
}

impl Signals {
    fn new() -> Result<Self, String> {
        let listen = |kind| signal(kind).map_err(|error| format!("cannot listen to signals: {error}"));
        Ok(Self {
            hangup: listen(SignalKind::hangup())?,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            quit: listen(SignalKind::quit())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hangup.recv() => Signal::Reload,
            _ = self.terminate.recv() => Signal::End,
            _ = self.interrupt.recv() => Signal::End,
            _ = self.quit.recv() => Signal::HandOver,
        }
    }

    async fn end(&mut self) {
        while self.next().await != Signal::End {}
    }
}
