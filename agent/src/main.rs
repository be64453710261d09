//! `taffrail-agent`: settings → [`Agent::build`] → [`Agent::run`].

use std::process::ExitCode;

use anyhow::Context;
use taffrail_agent::config::{Config, SCHEMA, Surroundings};
use taffrail_agent::{Agent, allocator};
use taffrail_kit::config::Settings;
use taffrail_kit::{panics, shutdown, telemetry};

fn main() -> ExitCode {
    allocator::use_one_heap();
    panics::abort_on_panic();
    let around = Surroundings::look();
    let (settings, config) = match SCHEMA.start(|settings| Config::check(settings, &around)) {
        Ok(good) => good,
        Err(stop) => return stop.report(),
    };
    match run(&settings, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("taffrail-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(worker_threads = 2)]
async fn run(settings: &Settings, config: Config) -> anyhow::Result<()> {
    let registry = telemetry::metrics::registry("taffrail-agent");
    let telemetry = telemetry::start(settings, "taffrail-agent", &registry)?;
    let mut agent = Agent::build(config, &registry).await?;
    let filter = telemetry.log_filter();
    let set_filter = move |text: &str| filter.set(text).map_err(|error| error.to_string());
    agent.follow_config(settings, Box::new(set_filter)).context("watch the file of settings")?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        collector = settings.required("collector"),
        http = agent.address().map(tracing::field::display),
        "agent is running"
    );
    let (trigger, shutdown) = shutdown::channel();
    let mut running = tokio::spawn(agent.run(shutdown));
    let result = tokio::select! {
        signal = shutdown::signalled() => {
            tracing::info!(signal = signal?, "stopping");
            trigger.stop();
            running.await?
        }
        result = &mut running => result?,
    };
    // Blocks for some seconds at the most: not on a worker.
    tokio::task::spawn_blocking(move || telemetry.stop()).await?;
    result
}
