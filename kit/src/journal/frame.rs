//! Frames and segment headers to bytes and back. Pure: no file is touched here.
//!
//! The formats are drawn in the header of [`super`].

/// First bytes of a segment file.
const MAGIC: [u8; 8] = *b"TFRLJRNL";
/// The version of the format that this code writes and reads.
pub(super) const FORMAT_VERSION: u32 = 1;
/// Bytes of a segment's header.
pub(super) const SEGMENT_HEADER_BYTES: usize = 28;
/// Bytes of a frame before its payload.
pub(super) const FRAME_HEADER_BYTES: usize = 16;

/// What the header of a segment file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SegmentHeader {
    /// A segment of our version whose first frame has this number.
    Ours { first_seq: u64 },
    /// An intact header of another version.
    OtherVersion(u32),
    /// Not a header, or a damaged one.
    Damaged,
}

/// The header of a new segment.
pub(super) fn encode_segment_header(first_seq: u64) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut header = [0; SEGMENT_HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&first_seq.to_le_bytes());
    let check = crc32fast::hash(&header[..24]);
    header[24..].copy_from_slice(&check.to_le_bytes());
    header
}

/// Reads the header of a segment.
pub(super) fn decode_segment_header(header: &[u8; SEGMENT_HEADER_BYTES]) -> SegmentHeader {
    if header[..8] != MAGIC || crc32fast::hash(&header[..24]) != u32_at(header, 24) {
        return SegmentHeader::Damaged;
    }
    match u32_at(header, 8) {
        FORMAT_VERSION => SegmentHeader::Ours { first_seq: u64_at(header, 16) },
        version => SegmentHeader::OtherVersion(version),
    }
}

/// What stands before the payload of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) payload_bytes: u32,
    check: u32,
    pub(super) seq: u64,
}

/// Writes a frame whose payload is the parts one after the other. `buffer` is emptied first.
/// `payload_bytes` is the sum of their lengths.
pub(super) fn encode_frame(seq: u64, payload_bytes: u32, parts: &[&[u8]], buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.reserve(FRAME_HEADER_BYTES + payload_bytes as usize);
    buffer.extend_from_slice(&payload_bytes.to_le_bytes());
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&seq.to_le_bytes());
    for part in parts {
        buffer.extend_from_slice(part);
    }
    let check = frame_check(payload_bytes, seq, &buffer[FRAME_HEADER_BYTES..]);
    buffer[4..8].copy_from_slice(&check.to_le_bytes());
}

/// Reads what stands before a payload. Any bytes give a header; only [`FrameHeader::matches`] tells
/// whether it is one.
pub(super) fn decode_frame_header(bytes: &[u8; FRAME_HEADER_BYTES]) -> FrameHeader {
    FrameHeader { payload_bytes: u32_at(bytes, 0), check: u32_at(bytes, 4), seq: u64_at(bytes, 8) }
}

impl FrameHeader {
    /// Whether the payload is the one that was written with this header.
    pub(super) fn matches(&self, payload: &[u8]) -> bool {
        self.check == frame_check(self.payload_bytes, self.seq, payload)
    }
}

fn frame_check(payload_bytes: u32, seq: u64, payload: &[u8]) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(&payload_bytes.to_le_bytes());
    hash.update(&seq.to_le_bytes());
    hash.update(payload);
    hash.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("the slice has four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("the slice has eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zeros_are_no_frame() {
        // What some file systems leave at the end of a file after a power cut.
        let header = decode_frame_header(&[0; FRAME_HEADER_BYTES]);
        assert!(!header.matches(&[]));
    }

    #[test]
    fn another_version_is_told_from_damage() {
        let mut header = encode_segment_header(7);
        assert_eq!(decode_segment_header(&header), SegmentHeader::Ours { first_seq: 7 });
        header[8] = 9;
        assert_eq!(decode_segment_header(&header), SegmentHeader::Damaged);
        let check = crc32fast::hash(&header[..24]);
        header[24..].copy_from_slice(&check.to_le_bytes());
        assert_eq!(decode_segment_header(&header), SegmentHeader::OtherVersion(9));
    }

    proptest! {
        #[test]
        fn a_frame_round_trips_and_any_flipped_bit_shows(
            seq in any::<u64>(),
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..4),
            flip in any::<prop::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            let whole = parts.concat();
            let mut frame = Vec::new();
            encode_frame(seq, u32::try_from(whole.len()).unwrap(), &slices, &mut frame);
            let read = |frame: &[u8]| {
                let header = decode_frame_header(frame[..FRAME_HEADER_BYTES].try_into().unwrap());
                (header, frame[FRAME_HEADER_BYTES..].to_vec())
            };
            let (header, payload) = read(&frame);
            prop_assert!(header.matches(&payload) && header.seq == seq && payload == whole);
            let at = flip.index(frame.len());
            frame[at] ^= 1 << bit;
            let (header, payload) = read(&frame);
            prop_assert!(!header.matches(&payload));
        }
    }
}
