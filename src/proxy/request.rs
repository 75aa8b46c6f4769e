//! The life of one request: arrived → admitted → forwarded → answered, or refused anywhere on the way, and told once in the end.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{CACHE_CONTROL, CONTENT_ENCODING, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, StatusCode, Version};

use crate::pipeline::{Permit, Trail};
use crate::policy::answer::names_websocket;
use crate::policy::decode::Coding;
use crate::policy::envelope::{CHALLENGE_INVALID, Envelope};
use crate::policy::fields::Fields;
use crate::policy::limit::whole_seconds;
use crate::policy::normalise::{self, BackendErrors};
use crate::policy::refusal::Refusal;
use crate::policy::route::Destination;
use crate::policy::upstream::Upstream;
use crate::proxy::client::{Client, ClientFailure, Wire};
use crate::proxy::exchange::{self, Answer, ConnectFailure, Failure, Upgrade};
use crate::proxy::headers::{self, Arrival, Told};
use crate::proxy::pool::{NoPlace, Place, Pool};
use crate::proxy::seats::Seat;
use crate::proxy::snapshot::Snapshot;
use crate::proxy::tap::Tap;
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

/// What a request had to do with its upstream.
#[derive(Default)]
struct Journey {
    upstream: Option<Arc<Upstream>>,
    server: Option<Arc<str>>,
    attempts: u32,
    duration: Duration,
    /// Its place at the server that answers, kept until the answer has been passed on.
    place: Option<Place>,
    /// When it has to be over.
    ends: Option<tokio::time::Instant>,
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

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Refused(match failure {
            Failure::Connect(ConnectFailure::Refused) => Refusal::BadGateway("upstream_refused"),
            Failure::Connect(ConnectFailure::Untrusted) => Refusal::BadGateway("upstream_untrusted"),
            Failure::Connect(ConnectFailure::Late) | Failure::Late => Refusal::GatewayTimeout,
            Failure::Stale => Refusal::BadGateway(exchange::CLOSED),
            Failure::Unprocessed => Refusal::BadGateway("upstream_refused_stream"),
            Failure::Broken(reason) => Refusal::BadGateway(reason),
            Failure::Client(ClientFailure::Gone) => return Self::ClientGone,
            Failure::Client(ClientFailure::TooLarge) => Refusal::BodyTooLarge,
            Failure::Client(ClientFailure::Late) => Refusal::BodyTimeout,
            Failure::Client(ClientFailure::Malformed) => {
                Refusal::BadRequest(StatusCode::BAD_REQUEST, respond::BODY_FRAMING)
            }
            Failure::Refused(refusal) => refusal,
        })
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

    /// Passes octets between the client and a server that has changed to WebSocket, until one of them has enough.
    async fn switch(&mut self, answer: &mut Answer, idle: Duration) -> Result<End, Stop> {
        let told = told(&self.trail, &self.snapshot);
        let mut fields = headers::answer(&answer.head.fields, &told);
        told.write(&mut fields, &self.arrival);
        headers::upgrade(&mut fields);
        let server = answer.switched().ok_or(Refusal::BadGateway("upstream_switched"))?;
        let sent = self.client.switch(&fields, server, idle).await.map_err(|_| Stop::ClientGone)?;
        let bytes_out = usize::try_from(sent).unwrap_or(usize::MAX);
        Ok(End { status: answer.head.status, refusal: None, bytes_out, ending: Ending::Whole })
    }

