//! A segment: the blocks of one UTC day that one flush or one compaction wrote, and their index.
//!
//! ```text
//! segments/2026-11-20-00000007/
//!   blocks         magic "TFLB", format u32, then the payloads (see `block`)
//!   headers        one header a block, sorted by (stream, time)
//!   prints         fingerprint postings (see `prints`)
//!   words/         the dictionary (see `words`)
//!   segment.json   checked; format, counts, first and last time, length and checksum of each file
//! ```
//! A segment never changes once the manifest names it. Headers are read and checked when it is
//! opened and stay in memory (about 100 bytes for each 256 KiB of text); the index is opened and
//! checked at its first use; each block has its own checksums.
//!
//! An index that is damaged costs time, not lines: its segment is scanned without it. A damaged block
//! is left out of the answer, counted and reported.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use taffrail_model::Nanos;

use super::block::{self, Decoder};
use super::block_set::BlockSet;
use super::header::{Header, TIMES};
use super::meta::Meta;
use super::need::Need;
use super::opened::Opened;
use super::prints::Prints;
use super::words::Words;
use super::{Error, FORMAT, FORMAT_OLDEST, files};

/// Names of the files of a segment.
pub(super) const BLOCKS: &str = "blocks";
pub(super) const HEADERS: &str = "headers";
pub(super) const PRINTS: &str = "prints";
pub(super) const WORDS: &str = "words";
pub(super) const META: &str = "segment.json";
/// Begins the file of blocks, before its format.
pub(super) const BLOCKS_MAGIC: &[u8; 4] = b"TFLB";

/// Identities are given out once by a process.
static NEXT_IDENTITY: AtomicU64 = AtomicU64::new(0);

/// Below so many candidates a walk through the dictionary costs more than it saves.
const WALK_BLOCKS_MIN: u32 = 3;

/// An open segment.
pub(super) struct Segment {
    dir: PathBuf,
    name: String,
    identity: u64,
    meta: Meta,
    headers: Vec<Header>,
    /// Which blocks no fragment can rule out.
    opaque: BlockSet,
    /// Which blocks have UUIDs.
    uuids: BlockSet,
    blocks: File,
    blocks_bytes: u64,
    index: OnceLock<Option<Index>>,
    reported: AtomicBool,
    /// Deletion requests that it has no lines of.
    rid_of: Mutex<Vec<u64>>,
}

struct Index {
    words: Words,
    prints: Prints,
}

