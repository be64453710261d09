//! Scrapes what this node's pods offer and what the settings name.
//!
//! ```text
//! pods, settings -> target -> worker (one task a target): fetch -> exposition -> round -> encode
//!                                                            -> send: queue -> collector
//! ```
//!
//! [`Scraper`] keeps one worker for each target and tells it when the target is gone. What lives in
//! [`exposition`], [`series`], [`round`] and [`encode`] is pure; [`fetch`], [`send`] and the workers
//! move things.

mod comment;
pub mod encode;
pub mod exposition;
pub mod fetch;
pub mod line;
pub mod openmetrics;
pub mod round;
pub mod send;
pub mod series;
pub mod target;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use taffrail_kit::shutdown::Shutdown;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::enrich::Place;
use crate::pods::Pods;
use target::Target;
pub use worker::TargetStatus;
use worker::{Board, Fate, Shared, Worker};

/// Most targets of one agent; more are left out, and told. A node runs some hundred pods.
const TARGETS_MAX: usize = 2000;
/// Most targets that are asked at once.
const AT_ONCE_MAX: usize = 16;
/// Pods change in bursts; targets are looked up once for all changes of this long.
const SETTLE: Duration = Duration::from_millis(500);

/// Settings of the room.
#[derive(Clone, Debug)]
pub struct Config {
    /// How often each target is asked.
    pub interval: Duration,
    /// How long a target may take to answer.
    pub timeout: Duration,
    /// Longest body, in bytes, unpacked.
    pub body_bytes_max: usize,
    /// Most samples of one body.
    pub samples_max: usize,
    /// How much waits for the collector, in bytes.
    pub queue_bytes_max: usize,
    /// Targets beside those that pods name.
    pub targets: Vec<Target>,
}

/// What the room counts.
#[derive(Clone, Debug)]
pub struct Metrics {
    targets: IntGauge,
    scrapes: IntCounterVec,
    samples: IntCounter,
    dropped_samples: IntCounterVec,
    duration: Histogram,
    queue_bytes: IntGauge,
    dropped_frames: IntCounterVec,
    requests: IntCounterVec,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Counters at zero.
    #[must_use]
    pub fn new() -> Self {
        let why = "names and labels are constants";
        let name = |name: &str| format!("taffrail_scrape_{name}");
        let counters = |of: &str, help: &str, label: &str| {
            IntCounterVec::new(Opts::new(name(of), help), &[label]).expect(why)
        };
        let duration = HistogramOpts::new(name("fetch_duration_seconds"), "Time to answer.");
        let duration = duration.buckets(vec![0.005, 0.02, 0.1, 0.5, 2.0, 10.0]);
        let requests = "Requests to the collector by outcome.";
        Self {
            targets: IntGauge::new(name("targets"), "Targets that are scraped.").expect(why),
            scrapes: counters("scrapes_total", "Scrapes by outcome.", "outcome"),
            samples: IntCounter::new(name("samples_total"), "Samples read.").expect(why),
            dropped_samples: counters("dropped_samples_total", "Samples left out.", "reason"),
            duration: Histogram::with_opts(duration).expect(why),
            queue_bytes: IntGauge::new(name("queue_bytes"), "Bytes that wait.").expect(why),
            dropped_frames: counters("dropped_frames_total", "Frames lost.", "reason"),
            requests: counters("requests_total", requests, "outcome"),
        }
    }

    /// Shows the counters in `registry`.
    ///
    /// # Errors
    /// When they are there already.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.targets.clone()))?;
        registry.register(Box::new(self.scrapes.clone()))?;
        registry.register(Box::new(self.samples.clone()))?;
        registry.register(Box::new(self.dropped_samples.clone()))?;
        registry.register(Box::new(self.duration.clone()))?;
        registry.register(Box::new(self.queue_bytes.clone()))?;
        registry.register(Box::new(self.dropped_frames.clone()))?;
        registry.register(Box::new(self.requests.clone()))
    }
}

/// What is scraped at the moment, for people.
#[derive(Clone, Debug, Default)]
pub struct Overview(Arc<Mutex<BTreeMap<String, String>>>, Board);

