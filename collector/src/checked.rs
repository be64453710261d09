//! A checked text: a text followed by a line `crc32 xxxxxxxx` over it, readable by people, and believed
//! only when not a byte of it has changed. Pure.

/// Length of the last line, in bytes.
const TRAILER_BYTES: usize = "crc32 00000000\n".len();

/// The bytes of the file.
pub(crate) fn with_checksum(text: &str) -> Vec<u8> {
    format!("{text}\ncrc32 {:08x}\n", crc32fast::hash(text.as_bytes())).into_bytes()
}

/// The text of the file, if it is what was written.
pub(crate) fn text_of(bytes: &[u8]) -> Option<&str> {
    let text_bytes = bytes.len().checked_sub(TRAILER_BYTES + 1)?;
    let text = str::from_utf8(&bytes[..text_bytes]).ok()?;
    (with_checksum(text) == bytes).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_comes_back_and_another_version_of_it_does_not() {
        for text in ["", "x", "{\"a\":1}\n"] {
            let bytes = with_checksum(text);
            assert_eq!(text_of(&bytes), Some(text));
            for end in 0..bytes.len() {
                assert_eq!(text_of(&bytes[..end]), None);
            }
        }
    }
}
