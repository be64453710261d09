//! Between the reader, the spool and the collector: what is sent next, and who takes it when the
//! collector does not.

use std::collections::VecDeque;
use std::time::Duration;

use taffrail_model::record::Position;
use tokio::time::Instant;

use super::deliver::ends;
use super::{Current, Origin, Outgoing, Parcel, Part, Shipper};
use crate::batch::Batch;
use crate::spool::{Oldest, Spool, Use};
use crate::tail::reader::Event;

/// How long a spool whose disk does not give the next batch is left alone.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(1);

impl Shipper {
    /// Takes up the next batch: the oldest of the spool; when it is empty, the reader's.
    pub(super) async fn load(&mut self) {
        if self.current.is_some() || !self.connected {
            return;
        }
        if self.spool_rests() {
            return;
        }
        if self.spool.as_ref().is_some_and(|s| !s.is_open()) {
            // What is in it is older than what the reader has.
            self.spool_retry = Some(Instant::now() + UNREADABLE_PAUSE);
            let _opened = self.with_spool(Spool::open).await;
        }
        if self.spool.as_ref().is_some_and(|s| !s.is_empty()) {
            match self.with_spool(|spool| spool.oldest().map(Part::packed)).await {
                Oldest::Batch(seq, part) => {
                    self.current = Some(Current::new(Origin::Spool(seq), part));
                    return;
                }
                Oldest::Later => {
                    self.spool_retry = Some(Instant::now() + UNREADABLE_PAUSE);
                    return;
                }
                Oldest::Empty => {}
            }
        }
        if self.away {
            self.come_back();
        }
        while let Some(Outgoing { epoch, batch, request }) = self.held.pop_front() {
            if epoch < self.epoch {
                self.metrics.batches.with_label_values(&["void"]).inc();
                continue;
            }
            let part = match request {
                Some(request) => Part { batch, request },
                None => Part::plain(batch),
            };
            self.current = Some(Current::new(Origin::Reader, part));
            return;
        }
    }

    /// Whether the spool is left alone for a while.
    fn spool_rests(&mut self) -> bool {
        self.spool_retry.take_if(|at| *at <= Instant::now());
        self.spool_retry.is_some()
    }

    /// Takes what the reader hands over.
    pub(super) async fn take(&mut self, parcel: Parcel) {
        match parcel {
            Parcel::Batch(outgoing) if outgoing.epoch < self.epoch => {
                self.metrics.batches.with_label_values(&["void"]).inc();
            }
            Parcel::Batch(outgoing) => {
                self.held.push_back(outgoing);
                if self.away {
                    self.keep().await;
                }
            }
            Parcel::Ledger(entries) => {
                // The spool has said why, if it cannot.
                let share = if self.ending.is_some() { Use::All } else { Use::Reserve };
                self.with_spool(move |spool| {
                    let _kept = spool.keep_ledger(entries, share).is_ok();
                })
                .await;
                self.need_no_ledger().await;
            }
        }
    }

    /// The ledger that was waited for is there, or will not come.
    pub(super) async fn need_no_ledger(&mut self) {
        if std::mem::take(&mut self.awaits_ledger) && self.away {
            self.keep().await;
        }
    }

    /// The collector is away: from now on what would vanish is kept in the spool. Before the first
    /// batch comes a ledger that knows what the collector took: the reader writes it when it is told.
    pub(super) async fn go_away(&mut self) {
        let Some(spool) = self.spool.as_ref().filter(|_| !self.away) else { return };
        let known = if self.connected { Vec::new() } else { spool.resume() };
        tracing::warn!(connected = self.connected, "collector is away, spooling what would vanish");
        self.awaits_ledger = self.connected && !self.closed;
        self.set_away(true);
        if !self.connected && !std::mem::replace(&mut self.blind, true) {
            self.tell(Event::Positions { known, firm: false, ledger: Vec::new() });
        }
        self.keep().await;
    }

    /// The collector is there and the spool is empty.
    fn come_back(&mut self) {
        tracing::info!("collector is back, reading on");
        self.set_away(false);
    }

