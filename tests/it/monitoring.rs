//! What deploy/ has for Prometheus and Grafana, tried on the real thing: a Prometheus that scrapes a gateway to which everything happens.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use mailtrixy_gateway::telemetry::metrics::FAMILIES;
use serde_json::Value;

use crate::harness::backend::{Backend, json, nobody};
use crate::harness::certificates::Authority;
use crate::harness::client::Connection;
use crate::harness::collector::Collector;
use crate::harness::gateway::{AUTH, CONTACTS, Gateway, config, simple};
use crate::harness::load::Load;
use crate::harness::prometheus::{Prometheus, promtool, repository};
use crate::harness::redis::Redis;
use crate::harness::token::token;
use crate::harness::{PATIENCE, wait_for};

fn deployed(file: &str) -> String {
    std::fs::read_to_string(repository(&format!("deploy/{file}"))).unwrap()
}

#[test]
fn promtool_takes_the_configuration_and_the_rules() {
    for arguments in [
        &["check", "config", "deploy/prometheus.yml"][..],
        &["check", "rules", "deploy/prometheus/rules.yml", "deploy/prometheus/alerts.yml"],
        &["test", "rules", "deploy/prometheus/alerts.test.yml"],
    ] {
        let (is_content, said) = promtool(arguments, "");
        assert!(is_content && said.contains("SUCCESS") && !said.contains("FAILED"), "{arguments:?}: {said}");
    }
}

#[test]
fn every_alert_is_seen_to_fire_and_not_to_fire_and_says_what_to_do() {
    let (alerts, tests) = (deployed("prometheus/alerts.yml"), deployed("prometheus/alerts.test.yml"));
    let rules: Vec<&str> = alerts.split("- alert: ").skip(1).collect();
    assert!(rules.len() > 10, "{}", rules.len());
    for rule in rules {
        let name = rule.lines().next().unwrap();
        for part in ["severity: ", "summary: ", "action: "] {
            assert!(rule.contains(part), "{name} has no {part}");
        }
        // Behind its name stand either the alerts that fire or an empty list of them.
        let cases: Vec<&str> = tests
            .split("alertname: ")
            .filter_map(|case| case.strip_prefix(name).filter(|rest| rest.starts_with(['\n', ','])))
            .map(|case| case.trim_start_matches(['\n', ' ', ',']))
            .collect();
        assert!(cases.iter().any(|case| case.starts_with("exp_alerts:\n")), "{name} is never seen to fire");
        let has_neighbour = cases.iter().any(|case| case.starts_with("exp_alerts: []"));
        // Two of three certificates are left out of the one that fires.
        assert!(has_neighbour || name == "GatewayCertificateExpiresSoon", "{name} is never seen not to fire");
    }
}

