//! Compressed errors of backends: what the smallest bodies can cost that say the most. What each answer is, see `golden`.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::HeaderValue;
use http_body_util::{BodyExt as _, Full};

use crate::harness::backend::{Backend, Body, Recorded, typed};
use crate::harness::gateway::{CONTACTS, Gateway, simple};
use crate::harness::token::token;

/// The most that an answer is read to, in octets.
const BOUND: usize = 64 << 10;

/// `length` octets in each coding, with the largest window that it has.
fn compressed(length: usize) -> [(&'static str, Vec<u8>); 4] {
    let content = vec![b' '; length];
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&content).unwrap();
    let mut deflate = ZlibEncoder::new(Vec::new(), Compression::best());
    deflate.write_all(&content).unwrap();
    let mut brotli = Vec::new();
    let params = brotli::enc::BrotliEncoderParams { lgwin: 24, quality: 5, ..Default::default() };
    brotli::BrotliCompress(&mut &content[..], &mut brotli, &params).unwrap();
    let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), 19).unwrap();
    zstd.window_log(27).unwrap();
    zstd.write_all(&content).unwrap();
    [
        ("gzip", gzip.finish().unwrap()),
        ("deflate", deflate.finish().unwrap()),
        ("br", brotli),
        ("zstd", zstd.finish().unwrap()),
    ]
}

/// An answer with a body in this coding.
fn coded(status: u16, coding: &'static str, body: Vec<u8>) -> http::Response<Body> {
    let mut answer = typed(status, "application/json", "").map(|_| Full::from(body).boxed());
    answer.headers_mut().insert("content-encoding", HeaderValue::from_static(coding));
    answer
}

#[tokio::test]
async fn a_bomb_costs_no_more_memory_than_a_body_of_the_bound() {
    let (fair, bombs) = (compressed(BOUND), compressed(32 << 20));
    assert!(bombs.iter().all(|(_, bomb)| bomb.len() < BOUND), "they are read to their end");
    let backend = Backend::answering(move |request: &Recorded| {
        let mut path = request.target.rsplit('/');
        let (coding, kind) = (path.next().unwrap(), path.next().unwrap());
        let bodies = if kind == "bomb" { &bombs } else { &fair };
        let (name, body) = bodies.iter().find(|(name, _)| *name == coding).unwrap();
        coded(404, name, body.clone())
    })
    .await;
    let gateway = Gateway::start(&simple(&[backend.address], "", CONTACTS)).await;
    let token = token("w", "contacts");
    let ask = async |kind: &str, coding: &str| {
        let answer = gateway.get(&format!("/api/v1/contacts/{kind}/{coding}"), &token).await;
        answer.assert_envelope(404, "NOT_FOUND", "The requested resource does not exist.");
    };
    for coding in ["gzip", "deflate", "br", "zstd"] {
        for _ in 0..20 {
            ask("fair", coding).await;
        }
        let before = gateway.footprint().peak;
        for _ in 0..20 {
            ask("bomb", coding).await;
        }
        // The allocator may ask for a page or two of its own, each of a MiB or so; the largest window has 16.
        let more = gateway.footprint().peak.saturating_sub(before);
        assert!(more < 4 << 10, "{coding}: {more} KiB");
    }
}

#[tokio::test]
async fn a_leak_is_counted_though_it_is_compressed() {
    let body = zstd::bulk::compress(br#"{"message":"SQLSTATE[42S02]","trace":[]}"#, 3).unwrap();
    let backend = Backend::answering(move |_: &Recorded| coded(500, "zstd", body.clone())).await;
    let gateway = Gateway::start(&simple(&[backend.address], "", CONTACTS)).await;
    let answer = gateway.get("/api/v1/contacts", &token("w", "contacts")).await;
    answer.assert_envelope(500, "SERVER_ERROR", "An internal server error occurred.");
    assert_eq!(answer.header("content-encoding"), None);
    assert_eq!(gateway.metric(r#"gateway_backend_leaks_blocked_total{upstream="main"}"#).await, 1.0);
}
