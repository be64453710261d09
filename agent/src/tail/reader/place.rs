//! Where reading begins, where it goes back to, and what changes when the collector goes away.

use std::collections::HashMap;
use std::time::Instant;

use taffrail_model::record::Position;

use super::{Reader, ledger};
use crate::spool::ledger::Entry;
use crate::tail::chain::physical_line_max;
use crate::tail::positions::Positions;

impl Reader {
    /// The collector has gone away or come back.
    pub(super) fn go_away(&mut self, away: bool) {
        let now = Instant::now();
        self.away = away.then_some(now);
        self.next_ledger = away.then(|| now + ledger::STUCK_INTERVAL);
        if away {
            self.write_ledger();
        } else {
            self.chains.values_mut().for_each(|c| c.next_look = now);
        }
    }

    /// It is known what is in the store: from now on files are read. When reading has begun without
    /// the collector, what was read and is not safe is read again from where it stands.
    pub(super) fn begin(&mut self, known: &[Position], firm: bool, ledger: Vec<Entry>) {
        let mut positions = Positions::new(&self.config.node, known);
        let line_max = physical_line_max(&self.config);
        self.forget_unread_remote();
        for file in self.chains.values_mut().flat_map(|c| &mut c.files) {
            let claimed = positions.claim(file.id);
            if let Some(claimed) = claimed.filter(|_| file.labelled.is_none())
                && let Err(error) = file.resume(claimed, &self.config.node, line_max)
            {
                file.error = Some(error.to_string());
            }
        }
        let again = self.positions.replace(positions).is_some();
        self.firm = firm;
        if again {
            self.rewind(known);
        }
        // Compressed files could not be judged without the positions; they come first in order.
        self.scan(Instant::now());
        if firm {
            if self.away.is_some() {
                self.write_ledger();
            }
            self.judge_ledger(ledger, known);
        }
    }

    /// Goes back to what is committed.
    pub(super) fn rewind(&mut self, positions: &[Position]) {
        self.epoch += 1;
        self.under_way = 0;
        self.open_since = None;
        self.metrics.rewinds.inc();
        let told: HashMap<&str, (u64, u64)> =
            positions.iter().map(|p| (p.source.as_str(), (p.committed, p.check))).collect();
        let mut committed = HashMap::new();
        let mut chains = std::mem::take(&mut self.chains);
        let now = Instant::now();
        for (id, chain) in &mut chains {
            self.with_turn(now, |turn| {
                let told = |source: &str| told.get(source).copied();
                chain.rewind(turn, told, |number, position| {
                    committed.insert(number, position);
                });
            });
            chain.next_look = now;
            self.chain_of.extend(chain.files.iter().map(|f| (f.number, *id)));
        }
        self.chains = chains;
        self.builder.rewind(|number| committed.get(&number).copied());
    }
}
