//! What each step of a request costs, in time and in allocations: `cargo bench`, or `cargo bench -- admit` for some of them.

#![allow(clippy::expect_used, missing_docs, reason = "a bench that cannot be set up says so")]

mod admitting;
mod answering;
mod reading;
mod sample;

#[global_allocator]
static ALLOCATOR: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}
