//! What the pods of the demo do, step by step: each step writes the lines that are due since the
//! last one.
//!
//! Blocking: it runs on a thread of its own. The time is handed in, so tests run it at any speed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use taffrail_model::Nanos;
use taffrail_model::time::{NANOS_PER_MILLI, NANOS_PER_SEC};

use super::Error;
use super::corpus::{Corpus, Kind, Voice};
use super::crash::CrashLoop;
use super::cri::Output;
use super::files::{ContainerLog, Limits, PlainLog};
use super::meter::Meter;
use super::pods::{self, Behaviour, Pod, PodState, VOLUME};
use super::random::Random;

/// How often the kubelet looks at the size of files.
const ROTATION_INTERVAL: Nanos = 10 * NANOS_PER_SEC;
/// Longest time that one step makes up for: after a pause of the machine lines do not come all at
/// once.
const STEP_MAX: Nanos = NANOS_PER_SEC;
/// How often the long-line pod writes one.
const LONG_LINE_INTERVAL: Nanos = 15 * NANOS_PER_SEC;

/// Where the files of the demo are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// `/var/log/pods` of the node.
    pub pod_logs: PathBuf,
    /// `/var/lib/kubelet` of the node.
    pub kubelet_root: PathBuf,
    /// The pod list.
    pub pods_file: PathBuf,
}

impl Paths {
    /// The paths below a folder.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        Self {
            pod_logs: root.join("var/log/pods"),
            kubelet_root: root.join("var/lib/kubelet"),
            pods_file: root.join("pods.json"),
        }
    }
}

/// One pod at work.
#[derive(Debug)]
struct Worker {
    pod: Pod,
    state: PodState,
    voice: Voice,
    log: ContainerLog,
    volume: Option<PlainLog>,
    crash: Option<CrashLoop>,
    meter: Option<Arc<Meter>>,
    /// Lines that are due, with what is left of the last step.
    due: f64,
    long_line_at: Nanos,
}

/// All pods at work.
#[derive(Debug)]
pub(super) struct Workload {
    paths: Paths,
    lines_per_second: f64,
    limits: Limits,
    corpus: Corpus,
    random: Random,
    workers: Vec<Worker>,
    created: Nanos,
    started: Nanos,
    last: Nanos,
    rotated: Nanos,
}

/// Where a pod of the demo serves its metrics.
pub(super) type Metered = Option<(u16, Arc<Meter>)>;

impl Workload {
    /// Opens or continues all files and writes the pod list. `metered` has an entry for each pod.
    pub(super) fn open(
        paths: Paths,
        lines_per_second: u32,
        limits: Limits,
        metered: Vec<Metered>,
        now: Nanos,
    ) -> Result<Self, Error> {
        let mut workers = Vec::new();
        for (pod, metered) in pods::all().into_iter().zip(metered) {
            workers.push(
                Worker::open(&paths, pod, metered, limits, now)
                    .map_err(|source| Error::Io { path: paths.pod_logs.clone(), source })?,
            );
        }
        let created = fs::read_to_string(&paths.pods_file)
            .ok()
            .and_then(|list| pods::started(&list))
            .unwrap_or(now);
        let workload = Self {
            paths,
            lines_per_second: f64::from(lines_per_second),
            limits,
            // Another seed each time: ids do not come twice when the demo is started again.
            corpus: Corpus::new(now.unsigned_abs()),
            random: Random::new(now.unsigned_abs() ^ 1),
            workers,
            created,
            started: now,
            last: now,
            rotated: now,
        };
        workload.write_pod_list()?;
        Ok(workload)
    }

    /// Writes what is due at `now`.
    pub(super) fn step(&mut self, now: Nanos) -> Result<(), Error> {
        let elapsed = (now - self.last).clamp(0, STEP_MAX);
        self.last = now;
        self.corpus.set_time(now);
        let elapsed_seconds = elapsed as f64 / NANOS_PER_SEC as f64;
        let since_start = (now - self.started) as f64 / NANOS_PER_SEC as f64;
        // A wave of ten minutes, so that graphs and autoscalers have something to do.
        let wave = 1.0 + 0.4 * (since_start * std::f64::consts::TAU / 600.0).sin();
        let rotate = now - self.rotated >= ROTATION_INTERVAL;
        let mut restarted = false;
        for worker in &mut self.workers {
            worker.due += elapsed_seconds * self.lines_per_second * wave * worker.share();
            restarted |= worker
                .step(now, self.limits, wave, &mut self.corpus, &mut self.random)
                .and_then(|restarted| match rotate {
                    true => worker.log.rotate_if_big(now).map(|_| restarted),
                    false => Ok(restarted),
                })
                .map_err(|source| Error::Io {
                    path: self.paths.pod_logs.join(worker.pod.folder()),
                    source,
                })?;
        }
        if rotate {
            self.rotated = now;
        }
        if restarted {
            self.write_pod_list()?;
        }
        Ok(())
    }

