//! What is done when a file does not read as it should: it cannot be read, or begins anew.

use super::{Chain, Step, Turn, format, gap, physical_line_max};
use crate::tail::identity::{self, Version, family};
use crate::tail::lane;

impl Chain {
    pub(super) fn unreadable(
        &mut self,
        at: usize,
        error: &std::io::Error,
        turn: &mut Turn<'_>,
    ) -> Step {
        if lane::is_late(error) {
            return Step::Wait;
        }
        let file = &mut self.files[at];
        // Of a file system that hangs it is said once for all its files.
        if file.error.is_none() && !lane::is_absent(error) {
            tracing::warn!(path = %file.path.display(), %error, "cannot read file");
            turn.metrics.read_errors.inc();
        }
        file.error = Some(error.to_string());
        // A damaged compressed file stays damaged; a plain one may be readable later.
        if file.is_packed() {
            self.pass(at, turn);
            // Of a torn one nobody knows how long it was.
            if error.kind() != std::io::ErrorKind::UnexpectedEof {
                self.joiner.give_up(&mut self.processor.over(turn.now, turn.builder));
                self.processor.flush(turn.now, turn.builder);
                gap::of_damaged(&self.files[at], turn);
            }
            return Step::Next;
        }
        Step::Stop
    }

    /// The same file with new content.
    pub(super) fn begin_anew(&mut self, at: usize, turn: &mut Turn<'_>) {
        let Self { joiner, processor, files, .. } = self;
        let file = &mut files[at];
        let (number, format) = (file.number, format(&file.kind));
        if file.labelled.is_some() {
            let mut sink = processor.over(turn.now, turn.builder);
            file.lines.finish(|line| joiner.push(number, format, line, turn.today, &mut sink));
            joiner.give_up(&mut sink);
            processor.flush(turn.now, turn.builder);
        }
        turn.builder.forget(number);
        let version = Version::Generation(file.generation + 1);
        let source = identity::source(&turn.config.node, file.id, family(&file.kind), version);
        file.begin_anew(turn.number(), source.into(), physical_line_max(turn.config));
    }
}
