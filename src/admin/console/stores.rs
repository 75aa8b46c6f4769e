//! Where counts and tokens are kept, and whether that answers.

use std::collections::BTreeSet;

use maud::{Markup, html};

use crate::admin::console::parts::{self, Column, Mood, alarming, badge, number, quiet, text};
use crate::admin::console::{Glance, words};
use crate::config::settings::{SourceSettings, SqlKind};

const COLUMNS: &[Column] =
    &[text("Store"), text("State"), number("Questions"), number("Failed"), number("p50"), number("p99")];

pub(super) fn section(glance: &Glance<'_>) -> Markup {
    let figures = &glance.figures;
    let mut stores: BTreeSet<&str> = figures.each("gateway_store_up", ["store"]).map(|([store], _)| store).collect();
    stores.extend(figures.each("gateway_store_errors_total", ["store"]).map(|([store], _)| store));
    let rows: Vec<Vec<Markup>> = stores.into_iter().map(|store| row(glance, store)).collect();
    let content = html! {
        @if !rows.is_empty() { (parts::table("Stores and how they fare", COLUMNS, &rows)) }
        (parts::facts(&[("Limits are counted in", counted_in(glance)), ("Tokens are known by", sources(glance))]))
    };
    parts::section("stores", "Stores", &content)
}

fn row(glance: &Glance<'_>, store: &str) -> Vec<Markup> {
    let labels = [("store", store)];
    let times = glance.figures.distribution("gateway_store_duration_seconds", &labels);
    vec![
        html! { (store) },
        match glance.figures.gauge("gateway_store_up", &labels) {
            Some(0.0) => badge(Mood::Bad, "down"),
            Some(_) => badge(Mood::Good, "up"),
            None => parts::nothing(),
        },
        quiet(times.count()),
        alarming(glance.figures.count("gateway_store_errors_total", &labels)),
        html! { (words::quantile(times.quantile(0.5))) },
        html! { (words::quantile(times.quantile(0.99))) },
    ]
}

fn counted_in(glance: &Glance<'_>) -> Markup {
    match glance.replicas {
        Some(replicas) => {
            html! { "Redis, shared by " (words::of(u64::from(replicas), "live gateway", "live gateways")) }
        }
        None => html! { "memory, for this process alone" },
    }
}

fn sources(glance: &Glance<'_>) -> Markup {
    let names: Vec<&str> = glance.config.auth.sources.iter().map(name).collect();
    html! { @if names.is_empty() { "nobody" } @else { (names.join(", then ")) } }
}

fn name(source: &SourceSettings) -> &'static str {
    match source {
        SourceSettings::Signed { jwks: None, .. } => "their signature",
        SourceSettings::Signed { jwks: Some(_), .. } => "their signature, with published keys",
        SourceSettings::Redis { .. } => "Redis",
        SourceSettings::Sql(sql) => match sql.kind {
            SqlKind::MySql => "a MySQL database",
            SqlKind::Postgres => "a PostgreSQL database",
        },
        SourceSettings::Introspection(_) => "an introspection service",
        SourceSettings::File { .. } => "a file",
    }
}
