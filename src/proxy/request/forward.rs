//! The way of a permitted request to a server: one after the other is asked, as far as that is allowed.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::time::{Instant, timeout_at};

use crate::pipeline::Permit;
use crate::policy::refusal::Refusal;
use crate::policy::upstream::Upstream;
use crate::proxy::client::{Client, ClientFailure};
use crate::proxy::exchange::{self, Answer, ConnectFailure, Failure, Upgrade};
use crate::proxy::pool::{NoPlace, Place, Pool};
use crate::proxy::request::{Request, Stop};
use crate::proxy::{headers, respond};

/// What a request had to do with its upstream.
#[derive(Default)]
pub(super) struct Journey {
    pub(super) upstream: Option<Arc<Upstream>>,
    pub(super) server: Option<Arc<str>>,
    pub(super) attempts: u32,
    pub(super) duration: Duration,
    /// Its place at the server that answers, kept until the answer has been passed on.
    pub(super) place: Option<Place>,
    /// When it has to be over.
    pub(super) ends: Option<Instant>,
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

impl Request<'_> {
    /// Sends the request to one server after the other until one answers, as far as that is allowed: any request while nothing was
    /// sent, and an idempotent one without a body also when a server may have seen it.
    pub(super) async fn forward(
        &mut self,
        pool: &Arc<Pool>,
        permit: &Permit,
        upgrade: Upgrade,
    ) -> Result<Answer, Stop> {
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
        self.journey.ends = total.map(|total| Instant::now() + total);
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
                    // Whether a success is one shows at its end; that of a stream may be hours away.
                    let is_error = answer.head.status.is_server_error();
                    if is_error || permit.route().streaming || permit.route().websocket {
                        pool.report(server, is_error);
                    }
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
}

/// What came of asking a server, for the trace.
pub(super) fn heard(sent: &Result<Answer, Failure>) -> Result<u16, &'static str> {
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
pub(super) async fn until<T>(
    ends: Option<Instant>,
    part: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match ends {
        Some(ends) => timeout_at(ends, part).await.unwrap_or(Err(Failure::Late)),
        None => part.await,
    }
}
