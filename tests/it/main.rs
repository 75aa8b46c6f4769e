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
mod clocks;
mod commands;
mod credentials;
mod demonstration;
mod envelopes;
mod figures;
mod floods;
mod forwarding;
mod house;
mod identity;
mod limits;
mod outages;
mod redis_faults;
mod redis_outages;
mod redis_shapes;
mod reloading;
mod revocation;
mod signatures;
mod standing;
mod stores;
mod telling;
mod tokens;
mod wire;