    /// Written beside and renamed, so that a reader never sees half a list.
    fn write_pod_list(&self) -> Result<(), Error> {
        let list = pods::list(self.workers.iter().map(|w| (&w.pod, w.state)), self.created);
        let partial = self.paths.pods_file.with_extension("json.tmp");
        fs::write(&partial, list)
            .and_then(|()| fs::rename(&partial, &self.paths.pods_file))
            .map_err(|source| Error::Io { path: self.paths.pods_file.clone(), source })
    }
}

impl Worker {
    fn open(
        paths: &Paths,
        pod: Pod,
        metered: Metered,
        limits: Limits,
        now: Nanos,
    ) -> io::Result<Self> {
        let directory = paths.pod_logs.join(pod.folder()).join(pod.container);
        let kind = match pod.behaviour {
            Behaviour::Steady(kind) | Behaviour::Troubled(kind) | Behaviour::IntoVolume(kind) => {
                kind
            }
            Behaviour::Crashing => Kind::Logfmt,
            Behaviour::LongLines => Kind::Json,
        };
        let crash = match pod.behaviour {
            Behaviour::Crashing => Some(CrashLoop::begin(&directory, now)?),
            _ => None,
        };
        let volume = match pod.behaviour {
            Behaviour::IntoVolume(_) => Some(PlainLog::open(&volume_file(paths, &pod), limits)?),
            _ => None,
        };
        let restarts = crash.as_ref().map_or(0, CrashLoop::restarts);
        let (port, meter) = metered.unzip();
        Ok(Self {
            log: ContainerLog::open(&directory, restarts, limits)?,
            state: PodState { port, restarts },
            voice: Voice::new(kind, pods::NODE),
            volume,
            crash,
            meter,
            due: 0.0,
            long_line_at: now + NANOS_PER_SEC,
            pod,
        })
    }

    fn share(&self) -> f64 {
        f64::from(self.pod.share) / 100.0
    }

    /// Writes the lines that are due. Says whether the container was started anew.
    fn step(
        &mut self,
        now: Nanos,
        limits: Limits,
        wave: f64,
        corpus: &mut Corpus,
        random: &mut Random,
    ) -> io::Result<bool> {
        if let Behaviour::Troubled(_) = self.pod.behaviour {
            self.voice.errors_per_mille = if in_trouble(now) { 300 } else { 15 };
        }
        let mut restarted = false;
        match (&mut self.crash, self.pod.behaviour) {
            (Some(crash), _) => {
                if let Some(log) =
                    crash.step(now, limits, &mut self.voice, corpus, &mut self.log)?
                {
                    self.log = log;
                    self.state.restarts = crash.restarts();
                    restarted = true;
                }
            }
            (None, Behaviour::LongLines) => self.write_long_line(now, corpus, random),
            (None, _) => self.write_due(now, corpus, random),
        }
        if let Some(meter) = &self.meter {
            let queue = 20.0 + 60.0 * (wave - 0.8) + f64::from(random.below(8));
            let queue = if self.voice.errors_per_mille > 100 { queue * 3.0 } else { queue };
            meter.set_load(queue, u64::from(random.below(9)));
        }
        if let Some(volume) = &mut self.volume {
            volume.flush()?;
        }
        self.log.flush()?;
        Ok(restarted)
    }

    fn write_due(&mut self, now: Nanos, corpus: &mut Corpus, random: &mut Random) {
        let output = output_of(self.pod.behaviour);
        let mut line = String::new();
        // The lines of a step lie a little apart and before its end.
        let mut ts = now - 90 * NANOS_PER_MILLI;
        while self.due >= 1.0 {
            self.due -= 1.0;
            ts = (ts + i64::from(random.between(20_000, 2_000_000))).min(now);
            line.clear();
            corpus.set_time(ts);
            corpus.write_voice(&mut self.voice, &mut line);
            match &mut self.volume {
                Some(volume) => volume.push(&line),
                None => self.log.push(ts, output, &line),
            }
            if let Some(meter) = &self.meter {
                meter.count(random, self.voice.errors_per_mille);
            }
        }
    }

