//! System calls that may never come back, made on threads that nobody has to wait for.
//!
//! A network file system whose server is away holds whoever touches it for as long as it likes. So
//! each one has a [`Lane`]: a thread that does what is asked of it, one thing after the other. Who
//! asks keeps an [`Asked`] and comes again for the answer. [`Lanes`] tells which paths have one.
//!
//! Invariants:
//! - Nobody waits for all lanes together for longer than [`PATIENCE`] in each [`WINDOW`], and for
//!   one that hangs not at all.
//! - An answer that came too late for one look is there for the next: what is slow is read slowly.
//! - A file of a lane is closed by the lane, since that may hang too; on a file system that is served
//!   by a process (FUSE) none is held open at all.
//! - No more than [`LANES_MAX`] threads, whatever hangs; each has no more than [`ASKED_MAX`] answers
//!   that nobody has come for.

mod lanes;
mod mounts;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use taffrail_kit::clock;
use taffrail_model::Nanos;
use taffrail_model::time::format_rfc3339;

pub use lanes::Lanes;
use mounts::Mount;

/// Most file systems with a lane.
pub const LANES_MAX: usize = 64;
/// Most answers of a lane that nobody has come for.
const ASKED_MAX: usize = 256;
/// How long is waited for the answers of all lanes together in each window.
const PATIENCE: Duration = Duration::from_millis(100);
/// The window.
const WINDOW: Duration = Duration::from_millis(500);
/// After how long without an answer a file system is said to hang.
const HANGS_AFTER: Duration = Duration::from_millis(500);

type Job = Box<dyn FnOnce() + Send>;

/// Whether an answer is not there yet: the file is what it was, as far as anybody knows.
#[must_use]
pub fn is_absent(error: &io::Error) -> bool {
    is_late(error) || error.kind() == io::ErrorKind::TimedOut
}

/// Likewise, but it is only slow.
#[must_use]
pub fn is_late(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// A thread of one file system. Cheap to clone; it ends with the last clone.
#[derive(Clone, Debug)]
pub struct Lane(Arc<Owner>);

#[derive(Debug)]
struct Owner {
    point: PathBuf,
    served: bool,
    /// None: there were too many lanes, or no thread was to be had.
    thread: Option<Arc<Thread>>,
    patience: Arc<Patience>,
    asked: AtomicUsize,
}

#[derive(Default)]
struct Thread {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    /// Since when it does what it does.
    busy: Option<(Instant, Nanos)>,
    ended: bool,
}

impl std::fmt::Debug for Thread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Thread").finish_non_exhaustive()
    }
}

impl Thread {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what is asked until nobody is left to ask and everything is done.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                state.busy = Some((Instant::now(), clock::unix_nanos()));
                drop(state);
                job();
                state = self.lock();
                state.busy = None;
            } else if state.ended {
                return;
            } else {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn push(&self, job: Job) {
        self.lock().queue.push_back(job);
        self.wake.notify_one();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(thread) = &self.thread {
            thread.lock().ended = true;
            thread.wake.notify_one();
        }
    }
}

impl Lane {
    /// A new thread for a file system; without one everything is refused.
    fn new(mount: &Mount, patience: Arc<Patience>, allowed: bool) -> Self {
        let thread = allowed.then(Arc::<Thread>::default).filter(|thread| {
            let own = thread.clone();
            let started = std::thread::Builder::new().name("lane".into()).spawn(move || own.work());
            started.inspect_err(|error| tracing::warn!(%error, "no thread for a volume")).is_ok()
        });
        let (point, served) = (mount.point.clone(), mount.served);
        Self(Arc::new(Owner { point, served, thread, patience, asked: AtomicUsize::new(0) }))
    }

    /// Where the file system is.
    #[must_use]
    pub fn point(&self) -> &Path {
        &self.0.point
    }

    /// Whether its files may be held open. One that a process serves is asked when a file is closed,
    /// also by the kernel when we end: with a file open we would not end before it answers.
    #[must_use]
    pub fn may_hold(&self) -> bool {
        !self.0.served
    }

    /// Since when it does not answer.
    #[must_use]
    pub fn hangs(&self) -> Option<Nanos> {
        let (since, day) = self.0.thread.as_ref()?.lock().busy?;
        (since.elapsed() >= HANGS_AFTER).then_some(day)
    }

    fn is_asked(&self) -> bool {
        self.0.asked.load(Ordering::Relaxed) > 0
    }

