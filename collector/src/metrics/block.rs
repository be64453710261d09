//! A sealed block: one immutable file with the samples of many series, and what of it is in memory.
//!
//! ```text
//! header   8 bytes "TAFFBLK\n", u32 format version, u32 zero
//! pages    zstd frames of about 64 KiB before compression: some hold columns of values, some
//!          columns of times; a column of times that several series share is there once
//! index    one zstd frame: texts; series (fingerprint, kind, labels, items); columns of times;
//!          pages (offset, size, size before compression, CRC-32)
//! footer   u64 index offset, u32 index size, u32 index size before compression, u32 its CRC-32,
//!          u32 level, u64 next sequence number, i64 first time, i64 last time, u64 samples,
//!          u32 CRC-32 of the footer so far, 4 bytes "TAFE"
//! ```
//!
//! Integers are little-endian. A file is written under another name, synced, and renamed: under its
//! own name it is whole. The index is checked when the block is opened, a page whenever it is read.
//! An item is a piece of a series, at most [`COLUMN_SAMPLES_MAX`] samples; the items of a series
//! follow each other in time.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use taffrail_model::MetricKind;
use taffrail_model::sample::METRIC_NAME;
use taffrail_model::time::Millis;

use super::Error;
use super::codec::{Corrupt, Reader};
use super::column::{self, COLUMN_SAMPLES_MAX};
use super::index::{Index, SeriesId};

/// Version of the format that this build writes and reads.
pub(super) const FORMAT: u32 = 1;
pub(super) const MAGIC: &[u8; 8] = b"TAFFBLK\n";
pub(super) const END: &[u8; 4] = b"TAFE";
pub(super) const HEADER_BYTES: u64 = 16;
pub(super) const FOOTER_BYTES: usize = 64;
/// A page is closed when it has so many bytes.
pub(super) const PAGE_BYTES: usize = 64 << 10;
/// No page can be bigger: it is closed after the column that filled it.
const PAGE_BYTES_MAX: usize = PAGE_BYTES + 16 * COLUMN_SAMPLES_MAX;
/// No index is written that is bigger, or believed to be: eight million usual series take less.
pub(super) const INDEX_BYTES_MAX: usize = 1 << 30;

/// Where a page lies in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    pub(super) offset: u64,
    pub(super) size: u32,
    pub(super) raw_size: u32,
    pub(super) crc: u32,
}

/// A column of times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) page: u32,
    pub(super) at: u32,
    pub(super) count: u32,
    pub(super) first: Millis,
    pub(super) last: Millis,
}

/// A piece of a series: its column of times, and where its column of values begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub(super) id: SeriesId,
    pub(super) times: u32,
    pub(super) page: u32,
    pub(super) at: u32,
}

/// What the footer says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meta {
    /// How often its samples were merged.
    pub(super) level: u32,
    /// Everything before this sequence number is in this block or an older one.
    pub(super) next_seq: u64,
    pub(super) first: Millis,
    pub(super) last: Millis,
    pub(super) samples: u64,
}

/// The file of a block and its tables.
pub(super) struct BlockFile {
    pub(super) path: PathBuf,
    pub(super) number: u64,
    pub(super) size: u64,
    pub(super) meta: Meta,
    pub(super) file: File,
    pub(super) value_pages: Vec<Page>,
    pub(super) time_pages: Vec<Page>,
    pub(super) times: Vec<Times>,
}

/// A block: its file, and its items in order of the series' numbers.
pub(super) struct Block {
    pub(super) file: Arc<BlockFile>,
    pub(super) items: Vec<Item>,
}

impl Block {
    /// The pieces of a series in order of time.
    pub(super) fn items(&self, id: SeriesId) -> &[Item] {
        let start = self.items.partition_point(|item| item.id < id);
        let count = self.items[start..].iter().take_while(|item| item.id == id).count();
        &self.items[start..start + count]
    }

    /// Last time of a series.
    pub(super) fn last(&self, id: SeriesId) -> Option<Millis> {
        let item = self.items(id).last()?;
        Some(self.file.times[item.times as usize].last)
    }