impl Overview {
    /// The targets.
    #[must_use]
    pub fn targets(&self) -> Vec<TargetStatus> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// What asks to be scraped and cannot be, and why.
    #[must_use]
    pub fn problems(&self) -> BTreeMap<String, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Keeps one worker for each target.
pub struct Scraper {
    place: Place,
    pods: Pods,
    shared: Shared,
    settings: watch::Sender<Arc<Config>>,
    overview: Overview,
    workers: BTreeMap<(String, u128), watch::Sender<Fate>>,
    running: JoinSet<()>,
}

impl Scraper {
    /// A scraper without workers yet. It closes `queue` when it ends.
    #[must_use]
    pub fn new(
        config: Config,
        place: Place,
        pods: Pods,
        queue: send::Queue,
        metrics: Metrics,
    ) -> Self {
        let overview = Overview::default();
        let (settings, current) = watch::channel(Arc::new(config));
        let shared = Shared {
            config: current,
            queue,
            metrics,
            board: overview.1.clone(),
            at_once: Arc::new(Semaphore::new(AT_ONCE_MAX)),
        };
        let (workers, running) = (BTreeMap::new(), JoinSet::new());
        Self { place, pods, shared, settings, overview, workers, running }
    }

    /// A view that stays up to date.
    #[must_use]
    pub fn overview(&self) -> Overview {
        self.overview.clone()
    }

    /// Takes other settings while it runs.
    #[must_use]
    pub fn settings(&self) -> watch::Sender<Arc<Config>> {
        self.settings.clone()
    }

    /// Scrapes until the end.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        let mut settings = self.shared.config.clone();
        loop {
            self.reconcile();
            let changed = async {
                self.pods.changed().await;
                tokio::time::sleep(SETTLE).await;
            };
            tokio::select! {
                () = shutdown.wait() => break,
                () = changed => {}
                // There may be other targets. The sender lives as long as this.
                Ok(()) = settings.changed() => {
                    let bytes_max = settings.borrow_and_update().queue_bytes_max;
                    self.shared.queue.limit(bytes_max);
                }
                // Only to take in those that have ended.
                Some(_) = self.running.join_next() => {}
            }
        }
        for fate in self.workers.values() {
            fate.send_replace(Fate::Stop);
        }
        while self.running.join_next().await.is_some() {}
        self.shared.queue.close();
    }

    /// Starts workers for targets that are new and ends those of targets that are gone.
    fn reconcile(&mut self) {
        let (mut targets, found) = target::of_pods(&self.place, &self.pods.now());
        targets.extend(self.shared.config.borrow().targets.iter().cloned());
        let mut problems: BTreeMap<String, String> =
            found.into_iter().map(|(pod, problem)| (pod, problem.to_string())).collect();
        let wanted: BTreeSet<_> = targets.iter().take(TARGETS_MAX).map(Target::key).collect();
        let mut board = self.shared.board.lock().unwrap_or_else(PoisonError::into_inner);
        self.workers.retain(|key, fate| {
            let stays = wanted.contains(key);
            if !stays {
                fate.send_replace(Fate::Vanished);
                board.remove(key);
            }
            stays
        });
        drop(board);
        for (at, target) in targets.into_iter().enumerate() {
            if at >= TARGETS_MAX {
                problems.insert(target.url, format!("more than {TARGETS_MAX} targets"));
            } else if !self.workers.contains_key(&target.key())
                && let Err(error) = self.start(&target)
            {
                problems.insert(target.url, error.to_string());
            }
        }
        self.shared.metrics.targets.set(i64::try_from(self.workers.len()).unwrap_or(i64::MAX));
        let mut known = self.overview.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (what, problem) in problems.iter().filter(|(what, p)| known.get(*what) != Some(*p)) {
            tracing::warn!(what, problem, "cannot be scraped");
        }
        *known = problems;
    }

    fn start(&mut self, target: &Target) -> Result<(), fetch::Error> {
        let worker = Worker::new(target.clone(), self.shared.clone())?;
        let labels = target.labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        let status = TargetStatus {
            url: target.url.clone(),
            labels,
            up: None,
            last_scrape: None,
            duration: 0.0,
            samples: 0,
            error: None,
        };
        let mut board = self.shared.board.lock().unwrap_or_else(PoisonError::into_inner);
        board.insert(target.key(), status);
        drop(board);
        let (fate, ask) = watch::channel(Fate::Work);
        self.workers.insert(target.key(), fate);
        self.running.spawn(worker.run(ask));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
