//! How far each source was read: the positions that stand beside the lines.
//!
//! A memtable knows only the positions that its own frames moved; a later one overrides an earlier,
//! and both override what the manifest has.

use std::collections::BTreeMap;
use std::ops::Bound;

use taffrail_model::record::Position;

use super::LogStore;
use super::memtable::Committed;

impl LogStore {
    /// The committed position of a source.
    pub fn position(&self, source: &str) -> Option<Position> {
        let state = self.state();
        let found = state.active.positions().get(source);
        let frozen = || state.frozen.as_ref().and_then(|f| f.table.positions().get(source));
        let committed = found.or_else(frozen).or_else(|| state.durable.get(source));
        committed.map(|&(committed, check)| Position { source: source.into(), committed, check })
    }

    /// The committed positions of all sources whose identity begins with `prefix`, sorted.
    pub fn positions(&self, prefix: &str) -> Vec<Position> {
        let state = self.state();
        let frozen = state.frozen.as_ref().map(|frozen| frozen.table.positions());
        let mut found: BTreeMap<&str, Committed> = BTreeMap::new();
        let from = (Bound::Included(prefix), Bound::Unbounded);
        for map in [Some(&state.durable), frozen, Some(state.active.positions())] {
            let known = map.into_iter().flat_map(|m| m.range::<str, _>(from));
            let matching = known.take_while(|(source, _)| source.starts_with(prefix));
            found.extend(matching.map(|(source, committed)| (source.as_str(), *committed)));
        }
        let to_position = |(source, (committed, check)): (&str, Committed)| Position {
            source: source.to_owned(),
            committed,
            check,
        };
        found.into_iter().map(to_position).collect()
    }
}