    /// Whether any sample may lie from `start` to `end`.
    pub(super) fn overlaps(&self, start: Millis, end: Millis) -> bool {
        self.file.meta.first <= end && self.file.meta.last >= start
    }

    /// The same block after the series got other numbers.
    pub(super) fn renumbered(&self, moved: &[Option<SeriesId>]) -> Self {
        let new = |item: &Item| moved[item.id as usize].map(|id| Item { id, ..*item });
        let mut items: Vec<Item> = self.items.iter().filter_map(new).collect();
        items.sort_by_key(|item| item.id);
        Self { file: self.file.clone(), items }
    }

    /// Opens a block and adds its series to the index.
    pub(super) fn open(path: &Path, number: u64, index: &mut Index) -> Result<Self, Error> {
        let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
        let size = file.metadata().map_err(|e| Error::io("look at", path, e))?.len();
        let corrupt = |Corrupt(what)| Error::Damaged { path: path.to_owned(), what };
        let read = |offset: u64, count: usize| {
            let mut bytes = vec![0; count];
            file.read_exact_at(&mut bytes, offset).map_err(|e| Error::io("read", path, e))?;
            Ok::<_, Error>(bytes)
        };
        if size < HEADER_BYTES + FOOTER_BYTES as u64 {
            return Err(corrupt(Corrupt("it is shorter than any block")));
        }
        check_header(path, &read(0, HEADER_BYTES as usize)?)?;
        let footer = read(size - FOOTER_BYTES as u64, FOOTER_BYTES)?;
        let (meta, place) = read_footer(&footer).map_err(corrupt)?;
        let fits = place.offset.checked_add(u64::from(place.size)).is_some_and(|end| end <= size);
        if !fits || place.raw_size as usize > INDEX_BYTES_MAX {
            return Err(corrupt(Corrupt("the index lies outside")));
        }
        let bytes = read(place.offset, place.size as usize)?;
        let bytes = unpack(&bytes, place).map_err(corrupt)?;
        let tables = Tables::read(&bytes, index).map_err(corrupt)?;
        let Tables { items, times, value_pages, time_pages } = tables;
        let path = path.to_owned();
        let file = BlockFile { path, number, size, meta, file, value_pages, time_pages, times };
        Ok(Self { file: Arc::new(file), items })
    }
}

fn check_header(path: &Path, header: &[u8]) -> Result<(), Error> {
    let mut reader = Reader::new(header);
    let magic = reader.bytes(MAGIC.len()).unwrap_or_default();
    let version = reader.u32().unwrap_or_default();
    if magic != MAGIC {
        return Err(Error::Damaged { path: path.to_owned(), what: "it is no block" });
    }
    if version != FORMAT {
        return Err(Error::Version { path: path.to_owned(), found: version, known: FORMAT });
    }
    Ok(())
}

fn read_footer(footer: &[u8]) -> Result<(Meta, Page), Corrupt> {
    let sum = crc32fast::hash(&footer[..FOOTER_BYTES - 8]);
    let mut reader = Reader::new(footer);
    let (offset, size, raw_size, crc) =
        (reader.u64()?, reader.u32()?, reader.u32()?, reader.u32()?);
    let level = reader.u32()?;
    let next_seq = reader.u64()?;
    let (first, last) = (reader.u64()? as i64, reader.u64()? as i64);
    let samples = reader.u64()?;
    if reader.u32()? != sum || reader.bytes(END.len())? != END {
        return Err(Corrupt("the footer is not whole"));
    }
    Ok((Meta { level, next_seq, first, last, samples }, Page { offset, size, raw_size, crc }))
}

/// Checks and decompresses what lies at a place.
fn unpack(bytes: &[u8], place: Page) -> Result<Vec<u8>, Corrupt> {
    if crc32fast::hash(bytes) != place.crc {
        return Err(Corrupt("a checksum does not match"));
    }
    let raw = zstd::bulk::decompress(bytes, place.raw_size as usize)
        .map_err(|_| Corrupt("a page does not decompress"))?;
    if raw.len() != place.raw_size as usize {
        return Err(Corrupt("a page has another size"));
    }
    Ok(raw)
}

