//! Writes a block: series by series in the order in which they are given, pages as they fill up.
//!
//! Nothing is visible before [`Writer::finish`] has synced and renamed the file. The format is drawn
//! in [`super::block`].

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use taffrail_model::time::Millis;
use taffrail_model::{Labels, MetricKind};

use super::Error;
use super::block::{
    Block, BlockFile, END, FOOTER_BYTES, FORMAT, HEADER_BYTES, INDEX_BYTES_MAX, Item, MAGIC, Meta,
    PAGE_BYTES, Page, Times, kind_byte,
};
use super::codec::{put_signed, put_text, put_varint};
use super::column::{self, COLUMN_SAMPLES_MAX};
use super::index::SeriesId;

/// Compression of pages and index: three quarters of what level 9 gains, at a fifth of its cost.
const ZSTD_LEVEL: i32 = 3;

/// The temporary file of a block, gone when the block has its name or will never have one: after an
/// error the disk may be full, and each attempt would leave more behind.
struct Scrap(PathBuf);

impl Drop for Scrap {
    fn drop(&mut self) {
        // Not there any more, or cleared at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A block in the making.
pub(super) struct Writer {
    _scrap: Scrap,
    temporary: PathBuf,
    path: PathBuf,
    number: u64,
    file: File,
    offset: u64,
    values: Pages,
    times: Pages,
    columns: Vec<Times>,
    /// Columns of times by the hash of their bytes.
    known: HashMap<u128, u32>,
    items: Vec<Item>,
    texts: HashMap<Arc<str>, u32>,
    text_bytes: Vec<u8>,
    series: u64,
    series_bytes: Vec<u8>,
    span: Option<(Millis, Millis)>,
    samples: u64,
}

#[derive(Default)]
struct Pages {
    open: Vec<u8>,
    closed: Vec<Page>,
}

impl Writer {
    /// Begins a block under a temporary name.
    pub(super) fn create(folder: &Path, number: u64) -> Result<Self, Error> {
        let path = folder.join(super::manifest::block_name(number));
        let temporary = path.with_extension("tmp");
        let scrap = Scrap(temporary.clone());
        let mut file = File::create(&temporary).map_err(|e| Error::io("create", &temporary, e))?;
        let mut header = MAGIC.to_vec();
        header.extend_from_slice(&FORMAT.to_le_bytes());
        header.extend_from_slice(&[0; 4]);
        file.write_all(&header).map_err(|e| Error::io("write", &temporary, e))?;
        Ok(Self {
            _scrap: scrap,
            temporary,
            path,
            number,
            file,
            offset: HEADER_BYTES,
            values: Pages::default(),
            times: Pages::default(),
            columns: Vec::new(),
            known: HashMap::new(),
            items: Vec::new(),
            texts: HashMap::new(),
            text_bytes: Vec::new(),
            series: 0,
            series_bytes: Vec::new(),
            span: None,
            samples: 0,
        })
    }

    /// Adds a series with its samples, ascending. A series without samples is left out.
    pub(super) fn add(
        &mut self,
        id: SeriesId,
        labels: &Labels,
        kind: MetricKind,
        times: &[Millis],
        values: &[f64],
    ) -> Result<(), Error> {
        let (Some(first), Some(last)) = (times.first(), times.last()) else { return Ok(()) };
        let (low, high) = self.span.unwrap_or((*first, *last));
        self.span = Some((low.min(*first), high.max(*last)));
        self.samples += times.len() as u64;
        self.series += 1;
        self.series_bytes.extend_from_slice(&labels.fingerprint().to_le_bytes());
        self.series_bytes.push(kind_byte(kind));
        put_varint(&mut self.series_bytes, labels.len() as u64);
        for (name, value) in labels.shared() {
            let (name, value) = (self.text(name), self.text(value));
            put_varint(&mut self.series_bytes, u64::from(name));
            put_varint(&mut self.series_bytes, u64::from(value));
        }
        put_varint(&mut self.series_bytes, times.len().div_ceil(COLUMN_SAMPLES_MAX) as u64);
        let pieces = times.chunks(COLUMN_SAMPLES_MAX).zip(values.chunks(COLUMN_SAMPLES_MAX));
        for (times, values) in pieces {
            let item = self.add_piece(id, times, values)?;
            for number in [item.times, item.page, item.at] {
                put_varint(&mut self.series_bytes, u64::from(number));
            }
            self.items.push(item);
        }
        Ok(())
    }

    fn add_piece(&mut self, id: SeriesId, times: &[Millis], values: &[f64]) -> Result<Item, Error> {
        let times = self.column(times)?;
        let (page, at) = self.values.place();
        column::put_values(&mut self.values.open, values);
        if self.values.open.len() >= PAGE_BYTES {
            self.close(Which::Values)?;
        }
        Ok(Item { id, times, page, at })
    }

    /// The number of a column of times, written unless the same one is there already.
    fn column(&mut self, times: &[Millis]) -> Result<u32, Error> {
        let (page, at) = self.times.place();
        column::put_times(&mut self.times.open, times);
        let hash = xxhash_rust::xxh3::xxh3_128(&self.times.open[at as usize..]);
        let new = self.columns.len() as u32;
        let number = *self.known.entry(hash).or_insert(new);
        if number != new {
            self.times.open.truncate(at as usize);
            return Ok(number);
        }
        self.columns.push(Times {
            page,
            at,
            count: times.len() as u32,
            first: times[0],
            last: times[times.len() - 1],
        });
        if self.times.open.len() >= PAGE_BYTES {
            self.close(Which::Times)?;
        }
        Ok(number)
    }

    fn text(&mut self, text: &Arc<str>) -> u32 {
        if let Some(number) = self.texts.get(text) {
            return *number;
        }
        let number = self.texts.len() as u32;
        put_text(&mut self.text_bytes, text);
        self.texts.insert(text.clone(), number);
        number
    }

    fn close(&mut self, which: Which) -> Result<(), Error> {
        let raw = match which {
            Which::Values => std::mem::take(&mut self.values.open),
            Which::Times => std::mem::take(&mut self.times.open),
        };
        if raw.is_empty() {
            return Ok(());
        }
        let page = self.append(&raw)?;
        match which {
            Which::Values => self.values.closed.push(page),
            Which::Times => self.times.closed.push(page),
        }
        Ok(())
    }

    fn append(&mut self, raw: &[u8]) -> Result<Page, Error> {
        let packed = zstd::bulk::compress(raw, ZSTD_LEVEL)
            .map_err(|e| Error::io("compress for", &self.temporary, e))?;
        self.file.write_all(&packed).map_err(|e| Error::io("write", &self.temporary, e))?;
        let page = Page {
            offset: self.offset,
            size: packed.len() as u32,
            raw_size: raw.len() as u32,
            crc: crc32fast::hash(&packed),
        };
        self.offset += packed.len() as u64;
        Ok(page)
    }

    /// Writes index and footer, syncs, renames, syncs the folder.
    pub(super) fn finish(mut self, level: u32, next_seq: u64) -> Result<Block, Error> {
        self.close(Which::Values)?;
        self.close(Which::Times)?;
        let index = self.index_bytes();
        if index.len() > INDEX_BYTES_MAX {
            let error = std::io::Error::new(
                std::io::ErrorKind::FileTooLarge,
                "its index would be greater than 1 GiB: allow fewer series",
            );
            return Err(Error::io("write", &self.temporary, error));
        }
        let place = self.append(&index)?;
        let (first, last) = self.span.unwrap_or((0, 0));
        let meta = Meta { level, next_seq, first, last, samples: self.samples };
        let footer = footer_bytes(&meta, &place);
        let step = |e| Error::io("write", &self.temporary, e);
        self.file.write_all(&footer).map_err(step)?;
        self.file.sync_all().map_err(step)?;
        std::fs::rename(&self.temporary, &self.path)
            .map_err(|e| Error::io("rename", &self.temporary, e))?;
        super::manifest::sync_folder(&self.path)?;
        let file = File::open(&self.path).map_err(|e| Error::io("open", &self.path, e))?;
        // Stable: the items of a series stay in order of time.
        self.items.sort_by_key(|item| item.id);
        let file = BlockFile {
            path: self.path,
            number: self.number,
            size: self.offset + FOOTER_BYTES as u64,
            meta,
            file,
            value_pages: self.values.closed,
            time_pages: self.times.closed,
            times: self.columns,
        };
        Ok(Block { file: Arc::new(file), items: self.items })
    }

    fn index_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.texts.len() as u64);
        out.extend_from_slice(&self.text_bytes);
        put_varint(&mut out, self.series);
        out.extend_from_slice(&self.series_bytes);
        put_varint(&mut out, self.columns.len() as u64);
        for times in &self.columns {
            for number in [times.page, times.at, times.count] {
                put_varint(&mut out, u64::from(number));
            }
            put_signed(&mut out, times.first);
            put_signed(&mut out, times.last);
        }
        for pages in [&self.values.closed, &self.times.closed] {
            put_varint(&mut out, pages.len() as u64);
            for page in pages {
                put_varint(&mut out, page.offset);
                put_varint(&mut out, u64::from(page.size));
                put_varint(&mut out, u64::from(page.raw_size));
                out.extend_from_slice(&page.crc.to_le_bytes());
            }
        }
        out
    }
}

#[derive(Clone, Copy)]
enum Which {
    Values,
    Times,
}

impl Pages {
    /// Number of the open page and where its next byte will lie.
    fn place(&self) -> (u32, u32) {
        (self.closed.len() as u32, self.open.len() as u32)
    }
}

fn footer_bytes(meta: &Meta, index: &Page) -> Vec<u8> {
    let mut footer = Vec::with_capacity(FOOTER_BYTES);
    footer.extend_from_slice(&index.offset.to_le_bytes());
    footer.extend_from_slice(&index.size.to_le_bytes());
    footer.extend_from_slice(&index.raw_size.to_le_bytes());
    footer.extend_from_slice(&index.crc.to_le_bytes());
    footer.extend_from_slice(&meta.level.to_le_bytes());
    footer.extend_from_slice(&meta.next_seq.to_le_bytes());
    footer.extend_from_slice(&meta.first.to_le_bytes());
    footer.extend_from_slice(&meta.last.to_le_bytes());
    footer.extend_from_slice(&meta.samples.to_le_bytes());
    let sum = crc32fast::hash(&footer);
    footer.extend_from_slice(&sum.to_le_bytes());
    footer.extend_from_slice(END);
    footer
}
