//! The hash of the bytes before a position, by which the content is known again.

use std::io;

use super::{Content, TailFile, disk};
use crate::tail::identity::{self, CHECK_BYTES};
use crate::tail::packed;

impl TailFile {
    /// The check of the bytes before `end`; 0 when they cannot be read any more.
    #[must_use]
    pub fn check(&self, end: u64) -> u64 {
        let whole = |tail: &[u8]| tail.len() as u64 == end.min(CHECK_BYTES as u64);
        if end == self.position() && whole(&self.tail) {
            return identity::check(&self.tail);
        }
        match &self.content {
            Content::Plain(file) => disk::bytes_before(file, end),
            Content::Packed(_) => return self.check_of_packed(end),
            Content::Remote(remote) => remote.bytes_before(self.spot(end)),
            Content::Parked => disk::open(&self.path, self.beneath.as_deref()).and_then(|file| {
                let same = identity::look(&file)?.id == self.id;
                if same {
                    disk::bytes_before(&file, end)
                } else {
                    Err(io::ErrorKind::NotFound.into())
                }
            }),
            Content::Closed(_) => return 0,
        }
        .map_or(0, |bytes| identity::check(&bytes))
    }

    /// Unpacked content cannot be read at any place: all before it is unpacked again. So the last
    /// check is remembered; it is asked for again and again while nothing is acknowledged.
    fn check_of_packed(&self, end: u64) -> u64 {
        if let Some((_, check)) = self.checked.get().filter(|(at, _)| *at == end) {
            return check;
        }
        let at_line = end == self.lines.resume()
            && self.line_tail.len() as u64 == end.min(CHECK_BYTES as u64);
        let bytes = if at_line {
            Ok(self.line_tail.clone())
        } else {
            packed::bytes_before(&self.path, end)
        };
        let Ok(bytes) = bytes else { return 0 };
        let check = identity::check(&bytes);
        self.checked.set(Some((end, check)));
        check
    }
}
