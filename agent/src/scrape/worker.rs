//! The loop of one target: wait, ask, read, hand over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use taffrail_kit::clock;
use taffrail_model::time::Millis;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::fetch::{Answer, Error as FetchError, Fetcher};
use super::line::Format;
use super::round::{self, Outcome, TargetState};
use super::send::Queue;
use super::target::Target;
use super::{Config, Metrics};

/// A new target is scraped within this; from then on it has its own turn in each interval.
const FIRST_WITHIN: Duration = Duration::from_secs(1);

/// What is to become of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Go on.
    Work,
    /// The target is gone: its series end.
    Vanished,
    /// The agent ends: the series go on with the next one.
    Stop,
}

/// How a target is doing, for people.
#[derive(Clone, Debug, serde::Serialize)]
pub struct TargetStatus {
    /// What is asked.
    pub url: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether the last scrape went well; nothing before the first one.
    pub up: Option<bool>,
    /// When the last scrape began, in milliseconds since the epoch.
    pub last_scrape: Option<Millis>,
    /// How long it took, in seconds.
    pub duration: f64,
    /// Samples in its body.
    pub samples: usize,
    /// Why it failed.
    pub error: Option<String>,
}

/// All targets' states, by key.
pub(super) type Board = Arc<Mutex<BTreeMap<(String, u128), TargetStatus>>>;

/// What all workers share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) config: watch::Receiver<Arc<Config>>,
    pub(super) queue: Queue,
    pub(super) metrics: Metrics,
    pub(super) board: Board,
    /// Bounds how many targets are asked at once.
    pub(super) at_once: Arc<Semaphore>,
}

/// Scrapes one target.
pub(super) struct Worker {
    target: Target,
    fetcher: Fetcher,
    state: Option<TargetState>,
    text_only: bool,
    shared: Shared,
}

impl Worker {
    pub(super) fn new(target: Target, shared: Shared) -> Result<Self, FetchError> {
        let config = shared.config.borrow().clone();
        let fetcher = Fetcher::new(&target.url, config.timeout, config.body_bytes_max)?;
        let state = TargetState::new(target.labels.clone(), config.samples_max);
        Ok(Self { target, fetcher, state: Some(state), text_only: false, shared })
    }

