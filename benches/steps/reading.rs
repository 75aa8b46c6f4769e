//! What comes in: heads, paths, bodies.

use bytes::{Bytes, BytesMut};
use divan::{Bencher, black_box};
use mailtrixy_gateway::policy::body::Incoming;
use mailtrixy_gateway::policy::pagination::Pagination;
use mailtrixy_gateway::policy::path::CleanPath;
use mailtrixy_gateway::policy::{answer, head};

use crate::sample::Sample;

/// The head of a backend's answer.
pub const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Fri, 27 Nov 2026 12:00:00 GMT\r\n\
    Content-Type: application/json\r\nContent-Length: 200\r\nCache-Control: no-cache, private\r\nConnection: keep-alive\r\n\r\n";

#[divan::bench]
fn head_of_a_request(bencher: Bencher<'_, '_>) {
    let request = Sample::new().request();
    bencher.bench(|| head::read(black_box(&request), 100));
}

#[divan::bench]
fn head_of_an_answer(bencher: Bencher<'_, '_>) {
    let octets = Bytes::from_static(ANSWER);
    bencher.bench(|| answer::read(black_box(&octets)));
}

#[divan::bench]
fn path_that_is_canonical() -> usize {
    CleanPath::parse(black_box("/api/v1/contacts/7")).map_or(0, |path| path.as_str().len())
}

#[divan::bench]
fn path_that_is_rewritten() -> usize {
    CleanPath::parse(black_box("/api/v1//contacts/./%37")).map_or(0, |path| path.as_str().len())
}

#[divan::bench]
fn query_of_a_list(bencher: Bencher<'_, '_>) {
    let list = Pagination::new(vec!["created_at".to_owned(), "email".to_owned()]).expect("a contract");
    bencher.bench(|| list.apply(black_box(Some("page=2&per_page=50&search=ann"))));
}

#[divan::bench(args = [1, 16])]
fn body_of_chunks_of_1_kib(bencher: Bencher<'_, '_>, chunks: usize) {
    let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
    let octets = format!("{}0\r\n\r\n", chunk.repeat(chunks));
    let read = || (Incoming::chunked(), BytesMut::from(octets.as_str()));
    bencher.with_inputs(read).bench_values(|(mut body, mut read)| body.take(&mut read));
}
