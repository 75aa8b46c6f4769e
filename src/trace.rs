//! The trace a request belongs to (W3C Trace Context), and, while it is sampled, when it passed each of its steps.
//!
//! A request that is not sampled costs nothing here: nothing is allocated for it and no clock is read.

use std::time::{Duration, Instant, SystemTime};

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use crate::policy::fields::Fields;

/// Which trace, which span of it is the parent, and whether that was sampled.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What the tracing systems on the way add to it; means nothing under another `traceparent`.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The bit of the flags that says "sampled", the only one that everybody knows.
const SAMPLED: u8 = 1;

/// What a `traceparent` says (section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traceparent {
    /// The trace, never 0.
    pub trace: u128,
    /// The span that asks, never 0.
    pub span: u64,
    /// Whether that span was recorded.
    pub is_sampled: bool,
}

/// Which requests are sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// The share of those that nobody has decided about.
    pub share: f64,
    /// What becomes of a caller's decision.
    pub parent: Parent,
}

/// What becomes of a caller's decision whether its trace is sampled. The trace is continued in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// It holds.
    Followed,
    /// The share decides.
    Ignored,
}

/// A request's part in its trace.
#[derive(Debug, Default)]
pub enum Trace {
    /// Nobody traces here: what came is passed on as it is.
    #[default]
    Off,
    /// This request is not sampled.
    Unsampled,
    /// It is, and this is what there is to tell.
    Sampled(Box<Steps>),
}

/// When a sampled request passed what. Times are counted from its beginning.
#[derive(Debug)]
pub struct Steps {
    /// The trace, and the span of this request.
    pub context: Traceparent,
    /// The caller's span, where there is one.
    pub parent: Option<u64>,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// When it began.
    pub began: SystemTime,
    /// What it has passed, in order.
    pub passed: Vec<(Step, Duration)>,
    /// Which servers it was sent to, in order.
    pub attempts: Vec<Attempt>,
    clock: Instant,
}

/// A step of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Its path led to a route.
    Route,
    /// Its caller was identified.
    Token,
    /// The caller may.
    Scope,
    /// Its limits have decided.
    Limit,
}

/// One way to a server.
#[derive(Debug)]
pub struct Attempt {
    /// Its span, which the server is told.
    pub span: u64,
    /// As on metrics and in the log.
    pub server: String,
    /// When it began.
    pub began: Duration,
    /// When the head of the answer was there, or when it failed.
    pub heard: Option<Duration>,
    /// The status of the answer, or why there is none.
    pub answer: Option<Result<u16, &'static str>>,
}

impl Traceparent {
    /// A trace that begins here.
    pub fn begin(is_sampled: bool) -> Self {
        Self { trace: fastrand::u128(1..), span: new_span(), is_sampled }
    }

    /// What a request came with; `None` where that is missing, repeated or malformed, and a new trace begins.
    pub fn received(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let value = values.next()?.to_str().ok()?;
        if values.next().is_some() { None } else { Self::parse(value) }
    }

    /// Lower-case hex throughout. A version above 00 is read as far as 00 goes (section 4.3).
    fn parse(value: &str) -> Option<Self> {
        let is_hex = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let mut parts = value.splitn(5, '-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let has_lengths = [version.len(), trace.len(), span.len(), flags.len()] == [2, 32, 16, 2];
        let is_known = version != "ff" && (version != "00" || parts.next().is_none());
        if !has_lengths || !is_known || ![version, trace, span, flags].into_iter().all(is_hex) {
            return None;
        }
        let (trace, span) = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(span, 16).ok()?);
        let is_sampled = u8::from_str_radix(flags, 16).ok()? & SAMPLED != 0;
        (trace != 0 && span != 0).then_some(Self { trace, span, is_sampled })
    }

    /// As a header.
    pub fn to_header(self) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(self.trace, text.get_mut(3..35).unwrap_or_default());
        write_hex(self.span.into(), text.get_mut(36..52).unwrap_or_default());
        write_hex(if self.is_sampled { SAMPLED.into() } else { 0 }, text.get_mut(53..).unwrap_or_default());
        HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("00"))
    }
}

