//! The one loop that reads all files: whose turn it is, how much, and when a batch is full.
//!
//! It runs on a thread of its own, since reading files blocks. It looks at the folders, gives each
//! chain with something new its turn, fills the batch, hands full batches to `ship`, and waits for
//! the next thing to happen. When too many batches are under way it stops reading, not looking: new
//! files are found and held open, so that nothing vanishes meanwhile.
//!
//! Invariants:
//! - No file is read before the collector has told the committed positions, or is away; while it is
//!   away only what would vanish is read.
//! - No more than [`UNDER_WAY_MAX`] batches are between here and the acknowledgement, but for the
//!   last one at the end.
//! - After a conflict everything goes back to what is committed; batches of before are void.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use taffrail_kit::clock;
use taffrail_model::limits;
use tokio::sync::mpsc;

use super::chain::{Chain, Progress, Reach, Turn, take_number};
use super::hint::Watches;
use super::identity::FileId;
use super::metrics::Metrics;
use super::positions::Positions;
use super::{Config, FileNumber, Labeler, VolumeRules};
use crate::batch::{Batch, Builder, Taken};
use crate::discover::Scanner;
use crate::ship::{Outgoing, Parcel, Request};

mod ending;
mod event;
mod lag;
mod ledger;
mod place;
mod reconcile;
mod remote;
mod room;
mod unpack;

pub use event::{Event, Mode};
use reconcile::ChainKey;

/// How many batches may wait for their acknowledgement. One is sent, one is ready, one is a reserve
/// for the time that an answer takes to come back.
pub const UNDER_WAY_MAX: usize = 3;
/// Room for one read: a turn's worth and the bytes before it.
const BUFFER_BYTES: usize = 256 << 10;

/// How long after a hint folders are looked at more often, and how often.
const HOT_FOR: Duration = Duration::from_secs(2);
const HOT_INTERVAL: Duration = Duration::from_millis(200);

/// All files of the node.
pub struct Reader {
    config: Config,
    labeler: Labeler,
    rules: VolumeRules,
    metrics: Metrics,
    out: mpsc::Sender<Parcel>,
    scanner: Scanner,
    /// Each apart: the tree leaves half of its room free.
    chains: BTreeMap<u64, Box<Chain>>,
    keys: HashMap<ChainKey, u64>,
    chain_of: HashMap<FileNumber, u64>,
    /// Which chain took up a file last.
    file_of: HashMap<FileId, u64>,
    /// How many files are held, as counted last; and whether nothing could be let go of since.
    held: usize,
    crowded: bool,
    /// What is asked for of files on network file systems that are not read yet.
    pending: remote::Pending,
    positions: Option<Positions>,
    /// Whether they are the collector's.
    firm: bool,
    /// Since when the collector is away; none: it is there.
    away: Option<Instant>,
    ending: Option<ending::Ending>,
    /// When a ledger may be written again, while the spool takes nothing.
    next_ledger: Option<Instant>,
    builder: Builder,
    counted: Taken,
    compressor: zstd::bulk::Compressor<'static>,
    buffer: Vec<u8>,
    /// The last batch before and after compression: room that is used again while one follows the
    /// other.
    plain: Vec<u8>,
    packed: Vec<u8>,
    next_number: u32,
    next_chain: u64,
    /// The chain whose turn is next, when a round was broken off.
    cursor: u64,
    next_scan: Instant,
    /// When the last look at the folders ended.
    last_scan: Option<Instant>,
    /// After a hint folders are looked at more often for a while: a new pod's files come one by one.
    hot_until: Instant,
    /// When the first record of the open batch came.
    open_since: Option<Instant>,
    under_way: usize,
    epoch: u64,
    problems: HashMap<PathBuf, String>,
    watches: Option<Watches>,
}

impl Reader {
    /// A reader that has not looked yet.
    ///
    /// # Errors
    /// When there is no memory for the compressor.
    pub fn new(
        mut config: Config,
        labeler: Labeler,
        rules: VolumeRules,
        metrics: Metrics,
        out: mpsc::Sender<Parcel>,
    ) -> std::io::Result<Self> {
        // A batch is closed after the turn that filled it: that turn must fit too.
        config.batch_bytes = config.batch_bytes.min(limits::BATCH_BYTES_MAX / 2);
        config.line_bytes_max = config.line_bytes_max.min(limits::LINE_BYTES_MAX);
        let now = Instant::now();
        Ok(Self {
            scanner: Scanner::new(config.pods_root.clone()),
            compressor: zstd::bulk::Compressor::new(config.zstd_level)?,
            config,
            labeler,
            rules,
            metrics,
            out,
            chains: BTreeMap::new(),
            keys: HashMap::new(),
            chain_of: HashMap::new(),
            file_of: HashMap::new(),
            held: 0,
            crowded: false,
            pending: remote::Pending::default(),
            positions: None,
            firm: false,
            away: None,
            ending: None,
            next_ledger: None,
            builder: Builder::default(),
            counted: Taken::default(),
            buffer: vec![0; BUFFER_BYTES],
            plain: Vec::new(),
            packed: Vec::new(),
            next_number: 0,
            next_chain: 0,
            cursor: 0,
            next_scan: now,
            last_scan: None,
            hot_until: now + HOT_FOR,
            open_since: None,
            under_way: 0,
            epoch: 0,
            problems: HashMap::new(),
            watches: None,
        })
    }

