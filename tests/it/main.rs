//! The promises of product.md, each tried from outside: the real binary, real sockets, a real redis-server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test that fails says so by panicking"
)]

mod harness;

mod checking;
mod cors;
mod demonstration;
mod envelopes;
mod forwarding;
mod house;
mod http2;
mod limits;
mod reloading;
mod stores;
mod telling;
mod tls;
mod tokens;
mod wire;
