//! What the running gateway says of a route and a caller: the question, which names only what counters need, and the answer.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::config::settings::Config;
use crate::policy::ClientIp;
use crate::policy::limit::{CountedBy, Quota};
use crate::policy::principal::Principal;
use crate::policy::refusal::Refusal;
use crate::policy::route::Route;
use crate::policy::time::UnixSeconds;

/// The answer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Running {
    /// The SHA-256 of the configuration in force.
    pub configuration: String,
    /// Where the caller stands; `None` where workspaces are not named.
    pub limits: Option<Vec<LimitNow>>,
    /// Whether any server may be used.
    pub is_usable: bool,
    /// Whether its circuit is open.
    pub is_left_alone: bool,
    /// The servers of the route's upstream.
    pub servers: Vec<ServerNow>,
}

/// A limit as it stands.
#[derive(Debug, Serialize, Deserialize)]
pub struct LimitNow {
    /// Which.
    pub name: String,
    /// How many pass.
    pub requests: u32,
    /// How many more.
    pub remaining: u32,
    /// When the full quota is back, in Unix seconds.
    pub reset: u64,
    /// How many seconds until one request fits, or until the full quota is back.
    pub retry_after: u64,
}

/// A server as it fares.
#[derive(Debug, Serialize, Deserialize)]
pub struct ServerNow {
    /// Where it is.
    pub name: String,
    /// In words.
    pub condition: String,
    /// Requests it has.
    pub in_flight: usize,
}

/// The target to ask the admin listener for. Names of the caller are in it only as far as a limit of the route is counted by them, and
/// only where the configuration lets workspaces be named.
pub fn target(route: &Route, caller: Option<&Principal>, client: ClientIp, config: &Config) -> String {
    let mut target = format!("/explain?route={}", Escaped(&route.name));
    let is_by = |by| config.console.workspaces && route.limits.iter().any(|limit| limit.by == by);
    let mut say = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = write!(target, "&{name}={}", Escaped(value));
    };
    if let Some(caller) = caller {
        let names = [(CountedBy::User, "user", caller.user()), (CountedBy::Token, "token_id", caller.token_id())];
        if is_by(CountedBy::Workspace) || names.iter().any(|(by, ..)| is_by(*by)) {
            say("workspace", caller.workspace());
        }
        names.iter().filter(|(by, ..)| is_by(*by)).for_each(|(_, name, value)| say(name, value));
    }
    if is_by(CountedBy::ClientIp) {
        say("client", &client.0.to_string());
    }
    target
}

impl Running {
    /// What comes of a request that is rehearsed as `outcome`: a limit without room goes before a list out of its contract, and an
    /// upstream without a server comes last.
    pub fn judge<T>(&self, outcome: Result<T, Refusal>, route: &Route) -> Result<T, Refusal> {
        if matches!(outcome, Ok(_) | Err(Refusal::Invalid(_)))
            && let Some(quota) = self.used_up(route)
        {
            return Err(Refusal::RateLimited(quota));
        }
        match outcome {
            Ok(_) if self.is_left_alone => Err(Refusal::CircuitOpen(1)),
            Ok(_) if !self.is_usable => Err(Refusal::NoHealthyServer),
            outcome => outcome,
        }
    }

    /// The limit that refuses longest.
    fn used_up(&self, route: &Route) -> Option<Quota> {
        let full = |now: &&LimitNow| now.remaining < route.cost;
        let now = self.limits.iter().flatten().filter(full).max_by_key(|now| now.retry_after)?;
        let limit = route.limits.iter().find(|limit| *limit.name == *now.name && limit.is_enforced())?;
        Some(Quota {
            limit: limit.clone(),
            requests: now.requests,
            remaining: now.remaining,
            reset: UnixSeconds(now.reset),
            retry_after: now.retry_after,
        })
    }
}

/// Octets as two hexadecimal digits each.
pub fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// A value within a query.
struct Escaped<'v>(&'v str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.bytes().try_for_each(|octet| match octet {
            b'-' | b'.' | b'_' | b'~' => write!(f, "{}", char::from(octet)),
            octet if octet.is_ascii_alphanumeric() => write!(f, "{}", char::from(octet)),
            octet => write!(f, "%{octet:02X}"),
        })
    }
}
