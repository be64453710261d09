//! The ledger of the files: written when the collector is away or the process ends, judged when the
//! collector has told its positions.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use taffrail_model::Labels;
use taffrail_model::record::Position;

use super::{Reader, UNDER_WAY_MAX};
use crate::batch::Loss;
use crate::ship::Parcel;
use crate::spool::ledger::{Entry, Unread};
use crate::tail::chain::Gap;
use crate::tail::file::TailFile;
use crate::tail::identity::{FileId, look_at, parse_source};
use crate::tail::{FileKind, Labeling, LogStream, packed};

/// When the first ledger is written while the spool takes nothing; the next ones ever more rarely, since
/// all of them stay on the disk for as long.
pub(super) const STUCK_INTERVAL: Duration = Duration::from_secs(10);
/// Each such ledger waits for this part of the time that the collector has been away.
const STUCK_PART: u32 = 4;
/// Most files of a ledger.
const ENTRIES_MAX: usize = 20_000;
/// Most names of a folder that are looked at for a file that may have been renamed.
const NAMES_MAX: usize = 10_000;

impl Reader {
    /// Hands over what is known of all files. Waits for room: the spool takes nothing before it.
    pub(super) fn write_ledger(&mut self) {
        if self.config.spool.is_none() || self.positions.is_none() {
            return;
        }
        // A container's files all or none: a line may begin in one and end in the next.
        let mut room = ENTRIES_MAX;
        let chains = self.chains.values().take_while(|chain| {
            let left = room.checked_sub(chain.files.len());
            room = left.unwrap_or(0);
            left.is_some()
        });
        let entries = chains.flat_map(|c| &c.files).map(|file| self.entry(file)).collect();
        if self.out.blocking_send(Parcel::Ledger(entries)).is_err() {
            tracing::debug!("shipper has ended, ledger is dropped");
        }
    }

    /// Likewise, when reading has come to a stop: what is not in the spool would be lost by a kill.
    pub(super) fn write_stuck_ledger(&mut self, now: Instant) {
        let away = self.away.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.next_ledger = Some(now + STUCK_INTERVAL.max(away / STUCK_PART));
        // The room for batches must stay.
        if self.under_way >= UNDER_WAY_MAX && self.out.capacity() > UNDER_WAY_MAX {
            self.write_ledger();
        }
    }

    fn entry(&self, file: &TailFile) -> Entry {
        let size = file.look().map_or(0, |l| l.size);
        let waits = size > file.committed && !file.is_packed();
        let unread = waits.then(|| Unread {
            size,
            path: file.path.to_string_lossy().into_owned(),
            labels: self.gap_labels(file),
        });
        let (safe, check) = (file.committed, file.check(file.committed));
        Entry { source: file.source.to_string(), safe, check, unread }
    }

    fn gap_labels(&self, file: &TailFile) -> Labels {
        let stream = match file.kind {
            FileKind::Container { .. } => LogStream::Stdout,
            FileKind::Volume { .. } | FileKind::Plain { .. } => LogStream::File,
        };
        if let Some(labels) = self.builder.labels(file.number) {
            return labels[stream as usize].clone();
        }
        match (self.labeler)(&file.kind, stream) {
            Labeling::Ready(labels) => labels,
            Labeling::Wait => Labels::from_pairs([("node", self.config.node.as_str())]),
        }
    }

    /// Files of an earlier process that are not there any more and were not safe to their ends: a
    /// record says how much is lost.
    pub(super) fn judge_ledger(&mut self, ledger: Vec<Entry>, known: &[Position]) {
        let known: HashMap<&str, u64> =
            known.iter().map(|p| (p.source.as_str(), p.committed)).collect();
        for Entry { source, unread, .. } in ledger {
            let Some(Unread { size, path, labels }) = unread else { continue };
            let begin = known.get(source.as_str()).copied().unwrap_or(0);
            let Some((id, ..)) = parse_source(&self.config.node, &source) else { continue };
            let held = |f: &TailFile| f.id == id || *f.source == source;
            let here = self.chains.values().flat_map(|c| &c.files).any(held);
            let own = PathBuf::from(&path);
            let look = move || Ok(is_in_folder(&own, id, size));
            if begin >= size
                || here
                || self.scanner.lanes.run(Path::new(&path), look).unwrap_or(true)
            {
                continue;
            }
            let gap = Gap {
                source: source.into(),
                path: path.into(),
                labels,
                begin,
                end: size,
                loss: Loss::Removed,
            };
            self.with_turn(Instant::now(), |turn| gap.put(turn));
        }
        if !self.builder.is_empty() {
            self.open_since.get_or_insert_with(Instant::now);
        }
    }
}

/// Whether a file is still in its folder, under whatever name, or compressed there. What cannot be
/// looked at counts as there.
fn is_in_folder(path: &Path, id: FileId, size: u64) -> bool {
    let Some(folder) = path.parent() else { return false };
    let names = match std::fs::read_dir(folder) {
        Ok(names) => names,
        Err(error) => return error.kind() != std::io::ErrorKind::NotFound,
    };
    names.take(NAMES_MAX).filter_map(Result::ok).any(|name| {
        let path = name.path();
        let packed = path.extension().is_some_and(|e| e == "gz")
            && packed::unpacked_size(&path).is_ok_and(|s| s == size);
        packed || look_at(&path, false).is_ok_and(|look| look.id == id)
    })
}
