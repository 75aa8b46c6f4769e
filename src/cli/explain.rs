//! `explain`: what the gateway would decide about a request, and why. Forwards nothing, takes nothing.

use std::net::{IpAddr, Ipv4Addr};

use clap::Args;

use crate::cli::check::load;
use crate::cli::token::read_token;
use crate::cli::{ConfigArgument, Failure, print, runtime};
use crate::config::Located;
use crate::config::places::Places;
use crate::config::settings::Config;
use crate::explain::living::Living;
use crate::explain::rehearsal::Question;
use crate::explain::steps::Walk;
use crate::explain::verdict::verdict;
use crate::policy::ClientIp;
use crate::telemetry::metrics::Metrics;

#[derive(Args)]
pub(super) struct Explain {
    /// The method, such as GET.
    method: String,
    /// The whole path with its query, as a client would send it: /api/v1/contacts?page=2
    path: String,
    /// The token that is presented; `-` reads it from standard input, which keeps it out of the shell's history.
    #[arg(long)]
    token: Option<String>,
    /// The address of the client.
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    client: IpAddr,
    #[command(flatten)]
    config: ConfigArgument,
}

pub(super) fn explain(asked: Explain) -> Result<(), Failure> {
    let path = &asked.config.config;
    let Located { config, places } =
        load(path)?.into_located().map_err(|report| format!("{} cannot be used\n{report}", path.display()))?;
    let token = asked.token.as_deref().map(read_token).transpose()?;
    let question = Question { method: asked.method, target: asked.path, token, client: ClientIp(asked.client) };
    if !question.is_one_line() {
        return Err("a method, a path and a token have no line breaks".to_owned().into());
    }
    runtime()?.block_on(tell(&question, &config, &places))
}

async fn tell(question: &Question, config: &Config, places: &Places) -> Result<(), Failure> {
    let metrics = Metrics::new().map_err(|error| format!("cannot count: {error}"))?;
    let living = Living::start(config, metrics).await;
    let rehearsed = question.rehearse(&living.admission, &config.request).await;
    let knows_revocations = living.knows_revocations;
    let walk = Walk { question, rehearsed: &rehearsed, config, places, knows_revocations };
    let steps: String = walk.steps().iter().map(ToString::to_string).collect();
    print(&format!("{steps}\n{}", verdict(&rehearsed, config, places)))?;
    rehearsed.outcome.map(drop).map_err(|_| Failure::No)
}
