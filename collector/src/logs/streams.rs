//! The table of streams: labels stored once per stream, and the postings that answer matchers.
//!
//! ```text
//! file    magic "TFLT", format u32, then frames
//! frame   marker "strm", payload bytes u32, crc32 of the payload u32, payload
//! payload number u32, label count u32, then name and value of each label: length u32, bytes
//! ```
//! All numbers little endian. The file is only appended to, and synced before a manifest counts the
//! new frames. What lies behind the length that the manifest knows is a torn tail and is cut; the
//! write-ahead log brings those streams again. A damaged frame is skipped and counted; the lines of
//! its stream cannot be attributed then and stay out of answers.
//!
//! Invariant: a stream's number is its place in the order of first appearance, and never changes.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use taffrail_model::{Labels, MatchOp, Matcher};

use super::Error;

const MAGIC: &[u8; 4] = b"TFLT";
const FORMAT: u32 = 1;
const MARKER: &[u8; 4] = b"strm";
const HEAD_BYTES: usize = 8;
const FRAME_HEAD_BYTES: usize = 12;

/// One stream.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    /// Its labels; every row of the stream is given out with a clone of these.
    pub(super) labels: Labels,
    /// Its place among rows of the same time.
    pub(super) fingerprint: u128,
}

/// All streams, by number, by labels and by label value.
#[derive(Default)]
pub(super) struct Streams {
    /// A hole stands where the file was damaged.
    by_number: Vec<Option<Stream>>,
    by_labels: HashMap<Labels, u32>,
    /// Label name -> value -> numbers of the streams that have it, ascending.
    postings: BTreeMap<String, HashMap<String, Vec<u32>>>,
}

impl Streams {
    /// The number that the next new stream gets; all numbers are below it.
    pub(super) fn count(&self) -> u32 {
        self.by_number.len() as u32
    }

    /// A stream by its number.
    pub(super) fn get(&self, number: u32) -> Option<&Stream> {
        self.by_number.get(number as usize)?.as_ref()
    }

    /// The number of the stream with these labels.
    pub(super) fn number(&self, labels: &Labels) -> Option<u32> {
        self.by_labels.get(labels).copied()
    }

    /// The number of the stream with these labels, which is new if need be.
    pub(super) fn insert(&mut self, labels: &Labels) -> u32 {
        if let Some(number) = self.number(labels) {
            return number;
        }
        let number = self.count();
        for (name, value) in labels.iter() {
            if !self.postings.contains_key(name) {
                self.postings.insert(name.to_owned(), HashMap::new());
            }
            if let Some(values) = self.postings.get_mut(name) {
                values.entry(value.to_owned()).or_default().push(number);
            }
        }
        let fingerprint = labels.fingerprint();
        self.by_number.push(Some(Stream { labels: labels.clone(), fingerprint }));
        self.by_labels.insert(labels.clone(), number);
        number
    }

    /// The numbers of the streams that satisfy all matchers, ascending.
    pub(super) fn select(&self, matchers: &[Matcher]) -> Vec<u32> {
        let mut selected: Option<Vec<u32>> = None;
        // Positive conditions first: they make the lists short for the others.
        for matcher in matchers.iter().filter(|m| !m.matches_empty()) {
            let found = self.with_value(matcher);
            selected = Some(match selected {
                None => found,
                Some(before) => intersection(&before, &found),
            });
        }
        let mut selected = selected.unwrap_or_else(|| (0..self.count()).collect());
        for matcher in matchers.iter().filter(|m| m.matches_empty()) {
            selected.retain(|&n| self.get(n).is_some_and(|s| matcher.matches_labels(&s.labels)));
        }
        selected.retain(|&n| self.get(n).is_some());
        selected
    }

    /// The streams that have the label with a value that satisfies the matcher.
    fn with_value(&self, matcher: &Matcher) -> Vec<u32> {
        let Some(values) = self.postings.get(&matcher.name) else { return Vec::new() };
        if matcher.op == MatchOp::Equal {
            return values.get(&matcher.value).cloned().unwrap_or_default();
        }
        let mut found = Vec::new();
        for (_, numbers) in values.iter().filter(|(value, _)| matcher.matches(value)) {
            found.extend_from_slice(numbers);
        }
        found.sort_unstable();
        found
    }
}

