//! Spellings of a path and fields that have led past other gateways: nothing protected is reached without its scope, and what is
//! forwarded is the one path that was authorised.
//!
//! There is a protected tree, `/admin`, a public one, `/public`, and everything else is public too, so that whatever does not look
//! protected is let through. A row is where it comes from, the target, and what becomes of it without a token: `400`, the target that
//! is forwarded, or `401` with the target that is forwarded for somebody who holds the scope.

use mailtrixy_gateway::policy::path::CleanPath;

use crate::harness::backend::Backend;
use crate::harness::gateway::{AUTH, Gateway, config};
use crate::harness::token::token;

const ROWS: &[(&str, &str, &str)] = &[
    ("as it is meant", "/admin/users", "401 /admin/users"),
    ("as it is meant", "/public/page", "/public/page"),
    // Dots and slashes.
    ("CVE-2019-9901", "/public/../admin/users", "401 /admin/users"),
    ("CVE-2019-9901", "/public/x/../../admin/users", "401 /admin/users"),
    ("CVE-2019-9901", "/x/../admin/users", "401 /admin/users"),
    ("CVE-2019-9901", "/./admin/users", "401 /admin/users"),
    ("CVE-2019-9901", "/admin/./users", "401 /admin/users"),
    ("CVE-2019-9901", "/admin/x/../users", "401 /admin/users"),
    ("CVE-2019-9901", "/public/./../admin/users/.", "401 /admin/users"),
    ("CVE-2019-9901", "/admin/users/x/..", "401 /admin/users"),
    ("CVE-2019-9901", "/admin/..", "/"),
    ("CVE-2019-9901", "/admin/../public/page", "/public/page"),
    ("CVE-2021-31920", "//admin/users", "401 /admin/users"),
    ("CVE-2021-31920", "///admin///users", "401 /admin/users"),
    ("CVE-2021-31920", "/admin//users", "401 /admin/users"),
    ("CVE-2021-31920", "/admin/users//", "401 /admin/users"),
    ("CVE-2021-31920", "//public/..//admin/users", "401 /admin/users"),
    ("CVE-2021-31920", "/public//../admin/users", "401 /admin/users"),
    ("a trailing slash", "/admin/", "401 /admin"),
    ("a trailing slash", "/admin/users/", "401 /admin/users"),
    ("above the root", "/../admin/users", "400"),
    ("above the root", "/public/../../admin/users", "400"),
    ("above the root", "/%2e%2e/admin/users", "400"),
    ("above the root", "/public/%2e%2e/%2e%2e/admin/users", "400"),
    ("CVE-2026-40912", "/public../admin/users", "/public../admin/users"),
    ("CVE-2026-40912", "/public/.../admin/users", "/public/.../admin/users"),
    ("CVE-2026-40912", "/public./admin/users", "/public./admin/users"),
    ("CVE-2026-40912", "/public/..admin/users", "/public/..admin/users"),
    // Escapes that need not be one.
    ("CVE-2025-32431", "/public/%2e%2e/admin/users", "401 /admin/users"),
    ("CVE-2025-32431", "/public/%2E%2e/admin/users", "401 /admin/users"),
    ("CVE-2025-32431", "/public/.%2e/admin/users", "401 /admin/users"),
    ("CVE-2025-32431", "/public/%2e./admin/users", "401 /admin/users"),
    ("CVE-2025-32431", "/%2e/admin/users", "401 /admin/users"),
    ("CVE-2025-32431", "/admin/%2e/users", "401 /admin/users"),
    ("CVE-2025-32431", "/%70ublic/../%61dmin/users", "401 /admin/users"),
    ("an escaped letter", "/%61dmin/users", "401 /admin/users"),
    ("an escaped letter", "/adm%69n/%75sers", "401 /admin/users"),
    ("an escaped letter", "/%61%64%6d%69%6e/users", "401 /admin/users"),
    ("an escaped letter", "/%61%64%6D%69%6E/users", "401 /admin/users"),
    ("an escaped letter of another name", "/%41dmin/users", "/Admin/users"),
    ("an escaped dot", "/admin/users%2ejson", "401 /admin/users.json"),
    // Escaped separators.
    ("CVE-2021-29492", "/public/..%2fadmin/users", "400"),
    ("CVE-2021-29492", "/public/..%2Fadmin/users", "400"),
    ("CVE-2021-29492", "/public%2f..%2fadmin%2fusers", "400"),
    ("CVE-2021-29492", "/public/%2e%2e%2fadmin/users", "400"),
    ("CVE-2021-29492", "/admin%2fusers", "400"),
    ("CVE-2021-29492", "/%2fadmin/users", "400"),
    ("CVE-2021-29492", "/admin/users%2f", "400"),
    ("CVE-2021-29492", "/public/..%5cadmin/users", "400"),
    ("CVE-2021-29492", "/public%5C..%5Cadmin%5Cusers", "400"),
    ("CVE-2021-29492", "/admin%5cusers", "400"),
    ("CVE-2021-29492", "/%5cadmin/users", "400"),
    ("a backslash", "/public\\..\\admin\\users", "400"),
    ("a backslash", "/public/..\\admin/users", "400"),
    ("a backslash", "/\\admin/users", "400"),
    ("CVE-2025-66490", "/public%2f%2e%2e%2fadmin/users", "400"),
    ("CVE-2025-66490", "/admin%3fx/users", "400"),
    ("CVE-2025-66490", "/admin%3Fx", "400"),
    ("CVE-2025-66490", "/public%3f/../admin/users", "400"),
    ("CVE-2025-66490", "/admin%23x", "400"),
    ("CVE-2025-66490", "/admin%23/users", "400"),
    ("CVE-2025-66490", "/admin%3busers", "400"),
    ("CVE-2025-66490", "/admin%00/users", "400"),
    ("CVE-2025-66490", "/admin%5c..%5cusers", "400"),
    ("CVE-2023-47106", "/public#/../admin/users", "400"),
    ("CVE-2023-47106", "/admin/users#/public", "400"),
    ("CVE-2023-47106", "/#/../admin/users", "400"),
    ("CVE-2023-47106", "/public%23/../admin/users", "400"),
    // Escapes of escapes.
    ("decoded twice", "/public/%252e%252e/admin/users", "400"),
    ("decoded twice", "/public/%252E%252E/admin/users", "400"),
    ("decoded twice", "/public/..%252fadmin/users", "400"),
    ("decoded twice", "/%2561dmin/users", "400"),
    ("decoded twice", "/admin%252fusers", "400"),
    ("decoded twice", "/public/%25%32%65%25%32%65/admin/users", "400"),
    ("decoded twice", "/public/%%32%65%%32%65/admin/users", "400"),
    ("decoded twice", "/public/%2%65%2%65/admin/users", "400"),
    ("decoded twice", "/public/..%255cadmin/users", "400"),
    ("decoded thrice", "/public/%25252e%25252e/admin/users", "400"),
    ("a percent sign that stays one", "/public/100%25", "/public/100%25"),
    // Parameters of segments.
    ("CVE-2020-5902", "/public/..;/admin/users", "400"),
    ("CVE-2020-5902", "/public/..;x=1/admin/users", "400"),
    ("CVE-2020-5902", "/public/..%3b/admin/users", "400"),
    ("CVE-2020-5902", "/public/..%3B/admin/users", "400"),
    ("CVE-2020-5902", "/public/%2e%2e;/admin/users", "400"),
    ("CVE-2020-5902", "/public;/../admin/users", "400"),
    ("CVE-2020-5902", "/;/admin/users", "400"),
    ("CVE-2020-5902", "/.;/admin/users", "400"),
    ("CVE-2020-5902", "/admin;/users", "400"),
    ("CVE-2020-5902", "/admin;jsessionid=1/users", "400"),
    ("CVE-2020-5902", "/admin/users;.css", "400"),
    ("CVE-2020-5902", "/admin/users;%2f..%2fpublic", "400"),
    // Control characters.
    ("CVE-2022-22978", "/admin/users%0a", "400"),
    ("CVE-2022-22978", "/admin/%0ausers", "400"),
    ("CVE-2022-22978", "/admin/users%0d", "400"),
    ("CVE-2022-22978", "/admin%0d%0a/users", "400"),
    ("CVE-2022-22978", "/admin/users%c2%85", "400"),
    ("CVE-2022-22978", "/admin/users%e2%80%a8", "401 /admin/users%E2%80%A8"),
    ("a NUL", "/admin/users%00", "400"),
    ("a NUL", "/admin/users%00.css", "400"),
    ("a NUL", "/public%00/../admin/users", "400"),
    ("a NUL", "/public/..%00/admin/users", "400"),
    ("a NUL", "/public/.%00./admin/users", "400"),
    ("a tab", "/admin%09/users", "400"),
    ("a tab", "/public/..%09/admin/users", "400"),
    ("a DEL", "/admin%7f/users", "400"),
    ("a space, which belongs to a name", "/admin%20/users", "/admin%20/users"),
    ("a space, which belongs to a name", "/admin/users%20", "401 /admin/users%20"),
    ("a space, which belongs to a name", "/public/%20../admin/users", "/public/%20../admin/users"),
    // Octets that are no UTF-8, and characters that look like others.
    ("overlong", "/public/%c0%ae%c0%ae/admin/users", "400"),
    ("overlong", "/public/%e0%80%ae%e0%80%ae/admin/users", "400"),
    ("overlong", "/public/..%c0%afadmin/users", "400"),
    ("overlong", "/public/..%f0%80%80%afadmin/users", "400"),
    ("overlong", "/public/..%c1%9cadmin/users", "400"),
    ("half a character", "/admin%ff/users", "400"),
    ("half a character", "/admin%c3/users", "400"),
    ("a surrogate", "/admin%ed%a0%80/users", "400"),
    ("an escape of IIS", "/public/%u002e%u002e/admin/users", "400"),
    ("an escape of IIS", "/public/..%u2215admin/users", "400"),
    ("no escape", "/admin%/users", "400"),
    ("no escape", "/admin%2/users", "400"),
    ("no escape", "/admin%zz/users", "400"),
    ("a full-width slash", "/public/..%ef%bc%8fadmin", "/public/..%EF%BC%8Fadmin"),
    ("full-width dots", "/public/%ef%bc%8e%ef%bc%8e/admin", "/public/%EF%BC%8E%EF%BC%8E/admin"),
    ("a character without width", "/admin%e2%80%8b/users", "/admin%E2%80%8B/users"),
    ("raw octets", "/admin/\u{e9}", "400"),
    // Scripts: Symfony and php-fpm take what stands behind one for the path.
    ("path info", "/index.php/admin/users", "400"),
    ("path info", "/INDEX.PHP/admin/users", "400"),
    ("path info", "/index%2ephp/admin/users", "400"),
    ("path info", "/index.php//admin/users", "400"),
    ("path info", "/public/index.php/admin/users", "400"),
    ("path info", "/public/x.php/../admin/users", "/public/admin/users"),
    ("path info", "/public/page.php", "/public/page.php"),
    // Queries.
    ("CVE-2025-54576", "/admin/users?/public/page", "401 /admin/users?/public/page"),
    ("CVE-2025-54576", "/admin/users?x=/public/page", "401 /admin/users?x=/public/page"),
    ("CVE-2025-54576", "/admin/users?..;/public", "401 /admin/users?..;/public"),
    ("CVE-2025-54576", "/admin/users?", "401 /admin/users?"),
    ("CVE-2025-54576", "/admin?/../public/page", "401 /admin?/../public/page"),
    ("CVE-2025-54576", "/public/page?/../../admin/users", "/public/page?/../../admin/users"),
    // Other forms of a target.
    ("absolute-form", "http://x/admin/users", "400"),
    ("absolute-form", "http://x/public/../admin/users", "400"),
    ("without its slash", "admin/users", "400"),
    ("a backslash for a slash", "\\admin\\users", "400"),
];

