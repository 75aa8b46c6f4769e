//! The page as a whole: head, masthead, the figures that matter most, and the sections in the order in which one looks for trouble.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::admin::console::figures::Distribution;
use crate::admin::console::parts::{self, Mood, badge, quiet};
use crate::admin::console::{
    Glance, SCRIPT, STYLE, Standing, attention, configuration, limits, listeners, refusals, routes, stores, upstreams,
    words,
};

/// A gate, in a data URL, so that no browser asks for an icon.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Crect width='32' height='32' rx='8' fill='%233757c9'/%3E%3Cpath d='M8 25V14a8 8 0 0 1 16 0v11M16 10v15' fill='none' stroke='%23fff' stroke-width='2.6' stroke-linecap='round'/%3E%3C/svg%3E";

const SECTIONS: [(&str, &str); 7] = [
    ("routes", "Routes"),
    ("limits", "Limits"),
    ("upstreams", "Upstreams"),
    ("refusals", "Refusals"),
    ("stores", "Stores"),
    ("listeners", "Listeners"),
    ("configuration", "Configuration"),
];

pub(super) fn page(glance: &Glance<'_>) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (glance.standing.word()) " · mailtrixy-gateway" }
                link rel="icon" href=(ICON);
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#main" { "Skip to content" }
                (masthead(glance))
                (main(glance))
                (footer(glance))
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
}

impl Standing {
    fn word(self) -> &'static str {
        match self {
            Self::Serving => "Serving",
            Self::NotReady => "Not ready",
            Self::Draining => "Draining",
        }
    }

    fn mood(self) -> Mood {
        match self {
            Self::Serving => Mood::Good,
            Self::NotReady => Mood::Bad,
            Self::Draining => Mood::Warning,
        }
    }
}

fn masthead(glance: &Glance<'_>) -> Markup {
    html! {
        header {
            div.masthead {
                h1 {
                    svg.mark viewBox="0 0 32 32" width="30" height="30" aria-hidden="true" focusable="false" {
                        rect width="32" height="32" rx="8" {}
                        path d="M8 25V14a8 8 0 0 1 16 0v11M16 10v15" {}
                    }
                    "mailtrixy-gateway"
                }
                div #standing data-live="" {
                    (badge(glance.standing.mood(), glance.standing.word()))
                    span { "up " strong { (words::span(glance.up)) } }
                    span { (build(glance)) }
                }
                // The script puts its button and its state here.
                div #refresh {}
            }
            nav aria-label="Sections" {
                ul { @for (id, heading) in SECTIONS { li { a href={ "#" (id) } { (heading) } } } }
            }
        }
    }
}

/// `0.1.0 (c22400b)`
fn build(glance: &Glance<'_>) -> String {
    let build = glance.figures.each("gateway_build_info", ["version", "revision"]).next();
    match build {
        Some(([version, "unknown" | ""], _)) => format!("version {version}"),
        Some(([version, revision], _)) => format!("version {version} ({revision})"),
        None => String::new(),
    }
}

fn main(glance: &Glance<'_>) -> Markup {
    html! {
        main #main data-live="" tabindex="-1" {
            (attention::section(glance))
            (overview(glance))
            (routes::section(glance))
            (limits::section(glance))
            (upstreams::section(glance))
            (refusals::section(glance))
            (stores::section(glance))
            (listeners::section(glance))
            (configuration::section(glance))
        }
    }
}

fn overview(glance: &Glance<'_>) -> Markup {
    let figures = &glance.figures;
    let requests = figures.count("gateway_requests_total", &[]);
    let [_, failed] = figures.failed(&[]);
    let refused = figures.count("gateway_refusals_total", &[]);
    let (whole, own) = (
        figures.distribution("gateway_request_duration_seconds", &[]),
        figures.distribution("gateway_overhead_duration_seconds", &[]),
    );
    let in_flight = figures.count("gateway_requests_in_flight", &[]);
    let connections = figures.count("gateway_connections", &[]);
    let tile = |name: &str, value: Markup, note: String| {
        html! { div.tile { dt { (name) } dd { span.value { (value) } span.note { (note) } } } }
    };
    let median = |times: &Distribution| html! { (words::quantile(times.quantile(0.5))) };
    let slowest = |times: &Distribution| format!("median · p99 {}", words::quantile(times.quantile(0.99)));
    html! {
        section aria-label="Overview" {
            dl.tiles {
                (tile("Requests", html! { (words::count(requests)) }, "since the start".to_owned()))
                (tile("Answered 5xx", parts::alarming(failed), words::share(failed, requests)))
                (tile("Refused here", quiet(refused), words::share(refused, requests)))
                (tile("Answered within", median(&whole), slowest(&whole)))
                (tile("In the gateway", median(&own), slowest(&own)))
                (tile("In flight", html! { (words::count(in_flight)) }, words::of(connections, "connection", "connections")))
            }
        }
    }
}

fn footer(glance: &Glance<'_>) -> Markup {
    html! {
        footer {
            p {
                "As of " span #moment data-live="" { (words::moment(glance.now)) }
                ". Counts are of this process since its start; percentiles are read from histogram buckets."
            }
            p {
                a href="/metrics" { "Metrics" } " · " a href="/readyz" { "Readiness" } " · " a href="/livez" { "Liveness" }
            }
        }
    }
}