fn intersection(a: &[u32], b: &[u32]) -> Vec<u32> {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    short.iter().copied().filter(|n| long.binary_search(n).is_ok()).collect()
}

/// The file of the table.
pub(super) struct StreamsFile {
    path: PathBuf,
    file: File,
    /// How many bytes are synced and whole.
    bytes: u64,
    /// How many streams they hold, holes included.
    count: u32,
}

impl StreamsFile {
    /// A new, empty table.
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .map_err(Error::io("create", path))?;
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&FORMAT.to_le_bytes());
        file.write_all(&head).and_then(|()| file.sync_all()).map_err(Error::io("write", path))?;
        Ok(Self { path: path.to_owned(), file, bytes: HEAD_BYTES as u64, count: 0 })
    }

    /// Opens the table at the length and count that the manifest knows, cuts what lies behind, and
    /// reads it. The last number is how many frames were damaged.
    pub(super) fn open(path: &Path, bytes: u64, count: u32) -> Result<(Self, Streams, u32), Error> {
        let content = std::fs::read(path).map_err(Error::io("read", path))?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(Error::io("open", path))?;
        if content.len() as u64 > bytes {
            file.set_len(bytes).and_then(|()| file.sync_all()).map_err(Error::io("cut", path))?;
        }
        let known = &content[..content.len().min(usize::try_from(bytes).unwrap_or(usize::MAX))];
        let streams = read(known, count);
        let damaged = streams.by_number.iter().filter(|stream| stream.is_none()).count() as u32;
        Ok((Self { path: path.to_owned(), file, bytes, count }, streams, damaged))
    }

    /// Appends every stream that the file does not hold yet and syncs it. Returns length and count
    /// for the manifest.
    pub(super) fn append(&mut self, streams: &[Stream]) -> Result<(u64, u32), Error> {
        if !streams.is_empty() {
            let mut frames = Vec::new();
            for (number, stream) in (self.count..).zip(streams) {
                write_frame(number, &stream.labels, &mut frames);
            }
            let write = || {
                use std::os::unix::fs::FileExt;
                // A failed attempt may have left bytes behind the known length.
                self.file.set_len(self.bytes)?;
                self.file.write_all_at(&frames, self.bytes)?;
                self.file.sync_all()
            };
            write().map_err(Error::io("append to", &self.path))?;
            self.bytes += frames.len() as u64;
            self.count += streams.len() as u32;
        }
        Ok((self.bytes, self.count))
    }

    /// How far whole frames follow the first `bytes` of a file, and how many they are.
    pub(super) fn whole(path: &Path, bytes: u64) -> Result<(u64, u32), Error> {
        let content = std::fs::read(path).map_err(Error::io("read", path))?;
        let mut at = usize::try_from(bytes).unwrap_or(usize::MAX);
        let mut count = 0;
        while let Some((_, _, length)) = content.get(at..).and_then(read_frame) {
            at += length;
            count += 1;
        }
        Ok((at as u64, count))
    }

    /// How many streams the file holds.
    pub(super) fn count(&self) -> u32 {
        self.count
    }
}

impl Streams {
    /// Copies of the streams from a number on, for the file.
    pub(super) fn starting_at(&self, number: u32) -> Vec<Stream> {
        self.by_number.iter().skip(number as usize).flatten().cloned().collect()
    }
}

fn write_frame(number: u32, labels: &Labels, out: &mut Vec<u8>) {
    let mut payload = Vec::new();
    payload.extend_from_slice(&number.to_le_bytes());
    payload.extend_from_slice(&(labels.len() as u32).to_le_bytes());
    for text in labels.iter().flat_map(|(name, value)| [name, value]) {
        payload.extend_from_slice(&(text.len() as u32).to_le_bytes());
        payload.extend_from_slice(text.as_bytes());
    }
    out.extend_from_slice(MARKER);
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
    out.extend_from_slice(&payload);
}

