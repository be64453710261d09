//! Frames on their way to the collector: a bounded queue in memory and the one who empties it.
//!
//! When the queue is full the oldest frames go first and are counted: of metrics, the newest are
//! worth most. Frames are sent in order, joined into batches; a batch that is refused for its content
//! is sent frame by frame, so that only the guilty one is lost.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use taffrail_kit::clock;
use taffrail_kit::http::Client;
use taffrail_model::limits::BATCH_BYTES_MAX;
use tokio::sync::Notify;

use super::Metrics;

/// How long a batch waits for more frames.
const LINGER: Duration = Duration::from_millis(100);
/// How long failures are waited for at the end of the process, all together.
const END_PATIENCE: Duration = Duration::from_secs(1);
/// The first wait after a failure; it doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(250);
/// The longest wait after a failure.
const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// The longest that a collector may ask us to wait.
const RETRY_AFTER_MAX: u64 = 60;
/// zstd's level: the fastest that is still several times smaller than the text.
const ZSTD_LEVEL: i32 = 1;

/// The bounded queue. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Queue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
    bytes_max: AtomicUsize,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// Frames that were taken and are not delivered yet.
    under_way: usize,
    closed: bool,
}

impl Queue {
    /// An empty queue that holds so many bytes.
    #[must_use]
    pub fn new(bytes_max: usize, metrics: Metrics) -> Self {
        let (state, changed) = (Mutex::default(), Notify::new());
        let bytes_max = AtomicUsize::new(bytes_max);
        Self(Arc::new(Shared { state, changed, bytes_max, metrics }))
    }

    /// From the next frames on it holds so many bytes.
    pub fn limit(&self, bytes_max: usize) {
        self.0.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts frames at the end; the oldest make room.
    pub fn push(&self, frames: Vec<Bytes>) {
        let mut state = self.state();
        for frame in frames {
            state.bytes += frame.len();
            state.frames.push_back(frame);
        }
        let mut dropped = 0;
        while state.bytes > self.0.bytes_max.load(Ordering::Relaxed) {
            let Some(oldest) = state.frames.pop_front() else { break };
            state.bytes -= oldest.len();
            dropped += 1;
        }
        self.0.metrics.queue_bytes.set(i64::try_from(state.bytes).unwrap_or(i64::MAX));
        drop(state);
        self.0.metrics.dropped_frames.with_label_values(&["queue_full"]).inc_by(dropped);
        self.0.changed.notify_one();
    }

    /// No frame will come any more.
    pub fn close(&self) {
        self.state().closed = true;
        self.0.changed.notify_one();
    }

    /// How many frames are not delivered.
    #[must_use]
    pub fn undelivered(&self) -> usize {
        let state = self.state();
        state.frames.len() + state.under_way
    }

    /// The oldest frames, as many as make a batch; `None` once the queue is closed and empty.
    async fn batch(&self) -> Option<Vec<Bytes>> {
        loop {
            let (empty, closed) = {
                let state = self.state();
                (state.frames.is_empty(), state.closed)
            };
            match (empty, closed) {
                (true, true) => return None,
                (true, false) => self.0.changed.notified().await,
                (false, true) => return Some(self.take()),
                (false, false) => {
                    tokio::time::sleep(LINGER).await;
                    return Some(self.take());
                }
            }
        }
    }

    /// Waits, unless the queue is closed: whether it is.
    async fn closed_within(&self, wait: Duration) -> bool {
        let closed = async {
            while !self.state().closed {
                self.0.changed.notified().await;
            }
        };
        tokio::time::timeout(wait, closed).await.is_ok()
    }

    fn take(&self) -> Vec<Bytes> {
        let mut state = self.state();
        let (mut batch, mut size) = (Vec::new(), 0);
        while let Some(frame) = state.frames.front() {
            if size + frame.len() > BATCH_BYTES_MAX && !batch.is_empty() {
                break;
            }
            size += frame.len();
            batch.extend(state.frames.pop_front());
        }
        state.bytes -= size;
        state.under_way = batch.len();
        self.0.metrics.queue_bytes.set(i64::try_from(state.bytes).unwrap_or(i64::MAX));
        batch
    }
}

/// What an attempt to deliver came to.
enum Attempt {
    Delivered,
    /// The content is refused: sending it again is useless.
    Refused(String),
    /// To be tried again, not before this has passed.
    Later(Option<Duration>, String),
}

/// Empties a queue into the collector.
#[derive(Debug)]
pub struct Sender {
    queue: Queue,
    client: Client,
    metrics: Metrics,
    failing: bool,
}

impl Sender {
    /// A sender to `client`'s server.
    #[must_use]
    pub fn new(queue: Queue, client: Client, metrics: Metrics) -> Self {
        Self { queue, client, metrics, failing: false }
    }

