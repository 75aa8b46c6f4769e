//! One connection of a client: reads the head of each request within its bounds, and refuses what is not plainly HTTP.
//!
//! pingora would answer such a request by itself, without a body, or close; here it is an envelope, a metric and an access line.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Buf as _, BytesMut};
use http::{HeaderValue, StatusCode};
use pingora::apps::ServerApp;
use pingora::protocols::{ALPN, Stream};
use pingora::server::ShutdownWatch;
use prometheus::IntGauge;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Duration, Instant, timeout, timeout_at};

use crate::config::settings::{ListenerSettings, RequestBounds, TrustedProxies};
use crate::pipeline::Trail;
use crate::policy::head::{self, Head};
use crate::policy::head_end::Scan;
use crate::policy::refusal::Refusal;
use crate::proxy::channel::Channel;
use crate::proxy::client::Wire;
use crate::proxy::headers::{Arrival, Peer, REQUEST_ID};
use crate::proxy::http1::Http1;
use crate::proxy::http2::Multiplexed;
use crate::proxy::rewound::Rewound;
use crate::proxy::seats::Seats;
use crate::proxy::tls::Tls;
use crate::proxy::{Ending, Gateway, Origin, proxy_protocol, respond};
use crate::telemetry::Outcome;

/// While draining, a kept connection may bring one more request within this time before it is closed: a client that sends just as we
/// close would lose it.
const LAST_REQUEST: Duration = Duration::from_secs(1);
/// How long, and how much, a refused client may go on sending before the connection is closed. Closing at once would make the
/// client's kernel throw our answer away.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 32 << 20;
const READ: usize = 4096;
/// How long a connection keeps its buffers for the next request.
const BUSY: Duration = Duration::from_millis(500);
/// What an HTTP/2 client begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The application behind one listener.
pub(super) struct Edge {
    gateway: Arc<Gateway>,
    connections: Arc<Seats>,
    open: IntGauge,
    in_flight: IntGauge,
    tls: Option<Arc<Tls>>,
    http2: bool,
    /// Whose connections begin with a PROXY protocol header.
    introducers: TrustedProxies,
    listener: String,
}

/// What came of waiting for a head.
enum Arrived {
    /// A complete head.
    Head(Box<Head>),
    /// There is no further request.
    Nothing,
    /// What came is refused.
    Refused(Refusal),
}

impl Edge {
    /// The edge of the listener that is called `listener` on metrics.
    pub(super) fn new(
        gateway: Arc<Gateway>,
        connections: Arc<Seats>,
        listener: &str,
        settings: &ListenerSettings,
        tls: Option<Arc<Tls>>,
    ) -> Self {
        let metrics = &gateway.telemetry.metrics;
        let (open, in_flight) = (metrics.connections(listener), metrics.in_flight(listener));
        let introducers = TrustedProxies(settings.proxy_protocol.clone());
        let (http2, listener) = (settings.http2, listener.to_owned());
        Self { gateway, connections, open, in_flight, tls, http2, introducers, listener }
    }

    /// Whom a connection comes from: a balancer that is trusted to know has to say it before everything else. `None` when it does not.
    async fn introduce(&self, stream: Stream, peer: IpAddr) -> Option<(Stream, IpAddr)> {
        if !self.introducers.trusts(peer) {
            return Some((stream, peer));
        }
        let within = self.gateway.live.load().config.request.header_timeout;
        let introduced = proxy_protocol::take(stream, peer, within).await;
        if introduced.is_none() {
            self.gateway.telemetry.metrics.introduction_failed(&self.listener);
            tracing::debug!(%peer, "closed: its connections have to begin with a PROXY protocol header");
        }
        introduced
    }

    /// Encrypts a connection where the listener does; `None` when the client does not manage in time.
    async fn encrypt(&self, stream: Stream) -> Option<Stream> {
        match &self.tls {
            Some(tls) => tls.handshake(stream, self.gateway.live.load().config.request.header_timeout).await,
            None => Some(stream),
        }
    }