impl Segment {
    /// Opens a segment that lies whole on disk.
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        let damaged = |what: &str| Error::Damaged { path: dir.to_owned(), what: what.into() };
        let text =
            files::read_checked(&dir.join(META))?.ok_or_else(|| damaged("no segment.json"))?;
        let meta: Meta =
            serde_json::from_str(&text).map_err(|error| damaged(&error.to_string()))?;
        if !(FORMAT_OLDEST..=FORMAT).contains(&meta.format) {
            return Err(Error::Format { path: dir.into(), found: meta.format, known: FORMAT });
        }
        let path = dir.join(BLOCKS);
        let blocks = File::open(&path).map_err(Error::io("open", &path))?;
        let found = blocks.metadata().map_err(Error::io("look at", &path))?.len();
        if meta.files.iter().all(|file| file.name != BLOCKS || file.bytes != found) {
            return Err(Error::Damaged { path, what: "length".into() });
        }
        let headers = read_headers(dir, &meta)?;
        let rid_of = meta.rid_of.clone();
        let opaque = blocks_that(&headers, Header::is_opaque);
        let uuids = blocks_that(&headers, Header::has_uuids);
        let name = dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self {
            dir: dir.to_owned(),
            name,
            identity: NEXT_IDENTITY.fetch_add(1, Ordering::Relaxed),
            meta,
            headers,
            opaque,
            uuids,
            blocks,
            blocks_bytes: found,
            index: OnceLock::new(),
            reported: AtomicBool::new(false),
            rid_of: Mutex::new(rid_of),
        })
    }

    /// A segment of one block in an open file.
    #[cfg(any(test, feature = "fuzz"))]
    pub(super) fn of_block(blocks: File, blocks_bytes: u64, header: Header) -> Self {
        let meta = Meta {
            format: header.format,
            day: 0,
            order: 0,
            rows: header.rows.into(),
            text_bytes: header.text_bytes.into(),
            first: header.first,
            last: header.last,
            files: Vec::new(),
            inputs: Vec::new(),
            rid_of: Vec::new(),
            flush: None,
        };
        Self {
            dir: PathBuf::new(),
            name: String::new(),
            identity: NEXT_IDENTITY.fetch_add(1, Ordering::Relaxed),
            meta,
            opaque: BlockSet::none(1),
            uuids: BlockSet::none(1),
            headers: vec![header],
            blocks,
            blocks_bytes,
            index: OnceLock::new(),
            reported: AtomicBool::new(false),
            rid_of: Mutex::new(Vec::new()),
        }
    }

    /// The name of its folder.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A number that no other segment of the store has.
    pub(super) fn identity(&self) -> u64 {
        self.identity
    }

    /// Its folder.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What is written about it.
    pub(super) fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Whether it is known to have no lines of a deletion request.
    pub(super) fn is_rid_of(&self, request: u64) -> bool {
        self.rid_of.lock().unwrap_or_else(PoisonError::into_inner).contains(&request)
    }

    /// Says that it has no lines of a deletion request.
    pub(super) fn be_rid_of(&self, request: u64) {
        self.rid_of.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    }

    /// Bytes of all its files.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.meta.files.iter().map(|file| file.bytes).sum()
    }

    /// The headers of its blocks, sorted by stream and time.
    pub(super) fn headers(&self) -> &[Header] {
        &self.headers
    }

    /// The blocks of one stream.
    pub(super) fn blocks_of(&self, stream: u32) -> Range<usize> {
        let start = self.headers.partition_point(|header| header.stream < stream);
        let count = self.headers[start..].partition_point(|header| header.stream == stream);
        start..start + count
    }

    /// Looks into a block; none, counted and reported, when it is damaged or unreadable.
    pub(super) fn look<T>(
        &self,
        number: usize,
        decoder: &mut Decoder,
        look: impl FnOnce(&mut Opened<'_>, &mut Decoder) -> std::io::Result<T>,
    ) -> Option<T> {
        let header = self.headers.get(number)?;
        let opened = Opened::new(self, header, decoder);
        self.report(number, opened.and_then(|mut opened| look(&mut opened, decoder)))
    }

    /// The times of a block's rows, from that column alone; none as for [`Segment::look`].
    pub(super) fn times(&self, number: usize) -> Option<Vec<Nanos>> {
        let header = self.headers.get(number)?;
        let column = header.columns[TIMES];
        let at = header.offset.saturating_add(column.at.into());
        let times = self.read(at, column.bytes as usize).and_then(|bytes| {
            let decoded =
                column.of(&bytes, column.at).and_then(|bytes| block::times(header, bytes));
            decoded.map_err(std::io::Error::other)
        });
        self.report(number, times)
    }

    /// Whether a block could not be read, or the index was found damaged.
    pub(super) fn is_damaged(&self) -> bool {
        self.reported.load(Ordering::Relaxed)
    }

    /// Bytes of the file of blocks.
    pub(super) fn read(&self, offset: u64, bytes: usize) -> std::io::Result<Vec<u8>> {
        // The length is checked first, so that a damaged header cannot ask for all memory.
        if offset.saturating_add(bytes as u64) > self.blocks_bytes {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let mut buffer = vec![0; bytes];
        self.blocks.read_exact_at(&mut buffer, offset)?;
        Ok(buffer)
    }

    fn report<T>(&self, block: usize, result: std::io::Result<T>) -> Option<T> {
        result
            .map_err(|error| {
                if !self.reported.swap(true, Ordering::Relaxed) {
                    let dir = self.dir.display();
                    tracing::error!(%dir, block, %error, "block is unreadable, left out of answers");
                }
            })
            .ok()
    }

    /// The blocks that can satisfy a need.
    pub(super) fn candidates(&self, need: &Need) -> BlockSet {
        let all = BlockSet::all(self.headers.len() as u32);
        if *need == Need::Nothing {
            return all;
        }
        let Some(index) = self.index.get_or_init(|| self.open_index()) else { return all };
        self.resolve(index, need).unwrap_or_else(|error| {
            self.report_index(&error.to_string());
            all
        })
    }

    fn resolve(&self, index: &Index, need: &Need) -> std::io::Result<BlockSet> {
        let blocks = self.headers.len() as u32;
        let mut found = BlockSet::none(blocks);
        match need {
            Need::Nothing => found = BlockSet::all(blocks),
            Need::Word(word) => index.words.find(word, &mut found)?,
            Need::Print { hash, is_piece, in_uuid } => {
                index.prints.find(*hash, &mut found)?;
                if *is_piece {
                    found.unite(&self.opaque);
                }
                if *in_uuid {
                    found.unite(&self.uuids);
                }
            }
            // Format 1 knows nothing of them.
            Need::Uuid(_) if self.meta.format == 1 => found = BlockSet::all(blocks),
            Need::Uuid(hash) => index.prints.find(*hash, &mut found)?,
            Need::Run { bytes, at_start } => {
                index.words.find_within(bytes, *at_start, &mut found)?;
                found.unite(&self.opaque);
            }
            Need::OneOf(needs) => {
                for need in needs {
                    found.unite(&self.resolve(index, need)?);
                }
            }
            Need::All(needs) => {
                found = BlockSet::all(blocks);
                let is_run = |need: &&Need| matches!(need, Need::Run { .. });
                let cheap = needs.iter().filter(|need| !is_run(need));
                for need in cheap.chain(needs.iter().filter(is_run)) {
                    let count = found.count();
                    if count == 0 || (is_run(&need) && count < WALK_BLOCKS_MIN) {
                        break;
                    }
                    found.intersect(&self.resolve(index, need)?);
                }
            }
        }
        Ok(found)
    }

    /// Opens the index once every file of it was read and found whole.
    fn open_index(&self) -> Option<Index> {
        let open = || -> Result<Index, String> {
            for file in self.meta.files.iter().filter(|file| file.name.starts_with(WORDS)) {
                let found =
                    files::checksum(&self.dir.join(&file.name)).map_err(|e| e.to_string())?;
                if found != (file.crc, file.bytes) {
                    return Err(format!("checksum of {}", file.name));
                }
            }
            let prints = Prints::open(&self.dir.join(PRINTS)).map_err(|e| e.to_string())?;
            let words = Words::open(&self.dir.join(WORDS)).map_err(|e| e.to_string())?;
            Ok(Index { words, prints })
        };
        match open() {
            Ok(index) => Some(index),
            // Merged or expired since the snapshot was taken: its blocks are still open.
            Err(_) if !self.dir.exists() => None,
            Err(error) => {
                self.report_index(&error);
                None
            }
        }
    }

    fn report_index(&self, error: &str) {
        self.reported.store(true, Ordering::Relaxed);
        let dir = self.dir.display();
        tracing::error!(%dir, error, "index is damaged, its segment is scanned without it");
    }
}

fn blocks_that(headers: &[Header], have: impl Fn(&Header) -> bool) -> BlockSet {
    let mut set = BlockSet::none(headers.len() as u32);
    for (number, _) in (0..).zip(headers).filter(|(_, header)| have(header)) {
        set.insert(number);
    }
    set
}

fn read_headers(dir: &Path, meta: &Meta) -> Result<Vec<Header>, Error> {
    let path = dir.join(HEADERS);
    let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
    let known = meta.files.iter().find(|file| file.name == HEADERS);
    let whole = known.is_some_and(|file| file.crc == crc32fast::hash(&bytes));
    let headers = block::read_headers(meta.format, &bytes).filter(|_| whole);
    headers.ok_or_else(|| Error::Damaged { path, what: "checksum".into() })
}