async fn gateway() -> (Gateway, Backend) {
    let backend = Backend::start().await;
    let sections = format!(
        "{AUTH}\nscopes: [contacts, admin]\nupstreams: {{main: {{servers: [\"{}\"]}}}}\nroutes:\n  admin: {{path: /admin/**, scope: admin, limit: none, upstream: main}}\n  public: {{path: /public/**, access: public, limit: none, upstream: main}}\n  rest: {{path: /**, access: public, limit: none, upstream: main}}\n",
        backend.address
    );
    (Gateway::start(&config(&sections).replace("base_path: /api/v1\n", "")).await, backend)
}

/// The paths that lax servers make of a target: each of their habits, and all of them one after the other.
fn lax_readings(target: &str) -> Vec<String> {
    let path = target.split('?').next().unwrap().to_owned();
    let habits: [fn(&str) -> String; 6] = [
        |path| unescape(path),
        |path| path.replace('\\', "/"),
        |path| path.split('/').map(|segment| segment.split(';').next().unwrap()).collect::<Vec<_>>().join("/"),
        |path| path.split(['?', '#', '\0']).next().unwrap().to_owned(),
        |path| path.rfind(".php/").map_or(path, |at| &path[at + 4..]).to_owned(),
        |path| CleanPath::parse(path).map_or_else(|_| resolve(path), |clean| clean.to_string()),
    ];
    let one = habits.iter().map(|habit| resolve(&habit(&path)));
    let all = (0..3).scan(path.clone(), |path, _| {
        *path = habits.iter().fold(path.clone(), |path, habit| habit(&path));
        Some(path.clone())
    });
    one.chain(all).collect()
}

