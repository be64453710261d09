//! When a log file takes a descriptor, and when it is let go of: to make room for others, or because
//! whoever unmounts its volume must not wait for us.

use std::io;

use super::{Content, TailFile, disk};
use crate::tail::positions::Known;
use crate::tail::{FileKind, identity};

impl TailFile {
    /// Whether more may come of it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !matches!(self.content, Content::Closed(_))
    }

    /// Whether it takes one of the descriptors of the process.
    #[must_use]
    pub fn is_held(&self) -> bool {
        match &self.content {
            Content::Plain(_) | Content::Packed(_) => true,
            Content::Remote(remote) => remote.held.is_some(),
            Content::Parked | Content::Closed(_) => false,
        }
    }

    /// Whether it has a lane.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        matches!(self.content, Content::Remote(_) | Content::Closed(Some(_)))
    }

    /// Whether it was let go of until it grows.
    #[must_use]
    pub fn is_parked(&self) -> bool {
        matches!(self.content, Content::Parked)
    }

    /// How far it is.
    #[must_use]
    pub fn known(&self) -> Known {
        Known {
            generation: self.generation,
            committed: self.committed,
            check: self.check(self.committed),
            family: identity::family(&self.kind),
        }
    }

    /// How far it is, if it may be found again under another name. Those of containers go on in
    /// their folder or not at all, and their positions are looked for in compressed files.
    #[must_use]
    pub fn left_at(&self) -> Option<Known> {
        let comes_again = !self.unlinked && !matches!(self.kind, FileKind::Container { .. });
        (comes_again && (self.committed > 0 || self.generation > 0)).then(|| self.known())
    }

    /// Lets go of a plain file that has a name and is in the store up to its end, until it grows.
    /// Returns whether there is room now.
    pub fn park(&mut self) -> bool {
        let idle = self.listed && self.labelled.is_some() && self.committed == self.position();
        idle && self.let_go()
    }

    /// Lets go of a file that is lent until the next look, wherever it is.
    pub fn hand_back(&mut self) {
        if self.lent {
            self.let_go();
        }
    }

    fn let_go(&mut self) -> bool {
        match &mut self.content {
            Content::Plain(_) => {
                self.content = Content::Parked;
                true
            }
            Content::Remote(remote) => remote.held.take().is_some(),
            Content::Packed(_) | Content::Parked | Content::Closed(_) => false,
        }
    }

    /// Opens a parked file again if it has changed.
    pub(super) fn unpark(&mut self) -> io::Result<()> {
        let changed = identity::look_at(&self.path, true)
            .is_ok_and(|l| l.id == self.id && l.size != self.position());
        if changed { self.reopen() } else { Ok(()) }
    }

    /// Opens it under its path, if it is still what is there.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        let file = disk::open(&self.path, self.beneath.as_deref())?;
        if identity::look(&file)?.id == self.id {
            self.content = Content::Plain(file);
        }
        Ok(())
    }

    /// Lets go of the file for good.
    pub fn close(&mut self) {
        let lane = match &self.content {
            Content::Remote(remote) => Some(remote.lane.clone()),
            _ => None,
        };
        self.content = Content::Closed(lane);
    }
}
