//! Follows the file of settings while the agent runs.
//!
//! A new file is judged whole, as at the start. When it is bad the old settings stay, the log says why
//! once, and `/status` says so until it is mended. When it is good, what is in [`LIVE`] is taken up at
//! once; for the rest the old values stay, and their keys are told as waiting for a restart. Reading
//! of logs is not interrupted by any of it.

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
use crate::scrape;

/// The keys whose values may change while the agent runs.
pub const LIVE: [&str; 6] = [
    "log.filter",
    "scrape.interval",
    "scrape.max_body",
    "scrape.max_samples",
    "scrape.targets",
    "scrape.timeout",
];

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

/// What can be set while the agent runs.
pub struct Knobs {
    /// The filter of the log.
    pub log_filter: SetLogFilter,
    /// What is scraped, and how.
    pub scrape: watch::Sender<Arc<scrape::Config>>,
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
        reloads: Reloads,
    ) -> std::io::Result<Option<Self>> {
        let (Some(file), Some(text)) = (settings.file(), settings.file_text()) else {
            return Ok(None);
        };
        reloads.change(|status| status.file = Some(file.display().to_string()));
        let watch = FileWatch::new(file.to_owned(), text.to_owned())?;
        let (around, settings) = (Surroundings::look(), settings.clone());
        Ok(Some(Self { watch, applier: Applier { around, settings, knobs, reloads } }))
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
        let (live, frozen): (Vec<_>, Vec<_>) =
            self.settings.changed(new).into_iter().partition(|key| LIVE.contains(key));
        // Labels of targets are made with the old node and cluster, which stay.
        let mixed = self.settings.mixed(new, &live);
        let config = match Config::check(&mixed, &self.around) {
            Ok(config) => config,
            Err(problems) => return self.reloads.refused(&problems),
        };
        let filter = mixed.required("log.filter");
        if live.contains(&"log.filter")
            && let Err(reason) = (self.knobs.log_filter)(filter)
        {
            return self.reloads.refused(&[mixed.problem("log.filter", reason)]);
        }
        if live.iter().any(|key| key.starts_with("scrape.")) {
            self.knobs.scrape.send_replace(Arc::new(config.scrape));
        }
        self.settings = mixed;
        self.reloads.taken(&live, frozen);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settings(file: &str) -> Settings {
        let arguments = ["--collector", "http://c", "--state-dir", "/s", "--config", "f"];
        let arguments = arguments.iter().map(Into::into);
        let read = |_: &std::path::Path| Ok(file.to_owned());
        SCHEMA.load_from(arguments, &|_| None, &read).expect("good")
    }

    fn applier(file: &str) -> (Applier, watch::Receiver<Arc<scrape::Config>>, Arc<Mutex<String>>) {
        let around = Surroundings { node_name: Some("n".into()), ..Default::default() };
        let settings = settings(file);
        let config = Config::check(&settings, &around).expect("good");
        let (scrape, seen) = watch::channel(Arc::new(config.scrape));
        let filter = Arc::new(Mutex::new(String::new()));
        let set = filter.clone();
        let log_filter: SetLogFilter = Box::new(move |text| {
            *set.lock().expect("lock") = text.to_owned();
            if text == "none" { Err("no such filter".into()) } else { Ok(()) }
        });
        let reloads = Reloads::register(&Registry::new()).expect("new");
        let knobs = Knobs { log_filter, scrape };
        (Applier { around, settings, knobs, reloads }, seen, filter)
    }

    #[test]
    fn what_can_change_changes_and_the_rest_waits() {
        let (mut applier, seen, filter) = applier("");
        let new = "cluster: lab\nlog: {filter: debug}\nscrape:\n  interval: 1s\n  queue: 1MiB\n  \
                   targets: [{url: 'http://a/m'}]\n";
        applier.take(&settings(new));
        assert_eq!(*filter.lock().expect("lock"), "debug");
        let scrape = seen.borrow().clone();
        assert_eq!(scrape.interval, Duration::from_secs(1));
        assert_eq!(scrape.queue_bytes_max, 32 << 20, "the queue is as it was made");
        assert_eq!(scrape.targets[0].labels.get("cluster"), None, "the cluster is the old one");
        let status = applier.reloads.status();
        assert_eq!(status.restart_needed, ["cluster", "scrape.queue"]);
        assert!(status.problems.is_empty());
        // Back again: nothing waits any more.
        applier.take(&settings(""));
        assert!(applier.reloads.status().restart_needed.is_empty());
        assert!(seen.borrow().targets.is_empty());
        assert_eq!(applier.reloads.reloads.get(), 2);
    }

    #[test]
    fn what_is_bad_stays_on_the_status_until_it_is_mended() {
        let (mut applier, seen, _) = applier("");
        let problem = Problem { place: "f:1:1".into(), message: "unknown key".into() };
        applier.reloads.refused(&[problem]);
        assert_eq!(applier.reloads.status().problems, ["f:1:1: unknown key"]);
        assert_eq!(applier.reloads.successful.get(), 0);
        applier.take(&settings(""));
        assert!(applier.reloads.status().problems.is_empty());
        assert_eq!((applier.reloads.successful.get(), applier.reloads.failures.get()), (1, 1));
        // What only turns out when it is applied changes nothing either.
        applier.take(&settings("log: {filter: none}\nscrape: {interval: 1s}\n"));
        assert_eq!(applier.reloads.status().problems, ["f:1:15: no such filter"]);
        assert_eq!(seen.borrow().interval, Duration::from_secs(15));
    }

    #[test]
    fn the_keys_that_may_change_are_in_the_table() {
        let all =
            SCHEMA.settings.iter().map(|s| s.key).chain(SCHEMA.sections.iter().map(|s| s.key));
        let all: Vec<_> = all.collect();
        assert!(LIVE.iter().all(|key| all.contains(key)));
    }
}