/// Writes as many of a number's last digits as there is room for: faster than formatting, which every request would pay.
fn write_hex(mut number: u128, into: &mut [u8]) {
    for digit in into.iter_mut().rev() {
        let value = (number & 0xF) as u8;
        *digit = if value < 10 { b'0' + value } else { b'a' + value - 10 };
        number >>= 4;
    }
}

/// The id of a span that begins.
pub fn new_span() -> u64 {
    fastrand::u64(1..)
}

impl Sampling {
    /// Whether a request is sampled whose caller says this.
    fn takes(&self, caller: Option<&Traceparent>) -> bool {
        match (caller, self.parent) {
            (Some(caller), Parent::Followed) => caller.is_sampled,
            _ => fastrand::f64() < self.share,
        }
    }
}

impl Trace {
    /// Decides about a request that has just come.
    pub fn begin(sampling: &Sampling, headers: &HeaderMap, scheme: &'static str) -> Self {
        let caller = Traceparent::received(headers);
        if !sampling.takes(caller.as_ref()) {
            return Self::Unsampled;
        }
        let trace = caller.map_or_else(|| fastrand::u128(1..), |caller| caller.trace);
        Self::Sampled(Box::new(Steps {
            context: Traceparent { trace, span: new_span(), is_sampled: true },
            parent: caller.map(|caller| caller.span),
            scheme,
            began: SystemTime::now(),
            passed: Vec::with_capacity(4),
            attempts: Vec::with_capacity(1),
            clock: Instant::now(),
        }))
    }

    /// What there is to tell of a sampled request.
    pub fn steps(&self) -> Option<&Steps> {
        match self {
            Self::Sampled(steps) => Some(steps),
            Self::Off | Self::Unsampled => None,
        }
    }

    /// Notes that a step is passed.
    pub fn passed(&mut self, step: Step) {
        if let Self::Sampled(steps) = self {
            let now = steps.now();
            steps.passed.push((step, now));
        }
    }

    /// Notes that the request is about to be sent to a server.
    pub fn asks(&mut self, server: &str) {
        if let Self::Sampled(steps) = self {
            let began = steps.now();
            let (span, server) = (new_span(), server.to_owned());
            steps.attempts.push(Attempt { span, server, began, heard: None, answer: None });
        }
    }

    /// Notes what came of asking the server: the status of its answer, or why there is none.
    pub fn heard(&mut self, answer: Result<u16, &'static str>) {
        if let Self::Sampled(steps) = self {
            let now = steps.now();
            if let Some(attempt) = steps.attempts.last_mut() {
                (attempt.heard, attempt.answer) = (Some(now), Some(answer));
            }
        }
    }

    /// Writes what the server that is asked is told into `fields`, which hold a `tracestate` if one came. `received` are the caller's.
    ///
    /// Under an attempt of a sampled request the parent is the attempt's span. Where nothing is recorded here the caller's span stays the
    /// parent, so that no span hangs below one that nobody has ever seen.
    pub fn write(&self, received: &HeaderMap, fields: &mut Fields) {
        let caller = Traceparent::received(received);
        let told = match (self, caller) {
            (Self::Sampled(steps), _) => Traceparent {
                span: steps.attempts.last().map_or(steps.context.span, |attempt| attempt.span),
                ..steps.context
            },
            (Self::Unsampled, Some(caller)) => Traceparent { is_sampled: false, ..caller },
            (Self::Off, Some(caller)) => caller,
            (_, None) => Traceparent::begin(false),
        };
        if caller.is_none() {
            fields.retain(|name| *name != TRACESTATE);
        }
        fields.append(TRACEPARENT, told.to_header());
    }
}

