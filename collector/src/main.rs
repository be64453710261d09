//! `taffrail-collector`: settings → [`Collector::build`] → [`Collector::run`].

use std::process::ExitCode;

use taffrail_collector::Collector;
use taffrail_collector::config::{Config, SCHEMA};
use taffrail_kit::config::Settings;
use taffrail_kit::{panics, shutdown, telemetry};

fn main() -> ExitCode {
    panics::abort_on_panic();
    let (settings, config) = match SCHEMA.start(Config::check) {
        Ok(good) => good,
        Err(stop) => return stop.report(),
    };
    match run(&settings, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("taffrail-collector: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(settings: &Settings, config: Config) -> anyhow::Result<()> {
    let registry = telemetry::metrics::registry("taffrail-collector");
    let telemetry = telemetry::start(settings, "taffrail-collector", &registry)?;
    let data_dir = config.data_dir.display().to_string();
    let collector = Collector::build(config, registry).await?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        %data_dir,
        http = %collector.http_addr()?,
        "collector is starting"
    );
    let (trigger, stop) = shutdown::channel();
    let mut running = tokio::spawn(collector.run(stop));
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
