//! When a file is at its end: whether the next one is begun, and when it is let go of.

use std::time::{Duration, Instant};

use taffrail_model::Nanos;

use super::{Chain, Step, Turn, format};
use crate::tail::file::Read;
use crate::tail::identity::look_at;
use crate::tail::join::Joiner;
use crate::tail::lane;

/// How long a file without its old name, but still with another, is read on.
const RENAMED_QUIET: Duration = Duration::from_secs(300);
/// How long an open line waits for its end when its file is silent: longer than a slow writer
/// pauses, and short enough that the last words of a container that has died are seen.
const OPEN_QUIET: Duration = Duration::from_secs(8);
/// How long whole lines wait behind an open one of the other output.
const HOLD: Duration = Duration::from_secs(30);
/// How old the last write to a rotated file must be for it to be taken as finished at first sight.
const OLD_NANOS: Nanos = 5_000_000_000;

impl Chain {
    /// Decides at the end of a file whether it is time for the next one.
    pub(super) fn at_end(&mut self, at: usize, turn: &mut Turn<'_>) -> Step {
        let last = at + 1 == self.files.len();
        let file = &mut self.files[at];
        if last && file.listed && !file.is_packed() {
            return Step::Stop;
        }
        let since = *file.quiet_since.get_or_insert(turn.now);
        let look = file.look().ok();
        let old = look.is_none_or(|l| turn.today.saturating_sub(l.modified) > OLD_NANOS);
        let wait = match look {
            _ if file.is_packed() || turn.hasty => Duration::ZERO,
            _ if !last && old => Duration::ZERO,
            // The folder of a volume that has gone must not be kept busy.
            Some(look) if last && look.links > 0 && !self.gone => RENAMED_QUIET,
            _ => turn.config.settle,
        };
        if turn.now.saturating_duration_since(since) < wait {
            return Step::Stop;
        }
        self.pass(at, turn);
        Step::Next
    }

    /// Leaves a file for the next one.
    pub(super) fn pass(&mut self, at: usize, turn: &mut Turn<'_>) {
        let next_start = self.files.get(at + 1).map(|f| f.place.restart);
        let Self { joiner, processor, files, .. } = self;
        let file = &mut files[at];
        let (number, format) = (file.number, format(&file.kind));
        let mut sink = processor.over(turn.now, turn.builder);
        file.lines.finish(|line| joiner.push(number, format, line, turn.today, &mut sink));
        if next_start != Some(file.place.restart) {
            joiner.give_up(&mut sink);
            processor.flush(turn.now, turn.builder);
        }
        file.passed_at = Some(turn.now);
    }

    /// Looks once more at a file that was left, and closes it when it is done with.
    pub(super) fn linger(&mut self, at: usize, turn: &mut Turn<'_>) {
        if self.has_open_line() {
            // What is late must not overtake the open line that may have begun in this file.
            return;
        }
        let file = &mut self.files[at];
        match file.read(turn.buffer) {
            Ok(Read::Data(range)) => {
                let mut joiner = Joiner::new(self.joiner.bounds());
                let (number, format) = (file.number, format(&file.kind));
                let bytes = &turn.buffer[range];
                let mut sink = self.processor.over(turn.now, turn.builder);
                file.lines.push(bytes, |line| {
                    joiner.push(number, format, line, turn.today, &mut sink);
                });
                joiner.give_up(&mut sink);
                self.processor.flush(turn.now, turn.builder);
                file.remember(bytes);
                file.passed_at = Some(turn.now);
            }
            Ok(Read::Skipped(_)) => file.passed_at = Some(turn.now),
            Err(error) if lane::is_absent(&error) => {}
            Ok(Read::End) | Err(_) => {
                let silent = file
                    .passed_at
                    .map_or(Duration::ZERO, |p| turn.now.saturating_duration_since(p));
                let hasty = file.is_packed() || self.gone;
                let patience = if hasty { Duration::ZERO } else { turn.config.linger };
                if silent < patience {
                    return;
                }
                let (joiner, number, format) = (&mut self.joiner, file.number, format(&file.kind));
                let mut sink = self.processor.over(turn.now, turn.builder);
                file.lines.finish(|line| joiner.push(number, format, line, turn.today, &mut sink));
                joiner.give_up(&mut sink);
                self.processor.flush(turn.now, turn.builder);
                if file.committed >= file.lines.resume() {
                    file.unlinked = file.look().is_ok_and(|look| look.links == 0);
                    file.close();
                }
            }
            Ok(Read::Replaced) => file.close(),
        }
    }

    pub(super) fn let_go_of_open_lines(&mut self, turn: &mut Turn<'_>) {
        let holds = self.joiner.holds();
        if holds != self.waiting.map(|(which, _)| which) {
            self.waiting = holds.map(|which| (which, turn.now));
        }
        if self.joiner.is_open() {
            let since = |then: Instant| turn.now.saturating_duration_since(then);
            let quiet = self.last_data.is_none_or(|last| since(last) > OPEN_QUIET);
            let mut sink = self.processor.over(turn.now, turn.builder);
            if quiet || self.waiting.is_some_and(|(_, began)| since(began) > HOLD) {
                self.joiner.give_up(&mut sink);
            }
        }
        let elsewhere = self.processor.is_open() && self.goes_on_elsewhere();
        self.processor.tick(turn.now, elsewhere, turn.builder);
    }

    /// Whether the container writes on in a file that is not read yet: then the silence of the one
    /// that is read says nothing.
    fn goes_on_elsewhere(&self) -> bool {
        let reading = self.files.iter().position(|f| f.is_open() && f.passed_at.is_none());
        let Some(at) = reading.filter(|_| !self.gone && !self.alone) else { return false };
        let file = &self.files[at];
        let renamed = || look_at(&file.path, true).map_or(true, |look| look.id != file.id);
        at + 1 < self.files.len() || file.place.rotated.is_some() || renamed()
    }

    /// Whether a line, or a record of several lines, waits for more.
    pub(super) fn has_open_line(&self) -> bool {
        self.joiner.is_open() || self.processor.has_open_record()
    }
}
