//! The life of one request: arrived → admitted → forwarded → answered, or refused anywhere on the way, and told once in the end.

mod deliver;
mod forward;

use std::sync::Arc;
use std::time::Instant;

use http::header::CACHE_CONTROL;
use http::{HeaderValue, Method, StatusCode, Version};

use crate::pipeline::{Permit, Trail};
use crate::policy::answer::names_websocket;
use crate::policy::envelope::Envelope;
use crate::policy::fields::Fields;
use crate::policy::limit::whole_seconds;
use crate::policy::refusal::Refusal;
use crate::policy::route::Destination;
use crate::proxy::client::{Client, Wire};
use crate::proxy::exchange::Upgrade;
use crate::proxy::headers::{Arrival, Told};
use crate::proxy::pool::Place;
use crate::proxy::request::forward::Journey;
use crate::proxy::seats::Seat;
use crate::proxy::snapshot::Snapshot;
use crate::proxy::{Ending, Gateway, Origin, respond};
use crate::telemetry::{CLIENT_GONE, Outcome, UpstreamUse};

/// One request with all that is known of it.
pub(super) struct Request<'g> {
    gateway: &'g Gateway,
    client: Client<'g>,
    snapshot: Arc<Snapshot>,
    started: Instant,
    arrival: Arrival,
    trail: Trail,
    journey: Journey,
}

/// Why a request has no answer of its backend.
enum Stop {
    /// It is refused.
    Refused(Refusal),
    /// There is nobody to answer any more.
    ClientGone,
}

