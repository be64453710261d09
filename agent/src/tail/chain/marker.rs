//! Marks on compressed files that need not be unpacked again.

use std::path::PathBuf;

use taffrail_model::Labels;

use super::{Chain, Turn};
use crate::batch::FileMeta;
use crate::discover::Place;
use crate::tail::identity::{self, FileId, Version};
use crate::tail::join::Sink;

/// A compressed file whose content is delivered under another identity: once that is committed, it
/// is marked as read under its own, so that it need not be unpacked again after a restart.
#[derive(Debug)]
pub struct Marker {
    /// The compressed file.
    pub id: FileId,
    /// Length of its content.
    pub size: u64,
    /// Its place, which is also that of the file that it was made from.
    pub place: Place,
    /// Its path.
    pub path: PathBuf,
}

impl Chain {
    /// Marks compressed files as read, once the content is committed under the other identity.
    pub(super) fn mark(&mut self, turn: &mut Turn<'_>) {
        let files = &self.files;
        self.markers.retain(|marker| {
            let unfinished = files.iter().any(|f| {
                let same = f.place.restart == marker.place.restart
                    && f.place.rotated == marker.place.rotated;
                (same || f.id == marker.id || !f.listed) && f.is_open()
            });
            if unfinished {
                return true;
            }
            let source = identity::source(&turn.config.node, marker.id, 0, Version::Unpacked);
            let path = marker.path.to_string_lossy().into_owned();
            let number = turn.number();
            let labels = [Labels::default(), Labels::default(), Labels::default()];
            let meta = FileMeta { source: source.into(), path: path.into(), labels, released: 0 };
            turn.builder.declare(number, meta);
            if marker.size > 0 {
                turn.builder.cut(&[(number, marker.size)]);
            }
            turn.builder.forget(number);
            false
        });
    }
}
