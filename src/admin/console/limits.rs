//! Limits: what they allow, what they have decided, and whom they have counted most.

use std::time::Duration;

use maud::{Markup, html};

use crate::admin::console::parts::{self, Column, bar, chip, number, quiet, text, wide};
use crate::admin::console::{Glance, words};
use crate::policy::limit::{Limit, OnStoreFailure};
use crate::policy::meter::Algorithm;
use crate::telemetry::busiest::Busy;
use crate::telemetry::recent::Busiest;

const COLUMNS: &[Column] = &[
    text("Limit"),
    text("Allows"),
    text("Counted by"),
    text("Without the store"),
    number("Allowed"),
    number("Refused"),
    wide("Busiest workspaces"),
];

pub(super) fn section(glance: &Glance<'_>) -> Markup {
    let limits = &glance.config.policy.limits;
    let shown = if glance.busiest.is_some() { COLUMNS.len() } else { COLUMNS.len() - 1 };
    let rows: Vec<Vec<Markup>> = limits.iter().map(|limit| row(glance, limit)).collect();
    let content = html! {
        @if limits.is_empty() {
            p.muted { "There are none." }
        } @else {
            (parts::table("Limits and what they have decided", COLUMNS.get(..shown).unwrap_or(COLUMNS), &rows))
        }
        @match &glance.busiest {
            Some(busiest) => p.remark { "Workspaces by their requests in the last " (words::span(busiest.lasted)) "." },
            None => p.remark {
                "Workspaces are named here with " code { "console: {workspaces: true}" } "."
            },
        }
    };
    parts::section("limits", "Limits", &content)
}

fn row(glance: &Glance<'_>, limit: &Limit) -> Vec<Markup> {
    let decided = |decision| {
        glance.figures.count("gateway_ratelimit_decisions_total", &[("limit", &limit.name), ("decision", decision)])
    };
    let (allowed, limited, in_shadow) = (decided("allowed"), decided("limited"), decided("shadow_limited"));
    vec![
        html! {
            span.name { (limit.name) }
            @if !limit.is_enforced() { " " (chip("shadow")) }
        },
        allows(limit),
        html! { (limit.by.to_string().replace('_', " ")) },
        html! {
            @match limit.on_store_failure {
                OnStoreFailure::Local => "its share",
                OnStoreFailure::Allow => "allows all",
                OnStoreFailure::Deny => "refuses all",
            }
        },
        quiet(allowed),
        html! {
            (quiet(limited))
            @if limited > 0 { " " span.muted { (words::share(limited, allowed + limited)) } }
            @if in_shadow > 0 { span.line.muted { (words::count(in_shadow)) " in shadow" } }
        },
        glance.busiest.as_ref().map_or_else(parts::nothing, |busiest| workspaces(busiest, &limit.name)),
    ]
}

fn allows(limit: &Limit) -> Markup {
    let rate = limit.rate;
    html! {
        strong { (words::count(u64::from(rate.requests))) } " in " (window(rate.window))
        span.line.muted {
            @match rate.algorithm {
                Algorithm::FixedWindow => "fixed window",
                Algorithm::SlidingLog => "sliding window",
                Algorithm::Gcra => { "even pace, " (rate.capacity) " at once" }
            }
        }
    }
}

fn window(window: Duration) -> String {
    if window.subsec_nanos() == 0 { words::span(window) } else { words::seconds(window.as_secs_f64()) }
}

fn workspaces(busiest: &Busiest, limit: &str) -> Markup {
    let all = busiest.by_limit.get(limit).map(Vec::as_slice).unwrap_or_default();
    let most = all.first().map_or(0, Busy::at_least);
    html! {
        @if all.is_empty() {
            (parts::nothing())
        } @else {
            ol.busiest {
                @for busy in all {
                    li {
                        bdi.who { (busy.name) }
                        (bar(busy.at_least(), most))
                        span.much {
                            @if busiest.sampled { "≈ " }
                            (words::count(busy.at_least()))
                            @if busy.refused > 0 { span.muted { ", " (words::count(busy.refused)) " refused" } }
                        }
                    }
                }
            }
        }
    }
}
