//! The way of a request, as one sentence: path made canonical → route found → token identified → scope authorised → limit taken.
//!
//! Each step's success is a value that the next one needs, so the compiler checks the order: there is no [`Permit`] without a
//! [`Counted`], no [`Counted`] without a [`Grant`], no [`Grant`] without a [`Route`], no [`Route`] without a [`CleanPath`]. A step
//! never runs before the ones left of it: an unknown path costs no look-up, a bad token no limit, a refused limit no backend.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Uri};

use crate::auth::Identifier;
use crate::limits::Limits;
use crate::policy::limit::{Ask, Counted, Decision, Limit, LimitKey, Quota};
use crate::policy::path::CleanPath;
use crate::policy::principal::Principal;
use crate::policy::query;
use crate::policy::refusal::Refusal;
use crate::policy::route::{Grant, Route};
use crate::policy::{ClientIp, Policy};
use crate::trace::{Step, Trace};

/// Everything a request is judged by. Immutable: one request sees one of it.
pub struct Admission {
    /// The rules.
    pub policy: Arc<Policy>,
    /// Who knows tokens.
    pub identifier: Arc<Identifier>,
    /// Who counts.
    pub limits: Arc<Limits>,
}

/// Evidence that a request may be forwarded, and everything that is needed for it. Made by [`Admission`] alone, and
/// handed out by [`Admission::admit`] alone.
#[derive(Debug)]
pub struct Permit {
    /// The path that was authorised, where it is not spelled as the client sent it.
    rewritten: Option<String>,
    /// The query to forward instead of the client's, where the route has a list contract.
    query: Option<String>,
    route: Arc<Route>,
    grant: Grant,
    authorization: Option<HeaderValue>,
}

impl Permit {
    /// The request target to forward: the path that was authorised, and no other.
    ///
    /// `sent` is the target of the request this permit is for.
    pub fn target(&self, sent: &Uri) -> Result<Uri, Refusal> {
        if self.rewritten.is_none() && self.query.is_none() {
            return Ok(sent.clone());
        }
        let path = self.rewritten.as_deref().unwrap_or(sent.path());
        let target = match self.query.as_deref().or(sent.query()) {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        Uri::try_from(target).map_err(|_| Refusal::Internal("target"))
    }

    /// The route it is forwarded on.
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// Who is calling; `None` on a public route.
    pub fn principal(&self) -> Option<&Arc<Principal>> {
        self.grant.principal()
    }

    /// The Authorization value to forward; `None` on a public route, whose credentials are not ours to read.
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }
}

/// What a request would be permitted. It was counted nowhere, so the [`Permit`] in it cannot be taken out and nothing forwarded by it.
#[derive(Debug)]
pub struct Rehearsal(Permit);

impl Rehearsal {
    /// As [`Permit::target`].
    pub fn target(&self, sent: &Uri) -> Result<Uri, Refusal> {
        self.0.target(sent)
    }
}

/// Whether a request takes from its limits.
#[derive(Clone, Copy)]
enum Counting {
    Takes,
    Spares,
}

/// How far a request came, for whoever tells about it: also a refused request had a route, a caller and a count.
#[derive(Debug, Default)]
pub struct Trail {
    /// The route that was found.
    pub route: Option<Arc<Route>>,
    /// The caller that was identified.
    pub principal: Option<Arc<Principal>>,
    /// What the limits said.
    pub decision: Option<Decision>,
    /// When it came to each of these, if that is traced.
    pub trace: Trace,
}

impl Admission {
    /// Judges a request. `head` is all there is of it; its body is not looked at.
    pub async fn admit(&self, head: &Parts, client: ClientIp, trail: &mut Trail) -> Result<Permit, Refusal> {
        self.judge(head, client, trail, Counting::Takes).await
    }

    /// Judges a request in the same way and takes nothing from its limits, which are taken to have room.
    pub async fn rehearse(&self, head: &Parts, client: ClientIp, trail: &mut Trail) -> Result<Rehearsal, Refusal> {
        self.judge(head, client, trail, Counting::Spares).await.map(Rehearsal)
    }

    async fn judge(
        &self,
        head: &Parts,
        client: ClientIp,
        trail: &mut Trail,
        counting: Counting,
    ) -> Result<Permit, Refusal> {
        let path = CleanPath::parse(head.uri.path()).map_err(Refusal::BadPath)?;
        let route = trail.found(self.policy.routes.find(&head.method, &path)?);
        if head.method == Method::POST && head.uri.query().is_some_and(query::overrides_method) {
            return Err(Refusal::BadRequest(StatusCode::BAD_REQUEST, "method_override"));
        }
        let (caller, authorization) = trail.identified(self.identify(&route, head, client).await?);
        let grant = trail.authorised(route.access.grant(caller)?);
        let decision = match counting {
            Counting::Takes => self.limits.take(&route, &grant, client).await,
            Counting::Spares => Decision::UNCOUNTED,
        };
        Counted::from_decision(trail.counted(decision))?;
        let query = route.pagination.as_ref().map(|contract| contract.apply(head.uri.query())).transpose()?;
        Ok(Permit { rewritten: path.rewritten(), query, route, grant, authorization })
    }

    /// Where a caller stands with every limit that one of their requests could take; nothing is taken.
    pub async fn standing(&self, permit: &Permit, client: ClientIp) -> Vec<Quota> {
        let caller = permit.principal();
        let is_open = |route: &&Arc<Route>| route.access.grant(caller.cloned()).is_ok();
        let routes = || self.policy.routes.iter().filter(is_open);
        let is_taken = |limit: &&Arc<Limit>| limit.is_enforced() && routes().any(|route| route.limits.contains(limit));
        let ask = |limit: &Arc<Limit>| {
            let key = LimitKey::new(limit, &permit.grant, client);
            Ask { limit: Arc::clone(limit), key, cost: 1 }
        };
        let asks: Vec<Ask> = self.policy.limits.iter().filter(is_taken).map(ask).collect();
        self.limits.peek(&asks).await
    }

    async fn identify(&self, route: &Route, head: &Parts, client: ClientIp) -> Result<Identity, Refusal> {
        match route.access.needs_token() {
            true => {
                let identified = self.identifier.identify(&head.headers, client).await;
                identified.map(|(who, value)| (Some(who), Some(value)))
            }
            false => Ok((None, None)),
        }
    }
}

type Identity = (Option<Arc<Principal>>, Option<HeaderValue>);

impl Trail {
    fn found(&mut self, route: &Arc<Route>) -> Arc<Route> {
        self.route = Some(Arc::clone(route));
        self.trace.passed(Step::Route);
        Arc::clone(route)
    }

    fn identified(&mut self, identity: Identity) -> Identity {
        self.principal.clone_from(&identity.0);
        self.trace.passed(Step::Token);
        identity
    }

    fn authorised(&mut self, grant: Grant) -> Grant {
        self.trace.passed(Step::Scope);
        grant
    }

    fn counted(&mut self, decision: Decision) -> Decision {
        self.decision = Some(decision.clone());
        self.trace.passed(Step::Limit);
        decision
    }
}
