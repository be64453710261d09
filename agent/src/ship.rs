//! Sends batches to the collector, oldest first, one at a time, until each is acknowledged; while the
//! collector is away they go to the spool.
//!
//! ```text
//!            fails for a while, or no positions yet
//!  direct ------------------------------------------> away
//!    ^   reader -> collector       reader -> spool -> collector
//!    +------------------------------------------------+
//!                    the spool is empty
//! ```
//!
//! Invariants:
//! - A batch leaves here only as acknowledged, as spooled, or void after a conflict. Failures of the
//!   network and of the collector are retried for ever, with growing pauses.
//! - Batches are sent in the order in which they were read: nothing of the reader is sent while the
//!   spool holds something.
//! - A batch that the collector refuses for its content is split until the guilty group of lines is
//!   alone; that is counted, logged and left out, and its range is moved over.
//! - After a conflict nothing of an earlier epoch is sent: the reader goes back to what is committed.
//!   A batch of the spool is cut at what is committed instead.
//!
//! `tail::reader` fills the channel and is told what came of it. Here is the loop: which event comes
//! next. What is done about it is in [`deliver`] and [`away`].

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use bytes::Bytes;
use taffrail_kit::http::Client;
use taffrail_kit::shutdown::Shutdown;
use taffrail_model::record::Position;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::batch::Batch;
use crate::spool::Spool;
use crate::spool::ledger::Entry;
use crate::tail::FileNumber;
use crate::tail::metrics::Metrics as TailMetrics;
use crate::tail::reader::{Event, Mode};

mod answer;
mod away;
mod deliver;
mod metrics;

use answer::{Answer, Failure};
pub use metrics::Metrics;

/// How long the collector may take to answer at the end of the process before what is read goes to
/// the spool.
const END_PATIENCE: Duration = Duration::from_millis(500);
/// How long a spool that cannot be opened is waited for at the start, and how often it is tried.
const SPOOL_PATIENCE: Duration = Duration::from_secs(2);
const SPOOL_PAUSE: Duration = Duration::from_millis(50);

/// What the reader hands over.
#[derive(Debug)]
pub enum Parcel {
    /// Lines and the ranges that they cover.
    Batch(Outgoing),
    /// What is known of the files.
    Ledger(Vec<Entry>),
}

/// A batch on its way.
#[derive(Debug)]
pub struct Outgoing {
    /// Counts the conflicts before it.
    pub epoch: u64,
    /// What is in it.
    pub batch: Batch,
    /// The request, if it is made already.
    pub request: Option<Request>,
}

/// A batch as it is sent.
#[derive(Clone, Debug)]
pub struct Request {
    /// The body.
    pub body: Bytes,
    /// Whether the body is compressed.
    pub zstd: bool,
}

/// A batch, or a part of one, with its request.
#[derive(Debug)]
struct Part {
    batch: Batch,
    request: Request,
}

/// Where the batch that is being sent comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Reader,
    /// The spool, where it has this number.
    Spool(u64),
}

/// The batch that is being sent.
#[derive(Debug)]
struct Current {
    origin: Origin,
    /// What is left of it, the next part last.
    parts: Vec<Part>,
    /// Ends of the files in the parts that are dealt with.
    ends: Vec<(FileNumber, u64)>,
}

/// What came of an attempt.
enum Outcome {
    Positions(Result<Vec<Position>, Failure>),
    Sent(Result<Answer, Failure>),
}

type Attempt = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// What the loop waits for.
enum Happened {
    Tried(Outcome),
    /// The pause after a failure is over.
    Rested,
    /// The collector has taken too long.
    Overdue,
    Handed(Option<Parcel>),
    /// The process is to end.
    Ending,
}

/// Sends batches.
pub struct Shipper {
    client: Client,
    node: String,
    reader: SyncSender<Event>,
    metrics: Metrics,
    tail_metrics: TailMetrics,
    /// None: there is no spool.
    spool: Option<Box<Spool>>,
    /// Batches of earlier epochs are void.
    epoch: u64,
    /// Conflicts since the last acknowledgement.
    conflicts: u32,
    /// Whether the collector has told its positions.
    connected: bool,
    /// Whether the reader was told to begin without them.
    blind: bool,
    away: bool,
    mode: Arc<Mode>,
    closed: bool,
    ending: Option<Instant>,
    current: Option<Current>,
    /// What the reader has handed over and neither the collector nor the spool has.
    held: VecDeque<Outgoing>,
    /// Since when there is no answer although something is to be answered.
    waiting_since: Option<Instant>,
    /// Attempts that failed since the last answer.
    failures: u32,
    /// Whether the spool takes nothing before the reader's ledger.
    awaits_ledger: bool,
    /// When the spool is asked again for a batch that its disk did not give.
    spool_retry: Option<Instant>,
}

impl Shipper {
    /// A shipper that tells `reader` what comes of its batches.
    #[must_use]
    pub fn new(
        client: Client,
        node: String,
        reader: SyncSender<Event>,
        metrics: (Metrics, TailMetrics),
        spool: Option<Spool>,
    ) -> Self {
        Self {
            client,
            node,
            reader,
            metrics: metrics.0,
            tail_metrics: metrics.1,
            spool: spool.map(Box::new),
            epoch: 0,
            conflicts: 0,
            connected: false,
            blind: false,
            away: false,
            mode: Arc::default(),
            closed: false,
            ending: None,
            current: None,
            held: VecDeque::new(),
            waiting_since: None,
            failures: 0,
            awaits_ledger: false,
            spool_retry: None,
        }
    }

