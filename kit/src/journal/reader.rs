//! Frames from a number on, in order, as they lie on disk.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use super::Error;
use super::disk::Disk;
use super::segment::{Cursor, Segment, Step};

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its number.
    pub seq: u64,
    /// What was appended.
    pub payload: Vec<u8>,
}

/// Iterates over the frames that were in the journal when it was made. After an error it goes on
/// with the next segment.
pub struct Reader {
    disk: Arc<dyn Disk>,
    /// Segments not yet begun.
    segments: VecDeque<Segment>,
    current: Option<(PathBuf, Cursor)>,
    from_seq: u64,
    frame_bytes_max: u32,
}

impl Reader {
    /// `segments` in order, each with the bytes that may be read.
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        segments: VecDeque<Segment>,
        from_seq: u64,
        frame_bytes_max: u32,
    ) -> Self {
        Self { disk, segments, current: None, from_seq, frame_bytes_max }
    }

    fn next_segment(&mut self) -> Option<Result<(), Error>> {
        let segment = self.segments.pop_front()?;
        match self.disk.open(&segment.path) {
            Ok(file) => {
                let cursor = Cursor::new(file, segment.bytes, self.frame_bytes_max);
                self.current = Some((segment.path, cursor));
                Some(Ok(()))
            }
            Err(source) => Some(Err(Error::io("open", &segment.path, source))),
        }
    }
}

impl Iterator for Reader {
    type Item = Result<Frame, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((path, cursor)) = &mut self.current else {
                match self.next_segment()? {
                    Ok(()) => continue,
                    Err(error) => return Some(Err(error)),
                }
            };
            match cursor.step() {
                Ok(Step::Frame { seq }) if seq < self.from_seq => {}
                Ok(Step::Frame { seq }) => {
                    return Some(Ok(Frame { seq, payload: cursor.payload().to_vec() }));
                }
                Ok(Step::End) => self.current = None,
                Ok(Step::Bad) => {
                    let error = Error::Corrupt { path: path.clone(), offset: cursor.offset() };
                    self.current = None;
                    return Some(Err(error));
                }
                Err(source) => {
                    let error = Error::io("read", path, source);
                    self.current = None;
                    return Some(Err(error));
                }
            }
        }
    }
}
