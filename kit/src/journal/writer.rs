//! The one place that changes the files of an open journal: append, sync, remove.
//!
//! Invariants of [`State`]:
//! - `segments` is never empty; the last one is open as `active`, and its `bytes` end with a whole
//!   frame, whatever may lie behind them.
//! - All segments but the last are synced whole before the next one is created. So after a power cut
//!   only the last one can be torn, and no frame survives whose predecessor did not.
//! - Once `poisoned`, nothing is written any more.
//! - One sync at a time: a failure is told to one caller only, and the next sync of the same file may
//!   then succeed although frames are lost.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::disk::{Disk, DiskFile};
use super::frame::{FRAME_HEADER_BYTES, SEGMENT_HEADER_BYTES, encode_frame};
use super::recover::Recovered;
use super::segment::{self, Segment};
use super::{Error, Options};

/// A last segment with less than this fraction of a full one is kept, needed or not.
const SEGMENT_FRACTION: u64 = 16;

/// How far the journal is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Durable {
    /// All frames up to this number survive a power cut.
    pub(super) seq: u64,
    /// Why no later frame ever will.
    pub(super) poisoned: Option<Arc<str>>,
}

pub(super) struct State {
    pub(super) segments: VecDeque<Segment>,
    active: Arc<dyn DiskFile>,
    pub(super) next_seq: u64,
    durable_seq: u64,
    pub(super) poisoned: Option<Arc<str>>,
    /// The sync thread syncs the active segment and has not yet said how it went.
    syncing: bool,
    closing: bool,
    buffer: Vec<u8>,
}

/// What the appenders, the sync thread and the waiters share.
pub(super) struct Writer {
    pub(super) disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: Options,
    state: Mutex<State>,
    /// The sync thread waits here for work.
    work: Condvar,
    /// Blocking waiters wait here.
    progress: Condvar,
    durable: watch::Sender<Durable>,
}