impl Steps {
    /// How long ago it began.
    pub fn now(&self) -> Duration {
        self.clock.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
    const SPAN: u64 = 0x00f0_67aa_0ba9_02b7;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn told(trace: &Trace, received: &HeaderMap) -> Traceparent {
        let mut fields = Fields::default();
        fields.append(TRACESTATE, HeaderValue::from_static("vendor=1"));
        trace.write(received, &mut fields);
        assert_eq!(fields.get(&TRACESTATE).is_some(), Traceparent::received(received).is_some());
        Traceparent::received(&fields.into()).unwrap()
    }

    fn sampling(share: f64, parent: Parent) -> Sampling {
        Sampling { share, parent }
    }

    #[test]
    fn a_valid_traceparent_is_read_and_written_as_it_came() {
        let read = Traceparent::received(&headers(&[SENT])).unwrap();
        assert_eq!(read, Traceparent { trace: TRACE, span: SPAN, is_sampled: true });
        assert_eq!(read.to_header(), SENT);
        let unsampled = SENT.replace("-01", "-00");
        assert_eq!(Traceparent::received(&headers(&[&unsampled])).unwrap().to_header(), unsampled);
    }

    #[test]
    fn a_later_version_is_read_as_far_as_this_one_goes() {
        for later in [SENT.replacen("00", "01", 1), format!("{}-more", SENT.replacen("00", "cc", 1))] {
            assert_eq!(Traceparent::received(&headers(&[&later])).unwrap().to_header(), SENT, "{later}");
        }
    }

    #[test]
    fn anything_else_begins_a_new_trace() {
        let zeros = SENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
        for values in [
            &[][..],
            &["x"],
            &[SENT, SENT],
            &["00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1"],
            &["ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
            &["00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
            &[&zeros],
        ] {
            let received = headers(values);
            assert_eq!(Traceparent::received(&received), None, "{values:?}");
            let told = told(&Trace::Off, &received);
            assert!(told.trace != TRACE && !told.is_sampled, "{values:?} {told:?}");
        }
    }

    #[test]
    fn a_callers_decision_holds_or_the_share_decides() {
        use Parent::{Followed, Ignored};
        let (yes, no, none) = (headers(&[SENT]), headers(&[&SENT.replace("-01", "-00")]), headers(&[]));
        for (sampling, received, is_sampled) in [
            (sampling(0.0, Followed), &yes, true),
            (sampling(1.0, Followed), &no, false),
            (sampling(0.0, Followed), &none, false),
            (sampling(1.0, Followed), &none, true),
            (sampling(0.0, Ignored), &yes, false),
            (sampling(1.0, Ignored), &no, true),
        ] {
            let trace = Trace::begin(&sampling, received, "http");
            assert_eq!(trace.steps().is_some(), is_sampled, "{sampling:?} {received:?}");
            assert_eq!(told(&trace, received).is_sampled, is_sampled, "{sampling:?} {received:?}");
        }
    }

    #[test]
    fn a_share_of_a_tenth_samples_about_a_tenth() {
        let (sampling, none) = (sampling(0.1, Parent::Followed), headers(&[]));
        let sampled = (0..10_000).filter(|_| Trace::begin(&sampling, &none, "http").steps().is_some()).count();
        assert!((700..1300).contains(&sampled), "{sampled}");
    }

    #[test]
    fn each_server_is_told_the_span_of_its_own_attempt() {
        let received = headers(&[SENT]);
        let mut trace = Trace::begin(&sampling(0.0, Parent::Followed), &received, "http");
        let mut spans = vec![];
        for server in ["a:1", "b:2"] {
            trace.asks(server);
            let told = told(&trace, &received);
            assert_eq!(told.trace, TRACE);
            spans.push(told.span);
            trace.heard(Err("upstream_closed"));
        }
        let steps = trace.steps().unwrap();
        assert_eq!(steps.attempts.iter().map(|attempt| attempt.span).collect::<Vec<_>>(), spans);
        assert!(spans[0] != spans[1] && steps.parent == Some(SPAN));
    }

    #[test]
    fn where_nobody_traces_nothing_is_kept_and_what_came_is_passed_on() {
        let received = headers(&[SENT]);
        let mut trace = Trace::default();
        trace.passed(Step::Route);
        trace.asks("a:1");
        trace.heard(Ok(200));
        assert!(matches!(trace, Trace::Off));
        assert_eq!(told(&trace, &received).to_header(), SENT);
    }
}
