//! Follows the file of settings while the agent runs.
//!
//! A new file is judged whole, as at the start. When it is bad the old settings stay, the log says why
//! once, and `/status` says so until it is mended. When it is good, what the table of settings calls
//! live is taken up at once; for the rest the old values stay, and their keys are told as waiting for a
//! restart. Reading of logs is not interrupted by any of it.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{IntCounter, IntGauge, Registry};
use serde::Serialize;
use taffrail_kit::clock;
use taffrail_kit::config::watch::FileWatch;
use taffrail_kit::config::{Problem, Settings};
use taffrail_kit::shutdown::Shutdown;
use taffrail_model::time::Millis;
use tokio::sync::watch;

use crate::config::{Config, SCHEMA, Surroundings};
use crate::{files, process, scrape, spool};

/// Sets the filter of the process's own log.
pub type SetLogFilter = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// How it stands with the file of settings, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConfigStatus {
    /// The file, if there is one.
    pub file: Option<String>,
    /// When settings were taken up last, in milliseconds since the epoch.
    pub taken_up: Option<Millis>,
    /// Why the file as it is now is not taken up.
    pub problems: Vec<String>,
    /// Settings that have other values in the file and need a restart.
    pub restart_needed: Vec<&'static str>,
}

/// Reads [`ConfigStatus`] and counts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reloads {
    status: Arc<Mutex<ConfigStatus>>,
    reloads: IntCounter,
    failures: IntCounter,
    successful: IntGauge,
    waiting: IntGauge,
}

