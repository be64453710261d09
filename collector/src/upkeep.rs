//! What is done beside the requests: stores are written when it is time, write-ahead logs are cut
//! behind them, the disk is looked at, gauges are set.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use prometheus::{IntGauge, Registry};
use taffrail_kit::clock;
use taffrail_kit::journal::{self, Journal};
use taffrail_kit::shutdown::Shutdown;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::ingest::Doors;
use crate::logs::LogStoreStats;
use crate::metrics::Stats;

/// Between two looks whether a store is due. A memtable may fill in less than a second.
const LOGS_EVERY: Duration = Duration::from_millis(100);
/// The same for metrics.
const METRICS_EVERY: Duration = Duration::from_secs(1);
/// Between two looks whether segments of logs are to be merged, or something of them is to go.
const COMPACT_EVERY: Duration = Duration::from_secs(10);
/// Between two looks at disk and gauges.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After an error.
const PAUSE: Duration = Duration::from_secs(5);

/// Starts the tasks; they end when told to stop.
pub(crate) fn start(doors: &Arc<Doors>, gauges: Gauges, stop: &Shutdown) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(repeat("logs", doors.clone(), stop.clone(), LOGS_EVERY, write_logs));
    tasks.spawn(repeat("metrics", doors.clone(), stop.clone(), METRICS_EVERY, write_metrics));
    tasks.spawn(repeat("logs", doors.clone(), stop.clone(), COMPACT_EVERY, compact_logs));
    let look = move |doors: &Doors| {
        doors.admission.look_at_disk();
        doors.metrics.look();
        gauges.set(doors);
        Ok(())
    };
    tasks.spawn(repeat("gauges", doors.clone(), stop.clone(), LOOK_EVERY, look));
    tasks
}

async fn repeat(
    name: &'static str,
    doors: Arc<Doors>,
    mut stop: Shutdown,
    every: Duration,
    work: impl Fn(&Doors) -> anyhow::Result<()> + Send + Sync + 'static,
) {
    let work = Arc::new(work);
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.wait() => return,
            _ = ticks.tick() => {}
        }
        let (doors, work) = (doors.clone(), work.clone());
        let done = tokio::task::spawn_blocking(move || work(&doors)).await;
        if let Err(error) = done.map_err(anyhow::Error::from).and_then(|done| done) {
            tracing::error!(store = name, "upkeep: {error:#}");
            tokio::select! {
                () = stop.wait() => return,
                () = sleep(PAUSE) => {}
            }
        }
    }
}

fn write_logs(doors: &Doors) -> anyhow::Result<()> {
    doors.logs.store.tick().context("write the log store")?;
    cut(&doors.logs.wal, doors.logs.store.durable_seq())
}

/// Takes out what is to go, then merges small segments while the disk has room for the merged ones.
fn compact_logs(doors: &Doors) -> anyhow::Result<()> {
    let store = &doors.logs.store;
    store.retain(clock::unix_nanos()).context("remove old lines of the log store")?;
    store
        .erase(clock::unix_nanos(), Some(&doors.logs.wal))
        .context("erase deleted lines of the log store")?;
    while doors.admission.look_at_disk() {
        if !store.compact().context("merge segments of the log store")? {
            break;
        }
    }
    Ok(())
}

fn write_metrics(doors: &Doors) -> anyhow::Result<()> {
    doors.metrics.store.tick().context("write the metric store")?;
    cut(&doors.metrics.wal, doors.metrics.store.durable_seq())
}

fn cut(wal: &Journal, durable_seq: u64) -> anyhow::Result<()> {
    let bytes = wal.truncate_before(durable_seq).context("cut the write-ahead log")?;
    if bytes > 0 {
        tracing::debug!(bytes, durable_seq, "cut the write-ahead log");
    }
    Ok(())
}

/// Writes what is in memory, so that the next start has little to replay.
pub(crate) fn close(doors: &Doors) -> anyhow::Result<()> {
    doors.logs.store.flush().context("write the log store at the end")?;
    cut(&doors.logs.wal, doors.logs.store.durable_seq())?;
    doors.metrics.store.flush().context("write the metric store at the end")?;
    cut(&doors.metrics.wal, doors.metrics.store.durable_seq())
}

/// The figures of stores and write-ahead logs at one moment.
struct Now {
    logs: LogStoreStats,
    log_wal: journal::Stats,
    metrics: Stats,
    metric_wal: journal::Stats,
}