    /// Sends the request to one server after the other until one answers, as far as that is allowed: any request while nothing was
    /// sent, and an idempotent one without a body also when a server may have seen it.
    async fn forward(&mut self, pool: &Arc<Pool>, permit: &Permit, upgrade: Upgrade) -> Result<Answer, Stop> {
        let mut tried = Vec::new();
        let mut may_be_stale = true;
        let mut last = None;
        pool.arrived();
        let key = match permit.principal() {
            Some(principal) => Cow::Borrowed(principal.workspace()),
            None => Cow::Owned(self.arrival.client.0.to_string()),
        };
        let timeouts = pool.upstream.timeouts.with(permit.route().timeouts);
        let total = timeouts.total.filter(|_| !permit.route().streaming);
        self.journey.ends = total.map(|total| tokio::time::Instant::now() + total);
        while self.journey.attempts <= pool.upstream.retries {
            let place = match pool.place(&tried, &key).await {
                Ok(place) => place,
                Err(NoPlace::AllBusy) => return Err(Refusal::UpstreamBusy.into()),
                Err(NoPlace::NoneHealthy) => break,
            };
            let Some(server) = place.server() else { break };
            self.journey.server = Some(Arc::clone(&server.name));
            self.trail.trace.asks(&server.name);
            let (arrival, trace) = (&self.arrival, &self.trail.trace);
            let build = |client: &Client<'_>| {
                let has_body = !client.is_complete();
                let mut head = headers::request(client.head(), permit, arrival, trace, &server.host, has_body)?;
                if upgrade == Upgrade::WebSocket {
                    headers::upgrade(&mut head.fields);
                }
                Ok(head)
            };
            self.journey.attempts += 1;
            let sent = exchange::send(&mut self.client, server, timeouts, upgrade, build);
            let sent = until(self.journey.ends, sent).await;
            self.trail.trace.heard(heard(&sent));
            match sent {
                Ok(answer) => {
                    pool.report(server, answer.head.status.is_server_error());
                    self.journey.place = Some(place);
                    return Ok(answer);
                }
                Err(failure @ (Failure::Client(_) | Failure::Refused(_))) => return Err(failure.into()),
                // The server is not to blame, and may be asked once more; what is pooled behind this connection is likely younger.
                Err(failure @ (Failure::Stale | Failure::Unprocessed))
                    if may_be_stale && self.may_be_sent_again(&failure) =>
                {
                    may_be_stale = false;
                    self.journey.attempts -= 1;
                    continue;
                }
                Err(failure) => {
                    pool.report(server, true);
                    if !self.may_go_on(&failure, pool) {
                        return Err(failure.into());
                    }
                    last = Some(failure);
                }
            }
            tried.push(place.at());
        }
        Err(last.map_or(Stop::Refused(Refusal::NoHealthyServer), Stop::from))
    }

    /// Whether another server may be asked after this failure.
    fn may_go_on(&self, failure: &Failure, pool: &Pool) -> bool {
        match failure {
            Failure::Connect(_) => true,
            Failure::Stale | Failure::Unprocessed | Failure::Broken(_) => {
                self.may_be_sent_again(failure) && pool.may_retry()
            }
            Failure::Late | Failure::Client(_) | Failure::Refused(_) => false,
        }
    }

    /// Whether a request can be sent once more that a server has had: it says that it did not look at it and all of it is still here, or
    /// it may be repeated.
    fn may_be_sent_again(&self, failure: &Failure) -> bool {
        matches!(failure, Failure::Unprocessed) && self.client.received() == 0 || self.is_repeatable()
    }

    /// A request that is not idempotent is never sent twice, and neither is a body, which is not kept.
    fn is_repeatable(&self) -> bool {
        headers::is_idempotent(&self.client.head().method) && !self.client.has_body()
    }

    /// Passes a server's answer to the client: errors as envelopes, everything else as it is.
    async fn pass_on(&mut self, answer: &mut Answer, permit: &Permit, timeout: Duration) -> Result<End, Stop> {
        let head = &answer.head;
        let status = head.status;
        let location = head.fields.get(LOCATION).and_then(|value| value.to_str().ok());
        let is_login = permit.principal().is_some() && normalise::is_login_redirect(status, location);
        let told = told(&self.trail, &self.snapshot);
        let mut fields = headers::answer(&head.fields, &told);
        told.write(&mut fields, &self.arrival);
        self.say_farewell();
        let snapshot = Arc::clone(&self.snapshot);
        match &snapshot.admission.policy.backend_errors {
            BackendErrors::Normalise { body_bytes, private_hosts } if is_login || status.as_u16() >= 400 => {
                let (envelope, coding) = match is_login {
                    true => (self.count_normalised(Envelope::standard(StatusCode::UNAUTHORIZED), false), None),
                    false => self.normalised(answer, *body_bytes, private_hosts, timeout).await,
                };
                self.write_error(&envelope, coding, fields, permit).await
            }
            _ => {
                let between_reads = (!permit.route().streaming).then_some(timeout);
                respond::frame(self.client.head(), status, &mut fields);
                let (watch, drifts) = (snapshot.admission.policy.contract, &self.gateway.telemetry.drifts);
                let tap = Tap::on(watch, &self.client.head().method, permit.route(), &answer.head, drifts);
                self.relay(answer, fields, between_reads, tap).await
            }
        }
    }

    async fn relay(
        &mut self,
        answer: &mut Answer,
        fields: Fields,
        between_reads: Option<Duration>,
        mut tap: Tap,
    ) -> Result<End, Stop> {
        let status = answer.head.status;
        self.client.begin(status, fields).map_err(|_| Stop::ClientGone)?;
        match until(self.journey.ends, answer.relay(&mut self.client, between_reads, &mut tap)).await {
            Ok(()) => {
                tap.finish();
                Ok(End { status, refusal: None, bytes_out: self.client.sent(), ending: Ending::Whole })
            }
            Err(Failure::Client(_)) => Err(Stop::ClientGone),
            // Too late for an envelope: the connection is cut, so that nobody takes half an answer for a whole one.
            Err(Failure::Late) => Ok(self.cut_off(status, Refusal::GatewayTimeout)),
            Err(_) => Ok(self.cut_off(status, Refusal::BadGateway("upstream_cut_short"))),
        }
    }

    /// What a client is sent for a backend's error, and its coding. A body that cannot be read, or need not be, makes the standard
    /// envelope. What was compressed is sent as it is read, but for an envelope of the backend's that its client asked for like that.
    async fn normalised(
        &self,
        answer: &mut Answer,
        most: usize,
        private_hosts: &[String],
        timeout: Duration,
    ) -> (Envelope, Option<HeaderValue>) {
        let status = answer.head.status;
        let asked = self.client.head();
        let coding = Coding::of(&answer.head.fields).filter(|_| asked.method != Method::HEAD);
        let body = match coding {
            Some(_) => answer.collect(most, timeout).await,
            None => None,
        };
        let content = coding.zip(body.as_deref()).and_then(|(coding, body)| coding.decode(body, most));
        let (Some(coding), Some(body), Some(content)) = (coding, body, content) else {
            return (self.count_normalised(Envelope::standard(normalise::true_status(status)), false), None);
        };
        let normalised = normalise::normalise(status, &content, private_hosts);
        match normalised.answer {
            normalise::Answer::Untouched if coding.is_asked_for(&asked.headers) => {
                (Envelope { status, body: body.into() }, answer.head.fields.get(CONTENT_ENCODING).cloned())
            }
            normalise::Answer::Untouched => (Envelope { status, body: content.into() }, None),
            normalise::Answer::Replaced(envelope) => (self.count_normalised(envelope, normalised.leaked), None),
        }
    }

    fn count_normalised(&self, envelope: Envelope, leaked: bool) -> Envelope {
        if let Some(upstream) = &self.journey.upstream {
            self.gateway.telemetry.metrics.normalised(&upstream.name, leaked);
        }
        envelope
    }

    async fn write_error(
        &mut self,
        envelope: &Envelope,
        coding: Option<HeaderValue>,
        mut fields: Fields,
        permit: &Permit,
    ) -> Result<End, Stop> {
        headers::without_representation(&mut fields);
        if let Some(coding) = coding {
            fields.append(CONTENT_ENCODING, coding);
        }
        if envelope.status == StatusCode::UNAUTHORIZED && permit.principal().is_some() {
            fields.append(WWW_AUTHENTICATE, CHALLENGE_INVALID);
        }
        let written = respond::write(&mut self.client, envelope, fields).await;
        let bytes_out = written.map_err(|_| Stop::ClientGone)?;
        Ok(End { status: envelope.status, refusal: None, bytes_out, ending: Ending::Whole })
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

    /// The backend broke off in the middle of its answer.
    fn cut_off(&mut self, status: StatusCode, refusal: Refusal) -> End {
        self.client.cut();
        End { status, refusal: Some(refusal), bytes_out: self.client.sent(), ending: Ending::Cut }
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

/// What came of asking a server, for the trace.
fn heard(sent: &Result<Answer, Failure>) -> Result<u16, &'static str> {
    match sent {
        Ok(answer) => Ok(answer.head.status.as_u16()),
        Err(Failure::Connect(ConnectFailure::Refused)) => Err("upstream_refused"),
        Err(Failure::Connect(ConnectFailure::Untrusted)) => Err("upstream_untrusted"),
        Err(Failure::Connect(ConnectFailure::Late) | Failure::Late) => Err("upstream_timeout"),
        Err(Failure::Stale) => Err(exchange::CLOSED),
        Err(Failure::Unprocessed) => Err("upstream_refused_stream"),
        Err(Failure::Broken(reason)) => Err(reason),
        Err(Failure::Client(_)) => Err("client"),
        Err(Failure::Refused(refusal)) => Err(refusal.reason()),
    }
}

/// Waits for a part of an exchange until the whole has to be over.
async fn until<T>(
    ends: Option<tokio::time::Instant>,
    part: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match ends {
        Some(ends) => tokio::time::timeout_at(ends, part).await.unwrap_or(Err(Failure::Late)),
        None => part.await,
    }
}

fn client_gone() -> StatusCode {
    StatusCode::from_u16(CLIENT_GONE).unwrap_or(StatusCode::BAD_REQUEST)
}