    /// Sends until the queue is closed and empty. Whoever cannot wait for that drops the future.
    pub async fn run(mut self) {
        while let Some(batch) = self.queue.batch().await {
            if !self.deliver(batch).await {
                return;
            }
            self.queue.state().under_way = 0;
        }
    }

    /// `false` when it is given up at the end of the process.
    async fn deliver(&mut self, batch: Vec<Bytes>) -> bool {
        let mut waiting = VecDeque::from([batch]);
        let mut backoff = BACKOFF_MIN;
        let mut patience = END_PATIENCE;
        while let Some(batch) = waiting.front() {
            match self.attempt(batch).await {
                Attempt::Delivered => {
                    self.count("ok");
                    if std::mem::take(&mut self.failing) {
                        tracing::info!("metrics are delivered again");
                    }
                    backoff = BACKOFF_MIN;
                    waiting.pop_front();
                }
                Attempt::Refused(reason) => {
                    self.count("refused");
                    let batch = waiting.pop_front().unwrap_or_default();
                    if batch.len() > 1 {
                        waiting.extend(batch.into_iter().map(|frame| vec![frame]));
                    } else {
                        tracing::warn!(reason, "collector refused metrics, dropping them");
                        self.metrics.dropped_frames.with_label_values(&["refused"]).inc();
                    }
                }
                Attempt::Later(asked, reason) => {
                    self.count("retried");
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::warn!(reason, "metrics cannot be delivered, trying again");
                    }
                    let wait = asked.unwrap_or_else(|| jittered(backoff));
                    if self.queue.closed_within(wait).await {
                        let Some(left) = patience.checked_sub(wait) else {
                            // The process ends: its samples are old before anybody takes them.
                            self.queue.state().under_way = waiting.iter().map(Vec::len).sum();
                            return false;
                        };
                        patience = left;
                        tokio::time::sleep(wait).await;
                    }
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
            }
        }
        true
    }

    fn count(&self, outcome: &str) {
        self.metrics.requests.with_label_values(&[outcome]).inc();
    }

