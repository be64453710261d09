//! How many files are held open, and which are let go of to make room.
//!
//! The count is kept by the way and made anew with each look at the folders: with thousands of files
//! nothing may go over all of them for each one.

use std::io;

use super::Reader;
use crate::tail::identity::FileId;

impl Reader {
    /// Whether another chain reads a file.
    pub(super) fn is_read_elsewhere(&self, id: FileId) -> bool {
        let chain = self.file_of.get(&id).and_then(|chain| self.chains.get(chain));
        chain.is_some_and(|c| c.files.iter().any(|f| f.id == id && f.is_open()))
    }

    /// Sees to it that one more file may be opened.
    pub(super) fn make_room(&mut self) -> io::Result<()> {
        let max = self.config.open_files_max;
        if !self.crowded && self.hold_at_most(max.saturating_sub(1)) {
            return Ok(());
        }
        self.crowded = true;
        Err(io::Error::other(format!("more than {max} files are open")))
    }

    /// Lets go of files that are in the store up to their ends until no more than `max` are held:
    /// those that are silent first, then those that grow. Returns whether that could be done.
    pub(super) fn hold_at_most(&mut self, max: usize) -> bool {
        if self.held <= max {
            return true;
        }
        let files = self.chains.values().flat_map(|c| &c.files);
        self.held = files.filter(|f| f.is_held()).count();
        let Some(surplus) = self.held.checked_sub(max).filter(|s| *s > 0) else { return true };
        // A few more: the next file will need room too.
        let wanted = surplus + max / 16;
        let mut parked = 0;
        for growing in [false, true] {
            let silent = self.config.poll_max;
            let chains = self.chains.values_mut().filter(|c| growing == (c.pause < silent));
            let files = chains.flat_map(|c| &mut c.files).filter_map(|f| f.park().then_some(()));
            parked += files.take(wanted - parked).count();
        }
        self.held -= parked;
        parked >= surplus
    }
}
