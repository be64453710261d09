//! What is done at open about files that are not as they should be.
//!
//! - Bytes at the end of the last segment that are no whole frame, and no whole frame after them:
//!   a torn tail. Nobody was told that they are durable; they are cut off.
//! - Bytes that are no frame anywhere else: damage. From there on the segment is kept beside as
//!   `*.corrupt` and cut off; later segments are read. The numbers that are lost with it are not
//!   given out again.
//! - A last segment without a header: its creation did not come to its end; it is removed.
//! - A segment of another version: an error, before any file is touched.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Error;
use super::disk::{Disk, DiskFile};
use super::frame::{FORMAT_VERSION, SEGMENT_HEADER_BYTES, SegmentHeader, decode_segment_header};
use super::segment::{Cursor, Segment, Step, path_of, seq_of};

/// Bytes that were copied at once to a quarantine file.
const COPY_BYTES: usize = 1 << 20;

/// What opening a journal found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Whole frames that can be read.
    pub frames: u64,
    /// Bytes of a torn tail that were cut off. Normal after a crash.
    pub truncated_bytes: u64,
    /// Damaged parts that were put aside. Never normal.
    pub quarantined: Vec<Quarantined>,
    /// Frame numbers between the first and the last that have no frame, first and last included.
    pub missing: Vec<(u64, u64)>,
}

/// A part of a journal that could not be read and was put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// The file that now holds the bytes.
    pub path: PathBuf,
    /// How many bytes they are.
    pub bytes: u64,
}

/// The readable rest.
pub(super) struct Recovered {
    pub(super) segments: VecDeque<Segment>,
    /// No frame on disk, damaged ones included, has this number or a higher one.
    pub(super) next_seq: u64,
    /// The number that follows the last frame of the last segment.
    pub(super) tail_seq: Option<u64>,
    pub(super) recovery: Recovery,
}

/// Reads all segments of a directory, mends what can be mended and says what it did.
pub(super) fn recover(
    disk: &dyn Disk,
    dir: &Path,
    frame_bytes_max: u32,
) -> Result<Recovered, Error> {
    let names = disk.list(dir).map_err(|source| Error::io("list", dir, source))?;
    let mut seqs: Vec<u64> = names.iter().filter_map(|name| seq_of(name)).collect();
    seqs.sort_unstable();
    refuse_other_versions(disk, dir, &seqs)?;
    let mut run = Run {
        disk,
        dir,
        frame_bytes_max,
        out: Recovered {
            segments: VecDeque::new(),
            next_seq: 1,
            tail_seq: None,
            recovery: Recovery::default(),
        },
    };
    for (index, &seq) in seqs.iter().enumerate() {
        let path = path_of(dir, seq);
        run.segment(&path, seq, index + 1 == seqs.len())
            .map_err(|source| Error::io("recover", &path, source))?;
    }
    disk.sync_dir(dir).map_err(|source| Error::io("sync", dir, source))?;
    Ok(run.out)
}

fn refuse_other_versions(disk: &dyn Disk, dir: &Path, seqs: &[u64]) -> Result<(), Error> {
    for &seq in seqs {
        let path = path_of(dir, seq);
        let header = disk
            .open(&path)
            .and_then(|file| read_header(&*file))
            .map_err(|source| Error::io("read", &path, source))?;
        if let SegmentHeader::OtherVersion(found) = header {
            return Err(Error::Version { path, found, expected: FORMAT_VERSION });
        }
    }
    Ok(())
}

fn read_header(file: &dyn DiskFile) -> io::Result<SegmentHeader> {
    let mut header = [0; SEGMENT_HEADER_BYTES];
    let read = file.read_at(&mut header, 0)?;
    if read < SEGMENT_HEADER_BYTES {
        return Ok(SegmentHeader::Damaged);
    }
    Ok(decode_segment_header(&header))
}

struct Run<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    frame_bytes_max: u32,
    out: Recovered,
}

impl Run<'_> {
    fn segment(&mut self, path: &Path, seq: u64, last: bool) -> io::Result<()> {
        let file = self.disk.open(path)?;
        let end = file.len()?;
        let ours = read_header(&*file)? == SegmentHeader::Ours { first_seq: seq };
        // A first number that was given out already: the file does not belong here.
        if !ours || seq < self.out.next_seq {
            return self.headless(path, &file, seq, end, last);
        }
        if !self.out.segments.is_empty() && seq > self.out.next_seq {
            self.out.recovery.missing.push((self.out.next_seq, seq - 1));
        }
        let mut cursor = Cursor::new(file.clone(), end, self.frame_bytes_max);
        let mut good = cursor.offset();
        let mut next_seq = seq;
        while cursor.step()? == (Step::Frame { seq: next_seq }) {
            good = cursor.offset();
            next_seq += 1;
        }
        self.out.recovery.frames += next_seq - seq;
        self.out.next_seq = next_seq;
        self.out.tail_seq = Some(next_seq);
        if good < end {
            let above = cursor.salvage(good, next_seq)?;
            self.cut(path, &*file, (good, end), above, last)?;
        }
        let segment = Segment { path: path.to_path_buf(), first_seq: seq, bytes: good };
        self.out.segments.push_back(segment);
        Ok(())
    }

    /// A file that has no header of ours.
    fn headless(
        &mut self,
        path: &Path,
        file: &Arc<dyn DiskFile>,
        seq: u64,
        end: u64,
        last: bool,
    ) -> io::Result<()> {
        let above = Cursor::new(file.clone(), end, self.frame_bytes_max)
            .salvage(0, seq.max(self.out.next_seq))?;
        if last && above.is_none() {
            self.out.recovery.truncated_bytes += end;
            self.out.next_seq = self.out.next_seq.max(seq);
            return self.disk.remove(path);
        }
        let aside = path.with_extension("seg.corrupt");
        self.disk.rename(path, &aside)?;
        self.out.recovery.quarantined.push(Quarantined { path: aside, bytes: end });
        self.out.next_seq = self.out.next_seq.max(above.map_or(seq, |seq| seq + 1));
        Ok(())
    }

    /// Cuts off everything after the last good frame. `above` is the highest number of the frames
    /// that are in what is cut off.
    fn cut(
        &mut self,
        path: &Path,
        file: &dyn DiskFile,
        (good, end): (u64, u64),
        above: Option<u64>,
        last: bool,
    ) -> io::Result<()> {
        if last && above.is_none() {
            self.out.recovery.truncated_bytes += end - good;
        } else {
            let aside = path.with_extension(format!("{good}.corrupt"));
            self.copy_aside(file, &aside, good)?;
            self.out.recovery.quarantined.push(Quarantined { path: aside, bytes: end - good });
            if let (true, Some(seq)) = (last, above) {
                self.out.recovery.missing.push((self.out.next_seq, seq));
                self.out.next_seq = seq + 1;
            }
        }
        file.set_len(good)?;
        file.sync()
    }

    fn copy_aside(&self, file: &dyn DiskFile, aside: &Path, from: u64) -> io::Result<()> {
        // An earlier recovery may have been cut short between the copy and the cut.
        if self.disk.open(aside).is_ok() {
            self.disk.remove(aside)?;
        }
        let copy = self.disk.create(aside)?;
        let mut buffer = vec![0; COPY_BYTES];
        let mut copied = 0;
        loop {
            let read = file.read_at(&mut buffer, from + copied)?;
            if read == 0 {
                break;
            }
            copy.write_all_at(&buffer[..read], copied)?;
            copied += read as u64;
        }
        copy.sync()?;
        self.disk.sync_dir(self.dir)
    }
}