    async fn attempt(&self, batch: &[Bytes]) -> Attempt {
        let joined = batch.concat();
        let packed = tokio::task::spawn_blocking(move || zstd::bulk::compress(&joined, ZSTD_LEVEL));
        let body = match packed.await {
            Ok(Ok(body)) => Bytes::from(body),
            Ok(Err(error)) => return Attempt::Later(None, format!("zstd: {error}")),
            Err(error) => return Attempt::Later(None, error.to_string()),
        };
        let headers = [("content-type", "application/x-protobuf"), ("content-encoding", "zstd")];
        let response = match self.client.post("/v1/metrics", &headers, body).await {
            Ok(response) => response,
            Err(error) => return Attempt::Later(None, error.to_string()),
        };
        let status = response.status.as_u16();
        let text = crate::refusal::text(&response, 300);
        let reason = format!("status {status}: {text}");
        match status {
            200..=299 => Attempt::Delivered,
            408 | 429 | 500..=599 => {
                let after = response.header("retry-after").and_then(|text| text.parse().ok());
                let after = after.map(|s: u64| Duration::from_secs(s.min(RETRY_AFTER_MAX)));
                Attempt::Later(after, reason)
            }
            // Who is not let in may be let in later: a token is rotated, a proxy comes up.
            401 | 403 | 404 => Attempt::Later(Some(BACKOFF_MAX), reason),
            _ => Attempt::Refused(reason),
        }
    }
}

/// Half to all of `backoff`, so that agents that failed together do not come back together.
fn jittered(backoff: Duration) -> Duration {
    let part = u32::try_from(clock::unix_nanos().unsigned_abs() % 1000).unwrap_or(0);
    backoff / 2 + backoff / 2 * part / 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::extract::State as Shared;
    use http::StatusCode;

    /// What a fake collector was sent, and what it answers next.
    #[derive(Clone, Default)]
    struct Fake {
        bodies: Arc<Mutex<Vec<String>>>,
        answers: Arc<Mutex<VecDeque<StatusCode>>>,
    }

    async fn take(
        Shared(fake): Shared<Fake>,
        body: Bytes,
    ) -> (StatusCode, [(&'static str, &'static str); 1]) {
        let text = zstd::bulk::decompress(&body, 1 << 20).expect("zstd");
        let answer = fake.answers.lock().expect("lock").pop_front().unwrap_or(StatusCode::OK);
        // A guilty frame is refused wherever it is.
        let text = String::from_utf8(text).expect("text");
        let answer = if text.contains("bad") { StatusCode::BAD_REQUEST } else { answer };
        if answer == StatusCode::OK {
            fake.bodies.lock().expect("lock").push(text);
        }
        (answer, [("retry-after", "0")])
    }

    async fn sender(fake: &Fake, bytes_max: usize) -> (Sender, Queue, Metrics) {
        let app = axum::Router::new().route("/v1/metrics", axum::routing::post(take));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let app = app.with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        let metrics = Metrics::new();
        let queue = Queue::new(bytes_max, metrics.clone());
        let client = Client::new(&url).expect("URL");
        (Sender::new(queue.clone(), client, metrics.clone()), queue, metrics)
    }

    #[tokio::test]
    async fn frames_arrive_in_order_through_failures() {
        let fake = Fake::default();
        let failures = [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS];
        fake.answers.lock().expect("lock").extend(failures);
        let (sender, queue, metrics) = sender(&fake, 1000).await;
        queue.push(vec!["a".into(), "b".into()]);
        queue.push(vec!["c".into()]);
        queue.close();
        sender.run().await;
        assert_eq!(fake.bodies.lock().expect("lock").concat(), "abc");
        assert_eq!(metrics.requests.with_label_values(&["retried"]).get(), 2);
        assert_eq!(metrics.queue_bytes.get(), 0);
    }

    #[tokio::test]
    async fn only_the_guilty_frame_is_lost() {
        let fake = Fake::default();
        let (sender, queue, metrics) = sender(&fake, 1000).await;
        queue.push(vec!["a".into(), "bad".into(), "c".into()]);
        queue.close();
        sender.run().await;
        assert_eq!(fake.bodies.lock().expect("lock").concat(), "ac");
        assert_eq!(metrics.dropped_frames.with_label_values(&["refused"]).get(), 1);
    }

    #[tokio::test]
    async fn a_full_queue_loses_the_oldest_and_counts_them() {
        let fake = Fake::default();
        let (sender, queue, metrics) = sender(&fake, 10).await;
        for n in 0..8 {
            queue.push(vec![format!("{n}{n}{n}").into()]);
        }
        assert_eq!(queue.undelivered(), 3);
        queue.close();
        sender.run().await;
        assert_eq!(fake.bodies.lock().expect("lock").concat(), "555666777");
        assert_eq!(metrics.dropped_frames.with_label_values(&["queue_full"]).get(), 5);
    }
}