/// Reads all whole frames; goes on behind a damaged one at the next marker that begins a whole one.
fn read(content: &[u8], count: u32) -> Streams {
    let mut frames: BTreeMap<u32, Labels> = BTreeMap::new();
    let mut at = HEAD_BYTES;
    while at < content.len() {
        if let Some((number, labels, bytes)) = read_frame(&content[at..]) {
            frames.insert(number, labels);
            at += bytes;
        } else {
            let rest = content.get(at + 1..).unwrap_or_default();
            let Some(next) = memchr::memmem::find(rest, MARKER) else { break };
            at += 1 + next;
        }
    }
    let mut streams = Streams::default();
    for number in 0..count {
        match frames.get(&number) {
            // Labels that stand twice are a damage too: the second number would never be found.
            Some(labels) if streams.number(labels).is_none() => {
                streams.insert(labels);
            }
            _ => streams.by_number.push(None),
        }
    }
    streams
}

fn read_frame(bytes: &[u8]) -> Option<(u32, Labels, usize)> {
    let head = bytes.get(..FRAME_HEAD_BYTES).filter(|head| head.starts_with(MARKER))?;
    let payload_bytes = u32::from_le_bytes(*head[4..].first_chunk()?) as usize;
    let payload = bytes.get(FRAME_HEAD_BYTES..FRAME_HEAD_BYTES.checked_add(payload_bytes)?)?;
    if head[8..] != crc32fast::hash(payload).to_le_bytes() {
        return None;
    }
    let mut rest = payload;
    let number = take_u32(&mut rest)?;
    let mut pairs = Vec::new();
    for _ in 0..take_u32(&mut rest)? {
        let name = take_text(&mut rest)?;
        pairs.push((name, take_text(&mut rest)?));
    }
    Some((number, Labels::from_pairs(pairs), FRAME_HEAD_BYTES + payload_bytes))
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u32::from_le_bytes(*head))
}

fn take_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let length = take_u32(bytes)? as usize;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    str::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn label_sets() -> impl Strategy<Value = Vec<Labels>> {
        let set = proptest::collection::btree_map("[a-c]", "[x-z]{1,2}", 0..4);
        proptest::collection::vec(set.prop_map(Labels::from_pairs), 0..20)
    }

    proptest! {
        #[test]
        fn select_equals_a_look_at_every_stream(
            sets in label_sets(),
            raw in proptest::collection::vec(("[a-d]", 0_usize..4, "[x-z.]{0,2}"), 0..3),
        ) {
            let ops = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
            let matchers: Vec<Matcher> = raw
                .iter()
                .map(|(name, op, value)| Matcher::new(name, ops[*op], value, false).unwrap())
                .collect();
            let mut streams = Streams::default();
            let numbers: Vec<u32> = sets.iter().map(|set| streams.insert(set)).collect();
            let mut expected: Vec<u32> = (sets.iter().zip(&numbers))
                .filter(|(set, _)| matchers.iter().all(|m| m.matches_labels(set)))
                .map(|(_, &number)| number)
                .collect();
            expected.sort_unstable();
            expected.dedup();
            prop_assert_eq!(streams.select(&matchers), expected);
        }

        #[test]
        fn the_file_survives_damage_and_torn_tails(
            sets in label_sets(), at in any::<prop::sample::Index>(), bit in 0_u8..8,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("streams");
            let mut streams = Streams::default();
            for set in &sets {
                streams.insert(set);
            }
            let mut file = StreamsFile::create(&path).unwrap();
            let half = streams.count() as usize / 2;
            file.append(&streams.starting_at(0)[..half]).unwrap();
            let (bytes, count) = file.append(&streams.starting_at(file.count())).unwrap();
            let whole = std::fs::read(&path).unwrap();
            std::fs::write(&path, [&whole[..], b"torn"].concat()).unwrap();
            let (_, found, damaged) = StreamsFile::open(&path, bytes, count).unwrap();
            prop_assert_eq!(damaged, 0);
            for number in 0..count {
                prop_assert_eq!(&found.get(number).unwrap().labels, &streams.get(number).unwrap().labels);
            }
            prop_assert_eq!(&std::fs::read(&path).unwrap(), &whole);
            let mut flipped = whole;
            let at = at.index(flipped.len());
            flipped[at] ^= 1_u8 << bit;
            std::fs::write(&path, &flipped).unwrap();
            let (_, found, damaged) = StreamsFile::open(&path, bytes, count).unwrap();
            prop_assert!(damaged <= 1, "one flipped bit hurts one stream");
            prop_assert_eq!(found.count(), count);
        }
    }
}