/// What the index of a block holds.
struct Tables {
    items: Vec<Item>,
    times: Vec<Times>,
    value_pages: Vec<Page>,
    time_pages: Vec<Page>,
}

impl Tables {
    fn read(bytes: &[u8], index: &mut Index) -> Result<Self, Corrupt> {
        let mut reader = Reader::new(bytes);
        let mut texts = Vec::new();
        for _ in 0..reader.count()? {
            texts.push(reader.text()?);
        }
        let mut items = Vec::new();
        for _ in 0..reader.count()? {
            read_series(&mut reader, &texts, index, &mut items)?;
        }
        let mut times = Vec::new();
        for _ in 0..reader.count()? {
            let (page, at, count) = (reader.index()?, reader.index()?, reader.index()?);
            let (first, last) = (reader.signed()?, reader.signed()?);
            times.push(Times { page, at, count, first, last });
        }
        let value_pages = read_pages(&mut reader)?;
        let time_pages = read_pages(&mut reader)?;
        Self { items, times, value_pages, time_pages }.check()
    }

    /// Every reference must lead somewhere, so that reading never has to doubt it.
    fn check(mut self) -> Result<Self, Corrupt> {
        let (times, pages) = (self.times.len(), self.value_pages.len());
        let item_ok = |item: &Item| (item.times as usize) < times && (item.page as usize) < pages;
        let times_ok = |times: &Times| (times.page as usize) < self.time_pages.len();
        if !self.items.iter().all(item_ok) || !self.times.iter().all(times_ok) {
            return Err(Corrupt("a reference leads nowhere"));
        }
        // Stable: the items of a series stay in order of time.
        self.items.sort_by_key(|item| item.id);
        Ok(self)
    }
}

fn read_series(
    reader: &mut Reader<'_>,
    texts: &[&str],
    index: &mut Index,
    items: &mut Vec<Item>,
) -> Result<(), Corrupt> {
    let fingerprint = u128::from_le_bytes(reader.array()?);
    let kind = kind_of(reader.byte()?);
    let labels = reader.count()?;
    let id = match index.find(fingerprint) {
        Some(id) => {
            // Known from another block, labels and all.
            for _ in 0..2 * labels {
                reader.index()?;
            }
            id
        }
        None => {
            let pairs = read_labels(reader, labels, texts)?;
            if let Some((_, name)) = pairs.iter().find(|(n, _)| *n == METRIC_NAME) {
                index.declare(name, kind);
            }
            index.insert(fingerprint, pairs.into_iter())
        }
    };
    for _ in 0..reader.count()? {
        let (times, page, at) = (reader.index()?, reader.index()?, reader.index()?);
        items.push(Item { id, times, page, at });
    }
    Ok(())
}

fn read_labels<'t>(
    reader: &mut Reader<'_>,
    count: usize,
    texts: &[&'t str],
) -> Result<Vec<(&'t str, &'t str)>, Corrupt> {
    let text = |number: u32| {
        texts.get(number as usize).copied().ok_or(Corrupt("a reference leads nowhere"))
    };
    let mut pairs = Vec::new();
    for _ in 0..count {
        pairs.push((text(reader.index()?)?, text(reader.index()?)?));
    }
    Ok(pairs)
}

fn read_pages(reader: &mut Reader<'_>) -> Result<Vec<Page>, Corrupt> {
    let mut pages = Vec::new();
    for _ in 0..reader.count()? {
        let (offset, size, raw_size) = (reader.varint()?, reader.index()?, reader.index()?);
        let crc = reader.u32()?;
        if raw_size as usize > PAGE_BYTES_MAX || size as usize > 2 * PAGE_BYTES_MAX {
            return Err(Corrupt("a page is too big"));
        }
        pages.push(Page { offset, size, raw_size, crc });
    }
    Ok(pages)
}

