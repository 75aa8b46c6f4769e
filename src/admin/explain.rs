//! /explain, for `explain --admin`: what is left of a caller's limits on a route, and how its servers fare. Nothing is taken.
//!
//! It is told names and never a token, so that nobody can try tokens here. What a workspace has used it tells where the console names
//! workspaces too, and nowhere else.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;

use crate::admin::{answer as written, text};
use crate::explain::running::{LimitNow, Running, ServerNow, hexadecimal};
use crate::policy::ClientIp;
use crate::policy::limit::{Ask, CountedBy, Limit, LimitKey, Quota, Subject};
use crate::policy::query;
use crate::policy::route::Route;
use crate::proxy::pool::state::{Condition, ServerState};
use crate::proxy::snapshot::Snapshot;

/// Who is asked about, as far as it is said.
#[derive(Default)]
struct Asked {
    route: String,
    workspace: Option<String>,
    user: Option<String>,
    token_id: Option<String>,
    client: Option<IpAddr>,
}

/// The answer to a question in a query.
pub(super) async fn answer(snapshot: &Snapshot, query: Option<&str>) -> Response<Full<Bytes>> {
    let console = snapshot.config.console;
    if !console.enabled {
        return text(StatusCode::NOT_FOUND, "the console is switched off\n");
    }
    let asked = Asked::read(query.unwrap_or_default());
    let Some(route) = snapshot.config.policy.routes.iter().find(|route| *route.name == *asked.route) else {
        return text(StatusCode::NOT_FOUND, "the running configuration has no such route\n");
    };
    let limits = match console.workspaces {
        true => Some(snapshot.standing(&asked.asks(route)).await.iter().map(limit).collect()),
        false => None,
    };
    let pool = snapshot.pool(route);
    let running = Running {
        configuration: hexadecimal(&snapshot.config.digest),
        limits,
        is_usable: pool.is_none_or(|pool| pool.is_usable()),
        is_left_alone: pool.is_some_and(|pool| pool.is_left_alone()),
        servers: pool.map(|pool| pool.states().into_iter().map(server).collect()).unwrap_or_default(),
    };
    let body = serde_json::to_vec(&running).unwrap_or_default();
    written(StatusCode::OK, "application/json", body.into())
}

impl Asked {
    fn read(query: &str) -> Self {
        let mut asked = Self::default();
        for parameter in query::parameters(query) {
            let value = parameter.value.into_owned();
            match &*parameter.sent {
                "route" => asked.route = value,
                "workspace" => asked.workspace = Some(value),
                "user" => asked.user = Some(value),
                "token_id" => asked.token_id = Some(value),
                "client" => asked.client = value.parse().ok(),
                _ => {}
            }
        }
        asked
    }

    /// The counters of the route's limits of which it is said whose they are.
    fn asks(&self, route: &Route) -> Vec<Ask> {
        let ask = |limit: &Arc<Limit>| Some(Ask { limit: Arc::clone(limit), key: self.key(limit)?, cost: route.cost });
        route.limits.iter().filter_map(ask).collect()
    }

    fn key(&self, limit: &Limit) -> Option<LimitKey> {
        let is_said = match limit.by {
            CountedBy::Workspace => self.workspace.is_some(),
            CountedBy::User => self.workspace.is_some() && self.user.is_some(),
            CountedBy::Token => self.workspace.is_some() && self.token_id.is_some(),
            CountedBy::ClientIp => self.client.is_some(),
        };
        let said = |name: &'_ Option<String>| name.clone().unwrap_or_default();
        let (workspace, user, token_id) = (said(&self.workspace), said(&self.user), said(&self.token_id));
        let subject = Subject { workspace: &workspace, user: &user, token_id: &token_id };
        let client = ClientIp(self.client.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        is_said.then(|| LimitKey::of(limit, Some(subject), client))
    }
}

fn limit(quota: &Quota) -> LimitNow {
    LimitNow {
        name: quota.limit.name.to_string(),
        requests: quota.requests,
        remaining: quota.remaining,
        reset: quota.reset.0,
        retry_after: quota.retry_after,
    }
}

fn server(server: ServerState) -> ServerNow {
    let condition = match server.condition {
        Condition::Used => "in use",
        Condition::Unresolved => "no address",
        Condition::Unhealthy => "unhealthy",
        Condition::Ejected(_) => "left out for a while",
    };
    ServerNow { name: server.name, condition: condition.to_owned(), in_flight: server.in_flight }
}