    /// Works until its fate changes.
    pub(super) async fn run(mut self, mut fate: watch::Receiver<Fate>) {
        let mut settings = self.shared.config.clone();
        let mut interval = self.adopt(&mut settings);
        // Who scales on a new pod does not wait an interval for its first sample.
        let soon = Instant::now() + self.offset(interval.min(FIRST_WITHIN));
        let mut ticks = tokio::time::interval_at(soon, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut first = true;
        let changed = loop {
            let asked = tokio::select! {
                changed = next_fate(&mut fate) => break changed,
                Ok(()) = settings.changed() => {
                    let other = self.adopt(&mut settings);
                    if std::mem::replace(&mut interval, other) != other {
                        ticks = tokio::time::interval_at(Instant::now() + self.offset(other), other);
                        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
                    }
                    continue;
                }
                asked = self.ask(&mut ticks) => asked,
            };
            self.take(asked).await;
            if std::mem::take(&mut first) {
                let turn = self.offset(interval);
                ticks.reset_after(if turn < FIRST_WITHIN { turn + interval } else { turn });
            }
        };
        if let (Fate::Vanished, Some(state)) = (changed, &mut self.state) {
            self.shared.queue.push(state.end(clock::unix_millis()));
        }
    }

    /// Takes up the settings as they are now; gives the interval.
    fn adopt(&mut self, settings: &mut watch::Receiver<Arc<Config>>) -> Duration {
        let config = settings.borrow_and_update().clone();
        // The URL is one that could be asked before: there is no error.
        if let Ok(new) = Fetcher::new(&self.target.url, config.timeout, config.body_bytes_max) {
            self.fetcher = new;
        }
        if let Some(state) = &mut self.state {
            state.limit(config.samples_max);
        }
        config.interval
    }

    /// Waits for the next turn and asks the target. Cancelled, it has done nothing.
    async fn ask(&self, ticks: &mut tokio::time::Interval) -> Asked {
        ticks.tick().await;
        // The semaphore is never closed; without a permit the limit is only missed.
        let _permit = self.shared.at_once.acquire().await.ok();
        let (ts, start) = (clock::unix_millis(), Instant::now());
        let answer = self.fetcher.fetch(self.text_only).await;
        Asked { answer, ts, duration: start.elapsed() }
    }

    /// Reads an answer, away from the runtime's workers, and hands over what is in it.
    async fn take(&mut self, asked: Asked) {
        let Asked { answer, ts, duration } = asked;
        let Some(mut state) = self.state.take() else { return };
        let reading = tokio::task::spawn_blocking(move || {
            let read = answer.and_then(|answer| {
                let format = answer.format;
                answer.unpack().map(|body| (body, format))
            });
            let body = read.as_ref().ok().map(|(body, format)| (&**body, *format));
            let outcome = state.take(body, ts, duration);
            (state, outcome, read.err())
        });
        // Only the end of the runtime, or a bug, loses the state; a new one begins then.
        let Ok((state, mut outcome, failed)) = reading.await else {
            let samples_max = self.shared.config.borrow().samples_max;
            self.state = Some(TargetState::new(self.target.labels.clone(), samples_max));
            return;
        };
        self.state = Some(state);
        let frames = std::mem::take(&mut outcome.frames);
        self.note(&outcome, failed, ts, duration);
        self.shared.queue.push(frames);
    }

    /// Counts a scrape and puts it on the board.
    fn note(&mut self, outcome: &Outcome, failed: Option<FetchError>, ts: Millis, took: Duration) {
        if let Some(round::Error::Parse { format: Format::OpenMetrics, error }) = &outcome.error {
            let url = &self.target.url;
            tracing::warn!(url, %error, "target writes bad OpenMetrics, asking it for text from now on");
            self.text_only = true;
        }
        let refused = outcome.error.as_ref().map(ToString::to_string);
        let error = failed.map(|error| error.to_string()).or(refused);
        let metrics = &self.shared.metrics;
        metrics.scrapes.with_label_values(&[if error.is_some() { "failed" } else { "ok" }]).inc();
        metrics.samples.inc_by(outcome.scraped as u64);
        let dropped = |reason| metrics.dropped_samples.with_label_values(&[reason]);
        dropped("duplicate").inc_by(outcome.duplicates as u64);
        dropped("long_label").inc_by(outcome.long_labels as u64);
        metrics.duration.observe(took.as_secs_f64());
        let mut board = board(&self.shared);
        let Some(status) = board.get_mut(&self.target.key()) else { return };
        if let Some(error) = error.as_ref().filter(|error| status.error.as_ref() != Some(error)) {
            tracing::info!(url = self.target.url, error, "target cannot be scraped");
        }
        status.up = Some(error.is_none());
        status.last_scrape = Some(ts);
        status.duration = took.as_secs_f64();
        status.samples = outcome.scraped;
        status.error = error;
    }

    /// When in the interval this target has its turn: all targets are spread over it, and each
    /// keeps its place over restarts of the agent.
    fn offset(&self, interval: Duration) -> Duration {
        let nanos = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).max(1);
        let place = xxhash_rust::xxh3::xxh3_64(self.target.url.as_bytes()) % nanos;
        let now = clock::unix_nanos().unsigned_abs() % nanos;
        Duration::from_nanos((place + nanos - now) % nanos)
    }
}

/// What came of asking.
struct Asked {
    answer: Result<Answer, FetchError>,
    ts: Millis,
    duration: Duration,
}

fn board(shared: &Shared) -> std::sync::MutexGuard<'_, BTreeMap<(String, u128), TargetStatus>> {
    shared.board.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns once the fate is another than to work.
async fn next_fate(fate: &mut watch::Receiver<Fate>) -> Fate {
    match fate.wait_for(|fate| *fate != Fate::Work).await {
        Ok(fate) => *fate,
        // Whoever gave the fate is gone.
        Err(_) => Fate::Stop,
    }
}
