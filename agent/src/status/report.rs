//! What `/status` says, gathered from the rooms: the JSON form.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use prometheus::proto::MetricType;
use serde::Serialize;
use taffrail_kit::clock;
use taffrail_model::time::format_rfc3339;

use super::Sources;
use crate::pods::Origin;
use crate::process::source::PodProblem;
use crate::reload::ConfigStatus;
use crate::scrape::TargetStatus;
use crate::spool::Overview;
use crate::tail::{FileKind, FileStatus};

/// Counters and gauges that are shown, as they stand on `/metrics`: all of these families.
const SHOWN: [&str; 4] =
    ["taffrail_tail_", "taffrail_ship_", "taffrail_spool_", "taffrail_process_"];

/// Everything.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) version: &'static str,
    pub(super) node: String,
    pub(super) cluster: String,
    pub(super) collector: String,
    /// When this was gathered.
    pub(super) now: String,
    pub(super) uptime_seconds: i64,
    pub(super) config: ConfigStatus,
    pub(super) pods: PodsStatus,
    pub(super) totals: Totals,
    pub(super) spool: SpoolStatus,
    /// The worst first.
    pub(super) files: Vec<File>,
    /// Files beyond the limit.
    pub(super) files_left_out: usize,
    pub(super) volume_problems: BTreeMap<String, String>,
    /// Annotations of pods that cannot be used.
    pub(super) annotation_problems: Vec<PodProblem>,
    pub(super) targets: Vec<TargetStatus>,
    pub(super) target_problems: BTreeMap<String, String>,
}

/// One file.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct File {
    pub(super) path: String,
    /// Identity on the wire.
    pub(super) source: String,
    pub(super) namespace: Option<String>,
    pub(super) pod: Option<String>,
    /// Container, or `volume:` and the volume's name.
    pub(super) part: Option<String>,
    pub(super) open: bool,
    pub(super) position: u64,
    pub(super) committed: u64,
    pub(super) size: u64,
    /// Bytes that are not in the store.
    pub(super) lag: u64,
    /// How long the oldest of them waits; null: not known.
    pub(super) lag_seconds: Option<f64>,
    pub(super) error: Option<String>,
}

/// The watch of the pods.
#[derive(Serialize)]
pub(super) struct PodsStatus {
    pub(super) origin: &'static str,
    pub(super) synced: bool,
    pub(super) count: usize,
    pub(super) problem: Option<String>,
}

/// What is kept on disk while the collector is away.
#[derive(Default, Serialize)]
pub(super) struct SpoolStatus {
    pub(super) away: bool,
    pub(super) frames: u64,
    pub(super) bytes: u64,
    pub(super) bytes_max: u64,
    /// When the oldest frame was written.
    pub(super) oldest: Option<String>,
    pub(super) problem: Option<String>,
}

impl From<Overview> for SpoolStatus {
    fn from(spool: Overview) -> Self {
        let Overview { away, frames, bytes, bytes_max, oldest, problem } = spool;
        Self { away, frames, bytes, bytes_max, oldest: oldest.map(format_rfc3339), problem }
    }
}

/// All files together, and what was counted since the start.
#[derive(Default, Serialize)]
pub(super) struct Totals {
    pub(super) files: usize,
    pub(super) open: usize,
    pub(super) with_errors: usize,
    pub(super) lag: u64,
    pub(super) lag_seconds: f64,
    /// The agent's own metrics of the log path, by name and labels.
    pub(super) counted: BTreeMap<String, f64>,
}

impl From<FileStatus> for File {
    fn from(file: FileStatus) -> Self {
        let FileStatus { path, source, kind, open, position, committed, size, lag, .. } = file;
        let (namespace, pod, part) = match kind {
            Some(FileKind::Container { namespace, pod, container, .. }) => {
                (Some(namespace), Some(pod), Some(container))
            }
            Some(FileKind::Volume { namespace, pod, volume, .. }) => {
                (Some(namespace), Some(pod), Some(format!("volume:{volume}")))
            }
            _ => (None, None, None),
        };
        let path = path.to_string_lossy().into_owned();
        let FileStatus { lag_seconds, error, .. } = file;
        Self {
            path,
            source,
            namespace,
            pod,
            part,
            open,
            position,
            committed,
            size,
            lag,
            lag_seconds,
            error,
        }
    }
}

