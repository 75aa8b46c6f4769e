//! The commands: one file each. Exit status 0 is yes, 1 is no, 2 is a question that was not understood.

mod admin;
mod check;
mod demo;
mod diff;
mod explain;
mod openapi;
mod ready;
mod run;
mod schema;
mod shell;
mod token;
mod why;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

/// API gateway in front of the MailTrixy REST API.
#[derive(Parser)]
#[command(name = "mailtrixy-gateway", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows the whole thing at once: sample backends, in-memory limits, tokens and curl lines to paste.
    Demo {
        /// Serve the sample backends alone, on all interfaces (deploy/compose.yaml does).
        #[arg(long)]
        backends_only: bool,
    },
    /// Serves. SIGHUP or a changed file reloads, SIGTERM drains, SIGQUIT hands over.
    Run {
        #[command(flatten)]
        config: ConfigArgument,
        /// Wait for the process that serves now to hand its listeners over (SIGQUIT to it).
        #[arg(long)]
        upgrade: bool,
    },
    /// Says everything that is wrong with a configuration, with the line and a suggestion; exit status 1 if something is.
    Check {
        #[command(flatten)]
        config: ConfigArgument,
        /// Who is to read the answer.
        #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
        format: check::Format,
    },
    /// Says what changes for clients from one configuration to another; nothing is served or asked for it.
    Diff(diff::DiffArguments),
    /// Says what the gateway would decide about a request and why, with the lines of gateway.yaml; exit status 1 if it would refuse it.
    Explain(explain::Explain),
    /// Says what became of a request and why, from its line in the log; exit status 1 if it has none.
    Why(why::Why),
    /// Asks the running gateway's /readyz, within 2 s: for a container's health check.
    Ready(ConfigArgument),
    /// Tokens for people: mint, inspect, digest, revoke.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Prints the JSON Schema of gateway.yaml, for editors.
    Schema {
        /// The same as a page to read.
        #[arg(long)]
        markdown: bool,
    },
    /// Prints the OpenAPI 3.1 document of the routes: who may call them, their limits, errors and headers.
    Openapi {
        #[command(flatten)]
        config: ConfigArgument,
        /// Where clients reach the gateway, such as `https://api.example.com`.
        #[arg(long, value_name = "URL")]
        server: Option<String>,
    },
    /// Prints what a shell needs to complete these commands: mailtrixy-gateway completions bash > /etc/bash_completion.d/mailtrixy-gateway
    Completions {
        /// Which shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Prints the manual page: mailtrixy-gateway man > /usr/local/share/man/man1/mailtrixy-gateway.1
    Man,
}

/// Which configuration.
#[derive(clap::Args)]
struct ConfigArgument {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "gateway.yaml")]
    config: PathBuf,
}

/// Why a command did not do what it was asked.
enum Failure {
    /// The answer is no, and has been given.
    No,
    /// One sentence for standard error.
    Because(String),
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self::Because(why)
    }
}

/// Parses the arguments and runs the command they name.
pub fn main() -> ExitCode {
    let ran = match Arguments::parse().command {
        Command::Demo { backends_only: true } => demo::backends_only(),
        Command::Demo { backends_only: false } => demo::demo(),
        Command::Run { config, upgrade } => run::run(&config.config, upgrade),
        Command::Check { config, format } => check::check(&config.config, format),
        Command::Diff(arguments) => diff::diff(&arguments),
        Command::Explain(asked) => explain::explain(asked),
        Command::Why(asked) => why::why(&asked),
        Command::Ready(argument) => ready::ready(&argument.config),
        Command::Token(command) => token::token(command),
        Command::Schema { markdown } => schema::schema(markdown),
        Command::Openapi { config, server } => openapi::openapi(&config.config, server.as_deref()),
        Command::Completions { shell } => shell::completions(Arguments::command(), shell),
        Command::Man => shell::man(Arguments::command()),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::No) => ExitCode::FAILURE,
        Err(Failure::Because(why)) => {
            // Nobody is left to tell if this fails.
            let _ = writeln!(std::io::stderr(), "mailtrixy-gateway: {}", why.trim_end());
            ExitCode::FAILURE
        }
    }
}

/// For a command that waits for others.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| format!("cannot start a runtime: {error}").into())
}

/// Writes to standard output; a closed pipe ends the command quietly.
fn print(text: &str) -> Result<(), Failure> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|_| Failure::No)
}