/// Reads one of them.
type Figure = fn(&Now) -> u64;

/// What is shown of stores and write-ahead logs: name, help, figure.
const FIGURES: [(&str, &str, Figure); 26] = [
    ("taffrail_wal_logs_bytes", "Bytes of the write-ahead log of logs.", |now| now.log_wal.bytes),
    ("taffrail_wal_logs_segments", "Files of the write-ahead log of logs.", |now| {
        now.log_wal.segments as u64
    }),
    ("taffrail_wal_metrics_bytes", "Bytes of the write-ahead log of metrics.", |now| {
        now.metric_wal.bytes
    }),
    ("taffrail_wal_metrics_segments", "Files of the write-ahead log of metrics.", |now| {
        now.metric_wal.segments as u64
    }),
    ("taffrail_logs_streams", "Log streams known.", |now| now.logs.streams),
    ("taffrail_logs_segments", "Segments of the log store.", |now| now.logs.segments),
    ("taffrail_logs_lines", "Log lines in segments.", |now| now.logs.lines),
    ("taffrail_logs_text_bytes", "Text in segments before compression.", |now| now.logs.text_bytes),
    ("taffrail_logs_disk_bytes", "Bytes of all segments on disk.", |now| now.logs.disk_bytes),
    ("taffrail_logs_memory_bytes", "Memory of log lines not yet in segments.", |now| {
        now.logs.memory_bytes
    }),
    ("taffrail_logs_memory_bytes_max", "Limit of one memtable.", |now| now.logs.memory_bytes_max),
    ("taffrail_logs_flush_failures", "Failed attempts to write segments since the start.", |now| {
        now.logs.flush_failures
    }),
    ("taffrail_logs_compactions", "Groups of segments merged since the start.", |now| {
        now.logs.compactions
    }),
    (
        "taffrail_logs_segments_expired",
        "Segments removed for age or room since the start.",
        |now| now.logs.segments_expired,
    ),
    (
        "taffrail_logs_segments_rewritten",
        "Segments written anew without old or deleted lines.",
        |now| now.logs.segments_rewritten,
    ),
    (
        "taffrail_logs_deletions",
        "Delete requests whose lines are hidden and not erased yet.",
        |now| now.logs.deletions,
    ),
    ("taffrail_logs_quarantined", "Damaged segments put aside at the start.", |now| {
        now.logs.quarantined
    }),
    ("taffrail_logs_segments_damaged", "Segments found damaged when reading.", |now| {
        now.logs.segments_damaged
    }),
    ("taffrail_metrics_series", "Series known.", |now| now.metrics.series),
    ("taffrail_metrics_series_max", "Limit of series.", |now| now.metrics.series_max),
    ("taffrail_metrics_active_series", "Series written to lately.", |now| {
        now.metrics.active_series
    }),
    ("taffrail_metrics_head_samples", "Samples in memory.", |now| now.metrics.head_samples),
    ("taffrail_metrics_head_bytes", "Memory of samples not yet in blocks.", |now| {
        now.metrics.head_bytes
    }),
    ("taffrail_metrics_blocks", "Sealed blocks.", |now| now.metrics.blocks),
    ("taffrail_metrics_block_bytes", "Bytes of sealed blocks on disk.", |now| {
        now.metrics.block_bytes
    }),
    ("taffrail_metrics_damaged_blocks", "Damaged blocks set aside.", |now| {
        now.metrics.damaged_blocks
    }),
];

/// The gauges of [`FIGURES`].
pub(crate) struct Gauges(Vec<(IntGauge, Figure)>);

impl Gauges {
    /// Registers the gauges.
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let gauges = FIGURES.into_iter().map(|(name, help, figure)| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok((gauge, figure))
        });
        gauges.collect::<prometheus::Result<Vec<_>>>().map(Self)
    }

    fn set(&self, doors: &Doors) {
        let now = Now {
            logs: doors.logs.store.stats(),
            log_wal: doors.logs.wal.stats(),
            metrics: doors.metrics.store.stats(),
            metric_wal: doors.metrics.wal.stats(),
        };
        for (gauge, figure) in &self.0 {
            gauge.set(i64::try_from(figure(&now)).unwrap_or(i64::MAX));
        }
    }
}
