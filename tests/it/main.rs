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
mod commands;
mod credentials;
mod demonstration;
mod envelopes;
mod floods;
mod forwarding;
mod golden;
mod hostile;
mod house;
mod identity;
mod limits;
mod outages;
mod paths;
mod promises;
mod reloading;
mod revocation;
mod signatures;
mod smuggling;
mod stores;
mod telling;
mod tokens;
mod wire;
