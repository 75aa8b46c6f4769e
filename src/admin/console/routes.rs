//! Routes: what they need, where they lead, and how they fare.

use maud::{Markup, html};

use crate::admin::console::parts::{self, Column, alarming, chip, dense, quiet, text};
use crate::admin::console::{Glance, words};
use crate::policy::route::{Access, Destination, Methods, NO_ROUTE, Route};

const COLUMNS: &[Column] = &[
    text("Route"),
    text("Methods"),
    text("Access"),
    text("Limits"),
    text("Upstream"),
    dense("Requests"),
    dense("4xx"),
    dense("5xx"),
    dense("p50"),
    dense("p99"),
];

pub(super) fn section(glance: &Glance<'_>) -> Markup {
    let mut rows: Vec<Vec<Markup>> = glance.config.policy.routes.iter().map(|route| row(glance, route)).collect();
    if glance.figures.count("gateway_requests_total", &[("route", NO_ROUTE)]) > 0 {
        let mut row = vec![html! { span.muted { "no route" } }];
        row.extend((0..4).map(|_| parts::nothing()));
        row.extend(fares(glance, NO_ROUTE));
        rows.push(row);
    }
    parts::section("routes", "Routes", &parts::table("Routes and how they fare", COLUMNS, &rows))
}

fn row(glance: &Glance<'_>, route: &Route) -> Vec<Markup> {
    let mut row = vec![
        html! {
            span.name { (route.name) }
            code.path { (route.pattern.as_str()) }
            @if route.streaming || route.websocket || route.pagination.is_some() {
                span.chips {
                    @if route.streaming { (chip("streaming")) }
                    @if route.websocket { (chip("websocket")) }
                    @if route.pagination.is_some() { (chip("pagination")) }
                }
            }
        },
        methods(route.methods),
        access(&route.access),
        limits(route),
        destination(glance, route),
    ];
    row.extend(fares(glance, &route.name));
    row
}

fn fares(glance: &Glance<'_>, route: &str) -> [Markup; 5] {
    let labels = [("route", route)];
    let times = glance.figures.distribution("gateway_request_duration_seconds", &labels);
    let [refused, failed] = glance.figures.failed(&labels);
    [
        quiet(glance.figures.count("gateway_requests_total", &labels)),
        quiet(refused),
        alarming(failed),
        html! { (words::quantile(times.quantile(0.5))) },
        html! { (words::quantile(times.quantile(0.99))) },
    ]
}

fn methods(methods: Methods) -> Markup {
    html! { @if methods == Methods::ALL { span.muted { "any" } } @else { span.methods { (methods.to_string()) } } }
}

fn access(access: &Access) -> Markup {
    match access {
        Access::Public => chip("public"),
        Access::Token => html! { "any token" },
        Access::Scope(scope) => html! { span.muted { "scope " } (scope.as_str()) },
    }
}

fn limits(route: &Route) -> Markup {
    html! {
        @if route.limits.is_empty() { span.muted { "none" } }
        @for (at, limit) in route.limits.iter().enumerate() {
            @if at > 0 { ", " }
            (limit.name)
        }
        @if route.cost > 1 { span.muted { "\u{a0}×\u{a0}" (route.cost) } }
    }
}

fn destination(glance: &Glance<'_>, route: &Route) -> Markup {
    match route.destination {
        Destination::RateLimits => html! { span.muted { "the gateway" } },
        Destination::Upstream(at) => {
            html! { (glance.config.policy.upstreams.get(at).map_or("–", |upstream| &upstream.name)) }
        }
    }
}
