//! One access line, as far as a replay needs it.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::policy::time::UnixMillis;

/// A request as it was logged.
#[derive(Debug)]
pub(super) struct Line<'a> {
    /// When it ended.
    pub(super) at: UnixMillis,
    pub(super) method: http::Method,
    pub(super) path: Cow<'a, str>,
    pub(super) reason: Option<Cow<'a, str>>,
    pub(super) route: Option<Cow<'a, str>>,
    pub(super) workspace: Option<Cow<'a, str>>,
    pub(super) user: Option<Cow<'a, str>>,
    pub(super) token_id: Option<Cow<'a, str>>,
    pub(super) client: IpAddr,
}

/// The fields as they are written; others are of no interest.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    message: Cow<'a, str>,
    method: Cow<'a, str>,
    path: Cow<'a, str>,
    reason: Option<Cow<'a, str>>,
    route: Option<Cow<'a, str>>,
    workspace: Option<Cow<'a, str>>,
    user: Option<Cow<'a, str>>,
    token_id: Option<Cow<'a, str>>,
    client_ip: IpAddr,
}

impl<'a> Line<'a> {
    /// Reads a line of the gateway's log in JSON; `None` for any other, those of its own events among them.
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        let fields: Fields<'a> =
            serde_json::from_slice(text).ok().filter(|fields: &Fields<'_>| fields.message == "request")?;
        let at = OffsetDateTime::parse(&fields.timestamp, &Rfc3339).ok()?.unix_timestamp_nanos() / 1_000_000;
        Some(Self {
            at: UnixMillis(u64::try_from(at).ok()?),
            method: http::Method::from_bytes(fields.method.as_bytes()).ok()?,
            path: fields.path,
            reason: fields.reason,
            route: fields.route,
            workspace: fields.workspace,
            user: fields.user,
            token_id: fields.token_id,
            client: fields.client_ip,
        })
    }
}