    fn set_away(&mut self, away: bool) {
        self.away = away;
        if let Some(spool) = &self.spool {
            spool.set_away(away);
        }
        if self.mode.set(away) {
            self.tell(Event::Mode(self.mode.clone()));
        }
    }

    /// The collector has told its positions.
    pub(super) fn connect(&mut self, positions: Vec<Position>) {
        self.connected = true;
        let (mut known, mut ledger, mut waits) = (positions, Vec::new(), false);
        if let Some(spool) = &self.spool {
            waits = !spool.is_empty();
            known = spool.overlay(known);
            ledger = spool.ledger().iter().filter(|e| e.unread.is_some()).cloned().collect();
        }
        if waits && !self.away {
            self.set_away(true);
        }
        if std::mem::take(&mut self.blind) {
            // What was read without the positions, and is not in the spool, is read again by them.
            self.epoch += 1;
            self.metrics.batches.with_label_values(&["void"]).inc_by(self.held.len() as u64);
            self.held.clear();
        }
        self.tell(Event::Positions { known, firm: true, ledger });
        // The reader goes to the collector's positions: the next batch must find them in a ledger.
        self.awaits_ledger = self.away && !self.closed;
    }

    /// The process is to end: a collector that does not answer is not waited for.
    pub(super) async fn begin_to_end(&mut self) {
        self.ending = Some(Instant::now());
        if self.failures > 0 {
            self.go_away().await;
        }
    }

    /// Puts into the spool what neither it nor the collector has, as far as it takes it.
    pub(super) async fn keep(&mut self) {
        if self.awaits_ledger {
            return;
        }
        let share = if self.ending.is_some() { Use::Reserve } else { Use::Most };
        if let Some(current) = self.current.take_if(|c| c.origin == Origin::Reader) {
            self.keep_current(current, share).await;
        }
        let stuck = self.current.as_ref().is_some_and(|c| c.origin == Origin::Reader);
        if self.held.is_empty() || stuck {
            return;
        }
        let epoch = self.epoch;
        self.held.retain(|o| o.epoch >= epoch);
        let held = std::mem::take(&mut self.held);
        let (held, kept) = self
            .with_spool(move |spool| {
                let mut left: VecDeque<Outgoing> = held;
                let mut kept = Vec::new();
                while let Some(next) = left.front() {
                    if spool.append(&next.batch, share).is_err() {
                        break;
                    }
                    kept.extend(left.pop_front().map(|o| o.batch));
                }
                (left, kept)
            })
            .await;
        self.held = held;
        for batch in kept {
            self.metrics.batches.with_label_values(&["spooled"]).inc();
            self.tell(Event::Acknowledged(ends(&batch).collect()));
        }
    }

    /// Puts the batch that is being sent into the spool. It may have parts that are each a batch by
    /// now; an attempt that is under way goes on for the first of them.
    async fn keep_current(&mut self, current: Current, share: Use) {
        let (current, first) = self
            .with_spool(move |spool| {
                let first = append_all(spool, current.parts.iter().rev().map(|p| &p.batch), share);
                (Some(current), first)
            })
            .await;
        let Some(mut current) = current else { return };
        if let Some(seq) = first {
            self.metrics.batches.with_label_values(&["spooled"]).inc();
            let safe = current.parts.iter().rev().flat_map(|p| ends(&p.batch));
            let all = current.ends.iter().copied().chain(safe).collect();
            self.tell(Event::Acknowledged(all));
            current.origin = Origin::Spool(seq);
            current.parts.drain(..current.parts.len().saturating_sub(1));
        }
        self.current = Some(current);
    }
}

impl Current {
    fn new(origin: Origin, part: Part) -> Self {
        Self { origin, parts: vec![part], ends: Vec::new() }
    }
}

/// Keeps all of the batches or says that it has not. The number is that of the first. When one of
/// them is not kept, those before it stay: they are sent twice and recognised.
fn append_all<'a>(
    spool: &mut Spool,
    batches: impl Iterator<Item = &'a Batch>,
    share: Use,
) -> Option<u64> {
    let mut first = None;
    for batch in batches {
        let seq = spool.append(batch, share).ok()?;
        first.get_or_insert(seq);
    }
    first
}
