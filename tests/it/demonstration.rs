//! `demo`: what it prints can be pasted, and does what it says.

use serde_json::Value;

use crate::harness::client::{self, Response};
use crate::harness::gateway::{Gateway, binary};

struct Demo {
    gateway: Gateway,
    tokens: Vec<(String, String)>,
}

impl Demo {
    async fn start() -> Self {
        let mut command = binary();
        command.env_remove("MB_SIGNING_SECRET").arg("demo");
        let gateway = Gateway::spawn(command, tempfile::tempdir().unwrap()).await;
        let tokens = gateway
            .output()
            .lines()
            .filter_map(|line| line.split_once("=mb_"))
            .map(|(name, rest)| (name.to_owned(), format!("mb_{rest}")))
            .collect();
        Self { gateway, tokens }
    }

    /// Does what a printed curl line would do.
    async fn paste(&self, line: &str) -> Response {
        let between = |from: &str, to: &str| {
            line.split_once(from).map(|(_, rest)| rest.split_once(to).map_or(rest, |(text, _)| text).to_owned())
        };
        let path = between("/api/v1", "\"").unwrap().split([' ', ';']).next().unwrap().to_owned();
        let token =
            between("Bearer $", "\"").map(|name| &self.tokens.iter().find(|(other, _)| *other == name).unwrap().1);
        let body = between("--json '", "'").unwrap_or_default();
        let method = if line.contains("-X POST") || !body.is_empty() { "POST" } else { "GET" };
        let auth = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let request = format!(
            "{method} /api/v1{path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{auth}\r\n{body}",
            body.len()
        );
        client::send(self.gateway.address, request.as_bytes()).await
    }
}

#[tokio::test]
async fn every_printed_line_does_what_it_says() {
    let mut demo = Demo::start().await;
    assert_eq!(demo.tokens.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["ALL", "CONTACTS", "EXPIRED"]);
    let printed = demo.gateway.output();
    let lines: Vec<(u16, &str)> =
        printed.lines().filter_map(|line| Some((line.get(..3)?.parse().ok()?, line))).collect();
    let mut promised: Vec<u16> = lines.iter().map(|(status, _)| *status).collect();
    promised.dedup();
    assert_eq!(promised, [200, 401, 403, 404, 422, 429, 500, 504]);
    for (status, line) in lines.into_iter().filter(|(status, _)| *status != 504) {
        if status == 429 {
            for _ in 0..10 {
                assert_eq!(demo.paste(line).await.status, 202, "{line}");
            }
        }
        let answer = demo.paste(line).await;
        assert_eq!(answer.status, status, "{line}");
        let is_success = answer.json()["success"] == Value::Bool(true);
        assert_eq!(is_success, status == 200, "{line}");
    }
    let stream = demo.paste(printed.lines().find(|line| line.contains("/ai/chat")).unwrap()).await;
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    assert!(stream.text().ends_with("data: [DONE]\n\n"));
    assert!(demo.gateway.admin("/metrics").await.text().contains("gateway_requests_total"));
    demo.gateway.signal("INT");
    assert!(demo.gateway.ended().await.success());
}
