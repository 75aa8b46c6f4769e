//! `mailtrixy-gateway`: parses its arguments, runs one command, and says how it went.

use std::process::ExitCode;

use mailtrixy_gateway::cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
