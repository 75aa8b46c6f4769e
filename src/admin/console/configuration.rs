//! The configuration in force, and the reloads so far.

use maud::{Markup, html};

use crate::admin::console::parts::{self, Mood, badge};
use crate::admin::console::{Glance, words};
use crate::policy::normalise::BackendErrors;
use crate::proxy::history::{Reload, ReloadResult};

pub(super) fn section(glance: &Glance<'_>) -> Markup {
    let (config, policy) = (glance.config, &glance.config.policy);
    let yes =
        |is_so: bool, word: &'static str, otherwise: &'static str| html! { (if is_so { word } else { otherwise }) };
    let errors = matches!(policy.backend_errors, BackendErrors::Normalise { .. });
    let content = html! {
        (parts::facts(&[
            ("File", html! { code { (glance.process.file.display().to_string()) } }),
            ("SHA-256", html! { code.digest { (hexadecimal(&config.digest)) } }),
            ("In force since", html! {
                (words::moment(glance.history.in_force_since))
                " " span.muted { "(" (words::ago(glance.history.in_force_since, glance.now)) ")" }
            }),
            ("Worker threads", html! { (glance.process.threads) }),
            ("Errors of backends", yes(errors, "become envelopes", "pass as they are")),
            ("Other origins (CORS)", yes(policy.cors.is_some(), "may call, as configured", "nothing is said")),
            ("Trusted proxies", html! { (config.trusted_proxies.0.len()) }),
            ("Log level", html! { (config.log.level.as_str().to_lowercase()) }),
        ]))
        h3 { "Reloads" }
        (reloads(glance))
    };
    parts::section("configuration", "Configuration", &content)
}

fn reloads(glance: &Glance<'_>) -> Markup {
    let known = &glance.history;
    html! {
        @if known.reloads.is_empty() {
            p.muted { "None since the start." }
        } @else {
            ol.reloads {
                @for (at, reload) in known.reloads.iter().enumerate() {
                    li { (one(glance, reload, known.forgotten + known.reloads.len() - at)) }
                }
            }
            @if known.forgotten > 0 { p.remark { "And " (words::of(known.forgotten as u64, "older one", "older ones")) "." } }
        }
    }
}

/// `number` is the same whenever the page is made.
fn one(glance: &Glance<'_>, reload: &Reload, number: usize) -> Markup {
    let when = html! { (words::moment(reload.at)) " " span.muted { "(" (words::ago(reload.at, glance.now)) ")" } };
    match &reload.result {
        ReloadResult::Applied(needs_restart) => html! {
            (badge(Mood::Good, "applied")) " " (when)
            @if !needs_restart.is_empty() {
                span.line.muted { "but for " (needs_restart.join(", ")) ": after a restart" }
            }
        },
        ReloadResult::Refused(why) => html! {
            details id={ "reload-" (number) } {
                summary id={ "summary-" (number) } { (badge(Mood::Bad, "refused")) span { (when) } }
                pre tabindex="0" { (why) }
            }
        },
    }
}

fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().map(|octet| format!("{octet:02x}")).collect()
}
