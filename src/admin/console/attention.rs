//! What needs somebody, and nothing else.

use std::time::Duration;

use maud::{Markup, html};

use crate::admin::console::listeners::{ENDS_SOON, certificates};
use crate::admin::console::parts::Mood;
use crate::admin::console::{Glance, Standing, words};
use crate::policy::refusal::Blame;
use crate::proxy::history::ReloadResult;
use crate::proxy::pool::state::Condition;

/// How long ago a fault of the gateway's own may be and still be news.
const NEWS: Duration = Duration::from_secs(300);

type Note = (Mood, Markup);

pub(super) fn section(glance: &Glance<'_>) -> Markup {
    let mut notes = Vec::new();
    standing(glance, &mut notes);
    reload(glance, &mut notes);
    upstreams(glance, &mut notes);
    stores(glance, &mut notes);
    faults(glance, &mut notes);
    listeners(glance, &mut notes);
    // The worst first.
    notes.sort_by_key(|(mood, _)| *mood != Mood::Bad);
    html! {
        section #attention aria-label="Attention" {
            @if notes.is_empty() {
                p.calm { (Mood::Good) span { "Nothing needs attention." } }
            } @else {
                ul.notes {
                    @for (mood, note) in &notes {
                        li class=(if *mood == Mood::Bad { "bad" } else { "warning" }) {
                            (mood)
                            span.hidden { (if *mood == Mood::Bad { "Problem: " } else { "Warning: " }) }
                            span { (note) }
                        }
                    }
                }
            }
        }
    }
}

fn standing(glance: &Glance<'_>, notes: &mut Vec<Note>) {
    match glance.standing {
        Standing::Serving => {}
        Standing::Draining => notes.push((
            Mood::Warning,
            html! { "Draining: no new connections, and requests in flight have " (words::span(glance.config.grace)) "." },
        )),
        Standing::NotReady => notes.push((Mood::Bad, html! { "Not ready: no upstream has a healthy server." })),
    }
}

fn reload(glance: &Glance<'_>, notes: &mut Vec<Note>) {
    if let Some(last) = glance.history.reloads.front()
        && matches!(last.result, ReloadResult::Refused(_))
    {
        notes.push((
            Mood::Bad,
            html! {
                "The last reload was refused " (words::ago(last.at, glance.now)) ", and the configuration from before stays: "
                a href="#configuration" { "why" } "."
            },
        ));
    }
    let applied = glance.history.reloads.iter().find_map(|reload| match &reload.result {
        ReloadResult::Applied(needs_restart) => Some(needs_restart),
        ReloadResult::Refused(_) => None,
    });
    for setting in applied.into_iter().flatten() {
        notes.push((
            Mood::Warning,
            html! { code { (setting) } " has changed in the file and stays as it was until a restart." },
        ));
    }
}

fn upstreams(glance: &Glance<'_>, notes: &mut Vec<Note>) {
    for pool in &glance.pools {
        let (all, used) =
            (pool.servers.len(), pool.servers.iter().filter(|server| server.condition == Condition::Used).count());
        let name = html! { a href="#upstreams" { (pool.upstream.name) } };
        if glance.figures.gauge("gateway_upstream_circuit_open", &[("upstream", &pool.upstream.name)]) == Some(1.0) {
            notes.push((Mood::Bad, html! { "Requests to " (name) " are refused at once: all of them have failed." }));
        }
        if used == 0 {
            notes.push((Mood::Bad, html! { "No server of " (name) " may be used." }));
        } else if used < all {
            notes.push((Mood::Warning, html! {
                (all - used) " of " (all) " servers of " (name) (if all - used == 1 { " is" } else { " are" }) " left out."
            }));
        }
    }
}

fn stores(glance: &Glance<'_>, notes: &mut Vec<Note>) {
    for ([store], up) in glance.figures.each("gateway_store_up", ["store"]) {
        if up == 0.0 {
            notes.push((Mood::Bad, html! { "The store " a href="#stores" { (store) } " does not answer." }));
        }
    }
}

fn faults(glance: &Glance<'_>, notes: &mut Vec<Note>) {
    let is_news = |at| glance.now.duration_since(at).unwrap_or_default() < NEWS;
    for refused in glance.refused.iter().filter(|refused| refused.blame == Blame::Gateway && is_news(refused.at)) {
        notes.push((
            Mood::Warning,
            html! {
                a href="#refusals" { code { (refused.reason) } } " made the gateway answer " (refused.status.as_u16()) " "
                (words::ago(refused.at, glance.now)) "."
            },
        ));
    }
    let dropped = glance.figures.count("gateway_log_lines_dropped_total", &[]);
    if dropped > 0 {
        notes.push((
            Mood::Warning,
            html! { (words::of(dropped, "log line was", "log lines were")) " dropped: their reader is too slow." },
        ));
    }
}

fn listeners(glance: &Glance<'_>, notes: &mut Vec<Note>) {
    for certificate in certificates(glance).filter(|certificate| certificate.left < ENDS_SOON) {
        let file = html! { a href="#listeners" { code { (certificate.file) } } };
        notes.push(match certificate.left.is_zero() {
            true => (Mood::Bad, html! { "The certificate " (file) " has ended." }),
            false => {
                (Mood::Warning, html! { "The certificate " (file) " ends in " (words::about(certificate.left)) "." })
            }
        });
    }
}
