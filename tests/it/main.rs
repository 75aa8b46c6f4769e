//! The promises of product.md, each tried from outside: the real binary, real sockets, real servers.

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
mod databases;
mod demonstration;
mod envelopes;
mod forwarding;
mod house;
mod introspection;
mod limits;
mod published_keys;
mod reloading;
mod stores;
mod telling;
mod tokens;
mod wire;
