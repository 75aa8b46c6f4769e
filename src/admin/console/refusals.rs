//! What the gateway answered by itself: how often for each reason, and when last.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::admin::console::figures::whole;
use crate::admin::console::parts::{self, Column, Mood, badge, bar, chip, number, text};
use crate::admin::console::{Glance, words};
use crate::policy::refusal::Blame;
use crate::policy::route::NO_ROUTE;
use crate::telemetry::recent::Refused;

const BY_REASON: &[Column] = &[text("Reason"), text("Answered with"), number("Count"), text("Share")];
const LATEST: &[Column] = &[text("Last"), text("Reason"), text("Route"), text("Whose doing"), number("So far")];

pub(super) fn section(glance: &Glance<'_>) -> Markup {
    let mut by_reason = BTreeMap::<(&str, &str), u64>::new();
    for ([reason, code], count) in glance.figures.each("gateway_refusals_total", ["reason", "code"]) {
        *by_reason.entry((reason, code)).or_default() += whole(count);
    }
    let all: u64 = by_reason.values().sum();
    let mut by_count: Vec<_> = by_reason.into_iter().collect();
    by_count.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let rows: Vec<Vec<Markup>> = by_count.iter().map(|(kind, count)| reason(kind, *count, all)).collect();
    let latest: Vec<Vec<Markup>> = glance.refused.iter().map(|refused| last(glance, refused)).collect();
    let content = html! {
        @if rows.is_empty() {
            p.muted { "Nothing was refused so far." }
        } @else {
            div.cards.two {
                div.card { h3 { "By reason" } (parts::table("Refusals by their reason", BY_REASON, &rows)) }
                div.card { h3 { "Latest" } (parts::table("The latest refusals", LATEST, &latest)) }
            }
        }
    };
    parts::section("refusals", "Refusals", &content)
}

fn reason((reason, code): &(&str, &str), count: u64, all: u64) -> Vec<Markup> {
    vec![
        html! { code { (reason) } },
        if *code == "SERVER_ERROR" { badge(Mood::Warning, code) } else { chip(code) },
        html! { (words::count(count)) },
        html! { span.with-bar { (bar(count, all)) (words::share(count, all)) } },
    ]
}

fn last(glance: &Glance<'_>, refused: &Refused) -> Vec<Markup> {
    let route = refused.route.as_deref().unwrap_or(NO_ROUTE);
    let so_far = glance.figures.count("gateway_refusals_total", &[("route", route), ("reason", refused.reason)]);
    vec![
        words::ago(refused.at, glance.now),
        html! { span.muted { (refused.status.as_u16()) } " " code { (refused.reason) } },
        html! { @if let Some(route) = &refused.route { (route) } @else { (parts::nothing()) } },
        match refused.blame {
            Blame::Caller => html! { "caller" },
            Blame::Upstream => badge(Mood::Warning, "upstream"),
            Blame::Gateway => badge(Mood::Bad, "gateway"),
        },
        html! { (words::count(so_far)) },
    ]
}
