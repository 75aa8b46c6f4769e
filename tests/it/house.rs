//! The house rules that a compiler does not check.

use std::path::{Path, PathBuf};

fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            match entry.path() {
                path if path.is_dir() => walk(&path, found),
                path if path.extension().is_some_and(|extension| extension == "rs") => found.push(path),
                _ => {}
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    found
        .into_iter()
        .map(|path| (path.strip_prefix(&root).unwrap().display().to_string(), std::fs::read_to_string(&path).unwrap()))
        .collect()
}

/// The part of a file that is compiled into the product.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .filter(|line| !line.trim_start().starts_with("//"))
}

#[track_caller]
fn assert_named_only(word: &str, allowed: &[&str]) {
    for (file, text) in sources() {
        if !allowed.iter().any(|prefix| file.starts_with(prefix)) {
            let named = code(&text).find(|line| line.contains(word));
            assert_eq!(named, None, "{file} names {word}");
        }
    }
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    for (file, text) in sources() {
        let first = text.lines().next().unwrap_or_default();
        assert!(first.starts_with("//! ") || first.starts_with("#![doc"), "{file}: {first}");
    }
}

#[test]
fn pingora_is_named_in_its_own_room_alone() {
    assert_named_only("pingora", &["proxy/"]);
}

#[test]
fn rustls_is_named_where_something_is_encrypted_alone() {
    assert_named_only("rustls", &["tls/", "proxy/tls.rs", "proxy/transport.rs"]);
}

#[test]
fn opentelemetry_is_named_where_spans_are_made_and_sent_alone() {
    assert_named_only("opentelemetry", &["telemetry/spans.rs", "telemetry/export.rs"]);
}

#[test]
fn the_redis_crate_is_named_where_redis_is_spoken_to_alone() {
    let rooms = ["redis/", "auth/redis.rs", "auth/revocation.rs", "limits/redis.rs"];
    assert_named_only("redis::cmd", &rooms);
    assert_named_only("use redis::", &rooms);
}

#[test]
fn the_policy_asks_nobody_and_has_no_clock() {
    for (file, text) in sources().into_iter().filter(|(file, _)| file.starts_with("policy/")) {
        for word in [
            "async ",
            "tokio",
            "std::fs",
            "std::net::Tcp",
            "SystemTime",
            "Instant",
            "tracing::",
            "crate::config",
            "crate::proxy",
            "crate::auth",
            "crate::limits",
            "crate::telemetry",
            "crate::ports",
        ] {
            assert_eq!(code(&text).find(|line| line.contains(word)), None, "{file} names {word}");
        }
    }
}

#[test]
fn imports_run_one_way() {
    for (room, forbidden) in [
        ("config/", &["crate::proxy", "crate::auth", "crate::limits", "crate::cli"][..]),
        (
            "openapi/",
            &["crate::proxy", "crate::auth", "crate::limits", "crate::pipeline", "crate::telemetry", "crate::cli"],
        ),
        ("replay/", &["crate::proxy", "crate::auth", "crate::pipeline", "crate::telemetry", "crate::cli"]),
        ("tls/", &["crate::config", "crate::proxy", "crate::policy", "crate::cli"]),
        ("auth/", &["crate::proxy", "crate::limits", "crate::pipeline", "crate::cli"]),
        ("limits/", &["crate::proxy", "crate::auth", "crate::pipeline", "crate::cli"]),
        ("redis/", &["crate::proxy", "crate::auth", "crate::limits", "crate::pipeline", "crate::policy", "crate::cli"]),
        ("pipeline.rs", &["crate::proxy", "crate::cli", "crate::telemetry"]),
        ("ports.rs", &["crate::proxy", "crate::auth", "crate::limits", "crate::pipeline", "crate::cli"]),
        ("proxy/", &["crate::cli"]),
    ] {
        for (file, text) in sources().into_iter().filter(|(file, _)| file.starts_with(room)) {
            for word in forbidden {
                assert_eq!(code(&text).find(|line| line.contains(word)), None, "{file} names {word}");
            }
        }
    }
}

fn readme() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// The cells of the README's table whose head begins with `head`.
fn table(head: &str) -> Vec<Vec<String>> {
    let text = readme();
    let rows = text.lines().skip_while(|line| !line.starts_with(head)).skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

#[test]
fn the_readme_lists_every_metric_family_with_its_labels() {
    let listed: Vec<String> = table("| family ")
        .iter()
        .map(|row| format!("{} [{}] {}", row[0].trim_end_matches(" (histogram)"), row[1], row[2]))
        .collect();
    let known: Vec<String> = mailtrixy_gateway::telemetry::metrics::FAMILIES
        .iter()
        .map(|(name, labels, help)| format!("{name} [{}] {help}", labels.join(", ")))
        .collect();
    assert_eq!(listed, known);
}

#[test]
fn the_readme_lists_every_error_code() {
    let listed: Vec<String> = table("| status ").iter().map(|row| format!("{} {}", row[0], row[1])).collect();
    let known = mailtrixy_gateway::policy::refusal::ErrorCode::ALL.map(|code| {
        let status = (400..=500).map(|status| http::StatusCode::from_u16(status).unwrap());
        let first =
            status.into_iter().find(|status| mailtrixy_gateway::policy::refusal::ErrorCode::of(*status) == code);
        format!("{} {}", first.unwrap().as_u16(), code.as_str())
    });
    assert_eq!(listed, known);
}

#[test]
fn the_readme_lists_the_limits_of_gateway_yaml() {
    let text = include_str!("../../gateway.yaml").to_owned();
    let environment = |name: &str| (name == "MB_SIGNING_SECRET").then(|| crate::harness::token::SECRET.to_owned());
    let config = mailtrixy_gateway::config::Loaded::from_text("gateway.yaml".to_owned(), text, &environment)
        .into_config()
        .unwrap();
    let mut known: Vec<String> = config
        .policy
        .limits
        .iter()
        .map(|limit| {
            assert_eq!(limit.rate.window.as_secs(), 60);
            format!("{} {} {} {:?}", limit.name, limit.rate.requests, limit.by, limit.on_store_failure).to_lowercase()
        })
        .collect();
    let mut listed: Vec<String> = table("| limit ").iter().map(|row| row.join(" ")).collect();
    known.sort();
    listed.sort();
    assert_eq!(listed, known);
}

#[test]
fn the_readme_lists_every_command() {
    let help = crate::harness::gateway::command(&["--help"]).stdout;
    let help = String::from_utf8(help).unwrap();
    let known: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty() && *name != "help")
        .collect();
    let listed: Vec<String> =
        table("| command ").iter().map(|row| row[0].trim_matches('`').split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(listed, known);
}
