//! Labels of a file's streams: asked for before the first read, and again for each batch.

use taffrail_model::Labels;

use super::Turn;
use crate::batch::FileMeta;
use crate::tail::file::TailFile;
use crate::tail::{FileKind, Labeling, LogStream};

/// Asks for the labels of a file's streams and tells the builder. `false`: they are not known yet.
pub(super) fn label(file: &mut TailFile, turn: &mut Turn<'_>) -> bool {
    let ask = |stream| match (turn.labeler)(&file.kind, stream) {
        Labeling::Ready(labels) => Some(labels),
        Labeling::Wait => None,
    };
    let labels = match &file.kind {
        FileKind::Container { .. } => ask(LogStream::Stdout)
            .and_then(|out| Some([out, ask(LogStream::Stderr)?, Labels::default()])),
        FileKind::Volume { .. } | FileKind::Plain { .. } => {
            ask(LogStream::File).map(|l| [Labels::default(), Labels::default(), l])
        }
    };
    match (labels, file.labelled) {
        (Some(labels), Some(_)) => turn.builder.relabel(file.number, labels),
        (Some(labels), None) => {
            let meta = FileMeta {
                source: file.source.clone(),
                path: file.path.to_string_lossy().into(),
                labels,
                released: file.committed,
            };
            turn.builder.declare(file.number, meta);
        }
        // The pod has gone meanwhile: its last labels are right.
        (None, Some(_)) => {}
        (None, None) => {
            file.error = Some("waits for the labels of its pod".into());
            return false;
        }
    }
    file.error = None;
    file.labelled = Some(turn.builder.serial());
    true
}