    /// Asks for the committed positions, then sends what comes, until the channel is closed and
    /// everything is safe: in the store or in the spool.
    pub async fn run(mut self, mut parcels: mpsc::Receiver<Parcel>, mut end: Shutdown) {
        self.open_spool(&mut end).await;
        let mut attempt: Option<Attempt> = None;
        let mut retry_at = Instant::now();
        loop {
            self.load().await;
            if self.is_done() {
                break;
            }
            if attempt.is_none() && retry_at <= Instant::now() {
                attempt = self.attempt();
            }
            let rests = attempt.is_none() && (!self.connected || self.current.is_some());
            let overdue = self.overdue();
            let spool_rests =
                self.connected && self.current.is_none() && self.spool_retry.is_some();
            let tried = async {
                match &mut attempt {
                    Some(attempt) => attempt.await,
                    None => pending().await,
                }
            };
            let happened = tokio::select! {
                outcome = tried => Happened::Tried(outcome),
                () = sleep_until(retry_at), if rests => Happened::Rested,
                () = sleep_until(overdue.unwrap_or(retry_at)), if overdue.is_some() => Happened::Overdue,
                () = sleep_until(self.spool_retry.unwrap_or(retry_at)), if spool_rests => Happened::Rested,
                parcel = parcels.recv(), if !self.closed => Happened::Handed(parcel),
                () = end.wait(), if self.ending.is_none() => Happened::Ending,
            };
            match happened {
                Happened::Tried(outcome) => {
                    attempt = None;
                    retry_at = Instant::now() + self.settle(outcome).await;
                }
                Happened::Rested => {}
                Happened::Overdue => self.go_away().await,
                Happened::Handed(Some(parcel)) => self.take(parcel).await,
                Happened::Handed(None) => {
                    self.closed = true;
                    self.need_no_ledger().await;
                }
                Happened::Ending => self.begin_to_end().await,
            }
        }
        // Closing its files takes a sync.
        let spool = self.spool.take();
        let _closed = tokio::task::spawn_blocking(move || drop(spool)).await;
    }

    /// Opens the spool. One that cannot be opened yet (another process may still have it) may hold what
    /// is older than all that can be read: it is waited for a little.
    async fn open_spool(&mut self, end: &mut Shutdown) {
        let give_up = Instant::now() + SPOOL_PATIENCE;
        while self.spool.is_some() && !self.with_spool(Spool::open).await {
            let pause = Instant::now() + SPOOL_PAUSE;
            if pause > give_up {
                return;
            }
            tokio::select! {
                () = sleep_until(pause) => {}
                () = end.wait() => return,
            }
        }
    }

    /// Nothing more comes, and all that came is safe.
    fn is_done(&self) -> bool {
        let under_way = self.current.as_ref().is_some_and(|c| c.origin == Origin::Reader);
        self.closed && self.held.is_empty() && !under_way
    }

    /// The next thing to try, if there is one.
    fn attempt(&mut self) -> Option<Attempt> {
        let attempt: Attempt = if !self.connected {
            Box::pin(deliver::ask(self.client.clone(), self.node.clone()))
        } else {
            let part = self.current.as_ref()?.parts.last()?;
            let hollow = part.batch.lines() == 0;
            Box::pin(deliver::post(self.client.clone(), part.request.clone(), hollow))
        };
        self.waiting_since.get_or_insert_with(Instant::now);
        Some(attempt)
    }

    /// When the collector counts as away if it has not answered.
    fn overdue(&self) -> Option<Instant> {
        let spool = self.spool.as_ref().filter(|_| !self.away)?;
        let limit = self.waiting_since? + spool.limits().after();
        Some(self.ending.map_or(limit, |ending| limit.min(ending + END_PATIENCE)))
    }

    /// Does something with the spool, where the disk may block.
    async fn with_spool<T: Default + Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Spool) -> T + Send + 'static,
    ) -> T {
        let Some(mut spool) = self.spool.take() else { return T::default() };
        let worked = tokio::task::spawn_blocking(move || {
            let done = work(&mut spool);
            (spool, done)
        });
        // It fails when the process is ending without us: then nobody asks any more.
        let Ok((spool, done)) = worked.await else { return T::default() };
        self.spool = Some(spool);
        done
    }

    /// The channel has room for all answers that can be under way; an error means that the reader
    /// has ended.
    fn tell(&self, event: Event) {
        let _ended = self.reader.try_send(event).is_err();
    }
}

impl Part {
    /// Makes the request of a batch. A part that is small, or is sent once, is not worth compressing.
    fn plain(batch: Batch) -> Self {
        let request = Request { body: batch.encode().into(), zstd: false };
        Self { batch, request }
    }

    /// Likewise, compressed. Takes its time.
    fn packed(batch: Batch) -> Self {
        let plain = batch.encode();
        let request = match zstd::bulk::compress(&plain, 1) {
            Ok(packed) => Request { body: packed.into(), zstd: true },
            // It fails without memory only; then the batch goes as it is.
            Err(_) => Request { body: plain.into(), zstd: false },
        };
        Self { batch, request }
    }
}

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