const KINDS: [MetricKind; 7] = [
    MetricKind::Unknown,
    MetricKind::Counter,
    MetricKind::Gauge,
    MetricKind::Histogram,
    MetricKind::Summary,
    MetricKind::Info,
    MetricKind::StateSet,
];

/// The byte of a kind on disk.
pub(super) fn kind_byte(kind: MetricKind) -> u8 {
    KINDS.iter().position(|k| *k == kind).map_or(0, |at| at as u8)
}

fn kind_of(byte: u8) -> MetricKind {
    KINDS.get(usize::from(byte)).copied().unwrap_or_default()
}

/// Reads items of one block; neighbours share the page that was decompressed last.
pub(super) struct Cursor {
    file: Arc<BlockFile>,
    values: Kept,
    times: Kept,
    columns: HashMap<u32, Arc<[Millis]>>,
}

/// Decompressed pages with their numbers, the oldest first.
type Kept = Vec<(u32, Vec<u8>)>;

/// Pages of a kind that a cursor keeps at the most.
const PAGES_KEPT_MAX: usize = 4;

/// Columns of times that a cursor keeps at the most.
const COLUMNS_KEPT_MAX: usize = 2048;

impl Cursor {
    pub(super) fn new(file: Arc<BlockFile>) -> Self {
        Self { file, values: Kept::new(), times: Kept::new(), columns: HashMap::new() }
    }

    /// The file that is read.
    pub(super) fn file(&self) -> &Arc<BlockFile> {
        &self.file
    }

    /// Appends the samples of an item to two columns.
    pub(super) fn read(
        &mut self,
        item: &Item,
        times: &mut Vec<Millis>,
        values: &mut Vec<f64>,
    ) -> Result<(), Error> {
        let column = self.times(item.times)?;
        let file = &self.file;
        let page = file.page(&file.value_pages, item.page, &mut self.values)?;
        let mut reader = Reader::new(page.get(item.at as usize..).unwrap_or_default());
        column::read_values(&mut reader, column.len(), values).map_err(|c| file.damaged(c))?;
        times.extend_from_slice(&column);
        Ok(())
    }

    fn times(&mut self, number: u32) -> Result<Arc<[Millis]>, Error> {
        if let Some(column) = self.columns.get(&number) {
            return Ok(column.clone());
        }
        let file = &self.file;
        let Times { page, at, count, .. } = file.times[number as usize];
        let page = file.page(&file.time_pages, page, &mut self.times)?;
        let mut reader = Reader::new(page.get(at as usize..).unwrap_or_default());
        let column: Arc<[Millis]> =
            column::read_times(&mut reader, count as usize).map_err(|c| file.damaged(c))?.into();
        if self.columns.len() >= COLUMNS_KEPT_MAX {
            self.columns.clear();
        }
        self.columns.insert(number, column.clone());
        Ok(column)
    }
}

impl BlockFile {
    fn damaged(&self, Corrupt(what): Corrupt) -> Error {
        Error::Damaged { path: self.path.clone(), what }
    }

    /// A page, decompressed unless it is kept.
    fn page<'k>(&self, pages: &[Page], number: u32, kept: &'k mut Kept) -> Result<&'k [u8], Error> {
        let at = match kept.iter().position(|(n, _)| *n == number) {
            Some(at) => at,
            None => {
                let page = self.read_page(pages[number as usize])?;
                if kept.len() >= PAGES_KEPT_MAX {
                    kept.remove(0);
                }
                kept.push((number, page));
                kept.len() - 1
            }
        };
        Ok(&kept[at].1)
    }

    fn read_page(&self, page: Page) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; page.size as usize];
        match self.file.read_exact_at(&mut bytes, page.offset) {
            Ok(()) => unpack(&bytes, page).map_err(|c| self.damaged(c)),
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(self.damaged(Corrupt("a page lies beyond the end")))
            }
            Err(e) => Err(Error::io("read", &self.path, e)),
        }
    }
}
