//! The dictionary of a segment: a tantivy index with one document a block, whose only field holds
//! the block's distinct words and letter runs. The one file that knows tantivy.
//!
//! Document numbers are block numbers. The index is written at once by the single-segment writer,
//! never changed, and read only after the segment has checked its files' checksums.

use std::path::Path;
use std::sync::Arc;

use memchr::memmem::Finder;
use tantivy::directory::MmapDirectory;
use tantivy::index::InvertedIndexReader;
use tantivy::schema::document::{Document, ReferenceValue, ReferenceValueLeaf, Value};
use tantivy::schema::{BytesOptions, Field, IndexRecordOption, Schema};
use tantivy::store::Compressor;
use tantivy::{
    DocSet, Index, IndexSettings, SegmentReader, SingleSegmentIndexWriter, TERMINATED,
    TantivyError, Term,
};

use super::block_set::BlockSet;
use super::terms::Terms;

/// Bounds of the memory that tantivy's term table begins with, in bytes.
const BUDGET_MIN: usize = 1 << 20;
const BUDGET_MAX: usize = 12 << 20;

/// Writes the dictionary of one segment.
pub(super) struct WordsWriter {
    writer: SingleSegmentIndexWriter<BlockWords>,
    field: Field,
}

impl WordsWriter {
    /// A writer into an empty folder that exists, for about so many bytes of text.
    pub(super) fn create(dir: &Path, text_bytes: usize) -> Result<Self, TantivyError> {
        let mut schema = Schema::builder();
        let field = schema.add_bytes_field("word", BytesOptions::default().set_indexed());
        let settings =
            IndexSettings { docstore_compression: Compressor::None, ..IndexSettings::default() };
        let writer = Index::builder()
            .schema(schema.build())
            .settings(settings)
            .single_segment_index_writer(
                MmapDirectory::open(dir)?,
                (text_bytes / 4).clamp(BUDGET_MIN, BUDGET_MAX),
            )?;
        Ok(Self { writer, field })
    }

    /// Adds the words of the next block.
    pub(super) fn add(&mut self, terms: &Terms) -> Result<(), TantivyError> {
        let mut document = BlockWords { field: self.field, bytes: Vec::new(), ends: Vec::new() };
        document.ends.reserve(terms.words().len());
        for word in terms.words() {
            document.bytes.extend_from_slice(word);
            document.ends.push(document.bytes.len() as u32);
        }
        self.writer.add_document(document)
    }

    /// Writes the index and syncs its files.
    pub(super) fn finish(self) -> Result<(), TantivyError> {
        self.writer.finalize().map(drop)
    }
}

/// One block as tantivy sees it.
struct BlockWords {
    field: Field,
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Document for BlockWords {
    type Value<'a> = WordValue<'a>;
    type FieldsValuesIter<'a> = WordValues<'a>;

    fn iter_fields_and_values(&self) -> WordValues<'_> {
        WordValues { words: self, next: 0 }
    }
}

/// The words of a block, one after the other.
struct WordValues<'a> {
    words: &'a BlockWords,
    next: usize,
}

impl<'a> Iterator for WordValues<'a> {
    type Item = (Field, WordValue<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let end = *self.words.ends.get(self.next)? as usize;
        let start = self.next.checked_sub(1).map_or(0, |before| self.words.ends[before] as usize);
        self.next += 1;
        Some((self.words.field, WordValue(&self.words.bytes[start..end])))
    }
}

#[derive(Clone, Debug)]
struct WordValue<'a>(&'a [u8]);

impl<'a> Value<'a> for WordValue<'a> {
    type ArrayIter = std::iter::Empty<Self>;
    type ObjectIter = std::iter::Empty<(&'a str, Self)>;

    fn as_value(&self) -> ReferenceValue<'a, Self> {
        ReferenceValue::Leaf(ReferenceValueLeaf::Bytes(self.0))
    }
}

/// An open dictionary.
pub(super) struct Words {
    inverted: Arc<InvertedIndexReader>,
    field: Field,
}

impl Words {
    /// Opens the index in a folder.
    pub(super) fn open(dir: &Path) -> Result<Self, TantivyError> {
        let index = Index::open(MmapDirectory::open(dir)?)?;
        let field = index.schema().get_field("word")?;
        let segments = index.searchable_segments()?;
        let segment = segments
            .first()
            .ok_or_else(|| TantivyError::InternalError("an index without a segment".into()))?;
        Ok(Self { inverted: SegmentReader::open(segment)?.inverted_index(field)?, field })
    }

    /// Adds the blocks that have this word.
    pub(super) fn find(&self, word: &[u8], into: &mut BlockSet) -> std::io::Result<()> {
        let term = Term::from_field_bytes(self.field, word);
        match self.inverted.get_term_info(&term)? {
            Some(info) => self.insert_postings(&info, into),
            None => Ok(()),
        }
    }

    /// Adds the blocks that have a term in which `run` occurs; only at the begin of the term, if
    /// `at_start`.
    pub(super) fn find_within(
        &self,
        run: &[u8],
        at_start: bool,
        into: &mut BlockSet,
    ) -> std::io::Result<()> {
        let finder = Finder::new(run);
        let range = self.inverted.terms().range();
        let mut terms = if at_start { range.ge(run) } else { range }.into_stream()?;
        while terms.advance() {
            if at_start && !terms.key().starts_with(run) {
                break;
            }
            if at_start || finder.find(terms.key()).is_some() {
                self.insert_postings(terms.value(), into)?;
            }
        }
        Ok(())
    }

    fn insert_postings(
        &self,
        info: &tantivy::postings::TermInfo,
        into: &mut BlockSet,
    ) -> std::io::Result<()> {
        let mut postings =
            self.inverted.read_postings_from_terminfo(info, IndexRecordOption::Basic)?;
        while postings.doc() != TERMINATED {
            into.insert(postings.doc());
            postings.advance();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(len: u32, find: impl Fn(&mut BlockSet) -> std::io::Result<()>) -> Vec<u32> {
        let mut set = BlockSet::none(len);
        find(&mut set).unwrap();
        (0..len).filter(|&b| set.contains(b)).collect()
    }

    #[test]
    fn finds_blocks_by_word_and_by_part() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = WordsWriter::create(dir.path(), 0).unwrap();
        let mut terms = Terms::new();
        for text in ["Connection reset", "", "connected to db12345x", "reset again"] {
            terms.begin();
            terms.literal(text.as_bytes());
            writer.add(&terms).unwrap();
        }
        writer.finish().unwrap();
        let words = Words::open(dir.path()).unwrap();
        assert_eq!(set(4, |s| words.find(b"reset", s)), [0, 3]);
        assert_eq!(set(4, |s| words.find(b"conn", s)), [0_u32; 0]);
        assert_eq!(set(4, |s| words.find_within(b"nnect", false, s)), [0, 2]);
        assert_eq!(set(4, |s| words.find_within(b"con", true, s)), [0, 2]);
        assert_eq!(set(4, |s| words.find_within(b"nnect", true, s)), [0_u32; 0]);
    }

    #[test]
    fn a_segment_without_any_word() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = WordsWriter::create(dir.path(), 0).unwrap();
        let mut terms = Terms::new();
        terms.begin();
        terms.literal(b"...");
        writer.add(&terms).unwrap();
        writer.finish().unwrap();
        let words = Words::open(dir.path()).unwrap();
        assert_eq!(set(1, |s| words.find(b"reset", s)), [0_u32; 0]);
        assert_eq!(set(1, |s| words.find_within(b"a", false, s)), [0_u32; 0]);
    }
}
