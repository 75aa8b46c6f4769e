//! A success body on its way, looked at and not touched: a sample is copied within a bound, and judged once the client has all of it.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use tokio::sync::OwnedSemaphorePermit;

use crate::policy::answer::AnswerHead;
use crate::policy::contract::{self, Kind, Watch};
use crate::policy::decode::Coding;
use crate::policy::route::Route;
use crate::proxy::respond;
use crate::telemetry::drift::Drifts;

/// What sees a body pass. Most see nothing.
pub(super) struct Tap(Option<Sample>);

/// A body that is looked at.
struct Sample {
    drifts: Arc<Drifts>,
    route: Arc<str>,
    kind: Kind,
    coding: Coding,
    copy: Vec<u8>,
    most: usize,
    #[expect(dead_code, reason = "held for its Drop")]
    place: OwnedSemaphorePermit,
}

impl Tap {
    /// One on the body that `head` begins, if it is a sample. Where the copies are too many, it sees nothing.
    pub(super) fn on(
        watch: Option<Watch>,
        asked: &Method,
        route: &Route,
        head: &AnswerHead,
        drifts: &Arc<Drifts>,
    ) -> Self {
        let watch = watch.filter(|watch| {
            let length = respond::declared_length(&head.fields).unwrap_or_default();
            *asked != Method::HEAD
                && !route.streaming
                && contract::covers(head.status, &head.fields)
                && usize::try_from(length).is_ok_and(|length| length <= watch.bytes)
                && fastrand::f64() < watch.sample
        });
        let sample = watch.zip(Coding::of(&head.fields)).and_then(|(watch, coding)| {
            Some(Sample {
                drifts: Arc::clone(drifts),
                route: Arc::clone(&route.name),
                kind: if *asked == Method::GET && route.pagination.is_some() { Kind::List } else { Kind::Resource },
                coding,
                copy: Vec::new(),
                most: watch.bytes,
                place: drifts.place()?,
            })
        });
        Self(sample)
    }

    /// A part of the body has come.
    pub(super) fn see(&mut self, bytes: &Bytes) {
        let Some(sample) = &mut self.0 else { return };
        if sample.copy.len() + bytes.len() <= sample.most {
            sample.copy.extend_from_slice(bytes);
        } else {
            self.0 = None;
        }
    }

    /// The client has the whole body. It is judged on a thread where nobody waits.
    pub(super) fn finish(self) {
        if let Some(sample) = self.0 {
            drop(tokio::task::spawn_blocking(move || sample.judge()));
        }
    }
}

impl Sample {
    /// A body that cannot be decoded within the bound is not judged: it may be a long one.
    fn judge(self) {
        let Some(content) = self.coding.decode(&self.copy, self.most) else { return };
        for drift in contract::judge(&content, self.kind) {
            self.drifts.tell(&self.route, drift);
        }
    }
}
