//! One segment file: its name, its creation, and a cursor over its frames.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Error;
use super::disk::{Disk, DiskFile};
use super::frame::{
    FRAME_HEADER_BYTES, FrameHeader, SEGMENT_HEADER_BYTES, decode_frame_header,
    encode_segment_header,
};

/// How much of a file is read at once.
const WINDOW_BYTES: usize = 128 << 10;

/// A segment that is known to be readable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    /// Number of the first frame, which need not be there yet.
    pub(super) first_seq: u64,
    /// Bytes that hold the header and whole frames.
    pub(super) bytes: u64,
}

/// The path of the segment whose first frame is `first_seq`.
pub(super) fn path_of(dir: &Path, first_seq: u64) -> PathBuf {
    dir.join(format!("{first_seq:020}.seg"))
}

/// The number in a segment's file name; `None` for any other file.
pub(super) fn seq_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg").filter(|digits| digits.len() == 20)?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Creates an empty segment that survives a power cut. A file of that name that is already there
/// is an attempt that did not come to its end and is replaced.
pub(super) fn create(
    disk: &dyn Disk,
    dir: &Path,
    first_seq: u64,
) -> Result<(Segment, Arc<dyn DiskFile>), Error> {
    let path = path_of(dir, first_seq);
    let made = (|| {
        let file = disk.create(&path)?;
        file.write_all_at(&encode_segment_header(first_seq), 0)?;
        file.sync()?;
        disk.sync_dir(dir)?;
        Ok(file)
    })();
    match made {
        Ok(file) => Ok((Segment { path, first_seq, bytes: SEGMENT_HEADER_BYTES as u64 }, file)),
        Err(source) => {
            // Left over, it would be in the way of the next attempt. Nothing is in it yet.
            let _ = disk.remove(&path);
            Err(Error::io("create", &path, source))
        }
    }
}

/// What the cursor found at its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A whole frame; its payload is in [`Cursor::payload`].
    Frame { seq: u64 },
    /// The file ends here.
    End,
    /// These bytes are not a frame.
    Bad,
}

/// Walks over the frames of a segment, checking each.
pub(super) struct Cursor {
    file: Arc<dyn DiskFile>,
    end: u64,
    /// Where the next frame begins.
    offset: u64,
    window: Vec<u8>,
    window_at: u64,
    payload: (usize, usize),
    frame_bytes_max: u32,
}

impl Cursor {
    /// A cursor behind the header of a file of `end` bytes.
    pub(super) fn new(file: Arc<dyn DiskFile>, end: u64, frame_bytes_max: u32) -> Self {
        let offset = SEGMENT_HEADER_BYTES as u64;
        let window = Vec::new();
        Self { file, end, offset, window, window_at: offset, payload: (0, 0), frame_bytes_max }
    }

    /// Where the next frame begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The payload of the frame that [`Cursor::step`] found last.
    pub(super) fn payload(&self) -> &[u8] {
        &self.window[self.payload.0..self.payload.1]
    }

    /// Goes over one frame. At a bad one the cursor stays where it is.
    pub(super) fn step(&mut self) -> io::Result<Step> {
        if self.offset >= self.end {
            return Ok(Step::End);
        }
        let Some(header) = self.frame_at(self.offset)? else { return Ok(Step::Bad) };
        self.offset += FRAME_HEADER_BYTES as u64 + u64::from(header.payload_bytes);
        Ok(Step::Frame { seq: header.seq })
    }

    /// Looks from `from` on, at every byte, for whole frames with numbers from `seq` on, and returns
    /// the highest number. Leaves the cursor at the end.
    pub(super) fn salvage(&mut self, from: u64, seq: u64) -> io::Result<Option<u64>> {
        let mut found = None;
        let mut lowest = seq;
        let mut offset = from;
        while offset < self.end {
            // A frame is no shorter than its header, so numbers cannot run away: most places are
            // ruled out by their number, and few checksums are computed.
            let highest = lowest.saturating_add((self.end - from) / FRAME_HEADER_BYTES as u64);
            let Some(header) = self.header_at(offset)? else { break };
            let plausible = header.seq >= lowest && header.seq <= highest;
            if plausible && self.frame_at(offset)?.is_some() {
                found = Some(header.seq);
                lowest = header.seq.saturating_add(1);
                offset += FRAME_HEADER_BYTES as u64 + u64::from(header.payload_bytes);
            } else {
                offset += 1;
            }
        }
        self.offset = self.end;
        Ok(found)
    }

    fn frame_at(&mut self, offset: u64) -> io::Result<Option<FrameHeader>> {
        let Some(header) = self.header_at(offset)? else { return Ok(None) };
        if header.payload_bytes > self.frame_bytes_max {
            return Ok(None);
        }
        let from = offset + FRAME_HEADER_BYTES as u64;
        let Some(at) = self.load(from, header.payload_bytes as usize)? else { return Ok(None) };
        self.payload = (at, at + header.payload_bytes as usize);
        Ok(header.matches(self.payload()).then_some(header))
    }

    fn header_at(&mut self, offset: u64) -> io::Result<Option<FrameHeader>> {
        let Some(at) = self.load(offset, FRAME_HEADER_BYTES)? else { return Ok(None) };
        let bytes = self.window[at..at + FRAME_HEADER_BYTES].try_into();
        Ok(Some(decode_frame_header(bytes.expect("the slice has the header's length"))))
    }

    /// Makes `[offset, offset + bytes)` part of the window and returns where it begins in it;
    /// `None` when the file is shorter.
    fn load(&mut self, offset: u64, bytes: usize) -> io::Result<Option<usize>> {
        if self.end.saturating_sub(offset) < bytes as u64 {
            return Ok(None);
        }
        let window_end = self.window_at + self.window.len() as u64;
        if offset < self.window_at || offset + bytes as u64 > window_end {
            let left = usize::try_from(self.end - offset).unwrap_or(usize::MAX);
            self.window.resize(bytes.max(WINDOW_BYTES).min(left), 0);
            self.window_at = offset;
            let read = self.file.read_at(&mut self.window, offset)?;
            self.window.truncate(read);
            if read < bytes {
                return Ok(None);
            }
        }
        Ok(Some(usize::try_from(offset - self.window_at).expect("inside the window")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_segment_names_have_a_number() {
        assert_eq!(seq_of("00000000000000000012.seg"), Some(12));
        assert_eq!(path_of(Path::new("d"), 12), Path::new("d/00000000000000000012.seg"));
        for other in ["12.seg", "00000000000000000012.seg.corrupt", "x", "+0000000000000000012.seg"]
        {
            assert_eq!(seq_of(other), None, "{other}");
        }
        assert_eq!(seq_of("99999999999999999999.seg"), None, "beyond u64");
    }
}