    /// Whether the client speaks HTTP/2: agreed upon in the handshake, or, where the listener takes it in the clear, begun with the
    /// preface (RFC 9113 section 3.4). Reads as much as tells the two apart.
    async fn speaks_http2(&self, channel: &mut Channel<Stream>, shutdown: &ShutdownWatch) -> bool {
        if self.tls.is_some() {
            return channel.stream().selected_alpn_proto() == Some(ALPN::H2);
        }
        if !self.http2 {
            return false;
        }
        let bounds = self.gateway.live.load().config.request.clone();
        if !first_bytes(channel, bounds.idle_timeout, shutdown).await {
            return false;
        }
        let late_at = Instant::now() + bounds.header_timeout;
        while channel.read.len() < PREFACE.len() && PREFACE.starts_with(&channel.read) {
            if !matches!(timeout_at(late_at, channel.fill()).await, Ok(Ok(1..))) {
                return false;
            }
        }
        channel.read.starts_with(PREFACE)
    }

    /// One connection: request after request until one side has enough.
    ///
    /// What does not go on all the time is on the heap, so that an idle connection does not hold the room for it.
    async fn connection(&self, stream: Stream, peer: IpAddr, shutdown: &ShutdownWatch) {
        let origin = Origin { peer: Peer::new(peer), is_tls: self.tls.is_some(), in_flight: self.in_flight.clone() };
        let mut channel = Channel::new(stream);
        if self.speaks_http2(&mut channel, shutdown).await {
            let connection = Multiplexed { gateway: &self.gateway, origin: &origin, shutdown };
            let (stream, read) = channel.into_parts();
            return Box::pin(connection.serve(Rewound::new(read, stream))).await;
        }
        loop {
            let bounds = self.gateway.live.load().config.request.clone();
            let mut began = Instant::now();
            let mut head = match read_head(&mut channel, &bounds, shutdown, &mut began).await {
                Arrived::Head(head) => head,
                Arrived::Nothing => return close(channel).await,
                Arrived::Refused(refusal) => {
                    let arrival = arrival(&channel.read, peer);
                    return self.refuse(channel, &refusal, &arrival, began).await;
                }
            };
            let verdict = head.flaw.take().map_or(Ok(()), Err);
            let mut request = Http1::new(channel, *head);
            let ending = Box::pin(self.gateway.serve(Wire::Http1(&mut request), &origin, verdict)).await;
            if ending != Ending::Whole {
                // Dropped as it is: whoever has half an answer is not to take it for a whole one.
                return;
            }
            match request.end(LINGER).await {
                (same, true) => channel = same,
                (last, false) => return close(last).await,
            }
        }
    }

    /// Answers on a connection on which no request could be read, and closes it.
    async fn refuse(&self, mut channel: Channel<Stream>, refusal: &Refusal, arrival: &Arrival, began: Instant) {
        let is_written = write(channel.stream(), &respond::raw(refusal, &arrival.request_id)).await;
        self.tell(refusal, arrival, began, is_written);
        close(channel).await;
    }

    /// Answers a connection for which there is no room, and drops it: to linger would be to make room. So would a handshake, and
    /// therefore an encrypted connection gets no answer.
    async fn turn_away(&self, mut stream: Stream, peer: IpAddr) {
        let (refusal, began) = (Refusal::Overloaded, Instant::now());
        let arrival = arrival(&[], peer);
        let is_written = self.tls.is_none() && write(&mut stream, &respond::raw(&refusal, &arrival.request_id)).await;
        self.tell(&refusal, &arrival, began, is_written);
        let _ = timeout(LINGER, AsyncWriteExt::shutdown(&mut stream)).await;
    }

    /// Tells of a refusal without a request.
    fn tell(&self, refusal: &Refusal, arrival: &Arrival, began: Instant, is_written: bool) {
        self.gateway.telemetry.record(&Outcome {
            request_id: arrival.id(),
            method: None,
            path: "",
            status: refusal.status(),
            refusal: Some(refusal),
            trail: &Trail::default(),
            meters: &self.gateway.telemetry.unrouted,
            upstream: None,
            duration: began.elapsed(),
            client: arrival.client.0,
            bytes_in: 0,
            bytes_out: if is_written { crate::policy::envelope::Envelope::of(refusal).body.len() } else { 0 },
        });
    }
}

/// Who a head came from that is not taken over, with the client's own id where that can be made out.
fn arrival(head: &[u8], peer: IpAddr) -> Arrival {
    let id = head::only_value(head, &REQUEST_ID).and_then(|value| HeaderValue::from_bytes(value).ok());
    let headers = id.map(|id| (REQUEST_ID, id)).into_iter().collect();
    Arrival::new(&headers, &Peer::new(peer), false, &TrustedProxies::default())
}

/// Writes an answer, and does not wait for a client that does not read.
async fn write(stream: &mut Stream, answer: &[u8]) -> bool {
    let writing = async { stream.write_all(answer).await.is_ok() && stream.flush().await.is_ok() };
    timeout(LINGER, writing).await.unwrap_or(false)
}

