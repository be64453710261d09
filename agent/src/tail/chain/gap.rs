//! Bytes of a file that are lost, on their way to a record that says so.

use std::sync::Arc;

use taffrail_model::Labels;

use super::Turn;
use crate::batch::{FileMeta, Loss};
use crate::tail::file::TailFile;
use crate::tail::{FileKind, LogStream, packed};

/// A range of a file that will never come.
#[derive(Debug)]
pub struct Gap {
    /// Identity of the file.
    pub source: Arc<str>,
    /// Where it was.
    pub path: Arc<str>,
    /// The labels of the record.
    pub labels: Labels,
    /// First byte that is lost. Everything before it is safe.
    pub begin: u64,
    /// First byte after it.
    pub end: u64,
    /// Why.
    pub loss: Loss,
}

impl Gap {
    /// What was read of a file from `target` on, was not delivered and cannot be read again.
    pub(super) fn behind(file: &TailFile, target: u64, turn: &Turn<'_>) -> Option<Self> {
        let labels = turn.builder.labels(file.number)?;
        let loss = if file.is_open() { Loss::Truncated } else { Loss::Removed };
        let end = file.position();
        (end > target).then(|| Self {
            source: file.source.clone(),
            path: file.path.to_string_lossy().into(),
            labels: labels[stream(&file.kind) as usize].clone(),
            begin: target,
            end,
            loss,
        })
    }

    /// Puts the record into the batch, and counts.
    pub fn put(self, turn: &mut Turn<'_>) {
        let Self { source, path, labels, begin, end, loss } = self;
        let bytes = end.saturating_sub(begin);
        tracing::warn!(%path, bytes, reason = loss.name(), "bytes of a log file are lost");
        turn.metrics.lost(loss, bytes);
        let number = turn.number();
        let labels = [Labels::default(), Labels::default(), labels];
        turn.builder.declare(number, FileMeta { source, path, labels, released: begin });
        turn.builder.gap(number, LogStream::File, end, loss);
        turn.builder.forget(number);
    }
}

/// What is left of a compressed file that is damaged, in the range of the file itself.
pub(super) fn of_damaged(file: &TailFile, turn: &mut Turn<'_>) {
    let Ok(size) = packed::unpacked_size(&file.path) else { return };
    let from = turn.builder.released(file.number).unwrap_or(size);
    if size <= from {
        return;
    }
    tracing::warn!(path = %file.path.display(), bytes = size - from, "bytes of a log file are lost");
    turn.metrics.lost(Loss::Damaged, size - from);
    turn.builder.gap(file.number, stream(&file.kind), size, Loss::Damaged);
}

/// The output in whose stream it is told.
fn stream(kind: &FileKind) -> LogStream {
    match kind {
        FileKind::Container { .. } => LogStream::Stdout,
        FileKind::Volume { .. } | FileKind::Plain { .. } => LogStream::File,
    }
}
