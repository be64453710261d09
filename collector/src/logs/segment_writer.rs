//! Writes one segment: blocks as they come, then headers, index and description; all synced.
//!
//! Invariant: when [`SegmentWriter::finish`] returns, every file and every name of the segment would
//! survive a power cut. Until the manifest names it, it does not count and may be removed.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use taffrail_model::{Nanos, time::NANOS_PER_DAY, time::format_rfc3339};

use super::block::Encoder;
use super::header::Header;
use super::meta::{FileMeta, Meta, Origin};
use super::rows::Rows;
use super::segment::{BLOCKS, BLOCKS_MAGIC, HEADERS, META, PRINTS, Segment, WORDS};
use super::terms::Terms;
use super::words::WordsWriter;
use super::{Error, FORMAT, files, prints};

/// Bytes gathered before they are written to the file of blocks.
const BUFFER_BYTES: usize = 1 << 20;
/// Most blocks of one segment; see [`prints::BLOCK_BITS_MAX`].
const BLOCKS_MAX: usize = 1 << prints::BLOCK_BITS_MAX;

/// A segment being written.
pub(super) struct SegmentWriter {
    dir: PathBuf,
    scrap: Scrap,
    day: i32,
    order: u64,
    blocks: BufWriter<File>,
    hasher: crc32fast::Hasher,
    bytes: u64,
    headers: Vec<Header>,
    prints: Vec<u64>,
    words: WordsWriter,
    terms: Terms,
    encoder: Encoder,
    payload: Vec<u8>,
}

/// The folder of a segment that is not finished, removed when it will not be: after an error the
/// disk may be full, and each attempt would leave more behind.
struct Scrap(Option<PathBuf>);

impl Drop for Scrap {
    fn drop(&mut self) {
        if let Some(dir) = self.0.take()
            && let Err(error) = fs::remove_dir_all(&dir)
        {
            let dir = dir.display();
            tracing::warn!(%dir, %error, "unfinished segment stays until the next start");
        }
    }
}

/// The folder name of a segment.
pub(super) fn name(day: i32, number: u64) -> String {
    let date = format_rfc3339(Nanos::from(day).saturating_mul(NANOS_PER_DAY));
    let date = date.split('T').next().unwrap_or_default();
    format!("{date}-{number:08x}")
}

impl SegmentWriter {
    /// Begins a segment of a day in a folder that is made new. `text_bytes` is about what will come.
    pub(super) fn create(
        dir: PathBuf,
        day: i32,
        order: u64,
        zstd_level: i32,
        text_bytes: usize,
    ) -> Result<Self, Error> {
        if dir.exists() {
            // What an earlier attempt has left; no manifest ever named it.
            fs::remove_dir_all(&dir).map_err(Error::io("remove", &dir))?;
        }
        let scrap = Scrap(Some(dir.clone()));
        let words_dir = dir.join(WORDS);
        fs::create_dir_all(&words_dir).map_err(Error::io("create", &words_dir))?;
        let path = dir.join(BLOCKS);
        let file = File::create(&path).map_err(Error::io("create", &path))?;
        let mut writer = Self {
            day,
            order,
            blocks: BufWriter::with_capacity(BUFFER_BYTES, file),
            hasher: crc32fast::Hasher::new(),
            bytes: 0,
            headers: Vec::new(),
            prints: Vec::new(),
            words: WordsWriter::create(&words_dir, text_bytes).map_err(Error::index(&words_dir))?,
            terms: Terms::new(),
            encoder: Encoder::new(zstd_level).map_err(Error::io("compress for", &dir))?,
            payload: Vec::new(),
            scrap,
            dir,
        };
        writer.payload.extend_from_slice(BLOCKS_MAGIC);
        writer.payload.extend_from_slice(&FORMAT.to_le_bytes());
        writer.write_payload()?;
        Ok(writer)
    }

