//! Listeners, and until when their certificates are valid.

use std::net::SocketAddr;
use std::time::Duration;

use maud::{Markup, html};

use crate::admin::console::figures::whole;
use crate::admin::console::parts::{self, Column, Mood, badge, number, quiet, text};
use crate::admin::console::{Glance, words};
use crate::config::settings::ListenerSettings;
use crate::tls::MinVersion;

/// A certificate with less time left is brought to attention.
pub(super) const ENDS_SOON: Duration = Duration::from_secs(14 * 86_400);

const LISTENERS: &[Column] = &[
    text("Address"),
    text("Encryption"),
    text("Protocols"),
    number("Connections"),
    number("In flight"),
    number("Failed handshakes"),
];
const CERTIFICATES: &[Column] = &[text("Certificate"), text("Listener"), text("Ends"), text("State")];

/// A certificate in use.
pub(super) struct Certificate<'g> {
    pub(super) file: &'g str,
    listener: &'g str,
    ends: i64,
    /// Nothing when it has ended.
    pub(super) left: Duration,
}

/// All certificates in use, those that end first first.
pub(super) fn certificates<'g>(glance: &'g Glance<'_>) -> impl Iterator<Item = Certificate<'g>> {
    let now = words::unix(glance.now);
    let family = "gateway_certificate_expiry_timestamp_seconds";
    let mut all: Vec<_> = glance
        .figures
        .each(family, ["certificate", "listener"])
        .map(|([file, listener], ends)| {
            let ends = i64::try_from(whole(ends)).unwrap_or(i64::MAX);
            let left = u64::try_from(ends.saturating_sub(now)).unwrap_or_default();
            Certificate { file, listener, ends, left: Duration::from_secs(left) }
        })
        .collect();
    all.sort_by_key(|certificate| certificate.ends);
    all.into_iter()
}

pub(super) fn section(glance: &Glance<'_>) -> Markup {
    let listeners = &glance.process.listeners;
    let mut rows: Vec<Vec<Markup>> =
        listeners.iter().map(|(address, settings)| listener(glance, *address, settings)).collect();
    let mut admin = vec![html! { code { (glance.process.admin) } " " span.muted { "admin" } }];
    admin.extend((1..LISTENERS.len()).map(|_| parts::nothing()));
    rows.push(admin);
    let certificates: Vec<Vec<Markup>> = certificates(glance).map(|one| certificate(&one)).collect();
    let content = html! {
        (parts::table("Listeners", LISTENERS, &rows))
        @if !certificates.is_empty() {
            h3 { "Certificates" }
            (parts::table("Certificates in use", CERTIFICATES, &certificates))
            (reloads(glance))
        }
    };
    parts::section("listeners", "Listeners", &content)
}

fn listener(glance: &Glance<'_>, address: SocketAddr, settings: &ListenerSettings) -> Vec<Markup> {
    let name = address.to_string();
    let labels = [("listener", name.as_str())];
    let count = |family| glance.figures.count(family, &labels);
    vec![
        html! { code { (name) } },
        match &settings.tls {
            None => html! { span.muted { "none" } },
            Some(tls) => html! {
                @match tls.min_version { MinVersion::Tls12 => "TLS 1.2 and 1.3", MinVersion::Tls13 => "TLS 1.3" }
                @if tls.client_ca.is_some() { span.line.muted { "clients show a certificate" } }
            },
        },
        html! {
            @if settings.http2 { "HTTP/2, HTTP/1.1" } @else { "HTTP/1.1" }
            @if !settings.proxy_protocol.is_empty() { span.line.muted { "PROXY protocol" } }
        },
        quiet(count("gateway_connections")),
        quiet(count("gateway_requests_in_flight")),
        quiet(count("gateway_tls_handshake_failures_total") + count("gateway_proxy_protocol_failures_total")),
    ]
}

fn certificate(certificate: &Certificate<'_>) -> Vec<Markup> {
    let left = certificate.left;
    vec![
        html! { code { (certificate.file) } },
        html! { code { (certificate.listener) } },
        html! { (words::day(certificate.ends)) },
        match () {
            () if left.is_zero() => badge(Mood::Bad, "ended"),
            () if left < ENDS_SOON => badge(Mood::Warning, html! { (words::about(left)) " left" }),
            () => badge(Mood::Good, html! { (words::about(left)) " left" }),
        },
    ]
}

fn reloads(glance: &Glance<'_>) -> Markup {
    let count = |result| glance.figures.count("gateway_certificate_reloads_total", &[("result", result)]);
    let (applied, refused) = (count("applied"), count("refused"));
    html! {
        @if applied + refused > 0 {
            p.remark {
                "Files that changed were applied " (words::of(applied, "time", "times")) " and refused "
                (words::of(refused, "time", "times")) "."
            }
        }
    }
}
