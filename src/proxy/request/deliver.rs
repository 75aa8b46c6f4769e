//! A server's answer on its way to the client: errors as envelopes, everything else as it is.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_ENCODING, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, StatusCode};

use crate::pipeline::Permit;
use crate::policy::decode::Coding;
use crate::policy::envelope::{CHALLENGE_INVALID, Envelope};
use crate::policy::fields::Fields;
use crate::policy::normalise::{self, BackendErrors};
use crate::policy::refusal::Refusal;
use crate::proxy::exchange::{Answer, Failure};
use crate::proxy::request::forward::until;
use crate::proxy::request::{End, Request, Stop, told};
use crate::proxy::tap::Tap;
use crate::proxy::{Ending, headers, respond};

impl Request<'_> {
    /// Passes octets between the client and a server that has changed to WebSocket, until one of them has enough.
    pub(super) async fn switch(&mut self, answer: &mut Answer, idle: Duration) -> Result<End, Stop> {
        let told = told(&self.trail, &self.snapshot);
        let mut fields = headers::answer(&answer.head.fields, &told);
        told.write(&mut fields, &self.arrival);
        headers::upgrade(&mut fields);
        let server = answer.switched().ok_or(Refusal::BadGateway("upstream_switched"))?;
        let sent = self.client.switch(&fields, server, idle).await.map_err(|_| Stop::ClientGone)?;
        let bytes_out = usize::try_from(sent).unwrap_or(usize::MAX);
        Ok(End { status: answer.head.status, refusal: None, bytes_out, ending: Ending::Whole })
    }

    /// Passes a server's answer to the client: errors as envelopes, everything else as it is.
    pub(super) async fn pass_on(
        &mut self,
        answer: &mut Answer,
        permit: &Permit,
        timeout: Duration,
    ) -> Result<End, Stop> {
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

    /// The backend broke off in the middle of its answer.
    pub(super) fn cut_off(&mut self, status: StatusCode, refusal: Refusal) -> End {
        self.client.cut();
        End { status, refusal: Some(refusal), bytes_out: self.client.sent(), ending: Ending::Cut }
    }
}