    /// Has the folders of pods watched as they are found.
    pub(super) fn watch_with(&mut self, watches: Option<Watches>) {
        self.watches = watches;
    }

    /// Reads until it is told to stop or nobody is left to tell.
    pub fn run(mut self, events: &Receiver<Event>) {
        loop {
            let event = if self.work() {
                events.try_recv().ok()
            } else {
                match events.recv_timeout(self.pause()) {
                    Ok(event) => Some(event),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            };
            event.into_iter().for_each(|event| self.handle(event));
            while let Ok(event) = events.try_recv() {
                self.handle(event);
            }
            if self.has_ended() {
                self.finish();
                return;
            }
        }
    }

    /// Looks, reads, and hands over. `true` when there is more to do at once.
    fn work(&mut self) -> bool {
        let now = Instant::now();
        if now >= self.next_scan {
            self.scan(now);
            self.give_back_room();
        }
        let more = self.read(now);
        let age = self.config.batch_age;
        let old = |since| now.saturating_duration_since(since) >= age || self.ending.is_some();
        if self.open_since.is_some_and(old) && self.may_send() {
            self.hand_over();
        }
        if self.next_ledger.is_some_and(|at| now >= at) {
            self.write_stuck_ledger(now);
        }
        more && self.may_send()
    }

    /// Whether another batch may be on its way. (Void ones of before a conflict may still be in the
    /// channel.)
    fn may_send(&self) -> bool {
        self.under_way < UNDER_WAY_MAX && self.out.capacity() > 0
    }

    /// How long nothing is to be done. Looks are gathered: it is never very short.
    fn pause(&self) -> Duration {
        let now = Instant::now();
        let mut next = self.ends_at().map_or(self.next_scan, |end| end.min(self.next_scan));
        if self.may_send() {
            if let Some(since) = self.open_since {
                next = next.min(since + self.config.batch_age);
            }
            if self.positions.is_some() {
                next = self.chains.values().map(|c| c.next_look).fold(next, Instant::min);
            }
        }
        next.saturating_duration_since(now).max(self.config.poll_min / 2)
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Positions { known, firm, ledger } => self.begin(&known, firm, ledger),
            Event::Mode(mode) => self.go_away(mode.take()),
            Event::Acknowledged(ends) => {
                for (file, end) in ends {
                    let chain = self.chain_of.get(&file).and_then(|c| self.chains.get_mut(c));
                    // A file of an earlier generation may be forgotten already.
                    let _known = chain.is_some_and(|c| c.acknowledge(file, end));
                }
                self.under_way = self.under_way.saturating_sub(1);
            }
            Event::Conflict(positions) => self.rewind(&positions),
            Event::Hint(waiting) => {
                waiting.store(false, Ordering::Release);
                let now = Instant::now();
                self.hot_until = now + HOT_FOR;
                // However many hints there are, there is a pause between two looks.
                let soon = self.last_scan.map_or(now, |last| now.max(last + self.config.poll_min));
                self.next_scan = self.next_scan.min(soon);
            }
            Event::Status(answer) => {
                // The asker may have gone away meanwhile.
                let _gone = answer.send(self.status());
            }
            Event::Stop => self.begin_to_end(),
        }
    }

    /// Gives each chain that is due its turn.
    fn read(&mut self, now: Instant) -> bool {
        if self.positions.is_none() || !self.may_send() {
            return false;
        }
        let ending = self.ending.is_some();
        let due = |chains: std::ops::RangeFrom<u64>| {
            let due = move |c: &Chain| ending || c.next_look <= now;
            self.chains.range(chains).filter(move |(_, c)| due(c)).map(|(id, _)| *id)
        };
        let cursor = self.cursor;
        let mut order: Vec<u64> = due(cursor..).collect();
        order.extend(due(0..).take_while(|id| *id < cursor));
        let (mut more, mut waits, mut bytes) = (false, false, 0);
        for id in order {
            let progress = self.turn(id, now);
            more |= progress.more;
            waits |= progress.waits;
            bytes += progress.bytes;
            if self.builder.bytes() >= self.config.batch_bytes {
                self.hand_over();
                if !self.may_send() {
                    self.cursor = id + 1;
                    return true;
                }
            }
        }
        if bytes == 0 && !waits && self.chains.values().all(|c| c.whole) {
            self.pass_in_silence();
        }
        self.cursor = 0;
        more
    }

