//! The log path as one thing: it is made of settings and closures, it runs, it tells how it is.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use prometheus::Registry;
use taffrail_kit::http::Client;
use taffrail_kit::shutdown::Shutdown;
use tokio::sync::{mpsc, oneshot};

use super::hint;
use super::metrics::Metrics;
use super::reader::{Event, Reader, UNDER_WAY_MAX};
use super::{Config, FileKind, Labeler, VolumeRules};
use crate::ship::{self, Shipper};
use crate::spool::{self, Spool, View};

/// Room for events to the reader: one answer for each batch under way, a hint, a question, and some.
const EVENTS_MAX: usize = 64;
/// Room for ledgers to the shipper, beside the batches.
const LEDGERS_MAX: usize = 2;

/// Why the log path cannot start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Metrics of these names are there already.
    #[error("register metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// No thread, or no memory.
    #[error("start reading logs: {0}")]
    Start(#[from] std::io::Error),
    /// The reading thread has ended without being told to.
    #[error("the thread that reads logs has ended")]
    Ended,
}

/// What is known of one file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileStatus {
    /// Where it is, or was seen last.
    pub path: PathBuf,
    /// Identity on the wire; empty for what cannot be opened.
    pub source: String,
    /// What it is; nothing for what cannot be opened.
    pub kind: Option<FileKind>,
    /// Whether it is held open.
    pub open: bool,
    /// Offset of the next byte to read.
    pub position: u64,
    /// Everything before this offset is in the store.
    pub committed: u64,
    /// Length of the file in bytes; of an unpacked one, what was read of it.
    pub size: u64,
    /// Bytes from what is in the store to the end of the file.
    pub lag: u64,
    /// How long the oldest of them has waited; nothing when that is not known.
    pub lag_seconds: Option<f64>,
    /// Why it is not read.
    pub error: Option<String>,
}

/// Discovers, tails, batches and ships the logs of a node.
pub struct LogPipeline {
    config: Config,
    reader: Reader,
    shipper: Shipper,
    events: (SyncSender<Event>, Receiver<Event>),
    parcels: mpsc::Receiver<ship::Parcel>,
    view: View,
    limits: Option<spool::Limits>,
}

/// Asks a running [`LogPipeline`] how it is. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StatusHandle {
    events: SyncSender<Event>,
    /// One question at a time: the channel's room is for the shipper's answers.
    asking: Arc<tokio::sync::Mutex<()>>,
}

impl StatusHandle {
    /// All files, and what cannot be read. Empty when the log path has ended or is too busy to say.
    pub async fn status(&self) -> Vec<FileStatus> {
        let _turn = self.asking.lock().await;
        let (answer, waiting) = oneshot::channel();
        if self.events.try_send(Event::Status(answer)).is_err() {
            return Vec::new();
        }
        waiting.await.unwrap_or_default()
    }
}

impl LogPipeline {
    /// Puts the parts together. Nothing is read before [`LogPipeline::run`].
    ///
    /// # Errors
    /// When the registry has metrics of these names already, or there is no memory.
    pub fn new(
        config: Config,
        labeler: Labeler,
        volume_rules: VolumeRules,
        client: Client,
        registry: &Registry,
    ) -> Result<Self, Error> {
        let events = sync_channel(EVENTS_MAX);
        let (sender, parcels) = mpsc::channel(UNDER_WAY_MAX + LEDGERS_MAX + 1);
        let metrics = Metrics::register(registry)?;
        let reader = Reader::new(config.clone(), labeler, volume_rules, metrics.clone(), sender)?;
        let shipped = ship::Metrics::register(registry)?;
        let view = View::default();
        let spool_metrics = spool::Metrics::register(registry)?;
        let spool = config.spool.clone().map(|c| Spool::new(c, view.clone(), spool_metrics));
        let limits = spool.as_ref().map(|spool| spool.limits().clone());
        let (node, told) = (config.node.clone(), events.0.clone());
        let shipper = Shipper::new(client, node, told, (shipped, metrics), spool);
        Ok(Self { config, reader, shipper, events, parcels, view, limits })
    }

    /// A handle that tells of the files while [`LogPipeline::run`] goes on.
    #[must_use]
    pub fn status_handle(&self) -> StatusHandle {
        StatusHandle { events: self.events.0.clone(), asking: Arc::default() }
    }

    /// How the spool is, while [`LogPipeline::run`] goes on.
    #[must_use]
    pub fn spool_view(&self) -> View {
        self.view.clone()
    }

    /// The limits of the spool, if there is one.
    #[must_use]
    pub fn spool_limits(&self) -> Option<spool::Limits> {
        self.limits.clone()
    }

    /// Reads and ships until it is told to stop; then hands over what is read and waits until it is
    /// in the store or in the spool, up to the grace of the settings.
    ///
    /// # Errors
    /// When there is no thread to be had, or the reading thread ends by itself.
    pub async fn run(self, mut shutdown: Shutdown) -> Result<(), Error> {
        let Self { config, mut reader, shipper, events: (events, incoming), parcels, .. } = self;
        reader.watch_with(hint::watch(events.clone()));
        let thread =
            std::thread::Builder::new().name("tail".into()).spawn(move || reader.run(&incoming))?;
        let mut shipping = std::pin::pin!(shipper.run(parcels, shutdown.clone()));
        let stopped = tokio::select! {
            () = shutdown.wait() => true,
            () = &mut shipping => false,
        };
        if !stopped {
            return Err(Error::Ended);
        }
        // The channel may be full of hints and questions for a moment: wait, but not on a worker.
        let stop = tokio::task::spawn_blocking(move || match events.try_send(Event::Stop) {
            Err(TrySendError::Full(event)) => events.send(event).is_ok(),
            sent => sent.is_ok(),
        });
        let finish = async {
            let _sent = stop.await;
            shipping.await;
        };
        if tokio::time::timeout(config.grace, finish).await.is_err() {
            tracing::warn!(
                "not all logs are delivered or spooled; they are read again at the next start"
            );
        }
        // The thread ends by itself after its last batch.
        drop(thread);
        Ok(())
    }
}
