//! Every way a request ends without the backend's own answer, as values.
//!
//! A refusal says what happened; [`crate::policy::envelope`] says how that looks on the wire. Nothing here carries text from a
//! client, a backend or an error: what is logged as `reason` comes from closed sets.

use std::collections::BTreeMap;

use http::StatusCode;

use crate::policy::limit::Quota;
use crate::policy::path::PathProblem;
use crate::policy::route::Methods;
use crate::policy::scope::Scope;

/// Field → messages, the `details` of a 422.
pub type FieldErrors = BTreeMap<String, Vec<String>>;

/// Why a request was not answered by its backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The path has no canonical form.
    BadPath(PathProblem),
    /// The head of the request is not acceptable; the status is the true one (400, 408, 411, 413, 414, 417, 431, 501, 505).
    BadRequest(StatusCode, &'static str),
    /// More than one Authorization field (RFC 6750 section 3.1).
    ManyAuthorizations,
    /// No route has this path.
    NoRoute,
    /// The path is known, the method is not; these are.
    MethodNotAllowed(Methods),
    /// The route needs a token and none was presented.
    NoToken,
    /// A token was presented and is not valid. The caller is not told which problem it is.
    InvalidToken(TokenProblem),
    /// The token is valid and lacks this scope.
    MissingScope(Scope),
    /// The limit is used up.
    RateLimited(Quota),
    /// Too many tokens that nobody knows came from the client's address; it may try again in so many seconds.
    TooManyFailures(u64),
    /// The query string breaks the list contract.
    Invalid(FieldErrors),
    /// The body grew beyond what the route takes.
    BodyTooLarge,
    /// The body stopped arriving.
    BodyTimeout,
    /// More requests are in flight than `request.in_flight`.
    Overloaded,
    /// A store is down and the request needs it: which one.
    StoreUnavailable(&'static str),
    /// A fault of the gateway or of its data: which one.
    Internal(&'static str),
    /// No server could be reached, or what it sent is no HTTP: which of the two.
    BadGateway(&'static str),
    /// All servers of the upstream are out.
    NoHealthyServer,
    /// Every server of the upstream has as many requests as it may have.
    UpstreamBusy,
    /// The upstream fails, all of it, and is left alone; a request may be tried again in so many seconds.
    CircuitOpen(u64),
    /// The backend took longer than the upstream's timeout.
    GatewayTimeout,
}

/// Why a presented token is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenProblem {
    /// Not of the form of a token.
    Malformed,
    /// No source knows it.
    Unknown,
    /// Its end is past.
    Expired,
    /// It, its owner or its workspace was switched off.
    Disabled,
    /// The number in front of it belongs to another token.
    WrongId,
    /// Its signature does not verify under the key it names.
    Signature,
    /// It names no key of ours.
    UnknownKey,
    /// It was revoked.
    Revoked,
    /// It is signed, and its claims are not those of a token for this gateway.
    Claims,
}

/// The documented codes; all there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// 400 and every other 4xx without a code of its own.
    BadRequest,
    /// 401
    Unauthenticated,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 422
    ValidationError,
    /// 429
    RateLimited,
    /// Every 5xx.
    ServerError,
}

impl ErrorCode {
    /// All codes, for tables and tests.
    pub const ALL: [Self; 7] = [
        Self::BadRequest,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::ValidationError,
        Self::RateLimited,
        Self::ServerError,
    ];

    /// The code of an error status.
    pub fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            401 => Self::Unauthenticated,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            422 => Self::ValidationError,
            429 => Self::RateLimited,
            500.. => Self::ServerError,
            _ => Self::BadRequest,
        }
    }

    /// As it stands in the envelope.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "BAD_REQUEST",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "FORBIDDEN",
            Self::NotFound => "NOT_FOUND",
            Self::ValidationError => "VALIDATION_ERROR",
            Self::RateLimited => "RATE_LIMITED",
            Self::ServerError => "SERVER_ERROR",
        }
    }
}

/// Whose doing an outcome was; sets the level of its access line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// info
    Caller,
    /// warn
    Upstream,
    /// error
    Gateway,
}

impl Refusal {
    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(status, _) => *status,
            Self::BadPath(_) | Self::ManyAuthorizations => StatusCode::BAD_REQUEST,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoToken | Self::InvalidToken(_) => StatusCode::UNAUTHORIZED,
            Self::MissingScope(_) => StatusCode::FORBIDDEN,
            Self::RateLimited(_) | Self::TooManyFailures(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::BadGateway(_) => StatusCode::BAD_GATEWAY,
            Self::Overloaded
            | Self::StoreUnavailable(_)
            | Self::NoHealthyServer
            | Self::UpstreamBusy
            | Self::CircuitOpen(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::GatewayTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The `reason` label: what the caller is not told and the operator is. A closed set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BadPath(problem) => problem.reason(),
            Self::BadRequest(_, reason) | Self::Internal(reason) | Self::BadGateway(reason) => reason,
            Self::ManyAuthorizations => "many_authorizations",
            Self::NoRoute => "no_route",
            Self::MethodNotAllowed(_) => "method",
            Self::NoToken => "no_token",
            Self::InvalidToken(problem) => problem.reason(),
            Self::MissingScope(_) => "scope",
            Self::RateLimited(_) => "limit",
            Self::TooManyFailures(_) => "token_failures",
            Self::Invalid(_) => "pagination",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyTimeout => "body_timeout",
            Self::Overloaded => "overloaded",
            Self::StoreUnavailable("limits") => "limit_store",
            Self::StoreUnavailable("look_ups") => "look_up_budget",
            Self::StoreUnavailable(_) => "token_store",
            Self::NoHealthyServer => "no_healthy_server",
            Self::UpstreamBusy => "upstream_busy",
            Self::CircuitOpen(_) => "upstream_circuit_open",
            Self::GatewayTimeout => "upstream_timeout",
        }
    }

    /// Who is to look into it.
    pub fn blame(&self) -> Blame {
        match self {
            Self::BadGateway(_)
            | Self::NoHealthyServer
            | Self::UpstreamBusy
            | Self::CircuitOpen(_)
            | Self::GatewayTimeout => Blame::Upstream,
            Self::Internal(_) | Self::StoreUnavailable(_) | Self::Overloaded => Blame::Gateway,
            _ => Blame::Caller,
        }
    }
}

impl TokenProblem {
    fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "token_malformed",
            Self::Unknown => "token_unknown",
            Self::Expired => "token_expired",
            Self::Disabled => "token_disabled",
            Self::WrongId => "token_wrong_id",
            Self::Signature => "token_signature",
            Self::UnknownKey => "token_unknown_key",
            Self::Revoked => "token_revoked",
            Self::Claims => "token_claims",
        }
    }
}
