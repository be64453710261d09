//! The journal's export format: bytes in, entries out.
//!
//! ```text
//! NAME=text\n                        a field of text
//! NAME\n<length: u64 LE><bytes>\n    a field of any bytes
//! \n                                 the end of an entry
//! ```
//!
//! Invariants:
//! - Any bytes are read; what is no field is passed over.
//! - However long a field says it is, no more than the limit of a line is kept of it.
//! - How the bytes are cut into pieces makes no difference.
//!
//! Pure.

use memchr::memchr;
use taffrail_model::limits::LINE_BYTES_MAX;

/// Longest field that is kept besides the message, in bytes.
const FIELD_BYTES_MAX: usize = 4096;
/// Longest name of a field that is looked at: journald takes no longer ones.
const NAME_BYTES_MAX: usize = 64;

/// One entry of the journal, as far as it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// What was logged.
    pub(super) message: Vec<u8>,
    /// Length of the message before it was cut, if it was.
    pub(super) cut: Option<u64>,
    /// Where in the journal it is.
    pub(super) cursor: Vec<u8>,
    /// When journald took it, in microseconds since the epoch.
    pub(super) realtime: u64,
    /// 0 (emergency) to 7 (debug).
    pub(super) priority: Option<u8>,
    /// The unit that logged it.
    pub(super) unit: Vec<u8>,
    /// What the program calls itself.
    pub(super) identifier: Vec<u8>,
    /// How it came; `kernel` for the kernel's.
    pub(super) transport: Vec<u8>,
}

#[derive(Debug)]
enum State {
    /// Within a line.
    Line,
    /// Within the length of a field of any bytes.
    Length { name: Vec<u8>, bytes: Vec<u8> },
    /// Within its bytes.
    Bytes { name: Vec<u8>, kept: Vec<u8>, length: u64, left: u64 },
    /// Before the end of its line.
    Newline,
}

/// Reads a stream of entries.
#[derive(Debug)]
pub(super) struct Parser {
    state: State,
    /// What is kept of the line so far, and its whole length.
    line: Vec<u8>,
    length: u64,
    entry: Entry,
    empty: bool,
}

impl Default for Parser {
    fn default() -> Self {
        let (line, entry) = (Vec::new(), Entry::default());
        Self { state: State::Line, line, length: 0, entry, empty: true }
    }
}

impl Parser {
    /// Takes the next bytes and gives the entries that they end.
    pub(super) fn push(&mut self, mut bytes: &[u8], each: &mut impl FnMut(Entry)) {
        while !bytes.is_empty() {
            let used = match &mut self.state {
                State::Line => self.line(bytes, each),
                State::Length { name, bytes: kept } => {
                    let used = bytes.len().min(8 - kept.len());
                    kept.extend_from_slice(&bytes[..used]);
                    if let Ok(length) = <[u8; 8]>::try_from(&**kept) {
                        let (name, length) = (std::mem::take(name), u64::from_le_bytes(length));
                        self.state = State::Bytes { name, kept: Vec::new(), length, left: length };
                        self.bytes(&[]);
                    }
                    used
                }
                State::Bytes { .. } => self.bytes(bytes),
                State::Newline => {
                    self.state = State::Line;
                    usize::from(bytes[0] == b'\n')
                }
            };
            bytes = &bytes[used..];
        }
    }

    fn line(&mut self, bytes: &[u8], each: &mut impl FnMut(Entry)) -> usize {
        let end = memchr(b'\n', bytes);
        let piece = &bytes[..end.unwrap_or(bytes.len())];
        let room = (LINE_BYTES_MAX + NAME_BYTES_MAX).saturating_sub(self.line.len());
        self.line.extend_from_slice(&piece[..piece.len().min(room)]);
        self.length += piece.len() as u64;
        let Some(end) = end else { return bytes.len() };
        let line = std::mem::take(&mut self.line);
        let length = std::mem::take(&mut self.length);
        match memchr(b'=', &line) {
            _ if line.is_empty() => {
                let entry = std::mem::take(&mut self.entry);
                if !std::mem::replace(&mut self.empty, true) {
                    each(entry);
                }
            }
            Some(at) => self.field(&line[..at], &line[at + 1..], length - at as u64 - 1),
            None => self.state = State::Length { name: line, bytes: Vec::with_capacity(8) },
        }
        end + 1
    }

    fn bytes(&mut self, bytes: &[u8]) -> usize {
        let State::Bytes { name, kept, length, left } = &mut self.state else { return 0 };
        let used = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
        let room = LINE_BYTES_MAX.saturating_sub(kept.len());
        kept.extend_from_slice(&bytes[..used.min(room)]);
        *left -= used as u64;
        if *left == 0 {
            let (name, kept, length) = (std::mem::take(name), std::mem::take(kept), *length);
            self.state = State::Newline;
            self.field(&name, &kept, length);
        }
        used
    }