    /// Does one thing and waits for it, as long as there is patience. What comes later is dropped.
    ///
    /// # Errors
    /// What it says; [`is_absent`] when it does not come back in time.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        Asked::default().get(self, work)
    }

    /// Lets go of a file, some time. There are no more of these than files were open.
    pub fn close(&self, file: Arc<File>) {
        if let Some(thread) = &self.0.thread {
            thread.push(Box::new(move || drop(file)));
        }
    }

    fn start<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<Waiting<T>> {
        let thread = self.0.thread.as_ref().ok_or_else(|| self.absence())?;
        if self.hangs().is_some() || self.0.asked.load(Ordering::Relaxed) >= ASKED_MAX {
            return Err(self.absence());
        }
        let (sender, answer) = sync_channel(1);
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        // Nobody may have waited for it.
        thread.push(Box::new(move || drop(sender.send(work()))));
        Ok(Waiting { answer, lane: self.clone() })
    }

    /// Why there is no answer.
    fn absence(&self) -> io::Error {
        let point = self.0.point.display();
        if self.0.thread.is_none() {
            let text = format!("more than {LANES_MAX} network file systems: {point} is not read");
            return io::Error::other(text);
        }
        match self.hangs() {
            Some(since) => {
                let since = format_rfc3339(since - since.rem_euclid(1_000_000_000));
                let text = format!("the file system at {point} has not answered since {since}");
                io::Error::new(io::ErrorKind::TimedOut, text)
            }
            None => io::ErrorKind::WouldBlock.into(),
        }
    }
}

/// An answer that somebody may be waiting for.
#[derive(Debug)]
pub struct Asked<T>(Option<Waiting<T>>);

#[derive(Debug)]
struct Waiting<T> {
    answer: Receiver<io::Result<T>>,
    lane: Lane,
}

impl<T> Drop for Waiting<T> {
    fn drop(&mut self) {
        self.lane.0.asked.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T> Default for Asked<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Asked<T> {
    /// Whether an answer is to come.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.0.is_some()
    }
}

impl<T: Send + 'static> Asked<T> {
    /// The answer to what was asked before, or else to this. It is waited for a little.
    ///
    /// # Errors
    /// What was answered; [`is_absent`] when nothing was yet: come again.
    pub fn get(
        &mut self,
        lane: &Lane,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let before = self.0.take().filter(|waiting| Arc::ptr_eq(&waiting.lane.0, &lane.0));
        let waiting = match before {
            Some(waiting) => waiting,
            None => lane.start(work)?,
        };
        let answer = match waiting.answer.try_recv() {
            Err(TryRecvError::Empty) if lane.hangs().is_none() => {
                lane.0.patience.wait(&waiting.answer)
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(io::Error::other("was not answered"))),
            Ok(answer) => Some(answer),
        };
        answer.unwrap_or_else(|| {
            self.0 = Some(waiting);
            Err(lane.absence())
        })
    }
}

/// How long was waited for all lanes together.
#[derive(Debug)]
struct Patience(Mutex<(Instant, Duration)>);

impl Default for Patience {
    fn default() -> Self {
        Self(Mutex::new((Instant::now(), Duration::ZERO)))
    }
}

impl Patience {
    fn wait<T>(&self, answer: &Receiver<T>) -> Option<T> {
        let start = Instant::now();
        let mut spent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if start.saturating_duration_since(spent.0) >= WINDOW {
            *spent = (start, Duration::ZERO);
        }
        let left = PATIENCE.saturating_sub(spent.1);
        let answer = if left.is_zero() { None } else { answer.recv_timeout(left).ok() };
        spent.1 += start.elapsed();
        answer
    }
}

/// An open file of a lane, closed by it.
#[derive(Debug)]
pub struct Held {
    file: Option<Arc<File>>,
    lane: Lane,
}

impl Held {
    /// Takes care of a file.
    #[must_use]
    pub fn new(file: impl Into<Arc<File>>, lane: Lane) -> Self {
        Self { file: Some(file.into()), lane }
    }

    /// The same file, for a while.
    #[must_use]
    pub fn share(&self) -> Self {
        Self { file: self.file.clone(), lane: self.lane.clone() }
    }

    /// This, if it may be held open.
    #[must_use]
    pub fn keep(self) -> Option<Self> {
        self.lane.may_hold().then_some(self)
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &File {
        self.file.as_ref().expect("it is taken when this is dropped")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            self.lane.close(file);
        }
    }
}

#[cfg(test)]
mod tests;