fn unescape(path: &str) -> String {
    let query = format!("x={}", path.replace('+', "%2B"));
    let decoded =
        mailtrixy_gateway::policy::query::parameters(&query).next().map(|parameter| parameter.value.into_owned());
    decoded.unwrap_or_default()
}

fn resolve(path: &str) -> String {
    let mut kept = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            named => kept.push(named),
        }
    }
    format!("/{}", kept.join("/"))
}

#[tokio::test]
async fn nothing_protected_is_reached_without_its_scope() {
    let (gateway, backend) = gateway().await;
    let (other, holder) = (token("w", "contacts"), token("w", "admin"));
    let mut forwarded = 0;
    for (origin, target, expected) in ROWS {
        let row = format!("{origin}: {target}");
        let send = async |token: Option<&str>| {
            let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
            let answer = gateway.send(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n{token}\r\n")).await;
            (answer.status, backend.seen().get(forwarded..).unwrap().iter().map(|seen| seen.target.clone()).collect())
        };
        let (stranger, holder) = (send(None).await, (send(Some(&other)).await, send(Some(&holder)).await));
        let (other, holder): ((u16, Vec<String>), (u16, Vec<String>)) = holder;
        let sent = |count: usize, target: &str| vec![target.to_owned(); count];
        match expected.split_once(' ') {
            Some((_, target)) => {
                assert_eq!((stranger, other), ((401, vec![]), (403, vec![])), "{row}");
                assert_eq!(holder, (200, sent(1, target)), "{row}");
            }
            None if *expected == "400" => {
                assert_eq!([stranger, other, holder], [(); 3].map(|()| (400, vec![])), "{row}");
            }
            None => {
                assert_eq!([stranger.0, other.0, holder.0], [200; 3], "{row}");
                assert_eq!(holder.1, sent(3, expected), "{row}");
                for reading in lax_readings(expected) {
                    assert!(reading != "/admin" && !reading.starts_with("/admin/"), "{row} is read as {reading}");
                }
            }
        }
        forwarded = backend.seen().len();
    }
}

#[tokio::test]
async fn no_field_asks_for_another_path_method_or_origin() {
    let (gateway, backend) = gateway().await;
    let names = [
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Original-URI",
        "X-Rewrite-URI",
        "X-Original-Path",
        "X-Override-URL",
        "X-Original-Host",
        "X-Original-Method",
        "X-HTTP-Method",
        "X-HTTP-Method-Override",
        "X-Method-Override",
        "X-HTTP-Host-Override",
        "X-Host",
        "X-Scheme",
        "X-URL-Scheme",
        "Front-End-Https",
        "X-Forwarded-Prefix",
        "X-Forwarded-Path",
        "X-Forwarded-Uri",
        "X-Forwarded-Url",
        "X-Forwarded-Port",
        "X-Forwarded-Server",
        "X-Forwarded-Scheme",
        "X-Forwarded-Ssl",
        "X-Forwarded-Method",
        "X-Forwarded-By",
        "X-Forwarded-User",
        "X-Forwarded",
        "Forwarded",
        "X-Real-IP",
        "X-Client-IP",
        "Client-IP",
        "X-Cluster-Client-IP",
        "True-Client-IP",
        "CF-Connecting-IP",
        "Fastly-Client-IP",
        "X-Remote-IP",
        "X-Remote-Addr",
        "X-Originating-IP",
        "Proxy",
        "X-User-Id",
        "X-Workspace-Id",
        "X-Token-Id",
        "X-Token-Scopes",
    ];
    let ours =
        ["accept", "host", "traceparent", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id"];
    for name in names {
        for spelling in [
            name.to_owned(),
            name.to_lowercase(),
            name.replace('-', "_"),
            name.replace('-', "."),
            name.replace('-', "--"),
            name.replace('-', ""),
            format!("{name}-"),
        ] {
            let request = format!("GET /public/page HTTP/1.1\r\nHost: x\r\n{spelling}: /admin/users\r\n\r\n");
            assert_eq!(gateway.send(&request).await.status, 200, "{spelling}");
            let seen = backend.seen().pop().unwrap();
            let mut fields: Vec<&str> = seen.headers.keys().map(|name| name.as_str()).collect();
            fields.sort_unstable();
            assert_eq!(
                (seen.method.as_str(), seen.target.as_str(), fields.as_slice()),
                ("GET", "/public/page", &ours[..]),
                "{spelling}"
            );
            assert!(seen.headers.values().all(|value| value != "/admin/users"), "{spelling}");
        }
    }
}