    fn field(&mut self, name: &[u8], value: &[u8], length: u64) {
        self.empty = false;
        let entry = &mut self.entry;
        let short = &value[..value.len().min(FIELD_BYTES_MAX)];
        let number = || std::str::from_utf8(short).ok()?.parse::<u64>().ok();
        match name {
            // Programs may log several under this name: the first is what people see.
            b"MESSAGE" if entry.message.is_empty() => {
                entry.message = value[..value.len().min(LINE_BYTES_MAX)].to_vec();
                entry.cut = (entry.message.len() as u64 != length).then_some(length);
            }
            b"__CURSOR" => entry.cursor = short.to_vec(),
            b"__REALTIME_TIMESTAMP" => entry.realtime = number().unwrap_or(0),
            b"PRIORITY" => {
                entry.priority = number().and_then(|n| u8::try_from(n).ok()).filter(|n| *n < 8);
            }
            b"_SYSTEMD_UNIT" => entry.unit = short.to_vec(),
            b"SYSLOG_IDENTIFIER" => entry.identifier = short.to_vec(),
            b"_TRANSPORT" => entry.transport = short.to_vec(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(pieces: &[&[u8]]) -> Vec<Entry> {
        let (mut parser, mut entries) = (Parser::default(), Vec::new());
        pieces.iter().for_each(|piece| parser.push(piece, &mut |entry| entries.push(entry)));
        entries
    }

    fn binary(name: &str, value: &[u8]) -> Vec<u8> {
        let length = (value.len() as u64).to_le_bytes();
        [name.as_bytes(), b"\n", &length, value, b"\n"].concat()
    }

    const TEXT: &str = "__CURSOR=s=ab;i=1f\n__REALTIME_TIMESTAMP=1795186292000001\nPRIORITY=3\n\
        _SYSTEMD_UNIT=kubelet.service\nSYSLOG_IDENTIFIER=kubelet\n_TRANSPORT=stdout\n\
        MESSAGE=a=b c\n\n";

    #[test]
    fn fields_of_text_and_of_bytes() {
        let entry = &read(&[TEXT.as_bytes()])[0];
        assert_eq!((&*entry.message, entry.priority), (&b"a=b c"[..], Some(3)));
        assert_eq!((&*entry.cursor, entry.realtime), (&b"s=ab;i=1f"[..], 1_795_186_292_000_001));
        let (unit, identifier) = (&*entry.unit, &*entry.identifier);
        assert_eq!((unit, identifier), (&b"kubelet.service"[..], &b"kubelet"[..]));
        let message = b"two\nlines\n\nMESSAGE=no\n";
        let bytes = [binary("MESSAGE", message), binary("OTHER", b""), b"PRIORITY=9\n\n".to_vec()];
        let entry = &read(&[&bytes.concat()])[0];
        assert_eq!((&*entry.message, entry.priority, entry.cut), (&message[..], None, None));
        assert!(read(&[b"\n\n\n"]).is_empty(), "nothing is no entry");
        assert!(read(&[b"MESSAGE=half"]).is_empty());
    }

    #[test]
    fn long_messages_are_cut_and_long_lengths_not_believed() {
        let long = vec![b'x'; LINE_BYTES_MAX + 5];
        let text = [b"MESSAGE=", &*long, b"\n\n"].concat();
        let bytes = [binary("MESSAGE", &long), b"\n".to_vec()].concat();
        for input in [text, bytes] {
            let entries = read(&[&input]);
            assert_eq!(entries[0].message.len(), LINE_BYTES_MAX);
            assert_eq!(entries[0].cut, Some(long.len() as u64));
        }
        let mut parser = Parser::default();
        parser.push(b"MESSAGE\n\xff\xff\xff\xff\xff\xff\xff\xff", &mut |_| {});
        for _ in 0..20 {
            parser.push(&long, &mut |_| panic!("no end"));
        }
        let State::Bytes { kept, .. } = &parser.state else { panic!("within the bytes") };
        assert_eq!(kept.len(), LINE_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..5),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let entry = |(at, m): (usize, &Vec<u8>)| {
                [format!("PRIORITY={}\n", at % 8).into_bytes(), binary("MESSAGE", m), b"\n".to_vec()].concat()
            };
            let input: Vec<u8> = messages.iter().enumerate().flat_map(entry).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut start = 0;
            for cut in cuts.into_iter().chain([input.len()]) {
                pieces.push(&input[start..cut]);
                start = cut;
            }
            let found: Vec<Vec<u8>> = read(&pieces).into_iter().map(|e| e.message).collect();
            prop_assert_eq!(found, messages);
        }

        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let whole = read(&[&bytes]);
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(whole, read(&single));
        }
    }
}