/// Gathers everything; no more than `limit` files.
pub(super) async fn gather(sources: &Sources, limit: usize) -> Report {
    let now = clock::unix_nanos();
    let pods = sources.pods.now();
    let origin = match pods.origin {
        Origin::None => "none",
        Origin::Cluster => "cluster",
        Origin::File => "file",
    };
    let mut files: Vec<File> = sources.files.status().await.into_iter().map(File::from).collect();
    let totals = Totals { counted: counted(sources), ..sum(&files) };
    let files_left_out = worst_first(&mut files, limit);
    Report {
        version: env!("CARGO_PKG_VERSION"),
        node: sources.place.node.clone(),
        cluster: sources.place.cluster.clone(),
        collector: sources.collector.clone(),
        now: format_rfc3339(now / 1_000_000_000 * 1_000_000_000),
        uptime_seconds: (now / 1_000_000 - sources.started) / 1000,
        config: sources.config.status(),
        pods: PodsStatus {
            origin,
            synced: pods.synced,
            count: pods.live().count(),
            problem: pods.problem.clone(),
        },
        totals,
        spool: sources.spool.now().into(),
        files,
        files_left_out,
        volume_problems: sources.volumes.now(),
        annotation_problems: sources.meaning.problems(),
        targets: sources.scraped.targets(),
        target_problems: sources.scraped.problems(),
    }
}

fn sum(files: &[File]) -> Totals {
    files.iter().fold(Totals::default(), |mut totals, file| {
        totals.files += 1;
        totals.open += usize::from(file.open);
        totals.with_errors += usize::from(file.error.is_some());
        totals.lag += file.lag;
        totals.lag_seconds = totals.lag_seconds.max(file.lag_seconds.unwrap_or(0.0));
        totals
    })
}

/// Those with errors first, then those that are most behind. Cuts at `limit` and says how many are
/// left out.
fn worst_first(files: &mut Vec<File>, limit: usize) -> usize {
    let order = |a: &File, b: &File| -> Ordering {
        // Who is behind for a time that is not known may be the worst.
        let seconds = |file: &File| file.lag_seconds.unwrap_or(f64::INFINITY);
        let errors = b.error.is_some().cmp(&a.error.is_some());
        errors
            .then((b.lag > 0).cmp(&(a.lag > 0)))
            .then(seconds(b).total_cmp(&seconds(a)))
            .then(b.lag.cmp(&a.lag))
            .then_with(|| a.path.cmp(&b.path))
    };
    let left_out = files.len().saturating_sub(limit);
    if left_out > 0 && limit > 0 {
        files.select_nth_unstable_by(limit - 1, order);
    }
    files.truncate(limit);
    files.sort_unstable_by(order);
    left_out
}

fn counted(sources: &Sources) -> BTreeMap<String, f64> {
    let mut counted = BTreeMap::new();
    for family in sources.registry.gather() {
        if !SHOWN.iter().any(|shown| family.name().starts_with(shown)) {
            continue;
        }
        for metric in family.get_metric() {
            let labels: Vec<String> =
                metric.get_label().iter().map(|l| format!("{}={}", l.name(), l.value())).collect();
            let name = match labels.join(",") {
                none if none.is_empty() => family.name().to_owned(),
                labels => format!("{}{{{labels}}}", family.name()),
            };
            let value = match family.get_field_type() {
                MetricType::COUNTER => metric.get_counter().get_value(),
                MetricType::GAUGE => metric.get_gauge().get_value(),
                _ => continue,
            };
            counted.insert(name, value);
        }
    }
    counted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_come_first_and_the_rest_is_counted() {
        let file = |path: &str, lag: u64, lag_seconds: Option<f64>, error: Option<&str>| File {
            path: path.into(),
            lag,
            lag_seconds,
            error: error.map(str::to_owned),
            ..File::default()
        };
        let all = [
            file("quiet b", 0, Some(0.0), None),
            file("quiet a", 0, Some(0.0), None),
            file("old", 10, Some(60.0), None),
            file("big", 999, Some(1.0), None),
            file("unknown", 5, None, None),
            file("broken", 0, None, Some("denied")),
        ];
        let totals = sum(&all);
        assert_eq!((totals.files, totals.lag, totals.with_errors), (6, 1014, 1));
        assert!((totals.lag_seconds - 60.0).abs() < 1e-9);
        let expected = ["broken", "unknown", "old", "big", "quiet a", "quiet b"];
        for limit in 0..8 {
            let mut files = all.to_vec();
            assert_eq!(worst_first(&mut files, limit), 6_usize.saturating_sub(limit));
            let paths: Vec<_> = files.iter().map(|f| &*f.path).collect();
            assert_eq!(paths, expected[..limit.min(6)]);
        }
    }
}
