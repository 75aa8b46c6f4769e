//! Upstreams, and each of their servers.

use maud::{Markup, html};

use crate::admin::console::parts::{self, Column, Mood, badge, chip, number, quiet, text};
use crate::admin::console::{Glance, PoolState, words};
use crate::policy::upstream::Balance;
use crate::proxy::pool::state::{Condition, ServerState};

const COLUMNS: &[Column] = &[text("Server"), text("State"), number("In flight"), number("Answers in")];

pub(super) fn section(glance: &Glance<'_>) -> Markup {
    let content = html! {
        div.cards { @for pool in &glance.pools { (card(glance, pool)) } }
        @if glance.pools.is_empty() { p.muted { "There are none." } }
    };
    parts::section("upstreams", "Upstreams", &content)
}

fn card(glance: &Glance<'_>, pool: &PoolState) -> Markup {
    let (figures, upstream) = (&glance.figures, &pool.upstream);
    let labels = [("upstream", &*upstream.name)];
    let times = figures.distribution("gateway_upstream_duration_seconds", &labels);
    let count = |family| figures.count(family, &labels);
    let [retries, ejections, leaks] =
        ["gateway_upstream_retries_total", "gateway_upstream_ejections_total", "gateway_backend_leaks_blocked_total"]
            .map(count);
    let rows: Vec<Vec<Markup>> = pool.servers.iter().map(server).collect();
    let is_open = figures.gauge("gateway_upstream_circuit_open", &labels) == Some(1.0);
    html! {
        article.card {
            h3 {
                (upstream.name)
                @if is_open { (badge(Mood::Bad, "circuit open")) }
                @if upstream.tls.is_some() { (chip("TLS")) }
                @if upstream.servers.len() > 1 { (chip(balance(upstream.balance))) }
            }
            (parts::table(&format!("Servers of {}", upstream.name), COLUMNS, &rows))
            (parts::facts(&[
                ("Requests", quiet(times.count())),
                ("p50", html! { (words::quantile(times.quantile(0.5))) }),
                ("p99", html! { (words::quantile(times.quantile(0.99))) }),
                ("Retries", quiet(retries)),
                ("Ejections", quiet(ejections)),
                ("Leaks blocked", quiet(leaks)),
            ]))
        }
    }
}

fn server(server: &ServerState) -> Vec<Markup> {
    vec![
        html! {
            code { (server.name) }
            @if server.weight > 1 { " " span.muted { "weight " (server.weight) } }
        },
        match server.condition {
            Condition::Used => badge(Mood::Good, "in use"),
            Condition::Unhealthy => badge(Mood::Bad, "unhealthy"),
            Condition::Unresolved => badge(Mood::Bad, "no address"),
            Condition::Ejected(left) => badge(Mood::Warning, html! { "left out, " (words::span(left)) }),
        },
        quiet(u64::try_from(server.in_flight).unwrap_or(u64::MAX)),
        server.latency.map_or_else(parts::nothing, |took| html! { (words::seconds(took.as_secs_f64())) }),
    ]
}

fn balance(balance: Balance) -> &'static str {
    match balance {
        Balance::RoundRobin => "round robin",
        Balance::LeastRequests => "least requests",
        Balance::Hash => "by workspace",
    }
}