impl Reloads {
    /// Nothing was reloaded yet.
    ///
    /// # Errors
    /// When `registry` has metrics of these names already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let successful = gauge(
            "taffrail_config_last_reload_successful",
            "1 when the file of settings as it is now was good, else 0.",
        )?;
        successful.set(1);
        let status = ConfigStatus { taken_up: Some(clock::unix_millis()), ..Default::default() };
        Ok(Self {
            status: Arc::new(Mutex::new(status)),
            reloads: counter(
                "taffrail_config_reloads_total",
                "Times that settings were reloaded.",
            )?,
            failures: counter(
                "taffrail_config_reload_failures_total",
                "Times that a changed file of settings was bad and the old settings stayed.",
            )?,
            successful,
            waiting: gauge(
                "taffrail_config_restart_needed",
                "Settings that have other values in the file and need a restart.",
            )?,
        })
    }

    /// How it stands now.
    #[must_use]
    pub fn status(&self) -> ConfigStatus {
        self.change(|status| status.clone())
    }

    fn change<T>(&self, change: impl FnOnce(&mut ConfigStatus) -> T) -> T {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn refused(&self, problems: &[Problem]) {
        self.failures.inc();
        self.successful.set(0);
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        tracing::error!(problems = lines.join("; "), "new settings are bad, the old ones stay");
        self.change(|status| status.problems = lines);
    }

    fn taken(&self, applied: &[&'static str], restart_needed: Vec<&'static str>) {
        self.reloads.inc();
        self.successful.set(1);
        self.waiting.set(i64::try_from(restart_needed.len()).unwrap_or(i64::MAX));
        self.change(|status| {
            let before = std::mem::take(&mut status.problems);
            if !applied.is_empty() {
                tracing::info!(?applied, "new settings are taken up");
                status.taken_up = Some(clock::unix_millis());
            } else if !before.is_empty() {
                tracing::info!("the file of settings is good again");
            }
            if !restart_needed.is_empty() && status.restart_needed != restart_needed {
                let keys = &restart_needed;
                tracing::warn!(?keys, "these settings need a restart, the old values stay");
            }
            status.restart_needed = restart_needed;
        });
    }
}

/// What can be set while the agent runs. Cheap to clone.
#[derive(Clone)]
pub struct Knobs {
    /// What is scraped, and how.
    pub scrape: watch::Sender<Arc<scrape::Config>>,
    /// What is done with lines.
    pub rules: process::Source,
    /// Log files of the node.
    pub files: watch::Sender<Arc<files::Named>>,
    /// Labels of namespaces that are wanted.
    pub namespace_labels: watch::Sender<Vec<String>>,
    /// Units of the journal, if that is read.
    pub units: Option<watch::Sender<Vec<String>>>,
    /// Limits of the spool, if there is one.
    pub spool: Option<spool::Limits>,
}

impl Knobs {
    /// Takes up of `config` what belongs to `keys`.
    fn turn(&self, keys: &[&str], config: Config) {
        let any = |part: &str| keys.iter().any(|key| key.starts_with(part));
        if any("scrape.") {
            self.scrape.send_replace(Arc::new(config.scrape));
        }
        if any("redact.") || any("multiline") {
            self.rules.change(config.rules);
        }
        if any(files::SECTION) {
            self.files.send_replace(Arc::new(files::Named::new(&config.files)));
        }
        if any("labels.") {
            self.namespace_labels.send_replace(config.namespace_labels);
        }
        if let (true, Some(units), Some(journal)) = (any("journal."), &self.units, config.journal) {
            units.send_replace(journal.units);
        }
        if let (true, Some(limits), Some(new)) = (any("spool."), &self.spool, config.spool) {
            limits.set(new.bytes_max, new.after);
        }
    }
}

/// Takes up what changes.
pub struct Follower {
    watch: FileWatch,
    applier: Applier,
}

/// Without the file: takes up settings that were found good.
struct Applier {
    around: Surroundings,
    settings: Settings,
    knobs: Knobs,
    log_filter: SetLogFilter,
    reloads: Reloads,
}

impl Follower {
    /// Follows the file of `settings`; `None` when there is none. Must be called inside the runtime.
    ///
    /// # Errors
    /// When the signal to reload cannot be heard.
    pub fn new(
        settings: &Settings,
        knobs: Knobs,
        log_filter: SetLogFilter,
        reloads: Reloads,
    ) -> std::io::Result<Option<Self>> {
        let (Some(file), Some(text)) = (settings.file(), settings.file_text()) else {
            return Ok(None);
        };
        reloads.change(|status| status.file = Some(file.display().to_string()));
        let watch = FileWatch::new(file.to_owned(), text.to_owned())?;
        let (around, settings) = (Surroundings::look(), settings.clone());
        Ok(Some(Self { watch, applier: Applier { around, settings, knobs, log_filter, reloads } }))
    }

    /// Follows until the end.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        loop {
            let text = tokio::select! {
                () = shutdown.wait() => return,
                text = self.watch.changed() => text,
            };
            let around = &self.applier.around;
            match SCHEMA.start_again(&text, |settings| Config::check(settings, around)) {
                Ok((settings, _)) => self.applier.take(&settings),
                Err(problems) => self.applier.reloads.refused(&problems),
            }
        }
    }
}

impl Applier {
    /// Takes up what of good settings can be taken up.
    fn take(&mut self, new: &Settings) {
        let (mut live, frozen): (Vec<_>, Vec<_>) =
            self.settings.changed(new).into_iter().partition(|key| self.is_taken_up(key, new));
        if new.text("redact.key_file").is_some() && !live.contains(&"redact.key_file") {
            // The key in it may be another one, which its path does not tell.
            live.push("redact.key_file");
        }
        // Labels of targets are made with the old node and cluster, which stay.
        let mixed = self.settings.mixed(new, &live);
        let config = match Config::check(&mixed, &self.around) {
            Ok(config) => config,
            Err(problems) => return self.reloads.refused(&problems),
        };
        let filter = mixed.required("log.filter");
        if live.contains(&"log.filter")
            && let Err(reason) = (self.log_filter)(filter)
        {
            return self.reloads.refused(&[mixed.problem("log.filter", reason)]);
        }
        self.knobs.turn(&live, config);
        self.settings = mixed;
        self.reloads.taken(&live, frozen);
    }

    /// Whether the new value of a key holds without a restart.
    fn is_taken_up(&self, key: &str, new: &Settings) -> bool {
        // A spool is made at the start or never.
        let spools = |settings: &Settings| settings.bytes("spool.max") > 0;
        SCHEMA.is_live(key) && (key != "spool.max" || spools(&self.settings) == spools(new))
    }
}

#[cfg(test)]
mod tests;