    /// Which files are read now.
    fn reach(&self) -> Reach {
        match &self.ending {
            Some(ending) => ending.reach(self.away.is_some()),
            None if self.away.is_some() => Reach::Vanishing,
            None => Reach::Everything,
        }
    }

    fn turn(&mut self, id: u64, now: Instant) -> Progress {
        let Some(mut chain) = self.chains.remove(&id) else { return Progress::default() };
        let numbers = self.next_number;
        let held = chain.held();
        let progress = self.with_turn(now, |turn| chain.turn(turn));
        let opened = chain.held() > held;
        self.held = (self.held + chain.held()).saturating_sub(held);
        if let Some(positions) = &mut self.positions {
            chain.left.drain(..).for_each(|(id, known)| positions.give_back(id, known));
        }
        if self.next_number != numbers {
            self.chain_of.extend(chain.files.iter().map(|f| (f.number, id)));
        }
        chain.pause = match progress.bytes {
            0 => (chain.pause * 2).min(self.config.poll_max),
            _ => self.config.poll_min,
        };
        chain.next_look = if progress.more { now } else { now + chain.pause };
        if self.open_since.is_none() && !self.builder.is_empty() {
            self.open_since = Some(now);
        }
        if chain.files.is_empty() && (chain.gone || chain.alone) {
            self.keys.retain(|_, chain| *chain != id);
        } else {
            self.chains.insert(id, chain);
        }
        if opened {
            // Files that were let go of are opened again when they grow: others make room.
            self.hold_at_most(self.config.open_files_max);
        }
        progress
    }

    fn with_turn<T>(&mut self, now: Instant, work: impl FnOnce(&mut Turn<'_>) -> T) -> T {
        let today = clock::unix_nanos();
        let reach = self.reach();
        self.builder.observe(today);
        work(&mut Turn {
            buffer: &mut self.buffer,
            builder: &mut self.builder,
            labeler: &self.labeler,
            config: &self.config,
            metrics: &self.metrics,
            next_number: &mut self.next_number,
            reach,
            hasty: self.ending.is_some(),
            now,
            today,
        })
    }

    /// The batch as it goes over the wire.
    fn request(&mut self, batch: &Batch) -> Request {
        batch.encode_into(&mut self.plain);
        self.packed.resize(zstd::zstd_safe::compress_bound(self.plain.len()), 0);
        // It fails without memory only; then the batch goes as it is.
        match self.compressor.compress_to_buffer(&self.plain, &mut self.packed[..]) {
            Ok(count) => {
                Request { body: Bytes::copy_from_slice(&self.packed[..count]), zstd: true }
            }
            Err(_) => Request { body: Bytes::copy_from_slice(&self.plain), zstd: false },
        }
    }

    /// Between two bursts nobody needs the room of the last batches.
    fn give_back_room(&mut self) {
        if self.open_since.is_none() && self.under_way == 0 {
            self.plain = Vec::new();
            self.packed = Vec::new();
        }
    }

    /// Closes the open batch and gives it to the shipper.
    fn hand_over(&mut self) {
        self.open_since = None;
        self.metrics.took(self.counted, self.builder.taken());
        self.counted = self.builder.taken();
        let (chains, chain_of) = (&self.chains, &self.chain_of);
        let batch = self.builder.finish(|number, end| {
            let chain = chain_of.get(&number).and_then(|c| chains.get(c));
            let file = chain.and_then(|c| c.files.iter().find(|f| f.number == number));
            file.map_or(0, |f| f.check(end))
        });
        let Some(batch) = batch else { return };
        // What goes to the spool is not sent as it is now.
        let request = self.away.is_none().then(|| self.request(&batch));
        let outgoing = Outgoing { epoch: self.epoch, batch, request };
        self.under_way += 1;
        // There is room, but for the last batch: that waits for it.
        if self.out.blocking_send(Parcel::Batch(outgoing)).is_err() {
            tracing::debug!("shipper has ended, batch is dropped");
        }
    }

    fn new_number(&mut self, chain: u64) -> FileNumber {
        let number = take_number(&mut self.next_number);
        self.chain_of.insert(number, chain);
        number
    }
}

#[cfg(test)]
mod tests;