#[async_trait]
impl ServerApp for Edge {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let peer = peer_address(&stream)?;
        let most = self.gateway.live.load().config.request.connections;
        match self.connections.take(most, &self.open) {
            Some(_seat) => {
                let (stream, peer) = self.introduce(stream, peer).await?;
                let stream = Box::pin(self.encrypt(stream)).await?;
                self.connection(stream, peer, shutdown).await;
            }
            None => self.turn_away(stream, peer).await,
        }
        None
    }
}

fn peer_address(stream: &Stream) -> Option<IpAddr> {
    let digest = stream.get_socket_digest()?;
    digest.peer_addr()?.as_inet().map(std::net::SocketAddr::ip)
}

/// Reads a complete head. `began` becomes when it began to arrive.
async fn read_head(
    channel: &mut Channel<Stream>,
    bounds: &RequestBounds,
    shutdown: &ShutdownWatch,
    began: &mut Instant,
) -> Arrived {
    if !begins(channel, bounds.idle_timeout, shutdown).await {
        return Arrived::Nothing;
    }
    *began = Instant::now();
    let late_at = *began + bounds.header_timeout;
    let mut scan = Scan::default();
    loop {
        match scan.find_end(&channel.read) {
            Err(refusal) => return Arrived::Refused(refusal),
            Ok(Some(end)) if end <= bounds.header_bytes => {
                let octets = channel.read.split_to(end).freeze();
                return head::read(&octets, bounds.headers).map_or_else(
                    |refusal| {
                        // Whoever tells of the refusal looks for the client's request id there.
                        channel.read = octets.into();
                        Arrived::Refused(refusal)
                    },
                    |head| Arrived::Head(Box::new(head)),
                );
            }
            Ok(None) if channel.read.len() <= bounds.header_bytes => {}
            Ok(_) => return Arrived::Refused(head::too_large()),
        }
        match timeout_at(late_at, channel.fill()).await {
            Ok(Ok(1..)) => {}
            Ok(_) => return Arrived::Nothing,
            Err(_) => return Arrived::Refused(Refusal::BadRequest(StatusCode::REQUEST_TIMEOUT, "head_timeout")),
        }
    }
}

/// Waits for a request to begin; false when none does. One empty line before it is left out (RFC 9112 section 2.2).
async fn begins(channel: &mut Channel<Stream>, idle: Duration, shutdown: &ShutdownWatch) -> bool {
    if channel.read.is_empty() && !first_bytes(channel, idle, shutdown).await {
        return false;
    }
    if *channel.read == *b"\r" && !first_bytes(channel, idle, shutdown).await {
        return false;
    }
    if channel.read.starts_with(b"\r\n") {
        channel.read.advance(2);
    }
    !channel.read.is_empty() || first_bytes(channel, idle, shutdown).await
}

/// Waits for bytes to come; false when none do.
async fn first_bytes(channel: &mut Channel<Stream>, idle: Duration, shutdown: &ShutdownWatch) -> bool {
    let mut shutdown = shutdown.clone();
    let draining = async {
        // An error means that the sender is gone, which is a shutdown too.
        let _ = shutdown.wait_for(|is_over| *is_over).await;
        tokio::time::sleep(LAST_REQUEST).await;
    };
    let first = async {
        match timeout(idle.min(BUSY), channel.fill()).await {
            Ok(read) => matches!(read, Ok(1..)),
            // Most of its time a kept connection is idle; it costs little then.
            Err(_) => matches!(timeout(idle.saturating_sub(BUSY), channel.fill_at_rest()).await, Ok(Ok(1..))),
        }
    };
    tokio::select! {
        biased;
        has_come = first => has_come,
        () = draining => false,
    }
}

/// Closes a connection in order: our side first, then whatever the client still sends is thrown away for a moment.
async fn close(channel: Channel<Stream>) {
    let (mut stream, _) = channel.into_parts();
    let closing = async {
        if AsyncWriteExt::shutdown(&mut stream).await.is_err() {
            return;
        }
        let mut rubbish = BytesMut::with_capacity(READ);
        let mut total = 0;
        while let Ok(read @ 1..) = stream.read_buf(&mut rubbish).await {
            total += read;
            rubbish.clear();
            if total > LINGER_BYTES {
                break;
            }
        }
    };
    // Over the time, the connection is dropped all the same.
    let _ = timeout(LINGER, closing).await;
}