/// How a request ended.
struct End {
    status: StatusCode,
    refusal: Option<Refusal>,
    bytes_out: usize,
    ending: Ending,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl<'g> Request<'g> {
    pub(super) fn new(gateway: &'g Gateway, wire: Wire<'g>, snapshot: Arc<Snapshot>, origin: &Origin) -> Self {
        let headers = &wire.head().headers;
        let arrival = Arrival::new(headers, &origin.peer, origin.is_tls, &snapshot.config.trusted_proxies);
        let trace = gateway.telemetry.trace(headers, arrival.is_tls);
        let client = Client::new(wire, snapshot.config.request.body_timeout);
        let (trail, journey) = (Trail { trace, ..Trail::default() }, Journey::default());
        Self { gateway, client, snapshot, started: Instant::now(), arrival, trail, journey }
    }

    /// `verdict` is what the edge made of the head. Without a `seat` there is no room for this request.
    pub(super) async fn serve(mut self, verdict: Result<(), Refusal>, seat: Option<&Seat>) -> Ending {
        let answered = match (seat, verdict) {
            (None, _) => Err(Refusal::Overloaded.into()),
            (_, Err(refusal)) => Err(refusal.into()),
            (Some(_), Ok(())) => self.answer().await,
        };
        let end = match answered {
            Ok(end) => end,
            Err(Stop::ClientGone) => self.left(None),
            Err(Stop::Refused(refusal)) => self.refuse(refusal).await,
        };
        self.record(&end);
        end.ending
    }

    async fn answer(&mut self) -> Result<End, Stop> {
        let snapshot = Arc::clone(&self.snapshot);
        let (cors, head) = (&snapshot.admission.policy.cors, self.client.head());
        if let Some(fields) = cors.as_ref().and_then(|cors| cors.preflight(&head.method, &head.headers)) {
            return self.answer_preflight(fields).await;
        }
        let permit = snapshot.admission.admit(self.client.head(), self.arrival.client, &mut self.trail).await?;
        self.check_body(&permit)?;
        if permit.route().destination == Destination::RateLimits {
            return self.tell_rate_limits(&snapshot, &permit).await;
        }
        let upgrade = self.upgrade(&permit)?;
        let pool = snapshot.pool(permit.route()).ok_or(Refusal::Internal("pool"))?;
        self.journey.upstream = Some(Arc::clone(&pool.upstream));
        pool.admits().map_err(|wait| Refusal::CircuitOpen(whole_seconds(wait)))?;
        let started = Instant::now();
        let answered = self.forward(pool, &permit, upgrade).await;
        self.journey.duration = started.elapsed();
        self.note_latency();
        let mut answer = answered?;
        let timeouts = pool.upstream.timeouts.with(permit.route().timeouts);
        if answer.head.status == StatusCode::SWITCHING_PROTOCOLS {
            return self.switch(&mut answer, timeouts.websocket).await;
        }
        let end = self.pass_on(&mut answer, &permit, timeouts.response).await;
        self.journey.duration = started.elapsed();
        if let Some(server) = self.journey.place.as_ref().and_then(Place::server) {
            let is_cut = matches!(&end, Ok(End { ending: Ending::Cut, .. }));
            if !answer.head.status.is_server_error() && (is_cut || !permit.route().streaming) {
                pool.report(server, is_cut);
            }
            answer.release(server);
        }
        end
    }

    /// Answers where the caller stands with their limits.
    async fn tell_rate_limits(&mut self, snapshot: &Snapshot, permit: &Permit) -> Result<End, Stop> {
        let quotas = snapshot.admission.standing(permit, self.arrival.client).await;
        let mut fields = Fields::with_capacity(8);
        told(&self.trail, snapshot).write(&mut fields, &self.arrival);
        fields.append(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        self.say_farewell();
        let written = respond::write(&mut self.client, &Envelope::rate_limits(&quotas), fields).await;
        let bytes_out = written.map_err(|_| Stop::ClientGone)?;
        Ok(End { status: StatusCode::OK, refusal: None, bytes_out, ending: Ending::Whole })
    }

    /// A browser's question before its request; it has no token and counts nowhere.
    async fn answer_preflight(&mut self, fields: Fields) -> Result<End, Stop> {
        self.say_farewell();
        let answered = respond::preflight(&mut self.client, fields, &self.arrival).await;
        answered.map_err(|_| Stop::ClientGone)?;
        Ok(End { status: StatusCode::NO_CONTENT, refusal: None, bytes_out: 0, ending: Ending::Whole })
    }

    /// How long the server took that answered first, for the console.
    fn note_latency(&self) {
        if let (true, 1, Some(place)) =
            (self.snapshot.config.console.enabled, self.journey.attempts, &self.journey.place)
            && let Some(server) = place.server()
        {
            server.answered_within(self.journey.duration);
        }
    }

    /// What can be said of the body before it is read.
    fn check_body(&mut self, permit: &Permit) -> Result<(), Refusal> {
        let most = permit.route().body_bytes;
        self.client.limit_body(most);
        if respond::declared_length(&self.client.head().headers).is_some_and(|length| length > most) {
            return Err(Refusal::BodyTooLarge);
        }
        // Laravel's input() prefers a JSON body to the query, so a body would be a way around the list contract.
        let is_list = permit.route().pagination.is_some() && self.client.head().method != Method::POST;
        if is_list && self.client.has_body() {
            return Err(Refusal::BadRequest(StatusCode::BAD_REQUEST, "body_on_list"));
        }
        Ok(())
    }

    /// Whether the request asks for a WebSocket, and may have one. Other protocols are not changed to (RFC 9110 section 7.8).
    fn upgrade(&self, permit: &Permit) -> Result<Upgrade, Refusal> {
        let head = self.client.head();
        if head.version != Version::HTTP_11 || !names_websocket(&head.headers) {
            return Ok(Upgrade::None);
        }
        let may_have_one = permit.route().websocket && head.method == Method::GET && !self.client.has_body();
        may_have_one.then_some(Upgrade::WebSocket).ok_or(Refusal::BadRequest(StatusCode::BAD_REQUEST, "upgrade"))
    }

    async fn refuse(&mut self, refusal: Refusal) -> End {
        self.say_farewell();
        let told = told(&self.trail, &self.snapshot);
        match respond::refuse(&mut self.client, &refusal, &told, &self.arrival).await {
            Ok(bytes_out) => End { status: refusal.status(), refusal: Some(refusal), bytes_out, ending: Ending::Whole },
            Err(_) => self.left(Some(refusal)),
        }
    }

    /// While draining, every answer is its connection's last, also that of a request which began before.
    fn say_farewell(&mut self) {
        if *self.gateway.draining.borrow() {
            self.client.end_connection();
        }
    }

    /// The client went away, or does not read.
    fn left(&mut self, refusal: Option<Refusal>) -> End {
        self.client.cut();
        End { status: client_gone(), refusal, bytes_out: self.client.sent(), ending: Ending::ClientGone }
    }

    fn record(&self, end: &End) {
        let head = self.client.head();
        let upstream = self.journey.upstream.as_ref().filter(|_| self.journey.attempts > 0);
        self.gateway.telemetry.record(&Outcome {
            request_id: self.arrival.id(),
            method: Some(&head.method),
            path: head.uri.path(),
            status: end.status,
            refusal: end.refusal.as_ref(),
            trail: &self.trail,
            meters: self.snapshot.meters(self.trail.route.as_deref()).unwrap_or(&self.gateway.telemetry.unrouted),
            upstream: upstream.map(|upstream| UpstreamUse {
                name: &upstream.name,
                server: self.journey.server.as_deref().unwrap_or_default(),
                attempts: self.journey.attempts,
                duration: self.journey.duration,
            }),
            duration: self.started.elapsed(),
            client: self.arrival.client.0,
            bytes_in: usize::try_from(self.client.received()).unwrap_or(usize::MAX),
            bytes_out: end.bytes_out,
        });
    }
}

/// What the answer tells about the request's limits.
fn told<'t>(trail: &'t Trail, snapshot: &'t Snapshot) -> Told<'t> {
    Told {
        quota: trail.decision.as_ref().and_then(|decision| decision.quota.as_ref()),
        ietf: snapshot.config.ietf_headers,
        is_limited: trail.route.as_ref().is_some_and(|route| !route.limits.is_empty()),
        cors: snapshot.admission.policy.cors.as_ref(),
    }
}

fn client_gone() -> StatusCode {
    StatusCode::from_u16(CLIENT_GONE).unwrap_or(StatusCode::BAD_REQUEST)
}