/// The names of ours in a text, without what a histogram adds to them.
fn families_in(text: &str) -> BTreeSet<&str> {
    let starts = text.match_indices("gateway_").map(|(at, _)| at);
    let starts = starts.filter(|at| !text[..*at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_'));
    let names = starts.map(|at| text[at..].split(|c: char| !c.is_ascii_lowercase() && c != '_').next().unwrap());
    names
        .map(|name| ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name))
        .collect()
}

#[test]
fn alerts_and_dashboard_speak_of_families_that_there_are_and_leave_none_out() {
    let files = ["grafana/mailtrixy-gateway.json", "prometheus/rules.yml", "prometheus/alerts.yml"].map(deployed);
    let used: BTreeSet<&str> = files.iter().flat_map(|text| families_in(text)).collect();
    let known: BTreeSet<&str> = FAMILIES.iter().map(|(name, ..)| *name).collect();
    assert_eq!(used, known);
}

#[tokio::test]
async fn what_happens_seldom_is_counted_from_zero_so_that_the_first_time_is_an_increase() {
    let (backend, collector) = (Backend::start().await, Collector::start().await);
    let config = simple(&[backend.address], "", CONTACTS);
    let gateway = Gateway::start(&format!("{}{config}", collector.section("sample: 0"))).await;
    let metrics = gateway.admin("/metrics").await.text();
    for series in [
        "gateway_backend_leaks_blocked_total{upstream=\"main\"}",
        "gateway_upstream_ejections_total{upstream=\"main\"}",
        "gateway_trace_spans_total{fate=\"failed\"}",
        "gateway_trace_spans_total{fate=\"no_room\"}",
        "gateway_log_lines_dropped_total",
    ] {
        assert!(metrics.lines().any(|line| line.strip_prefix(series) == Some(" 0")), "{series}");
    }
}

/// A gateway with every part that tells something: Redis, a collector, TLS, upstreams good and bad.
struct Busy {
    gateway: Gateway,
    redis: Redis,
    encrypted: SocketAddr,
    introduced: SocketAddr,
    _collector: Collector,
}

impl Busy {
    async fn start() -> Self {
        let (redis, collector, good) = (Redis::start().await, Collector::start().await, Backend::start().await);
        let leak = r#"{"message":"x","exception":"PDOException","trace":[]}"#;
        let (bad, dead) = (Backend::answering(|_| json(500, leak)).await, nobody().await);
        let odd = Backend::answering(|_| json(200, r#"{"ok":1}"#)).await;
        let folder = tempfile::tempdir().unwrap();
        Authority::new().sign(&["localhost"]).write(folder.path(), "a");
        let upstreams = format!(
            "upstreams:\n  main: {{servers: [\"{}\", \"{dead}\"], eject: {{failures: 2, for: 1s}}}}\n  \
             bad: {{servers: [\"{}\"], circuit: {{failures: 3, for: 5s}}}}\n  \
             gone: {{servers: [\"{dead}\"], health: {{path: /up, every: 100ms, unhealthy_after: 1}}}}\n  \
             odd: {{servers: [\"{}\"]}}",
            good.address, bad.address, odd.address
        );
        let route = |name: &str, limit: &str, upstream: &str| {
            format!("  {name}: {{path: /{name}, scope: contacts, limit: {limit}, upstream: {upstream}}}")
        };
        let sections = [
            &collector.section("sample: 0.1"),
            &format!("redis: {{url: \"{}\"}}", redis.url()),
            AUTH,
            "errors: {contract: watch, contract_sample: 1}\nscopes: [contacts]\nlimits: {contacts: {requests: 40, per: 2s}}",
            &upstreams,
            "routes:",
            &route("contacts", "contacts", "main"),
            &route("bad", "none", "bad"),
            &route("gone", "none", "gone"),
            &route("odd", "none", "odd"),
        ];
        let plain = "{address: \"127.0.0.1:0\"}";
        let encrypted = "{address: \"127.0.0.1:0\", tls: {certificate: a.crt, key: a.key}}";
        let introduced = "{address: \"127.0.0.1:0\", proxy_protocol: [127.0.0.0/8]}";
        let listeners = format!("{plain}, {encrypted}, {introduced}");
        let config = config(&sections.join("\n")).replacen(plain, &listeners, 1);
        let gateway = Gateway::start_in(folder, &config).await;
        gateway.log_lines(1, |line| line["message"] == "connected to Redis").await;
        let listeners = gateway.listeners(3).await;
        let (encrypted, introduced) = (listeners[1], listeners[2]);
        Self { gateway, redis, encrypted, introduced, _collector: collector }
    }

    /// One of everything that can happen.
    async fn stir(&self) {
        let known = token("w1", "contacts");
        for path in ["/api/v1/bad", "/api/v1/gone", "/api/v1/odd", "/api/v1/contacts", "/nothing"] {
            self.gateway.get(path, &known).await;
        }
        self.gateway.get("/api/v1/contacts", "mb_nonsense").await;
        self.redis.revoke("id", "nobody").await;
        for listener in [self.encrypted, self.introduced] {
            let _ = Connection::open(listener).await.request("GET / HTTP/1.1\r\n\r\n").await;
        }
        self.redis.signal("STOP");
        self.gateway.get("/api/v1/contacts", &token("w2", "contacts")).await;
        self.redis.signal("CONT");
        self.gateway.signal("HUP");
    }
}

/// Every query of the dashboard as Grafana would send it, with the title of its panel.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let list = |of: &Value| of.as_array().cloned().unwrap_or_default();
    let mut queries = Vec::new();
    for panel in list(&dashboard["panels"]) {
        for target in list(&panel["targets"]) {
            queries.push((panel["title"].clone(), target["expr"].clone()));
        }
    }
    for note in list(&dashboard["annotations"]["list"]) {
        queries.push((note["name"].clone(), note["expr"].clone()));
    }
    let text = |value: Value| value.as_str().unwrap().to_owned();
    let filled = |query: Value| {
        let query = text(query).replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$route", ".*");
        assert!(!query.contains('$'), "{query}");
        query
    };
    queries.into_iter().map(|(title, query)| (text(title), filled(query))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_of_the_dashboard_returns_data_from_a_busy_gateway_and_every_rule_is_evaluated() {
    let busy = Busy::start().await;
    let prometheus = Prometheus::scraping(busy.gateway.admin).await;
    let load = Load::start(&[busy.gateway.address], &[token("w1", "contacts")], Duration::from_millis(20));
    let dashboard: Value = serde_json::from_str(&deployed("grafana/mailtrixy-gateway.json")).unwrap();
    let mut empty = queries(&dashboard);
    assert!(empty.len() > 30, "{}", empty.len());
    // A rate needs two scrapes, and something between them; what a rule records, the rule's turn.
    let began = std::time::Instant::now();
    while !empty.is_empty() && began.elapsed() < PATIENCE {
        busy.stir().await;
        let mut still = Vec::new();
        for (title, query) in empty {
            if prometheus.query(&query).await.is_empty() {
                still.push((title, query));
            }
        }
        empty = still;
    }
    assert!(empty.is_empty(), "these return nothing: {empty:#?}");

    for variable in dashboard["templating"]["list"].as_array().unwrap().iter().skip(1) {
        let query = variable["query"].as_str().unwrap();
        let of = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).unwrap();
        let (series, label) = of.split_once(", ").unwrap();
        assert!(!prometheus.query(&format!("count by ({label}) ({series})")).await.is_empty(), "{query}");
    }
    let rules = wait_for("all rules to be evaluated", async || {
        let groups = prometheus.api("rules").await["groups"].take();
        let rules = groups.as_array()?.iter().flat_map(|group| group["rules"].as_array().unwrap().clone());
        let rules: Vec<Value> = rules.collect();
        rules.iter().all(|rule| rule["health"] != "unknown").then_some(rules)
    })
    .await;
    assert!(rules.len() > 20 && rules.iter().all(|rule| rule["health"] == "ok"), "{rules:#?}");
    load.stop().await;

    let (is_content, said) = promtool(&["check", "metrics"], &busy.gateway.admin("/metrics").await.text());
    assert!(is_content && said.is_empty(), "{said}");
}