    /// One JSON document of 20 to 60 KB in a line, which the runtime cuts into pieces.
    fn write_long_line(&mut self, now: Nanos, corpus: &mut Corpus, random: &mut Random) {
        if now < self.long_line_at {
            return;
        }
        self.long_line_at = now + LONG_LINE_INTERVAL;
        let wanted = random.between(20_000, 60_000) as usize;
        let mut line = String::from("{\"level\":\"info\",\"msg\":\"report\",\"rows\":[");
        while line.len() < wanted {
            corpus.write_voice(&mut self.voice, &mut line);
            line.push(',');
        }
        line.pop();
        line.push_str("]}");
        self.log.push(now, Output::Stdout, &line);
    }
}

/// Half a minute in every five.
fn in_trouble(now: Nanos) -> bool {
    (now / NANOS_PER_SEC).rem_euclid(300) < 30
}

/// Kubernetes' components and PostgreSQL log to standard error.
fn output_of(behaviour: Behaviour) -> Output {
    match behaviour {
        Behaviour::Steady(Kind::Klog | Kind::Postgres) => Output::Stderr,
        _ => Output::Stdout,
    }
}

fn volume_file(paths: &Paths, pod: &Pod) -> PathBuf {
    paths
        .kubelet_root
        .join("pods")
        .join(&pod.uid)
        .join("volumes/kubernetes.io~empty-dir")
        .join(VOLUME)
        .join(format!("{}.log", pod.app))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::{cri, files};

    const START: Nanos = 1_795_186_292 * NANOS_PER_SEC;
    const LIMITS: Limits = Limits { bytes_max: 500_000, files_max: 5 };

    fn workload(root: &Path, now: Nanos) -> Workload {
        fs::create_dir_all(root).unwrap();
        let metered = pods::all()
            .iter()
            .map(|pod| pod.measured.then(|| (4160, Arc::new(Meter::new(1.0)))))
            .collect();
        Workload::open(Paths::below(root), 200, LIMITS, metered, now).unwrap()
    }

    /// Every file below a folder, by its path.
    fn files_below(folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
        }
        found.sort();
        found
    }

    #[test]
    fn two_minutes_of_a_node() {
        let folder = tempfile::tempdir().unwrap();
        let mut workload = workload(folder.path(), START);
        for tick in 1..=1200 {
            workload.step(START + tick * 100 * NANOS_PER_MILLI).unwrap();
        }
        let (mut lines, mut longest) = (0, 0);
        let logs = files_below(&workload.paths.pod_logs);
        for path in &logs {
            for (ts, line) in cri::parse(&files::tests::read(path)).unwrap() {
                assert!((START..=START + 120 * NANOS_PER_SEC).contains(&ts));
                lines += 1;
                longest = longest.max(line.len());
            }
        }
        assert!(longest > 20_000, "long lines come in pieces and join again: {longest}");
        // 24,000 at 200 a second, 29,280 with the rising wave; one in twenty goes to the volume.
        assert!((27_000..29_000).contains(&lines), "{lines}");
        assert!(logs.iter().any(|p| p.to_string_lossy().contains("nginx/0.log.2026")), "{logs:?}");
        let volume = files_below(&workload.paths.kubelet_root);
        assert!(volume[0].to_string_lossy().contains("~empty-dir/app-logs/billing.log"));
        let crashed = workload.workers.iter().find(|w| w.crash.is_some()).unwrap();
        assert!(crashed.state.restarts >= 2);
        let list = fs::read_to_string(&workload.paths.pods_file).unwrap();
        assert!(list.contains(&format!("\"restartCount\": {}", crashed.state.restarts)));
    }

    #[test]
    fn a_second_start_goes_on_from_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let sizes = |workload: &Workload| -> Vec<(PathBuf, u64)> {
            let logs = files_below(&workload.paths.pod_logs).into_iter();
            logs.map(|p| (p.clone(), p.metadata().unwrap().len())).collect()
        };
        let mut first = workload(folder.path(), START);
        for tick in 1..=20 {
            first.step(START + tick * 100 * NANOS_PER_MILLI).unwrap();
        }
        let before = sizes(&first);
        drop(first);
        let later = START + 3600 * NANOS_PER_SEC;
        let mut second = workload(folder.path(), later);
        assert_eq!(second.created, START);
        for tick in 1..=20 {
            second.step(later + tick * 100 * NANOS_PER_MILLI).unwrap();
        }
        let after = sizes(&second);
        for (path, size) in before {
            let now = after.iter().find(|(p, _)| *p == path).expect("still there").1;
            assert!(now >= size, "{}", path.display());
        }
        assert!(after.iter().any(|(p, _)| p.ends_with("importer/1.log")), "{after:?}");
    }
}
