//! What each pure step of a request costs.

#![allow(clippy::panic, reason = "a bench that cannot be set up says so")]

use bytes::Bytes;
use divan::{Bencher, black_box};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use mailtrixy_gateway::config::Loaded;
use mailtrixy_gateway::policy::credential::{ChecksumMode, Credential, TokenGrammar};
use mailtrixy_gateway::policy::envelope::Envelope;
use mailtrixy_gateway::policy::head;
use mailtrixy_gateway::policy::normalise::normalise;
use mailtrixy_gateway::policy::path::CleanPath;

fn main() {
    divan::main();
}

const SECRET: &str = "a signing secret for benches, 32 bytes or more";

fn environment(name: &str) -> Option<String> {
    (name == "MB_SIGNING_SECRET").then(|| SECRET.to_owned())
}

#[divan::bench]
fn read_a_head(bencher: Bencher<'_, '_>) {
    let request = Bytes::from_static(b"GET /api/v1/contacts/7 HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Bearer mb_x\r\nAccept: application/json\r\nUser-Agent: bench\r\n\r\n");
    bencher.bench(|| head::read(black_box(&request), 100).is_ok());
}

#[divan::bench]
fn clean_a_canonical_path() -> usize {
    CleanPath::parse(black_box("/api/v1/contacts/7")).map_or(0, |path| path.as_str().len())
}

#[divan::bench]
fn clean_a_rewritten_path() -> usize {
    CleanPath::parse(black_box("/api/v1//contacts/./%37")).map_or(0, |path| path.as_str().len())
}

#[divan::bench]
fn find_a_route(bencher: Bencher<'_, '_>) {
    let loaded = Loaded::from_text("gateway.yaml".to_owned(), include_str!("../gateway.yaml").to_owned(), &environment);
    let config = loaded.into_config().unwrap_or_else(|report| panic!("{report}"));
    let path = CleanPath::parse("/api/v1/campaigns/7/send").unwrap_or_else(|problem| panic!("{problem:?}"));
    bencher.bench(|| config.policy.routes.find(black_box(&Method::POST), black_box(&path)).is_ok());
}

#[divan::bench]
fn read_a_credential(bencher: Bencher<'_, '_>) {
    let grammar = TokenGrammar { prefix: "mb_".to_owned(), checksum: ChecksumMode::IfPresent };
    let value = HeaderValue::from_static("Bearer mb_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789abcdf8c8ab1e");
    let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, value)]);
    bencher.bench(|| Credential::from_headers(black_box(&headers), &grammar).is_ok());
}

#[divan::bench]
fn make_an_envelope() -> usize {
    Envelope::standard(black_box(StatusCode::NOT_FOUND)).body.len()
}

#[divan::bench]
fn normalise_laravels_validation_error(bencher: Bencher<'_, '_>) {
    let body = br#"{"message":"The email field is required.","errors":{"email":["The email field is required."]}}"#;
    bencher.bench(|| normalise(StatusCode::UNPROCESSABLE_ENTITY, black_box(body), &[]));
}
