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

mod asking;
mod attacks;
mod balancing;
mod browser;
mod checking;
mod clocks;
mod commands;
mod comparing;
mod compressed;
mod console;
mod contracts;
mod cors;
mod costs;
mod credentials;
mod databases;
mod demonstration;
mod editor;
mod endurance;
mod envelopes;
mod explaining;
mod figures;
mod floods;
mod forwarding;
mod golden;
mod guides;
mod handing_over;
mod hostile;
mod house;
mod http2;
mod identity;
mod introductions;
mod introspection;
mod limits;
mod logging;
mod monitoring;
mod mutations;
mod names;
mod openapi;
mod outages;
mod paths;
mod problems;
mod promises;
mod published_keys;
mod redis_faults;
mod redis_outages;
mod redis_shapes;
mod reloading;
mod replaying;
mod revocation;
mod schema;
mod series;
mod shell;
mod signatures;
mod smuggling;
mod soak;
mod standing;
mod stores;
mod survival;
mod telling;
mod tls;
mod tokens;
mod traces;
mod transport;
mod weakening;
mod websocket;
mod why;
mod wire;
