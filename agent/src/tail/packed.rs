//! The content of a rotated file that the kubelet has compressed before we had read it.
//!
//! A compressed file has an inode of its own, so its name says nothing about how far its content was
//! read. What tells is the check: the bytes before a committed position that no plain file has
//! claimed, found again at that offset of the unpacked content ([`find_resume`]).
//!
//! Offsets are those of the unpacked content, which are those of the file that was compressed.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::identity::{CHECK_BYTES, FileId, check};
use super::positions::Known;

/// Unpacked bytes, read in order.
#[derive(Debug)]
pub struct Unpacked {
    decoder: MultiGzDecoder<BufReader<File>>,
    position: u64,
}

const CHUNK: usize = 64 << 10;

impl Unpacked {
    /// Opens a compressed file and passes over the first `position` bytes of its content.
    ///
    /// # Errors
    /// What the system says; also when the content is shorter or damaged.
    pub fn open(path: &Path, position: u64) -> io::Result<Self> {
        let decoder = MultiGzDecoder::new(BufReader::new(super::file::open(path, None)?));
        let mut unpacked = Self { decoder, position: 0 };
        let passed = io::copy(&mut (&mut unpacked.decoder).take(position), &mut io::sink())?;
        if passed < position {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        unpacked.position = position;
        Ok(unpacked)
    }

    /// Offset of the next byte.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Reads what comes next; 0 at the end.
    ///
    /// # Errors
    /// What the system says; also when the content is damaged.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.decoder.read(buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

/// Up to [`CHECK_BYTES`] bytes of the content before `position`. Unpacks all that is before.
///
/// # Errors
/// What the system says; also when the content is shorter or damaged.
pub fn bytes_before(path: &Path, position: u64) -> io::Result<Vec<u8>> {
    let count = position.min(CHECK_BYTES as u64);
    let mut content = Unpacked::open(path, position - count)?;
    let mut bytes = vec![0; count as usize];
    content.decoder.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// How long the content is, as the end of the file says (modulo 4 GiB; the kubelet rotates long
/// before).
///
/// # Errors
/// What the system says.
pub fn unpacked_size(path: &Path) -> io::Result<u64> {
    let mut file = super::file::open(path, None)?;
    file.seek(SeekFrom::End(-4))?;
    let mut bytes = [0; 4];
    file.read_exact(&mut bytes)?;
    Ok(u64::from(u32::from_le_bytes(bytes)))
}

/// Which of the positions, sorted by offset, lies in this content of `size` bytes: one whose check is
/// that of the bytes before it. Lines may all end alike, so several can fit: then one at the very
/// end is right, that of the file that was born first (compressed files are looked into in order);
/// else that of the file that was born last, which is where reading broke off.
///
/// # Errors
/// What the system says; also when the content is damaged.
pub fn find_resume(
    path: &Path,
    size: u64,
    known: &[(FileId, Known)],
) -> io::Result<Option<(FileId, Known)>> {
    let mut content = Unpacked::open(path, 0)?;
    // The last bytes of the chunk before stand in front of each chunk.
    let mut window = Vec::with_capacity(CHECK_BYTES + CHUNK);
    let mut chunk = vec![0; CHUNK];
    let mut waiting = known.iter().peekable();
    let mut found: Option<(FileId, Known)> = None;
    let rank = |(id, known): &(FileId, Known)| {
        let whole = known.committed == size;
        (whole, if whole { id.birth.saturating_neg() } else { id.birth }, known.committed)
    };
    while waiting.peek().is_some() {
        let count = content.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        window.drain(..window.len().saturating_sub(CHECK_BYTES));
        window.extend_from_slice(&chunk[..count]);
        let start = content.position() - window.len() as u64;
        while let Some((id, known)) = waiting.next_if(|(_, k)| k.committed <= content.position()) {
            let upto = usize::try_from(known.committed - start).unwrap_or(0);
            let fits = check(&window[..upto]) == known.check;
            let better = |f: &(FileId, Known)| rank(f) < rank(&(*id, *known));
            if fits && found.as_ref().is_none_or(better) {
                found = Some((*id, *known));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn pack(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        file.write_all(&encoder.finish().unwrap()).unwrap();
        file
    }

    fn known(number: u64, committed: u64, check: u64) -> (FileId, Known) {
        let id = FileId { device: 1, inode: number, birth: 1 };
        (id, Known { generation: 0, committed, check, family: 1 })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_place_is_found(
            seed in any::<u64>(), size in 70_usize..200_000, at in any::<prop::sample::Index>(),
            wrong in proptest::collection::vec(1_u64..200_000, 0..5),
        ) {
            let mut state = seed | 1;
            let bytes: Vec<u8> = (0..size).map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            }).collect();
            let file = pack(&bytes);
            let at = at.index(size - 64) + 64;
            let right = known(0, at as u64, check(&bytes[..at]));
            let mut all: Vec<_> = wrong.iter().map(|w| known(*w, *w, 12345)).collect();
            all.push(right);
            all.sort_unstable_by_key(|(id, k)| (k.committed, *id));
            prop_assert_eq!(find_resume(file.path(), size as u64, &all).unwrap(), Some(right));
            prop_assert_eq!(unpacked_size(file.path()).unwrap(), size as u64);
            let mut rest = Unpacked::open(file.path(), at as u64).unwrap();
            let mut found = Vec::new();
            rest.decoder.read_to_end(&mut found).unwrap();
            prop_assert_eq!(&found[..], &bytes[at..]);
            prop_assert_eq!(&bytes_before(file.path(), at as u64).unwrap()[..], &bytes[at - 64..at]);
        }
    }

    #[test]
    fn of_those_that_fit_the_likeliest_is_taken() {
        let content = b"the same line\n".repeat(700);
        let size = content.len() as u64;
        let file = pack(&content);
        let born = |birth: i64, committed: u64| {
            let id = FileId { device: 1, inode: 1, birth };
            let check = check(&content[..usize::try_from(committed).unwrap()]);
            (id, Known { generation: 0, committed, check, family: 1 })
        };
        let old = [born(3, 1400), born(4, 2800), born(1, 4200)];
        assert_eq!(find_resume(file.path(), size, &old).unwrap(), Some(old[1]));
        let read = [&old[..], &[born(7, size), born(6, size), born(8, size)]].concat();
        assert_eq!(find_resume(file.path(), size, &read).unwrap(), Some(read[4]));
    }

    #[test]
    fn damage_is_an_error() {
        let whole = pack(&[b'x'; 10_000]);
        let bytes = std::fs::read(whole.path()).unwrap();
        let torn = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(torn.path(), &bytes[..bytes.len() / 2]).unwrap();
        assert!(find_resume(torn.path(), 10_000, &[known(1, 20_000, 1)]).is_err());
        assert!(Unpacked::open(whole.path(), 10_001).is_err());
        std::fs::write(torn.path(), "x").unwrap();
        assert!(unpacked_size(torn.path()).is_err());
    }
}
