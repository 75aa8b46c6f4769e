//! What `diff --deny-weaker` refuses: every loss of protection, and nothing else.

use mailtrixy_gateway::config::diff::{Change, Protection, changes};
use mailtrixy_gateway::config::{Loaded, Located};
use proptest::prelude::*;

use crate::harness::token::SECRET;

/// What can be set more or less strictly, the strictest first.
const KNOBS: &[(&str, &[&str])] = &[
    ("@access", &["scope: a", "access: token", "access: public"]),
    ("@export", &["scope: a", "access: token", "access: public"]),
    ("@rate", &["requests: 10, per: 2m", "requests: 20, per: 2m", "requests: 20, per: 90s"]),
    ("@by", &["workspace", "user", "token"]),
    ("@failing", &["deny", "local", "allow"]),
    ("@mode", &["enforce", "shadow"]),
    (
        "@limits",
        &[
            "rate, subject, failing, trial, spare",
            "spare, rate, subject, trial, failing",
            "rate, subject, failing, trial",
        ],
    ),
    ("@cost", &["3", "2", "1"]),
    ("@checksum", &["required", "if_present", "off"]),
    ("@expiration", &["1h", "4h", "0"]),
    ("@leeway", &["10s", "30s", "1m"]),
    ("@backend", &["normalise", "pass"]),
    ("@header_bytes", &["8KiB", "16KiB", "32KiB"]),
    ("@headers", &["50", "100", "101"]),
    ("@body_bytes", &["1MiB", "2MiB", "3MiB"]),
    ("@own_body", &["1KiB", "2KiB", "1MiB"]),
    ("@seconds", &["5s", "10s", "20s"]),
    ("@in_flight", &["10", "100", "1000"]),
    ("@proxies", &["", "10.1.0.0/16", "10.0.0.0/8, 192.168.0.1/32"]),
];

/// Where two levels mean the same: the order of limits.
fn meaning(knob: &str, level: usize) -> usize {
    if knob == "@limits" { level.saturating_sub(1) } else { level }
}

/// A file with each knob at a level; its sections, routes and limits in an order that `turn` chooses.
fn file(levels: &[usize], turn: usize) -> String {
    let turned = |lines: &[&str], end: &str| {
        let mut lines = lines.to_vec();
        let by = turn % lines.len();
        lines.rotate_left(by);
        lines.iter().map(|line| format!("{line}{end}")).collect::<String>()
    };
    let limits = turned(
        &[
            "  rate: {@rate}",
            "  subject: {by: @by, requests: 7, per: 1m}",
            "  failing: {requests: 8, per: 1m, on_store_failure: @failing}",
            "  trial: {requests: 9, per: 1m, mode: @mode}",
            "  spare: {requests: 6, per: 1m}",
            "  address: {requests: 9, per: 1m, by: client_ip}",
        ],
        "\n",
    );
    let routes = turned(
        &[
            "  open: {path: /open/**, @access, limit: address, upstream: main}",
            "  export: {path: \"/open/{id}/export\", methods: [GET], @export, limit: address, upstream: main, body_bytes: @own_body}",
            "  limited: {path: /limited, access: token, limit: [@limits], cost: @cost, upstream: main}",
        ],
        "\n",
    );
    let sections = turned(
        &[
            "version: 1",
            "listeners: [{address: \"127.0.0.1:8080\"}]",
            "trusted_proxies: [@proxies]",
            "request: {header_bytes: @header_bytes, headers: @headers, body_bytes: @body_bytes, body_timeout: @seconds, in_flight: @in_flight}",
            "auth: {checksum: @checksum, expiration: @expiration, sources: [{signed: {leeway: @leeway, issuer: i, audience: a, keys: [{id: k, algorithm: HS256, secret: \"${MB_SIGNING_SECRET}\"}]}}]}",
            "scopes: [a]",
            "errors: {backend: @backend}",
            "upstreams: {main: {servers: [\"127.0.0.1:1\"]}}",
            &format!("limits:\n{limits}"),
            &format!("routes:\n{routes}"),
        ],
        "\n",
    );
    // The longest names first: one begins with another.
    let mut knobs: Vec<(&str, &str)> =
        KNOBS.iter().zip(levels).map(|((knob, all), level)| (*knob, all[*level])).collect();
    knobs.sort_by_key(|(knob, _)| std::cmp::Reverse(knob.len()));
    knobs.iter().fold(sections, |text, (knob, value)| text.replace(knob, value))
}

fn located(text: String) -> Located {
    let environment = |name: &str| (name == "MB_SIGNING_SECRET").then(|| SECRET.to_owned());
    Loaded::from_text("gateway.yaml".into(), text, &environment)
        .into_located()
        .unwrap_or_else(|report| panic!("{report}"))
}

fn between(old: (&[usize], usize), new: (&[usize], usize)) -> Vec<Change> {
    changes(&located(file(old.0, old.1)), &located(file(new.0, new.1)))
}

fn levels() -> impl Strategy<Value = Vec<usize>> {
    KNOBS.iter().map(|(_, all)| 0..all.len()).collect::<Vec<_>>()
}

/// Some knobs of `levels` turned to another level.
fn turned(levels: &[usize], turns: &[(prop::sample::Index, usize)]) -> Vec<usize> {
    let mut levels = levels.to_vec();
    for (at, level) in turns {
        let at = at.index(levels.len());
        levels[at] = level % KNOBS[at].1.len();
    }
    levels
}

fn is_weaker(changes: &[Change]) -> bool {
    changes.iter().any(|change| change.protection == Protection::Weaker)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_gets_weaker_is_always_marked_and_what_gets_stronger_never(
        old in levels(), turns in prop::collection::vec((any::<prop::sample::Index>(), 0usize..3), 1..4), turn in 0usize..30
    ) {
        let new = turned(&old, &turns);
        let pairs = || KNOBS.iter().zip(old.iter().zip(&new)).map(|((knob, _), (old, new))| (meaning(knob, *old), meaning(knob, *new)));
        let found = between((&old, 0), (&new, turn));
        prop_assert_eq!(is_weaker(&found), pairs().any(|(old, new)| new > old), "{:#?}", found);
        prop_assert_eq!(found.is_empty(), pairs().all(|(old, new)| new == old), "{:#?}", found);
    }
}

#[test]
fn each_knob_alone_is_weaker_one_way_and_not_the_other() {
    let strict = vec![0; KNOBS.len()];
    for (at, (knob, all)) in KNOBS.iter().enumerate() {
        let mut loose = strict.clone();
        loose[at] = all.len() - 1;
        let (weaker, stronger) = (between((&strict, 0), (&loose, 0)), between((&loose, 0), (&strict, 0)));
        assert!(is_weaker(&weaker), "{knob}: {weaker:#?}");
        assert!(!stronger.is_empty() && !is_weaker(&stronger), "{knob}: {stronger:#?}");
    }
}
