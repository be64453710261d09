//! How far behind the files are: counted with each scan, told in full when somebody asks.

use std::time::Instant;

use taffrail_kit::clock;
use taffrail_model::Nanos;

use super::Reader;
use crate::tail::FileKind;
use crate::tail::file::TailFile;
use crate::tail::lag::{PEEK_BYTES, time_of_line};
use crate::tail::pipeline::FileStatus;

/// What all files together are behind.
#[derive(Default)]
struct Behind {
    bytes: u64,
    most: u64,
    /// When the oldest byte that is not in the store was written.
    since: Option<Nanos>,
}

impl Reader {
    /// Counts the files and what is behind.
    pub(super) fn keep_count(&mut self) {
        let (now, instant) = (clock::unix_nanos(), Instant::now());
        let (mut open, mut files) = (0, 0);
        let mut behind = Behind::default();
        let reads = self.may_send();
        for chain in self.chains.values_mut() {
            let pause = i64::try_from(chain.pause.as_nanos()).unwrap_or(0);
            let silent = chain.pause > self.config.poll_min;
            // Else it was not looked at for longer than it says.
            let seen = reads && chain.next_look > instant;
            for file in &mut chain.files {
                files += 1;
                open += i64::from(file.is_held());
                let at_end = file.position() == file.committed;
                // What cannot be looked at is no older and no longer than it was.
                let seen = seen && file.error.is_none();
                if at_end && seen && (silent || !file.is_held()) {
                    // It was read to its end when it was looked at last: no need to ask for its size.
                    file.marks.look(file.committed, file.committed, now - pause);
                } else if file.is_held() {
                    behind.add(file, now);
                }
            }
        }
        let to_gauge = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.metrics.files.set(files);
        self.metrics.files_open.set(open);
        self.held = usize::try_from(open).unwrap_or(0);
        let hanging = self.scanner.lanes.hanging().count();
        self.metrics.volumes_hanging.set(i64::try_from(hanging).unwrap_or(i64::MAX));
        self.metrics.lag_bytes.set(to_gauge(behind.bytes));
        self.metrics.lag_bytes_max.set(to_gauge(behind.most));
        self.metrics.lag_seconds.set(behind.since.map_or(0.0, |since| seconds(now - since)));
        let chains = &self.chains;
        self.chain_of.retain(|number, chain| {
            chains.get(chain).is_some_and(|c| c.files.iter().any(|f| f.number == *number))
        });
        self.file_of.retain(|id, chain| {
            chains.get(chain).is_some_and(|c| c.files.iter().any(|f| f.id == *id))
        });
    }

    /// All files and what is wrong with them.
    pub(super) fn status(&self) -> Vec<FileStatus> {
        let now = clock::unix_nanos();
        let files = self.chains.values().flat_map(|c| &c.files).map(|file| {
            let size = file.look().map_or_else(|_| file.position(), |l| l.size);
            let size = if file.is_packed() { file.position() } else { size };
            let lag = size.saturating_sub(file.committed);
            let since = if lag == 0 { None } else { oldest(file, now) };
            FileStatus {
                path: file.path.clone(),
                source: file.source.to_string(),
                kind: Some(file.kind.clone()),
                open: file.is_open(),
                position: file.position(),
                committed: file.committed,
                size,
                lag,
                lag_seconds: if lag == 0 { Some(0.0) } else { since.map(|s| seconds(now - s)) },
                error: file.error.clone(),
            }
        });
        let problems = self.problems.iter().map(|(path, error)| FileStatus {
            path: path.clone(),
            error: Some(error.clone()),
            ..FileStatus::default()
        });
        files.chain(problems).collect()
    }
}

impl Behind {
    fn add(&mut self, file: &mut TailFile, now: Nanos) {
        let size = file.look().map_or(0, |l| l.size).max(file.position());
        if !file.is_packed() && file.error.is_none() {
            file.marks.look(size, file.committed, now);
        }
        let bytes = size.saturating_sub(file.committed);
        self.bytes += bytes;
        self.most = self.most.max(bytes);
        if bytes > 0 {
            self.since = [self.since, oldest(file, now)].into_iter().flatten().min();
        }
    }
}

/// When the first byte that is not in the store was written, as far as that is known.
fn oldest(file: &TailFile, now: Nanos) -> Option<Nanos> {
    let mut begin = [0; PEEK_BYTES];
    let written = matches!(file.kind, FileKind::Container { .. })
        .then(|| file.peek(file.committed, &mut begin))
        .flatten()
        .and_then(|count| time_of_line(&begin[..count], now));
    written.or_else(|| file.marks.since(file.committed))
}

fn seconds(nanos: Nanos) -> f64 {
    nanos.max(0) as f64 / 1e9
}