    /// Adds a block: rows of one stream, sorted by time. Streams come in ascending order, and the
    /// blocks of a stream in the order of time.
    pub(super) fn add(&mut self, stream: u32, rows: &Rows) -> Result<(), Error> {
        if self.headers.len() >= BLOCKS_MAX {
            let what = format!("more than {BLOCKS_MAX} blocks in one segment");
            return Err(Error::Damaged { path: self.dir.clone(), what });
        }
        let number = self.headers.len() as u32;
        let mut header = self
            .encoder
            .encode(stream, rows, &mut self.terms, &mut self.payload)
            .map_err(Error::io("compress for", &self.dir))?;
        self.words.add(&self.terms).map_err(Error::index(&self.dir))?;
        self.prints.extend(self.terms.prints().iter().map(|&hash| prints::entry(hash, number)));
        header.offset = self.bytes;
        self.headers.push(header);
        self.write_payload()
    }

    /// Whether nothing was added.
    pub(super) fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    fn write_payload(&mut self) -> Result<(), Error> {
        self.hasher.update(&self.payload);
        self.blocks.write_all(&self.payload).map_err(Error::io("write", &self.dir))?;
        self.bytes += self.payload.len() as u64;
        self.payload.clear();
        Ok(())
    }

    /// Ends the segment, syncs all of it and opens it. The caller syncs the folder above.
    pub(super) fn finish(mut self, origin: Origin) -> Result<Segment, Error> {
        let (inputs, rid_of, flush) = match origin {
            Origin::Merge { inputs, rid_of } => (inputs, rid_of, None),
            Origin::Flush(note) => (Vec::new(), Vec::new(), Some(note)),
        };
        let synced = self.blocks.flush().and_then(|()| self.blocks.get_ref().sync_all());
        synced.map_err(Error::io("sync", &self.dir))?;
        let blocks = FileMeta {
            name: BLOCKS.into(),
            bytes: self.bytes,
            crc: std::mem::take(&mut self.hasher).finalize(),
        };
        let mut headers = Vec::new();
        self.headers.iter().for_each(|header| header.write(&mut headers));
        let postings = prints::encode(&mut self.prints, self.headers.len() as u32);
        let mut files = vec![
            blocks,
            write_file(&self.dir, HEADERS, &headers)?,
            write_file(&self.dir, PRINTS, &postings)?,
        ];
        let words_dir = self.dir.join(WORDS);
        self.words.finish().map_err(Error::index(&words_dir))?;
        files.extend(sync_words(&words_dir)?);
        let meta = Meta {
            format: FORMAT,
            day: self.day,
            order: self.order,
            rows: self.headers.iter().map(|h| u64::from(h.rows)).sum(),
            text_bytes: self.headers.iter().map(|h| u64::from(h.text_bytes)).sum(),
            first: self.headers.iter().map(|h| h.first).min().unwrap_or_default(),
            last: self.headers.iter().map(|h| h.last).max().unwrap_or_default(),
            files,
            inputs,
            rid_of,
            flush,
        };
        let text = serde_json::to_string(&meta).expect("numbers and strings are always JSON");
        files::replace_checked(&self.dir.join(META), &text)?;
        let segment = Segment::open(&self.dir)?;
        self.scrap.0 = None;
        Ok(segment)
    }
}

fn write_file(dir: &Path, name: &str, bytes: &[u8]) -> Result<FileMeta, Error> {
    files::write_synced(&dir.join(name), bytes)?;
    Ok(FileMeta { name: name.into(), bytes: bytes.len() as u64, crc: crc32fast::hash(bytes) })
}

/// Syncs what tantivy wrote, and takes its checksums.
fn sync_words(dir: &Path) -> Result<Vec<FileMeta>, Error> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let path = entry.map_err(Error::io("list", dir))?.path();
        let file = File::open(&path).and_then(|file| file.sync_all());
        file.map_err(Error::io("sync", &path))?;
        let (crc, bytes) = files::checksum(&path)?;
        let Some(name) = path.file_name() else { continue };
        files.push(FileMeta { name: format!("{WORDS}/{}", name.to_string_lossy()), bytes, crc });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files::sync_dir(dir)?;
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_day() {
        assert_eq!(name(20_777, 7), "2026-11-20-00000007");
        assert_eq!(name(-1, 0x1_0000_0000), "1969-12-31-100000000");
    }
}
