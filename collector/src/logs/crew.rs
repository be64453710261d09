//! Threads that look at the blocks of one query side by side.
//!
//! A query always has one thread. More come from a crew that all queries of the store share, as many
//! as there are processors beyond the first; who finds none free goes on alone. Nothing waits for a
//! thread, so nothing can wait for ever. All threads of a query have ended when its call returns.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};

use taffrail_query::source::{Cancel, SourceError};

/// Fewer pieces of work than this are not worth a thread.
const PIECES_MIN: usize = 8;
/// Results that wait for the caller, for each thread.
const WAITING: usize = 4;

/// The threads that queries may have beside their own.
pub(super) struct Crew {
    free: AtomicUsize,
}

/// Threads taken from a crew, given back when dropped.
struct Hands<'c> {
    crew: &'c Crew,
    count: usize,
}

impl Drop for Hands<'_> {
    fn drop(&mut self) {
        self.crew.free.fetch_add(self.count, Ordering::Relaxed);
    }
}

impl Crew {
    /// A crew for all processors but one.
    pub(super) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self { free: AtomicUsize::new(processors - 1) }
    }

    fn hire(&self, pieces: usize) -> Hands<'_> {
        let wanted = pieces / PIECES_MIN;
        let taken = self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| {
            Some(free - free.min(wanted))
        });
        Hands { crew: self, count: taken.unwrap_or_default().min(wanted) }
    }

    /// Does all pieces of work, each on one of several threads. `begin` makes what a thread keeps from
    /// piece to piece. Ends at the first error.
    ///
    /// # Errors
    /// The first error of a piece.
    pub(super) fn each<P: Sync, S>(
        &self,
        pieces: &[P],
        cancel: &Cancel,
        begin: impl Fn() -> Result<S, SourceError> + Sync,
        work: impl Fn(&P, &mut S) -> Result<(), SourceError> + Sync,
    ) -> Result<(), SourceError> {
        let next = AtomicUsize::new(0);
        let failed = Mutex::new(None);
        let run = || {
            let run = || {
                let mut state = begin()?;
                while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                    cancel.check()?;
                    work(piece, &mut state)?;
                }
                Ok(())
            };
            if let Err(error) = run() {
                // So that the others end too.
                next.store(pieces.len(), Ordering::Relaxed);
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        };
        let hands = self.hire(pieces.len());
        std::thread::scope(|scope| {
            for _ in 0..hands.count {
                scope.spawn(run);
            }
            run();
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }

    /// As [`Crew::each`], and gives what comes of the pieces to `take` on the caller's thread, in no
    /// particular order, until that says to stop.
    ///
    /// # Errors
    /// The first error of a piece.
    pub(super) fn gather<P: Sync, S, R: Send>(
        &self,
        pieces: &[P],
        cancel: &Cancel,
        begin: impl Fn() -> Result<S, SourceError> + Sync,
        work: impl Fn(&P, &mut S) -> Result<Option<R>, SourceError> + Sync,
        mut take: impl FnMut(R) -> std::ops::ControlFlow<()>,
    ) -> Result<(), SourceError> {
        let hands = self.hire(pieces.len());
        if hands.count == 0 {
            let mut state = begin()?;
            for piece in pieces {
                cancel.check()?;
                if let Some(result) = work(piece, &mut state)?
                    && take(result).is_break()
                {
                    break;
                }
            }
            return Ok(());
        }
        let next = AtomicUsize::new(0);
        let stopped = AtomicBool::new(false);
        let (sender, receiver) = mpsc::sync_channel(WAITING * hands.count);
        let run = |sender: mpsc::SyncSender<Result<R, SourceError>>| {
            let run = || {
                let mut state = begin()?;
                while !stopped.load(Ordering::Relaxed)
                    && let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    cancel.check()?;
                    // Nobody receives any more: the caller has stopped.
                    if let Some(result) = work(piece, &mut state)?
                        && sender.send(Ok(result)).is_err()
                    {
                        break;
                    }
                }
                Ok(())
            };
            if let Err(error) = run() {
                sender.send(Err(error)).ok();
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..hands.count {
                let sender = sender.clone();
                scope.spawn(|| run(sender));
            }
            drop(sender);
            let mut outcome = Ok(());
            for result in &receiver {
                match result.map(&mut take) {
                    Ok(flow) if flow.is_continue() => {}
                    Ok(_) => break,
                    Err(error) => {
                        outcome = Err(error);
                        break;
                    }
                }
            }
            stopped.store(true, Ordering::Relaxed);
            drop(receiver);
            outcome
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::ControlFlow;

    #[test]
    fn every_piece_is_done_once_and_threads_come_back() {
        let crew = Crew { free: AtomicUsize::new(3) };
        let pieces: Vec<u64> = (0..1000).collect();
        let sum = Mutex::new(0);
        let cancel = Cancel::new();
        let work = |piece: &u64, _: &mut ()| {
            *sum.lock().unwrap() += piece;
            Ok(())
        };
        crew.each(&pieces, &cancel, || Ok(()), work).unwrap();
        assert_eq!(*sum.lock().unwrap(), 499_500);
        let mut gathered = 0;
        let work = |piece: &u64, _: &mut ()| Ok(piece.is_multiple_of(2).then_some(*piece));
        let take = |piece| {
            gathered += piece;
            ControlFlow::Continue(())
        };
        crew.gather(&pieces, &cancel, || Ok(()), work, take).unwrap();
        assert_eq!(gathered, 249_500);
        assert_eq!(crew.free.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn an_error_or_the_caller_ends_all_threads() {
        for free in [0, 3] {
            let crew = Crew { free: AtomicUsize::new(free) };
            let pieces: Vec<u64> = (0..10_000).collect();
            let cancel = Cancel::new();
            let fail = |piece: &u64| match piece {
                5000 => Err(SourceError::Storage("broken".into())),
                _ => Ok(()),
            };
            crew.each(&pieces, &cancel, || Ok(()), |p, _: &mut ()| fail(p)).expect_err("an error");
            let mut taken = 0;
            let work = |piece: &u64, _: &mut ()| fail(piece).map(|()| Some(*piece));
            let mut take = |_| {
                taken += 1;
                if taken < 100 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            crew.gather(&pieces, &cancel, || Ok(()), work, &mut take).unwrap();
            assert_eq!(taken, 100);
            let end = |_| ControlFlow::Continue(());
            crew.gather(&pieces, &cancel, || Ok(()), work, end).expect_err("an error");
            cancel.cancel();
            crew.gather(&pieces, &cancel, || Ok(()), work, end).expect_err("cancelled");
            assert_eq!(crew.free.load(Ordering::Relaxed), free);
        }
    }
}