impl Writer {
    /// A writer behind the recovered segments. All of them are durable when this returns.
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        options: Options,
        recovered: Recovered,
    ) -> Result<Self, Error> {
        let Recovered { mut segments, next_seq, tail_seq, .. } = recovered;
        let next_seq = next_seq.max(options.next_seq_min).max(1);
        let active = match segments.back() {
            Some(last) if tail_seq == Some(next_seq) => {
                disk.open(&last.path).map_err(|e| Error::io("open", &last.path, e))?
            }
            _ => {
                let (segment, file) = segment::create(&*disk, &dir, next_seq)?;
                segments.push_back(segment);
                file
            }
        };
        // After a kill the tail may be in the page cache only.
        active.sync().map_err(|e| Error::io("sync", &dir, e))?;
        let durable_seq = next_seq - 1;
        let state = State {
            segments,
            active,
            next_seq,
            durable_seq,
            poisoned: None,
            syncing: false,
            closing: false,
            buffer: Vec::new(),
        };
        Ok(Self {
            disk,
            dir,
            options,
            state: Mutex::new(state),
            work: Condvar::new(),
            progress: Condvar::new(),
            durable: watch::Sender::new(Durable { seq: durable_seq, poisoned: None }),
        })
    }

    /// Every critical section leaves the state whole, so a panic in one is no reason to stop.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Durable> {
        self.durable.subscribe()
    }

    /// Appends one frame. On an error nothing was appended.
    pub(super) fn append(&self, parts: &[&[u8]]) -> Result<u64, Error> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let limit = self.options.frame_bytes_max;
        let payload_bytes = u32::try_from(bytes)
            .ok()
            .filter(|&bytes| bytes <= limit)
            .ok_or(Error::FrameTooLarge { bytes, limit })?;
        let is_full = |state: &State| self.is_full(state, (FRAME_HEADER_BYTES + bytes) as u64);
        let mut state = self.settled(self.lock(), is_full);
        if let Some(reason) = &state.poisoned {
            return Err(Error::Poisoned(reason.clone()));
        }
        if is_full(&state) {
            self.begin_segment(&mut state)?;
        }
        let seq = state.next_seq;
        let mut buffer = std::mem::take(&mut state.buffer);
        encode_frame(seq, payload_bytes, parts, &mut buffer);
        let written = self.write(&mut state, &buffer);
        state.buffer = buffer;
        written?;
        state.next_seq += 1;
        drop(state);
        self.work.notify_one();
        Ok(seq)
    }

    /// Whether a frame needs a new segment.
    fn is_full(&self, state: &State, frame_bytes: u64) -> bool {
        let bytes = state.segments.back().expect("never empty").bytes;
        let has_frames = bytes > SEGMENT_HEADER_BYTES as u64;
        has_frames && bytes + frame_bytes > self.options.segment_bytes
    }

    /// Waits until no sync is under way if the state is one that will be synced.
    fn settled<'a>(
        &self,
        state: MutexGuard<'a, State>,
        will_sync: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        let is_busy = |state: &mut State| state.syncing && will_sync(state);
        self.progress.wait_while(state, is_busy).unwrap_or_else(PoisonError::into_inner)
    }

    /// Syncs the active segment and begins the next one. The state is [`Self::settled`].
    fn begin_segment(&self, state: &mut State) -> Result<(), Error> {
        if let Err(source) = state.active.sync() {
            let path = state.segments.back().expect("never empty").path.clone();
            self.poison(state, &format!("sync {}: {source}", path.display()));
            return Err(Error::io("sync", &path, source));
        }
        let (segment, file) = segment::create(&*self.disk, &self.dir, state.next_seq)?;
        state.segments.push_back(segment);
        state.active = file;
        state.durable_seq = state.next_seq - 1;
        self.announce(state);
        Ok(())
    }

    fn write(&self, state: &mut State, frame: &[u8]) -> Result<(), Error> {
        let segment = state.segments.back_mut().expect("never empty");
        let Err(source) = state.active.write_all_at(frame, segment.bytes) else {
            segment.bytes += frame.len() as u64;
            return Ok(());
        };
        let path = segment.path.clone();
        // No space left, most likely. What was written of the frame must not stay behind the last
        // good one.
        if let Err(error) = state.active.set_len(segment.bytes) {
            self.poison(state, &format!("cut {}: {error}", path.display()));
        }
        Err(Error::io("append to", &path, source))
    }

    /// After a sync that failed nobody knows which pages are on the disk, and asking again may
    /// succeed without writing them. Only reading everything again, at the next open, tells.
    fn poison(&self, state: &mut State, reason: &str) {
        state.poisoned = Some(Arc::from(reason));
        self.announce(state);
    }

    fn announce(&self, state: &State) {
        let durable = Durable { seq: state.durable_seq, poisoned: state.poisoned.clone() };
        self.durable.send_replace(durable);
        self.progress.notify_all();
    }

    /// The sync thread: makes durable what was appended, until the journal is closed or poisoned.
    /// Appends that come while a sync runs share the next one.
    pub(super) fn sync_loop(&self) {
        let mut state = self.lock();
        loop {
            while state.durable_seq + 1 == state.next_seq && !state.closing {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.durable_seq + 1 == state.next_seq || state.poisoned.is_some() {
                return;
            }
            state = self.gather(state);
            let (target, file) = (state.next_seq - 1, state.active.clone());
            state.syncing = true;
            drop(state);
            let synced = file.sync();
            state = self.lock();
            state.syncing = false;
            match synced {
                Ok(()) => state.durable_seq = target,
                Err(error) => {
                    let reason = format!("sync {}: {error}", self.dir.display());
                    self.poison(&mut state, &reason);
                    return;
                }
            }
            self.announce(&state);
        }
    }

    fn gather<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let Options { gather, .. } = self.options;
        if gather.is_zero() || state.closing {
            return state;
        }
        let gather = gather.min(Duration::from_secs(1));
        let wait = self.work.wait_timeout_while(state, gather, |state| !state.closing);
        wait.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Blocks until a frame is durable.
    pub(super) fn wait(&self, seq: u64) -> Result<(), Error> {
        let mut state = self.lock();
        loop {
            if state.durable_seq >= seq {
                return Ok(());
            }
            if let Some(reason) = &state.poisoned {
                return Err(Error::Poisoned(reason.clone()));
            }
            state = self.progress.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Begins a new segment, unless the newest one is empty; the number of its first frame.
    pub(super) fn turn_over(&self) -> Result<u64, Error> {
        let mut state = self.settled(self.lock(), |_| true);
        if let Some(reason) = &state.poisoned {
            return Err(Error::Poisoned(reason.clone()));
        }
        let newest = state.segments.back().expect("never empty");
        if newest.bytes > SEGMENT_HEADER_BYTES as u64 {
            self.begin_segment(&mut state)?;
        }
        Ok(state.next_seq)
    }

    /// Removes the segments that hold only frames before `seq`. When that is all of them, a new one
    /// is begun, whose name keeps the number of the next frame.
    pub(super) fn truncate_before(&self, seq: u64) -> Result<u64, Error> {
        let mut removed = self.remove_before(seq)?;
        {
            let mut state = self.settled(self.lock(), |_| true);
            let active = state.segments.back().expect("never empty");
            let frames_bytes = active.bytes - SEGMENT_HEADER_BYTES as u64;
            // A new file for every few bytes would cost more than the bytes.
            let few = frames_bytes <= self.options.segment_bytes / SEGMENT_FRACTION;
            if few || seq < state.next_seq || state.poisoned.is_some() {
                return Ok(removed);
            }
            self.begin_segment(&mut state)?;
        }
        removed += self.remove_before(seq)?;
        Ok(removed)
    }

    fn remove_before(&self, seq: u64) -> Result<u64, Error> {
        let mut removed = 0;
        loop {
            let mut state = self.lock();
            let disposable = state.segments.get(1).is_some_and(|next| next.first_seq <= seq);
            let Some(segment) = disposable.then(|| state.segments.pop_front()).flatten() else {
                break;
            };
            drop(state);
            if let Err(source) = self.disk.remove(&segment.path) {
                let path = segment.path.clone();
                self.lock().segments.push_front(segment);
                return Err(Error::io("remove", &path, source));
            }
            removed += segment.bytes;
        }
        if removed > 0 {
            self.disk.sync_dir(&self.dir).map_err(|e| Error::io("sync", &self.dir, e))?;
        }
        Ok(removed)
    }

    /// Lets the sync thread make durable what is there, and end.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.work.notify_all();
    }
}
