//! A request that is judged and not sent: the pipeline's own verdict, with how far it came.

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Uri};

use crate::config::settings::RequestBounds;
use crate::pipeline::{Admission, Trail};
use crate::policy::ClientIp;
use crate::policy::head::{self, Head};
use crate::policy::head_end::Scan;
use crate::policy::refusal::Refusal;

/// What is asked about. No Debug: it holds a token.
pub struct Question {
    /// Any text that could stand there.
    pub method: String,
    /// The path with its query, as it would be sent.
    pub target: String,
    /// The token that would be presented.
    pub token: Option<String>,
    /// Whom it would be attributed to.
    pub client: ClientIp,
}

/// What would come of it.
pub struct Rehearsed {
    /// Its method, where that is one.
    pub method: Option<Method>,
    /// Its target as it was read; `None` where the head itself is refused.
    pub sent: Option<Uri>,
    /// Whose route and caller were found.
    pub trail: Trail,
    /// The target that a backend would be sent, or why none would.
    pub outcome: Result<Uri, Refusal>,
}

impl Question {
    /// Whether each part can stand in one line of a head; what cannot is no question.
    pub fn is_one_line(&self) -> bool {
        let parts = [Some(&self.method), Some(&self.target), self.token.as_ref()];
        parts.into_iter().flatten().all(|part| !part.contains(['\r', '\n']))
    }

    /// The head of an HTTP/1.1 request.
    fn head(&self) -> Bytes {
        let Self { method, target, token, .. } = self;
        let authorization = token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n"));
        format!("{method} {target} HTTP/1.1\r\nHost: gateway\r\n{}\r\n", authorization.unwrap_or_default()).into()
    }

    /// Reads the head as the gateway reads one that comes on a connection.
    fn read(&self, bounds: &RequestBounds) -> Result<Head, Refusal> {
        let octets = self.head();
        Scan::default().find_end(&octets)?;
        if octets.len() > bounds.header_bytes {
            return Err(head::too_large());
        }
        head::read(&octets, bounds.headers)
    }

    /// Has `admission` judge it. Nothing is taken, and nothing is forwarded.
    pub async fn rehearse(&self, admission: &Admission, bounds: &RequestBounds) -> Rehearsed {
        let mut trail = Trail::default();
        let head = match self.read(bounds) {
            Ok(Head { parts, flaw: None, .. }) => parts,
            Ok(Head { flaw: Some(refusal), .. }) | Err(refusal) => {
                let method = Method::from_bytes(self.method.as_bytes()).ok();
                return Rehearsed { method, sent: None, trail, outcome: Err(refusal) };
            }
        };
        let outcome = self.judge(admission, &head, &mut trail).await;
        Rehearsed { method: Some(head.method), sent: Some(head.uri), trail, outcome }
    }

    async fn judge(&self, admission: &Admission, head: &Parts, trail: &mut Trail) -> Result<Uri, Refusal> {
        admission.rehearse(head, self.client, trail).await?.target(&head.uri)
    }
}
