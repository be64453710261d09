//! Compressed bodies to plain ones, never longer than the limit. Pure.

use std::borrow::Cow;
use std::io::Read;

use taffrail_model::limits::BODY_BYTES_MAX;

use super::refusal::Refusal;
use crate::wal::Encoding;

/// Largest window of a zstd stream, as a power of two: what decoders must support at least. A larger
/// one would let a small body ask for much memory.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Three bytes of a snappy block stand for 64 at the most, so a longer length is not true.
const SNAPPY_RATIO_MAX: usize = 22;

/// Reads the value of a `Content-Encoding` header.
#[must_use]
pub fn encoding_of(header: &str) -> Option<Encoding> {
    Some(match header.trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Encoding::Identity,
        "gzip" => Encoding::Gzip,
        "zstd" => Encoding::Zstd,
        "snappy" => Encoding::Snappy,
        "deflate" => Encoding::Deflate,
        _ => return None,
    })
}

/// The plain body.
///
/// # Errors
/// [`Refusal::TooLarge`] and, when the body is not compressed as it says, [`Refusal::Content`].
pub fn plain(encoding: Encoding, body: &[u8]) -> Result<Cow<'_, [u8]>, Refusal> {
    match encoding {
        Encoding::Identity if body.len() > BODY_BYTES_MAX => Err(too_large()),
        Encoding::Identity => Ok(Cow::Borrowed(body)),
        Encoding::Gzip => read("gzip", flate2::read::MultiGzDecoder::new(body), body.len()),
        Encoding::Deflate => read("deflate", flate2::read::DeflateDecoder::new(body), body.len()),
        Encoding::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(body).map_err(|e| bad("zstd", &e))?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|e| bad("zstd", &e))?;
            read("zstd", decoder, body.len())
        }
        Encoding::Snappy => snappy(body),
    }
}

fn read<'a>(name: &str, decoder: impl Read, body_bytes: usize) -> Result<Cow<'a, [u8]>, Refusal> {
    let mut plain = Vec::with_capacity(body_bytes.saturating_mul(6).min(BODY_BYTES_MAX));
    let mut limited = decoder.take(BODY_BYTES_MAX as u64 + 1);
    limited.read_to_end(&mut plain).map_err(|e| bad(name, &e))?;
    if plain.len() > BODY_BYTES_MAX {
        return Err(too_large());
    }
    Ok(Cow::Owned(plain))
}

fn snappy<'a>(body: &[u8]) -> Result<Cow<'a, [u8]>, Refusal> {
    // Loki's text: its clients' logs are searched for it.
    let corrupt = || Refusal::Content("snappy: corrupt input".into());
    let length = snap::raw::decompress_len(body).map_err(|_| corrupt())?;
    if body.is_empty() || length / SNAPPY_RATIO_MAX > body.len() {
        return Err(corrupt());
    }
    if length > BODY_BYTES_MAX {
        return Err(too_large());
    }
    let plain = snap::raw::Decoder::new().decompress_vec(body).map_err(|_| corrupt())?;
    Ok(Cow::Owned(plain))
}

fn too_large() -> Refusal {
    Refusal::TooLarge { what: "the decompressed body", limit: BODY_BYTES_MAX }
}

fn bad(name: &str, error: &std::io::Error) -> Refusal {
    Refusal::Content(format!("the body is not {name}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use proptest::prelude::*;

    pub(super) fn pack(encoding: Encoding, plain: &[u8]) -> Vec<u8> {
        let level = flate2::Compression::fast();
        match encoding {
            Encoding::Identity => plain.to_vec(),
            Encoding::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
            Encoding::Deflate => {
                let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), level);
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
            Encoding::Zstd => zstd::encode_all(plain, 1).unwrap(),
            Encoding::Snappy => snap::raw::Encoder::new().compress_vec(plain).unwrap(),
        }
    }

    const ALL: [Encoding; 5] =
        [Encoding::Identity, Encoding::Gzip, Encoding::Zstd, Encoding::Snappy, Encoding::Deflate];

    #[test]
    fn bombs_are_defused() {
        let bomb = vec![0; BODY_BYTES_MAX + 1];
        for encoding in ALL {
            let packed = pack(encoding, &bomb);
            let refused = plain(encoding, &packed).unwrap_err();
            assert!(matches!(refused, Refusal::TooLarge { .. }), "{encoding:?}: {refused}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for encoding in ALL {
                let packed = pack(encoding, &bytes);
                prop_assert_eq!(&plain(encoding, &packed).unwrap()[..], &bytes[..]);
            }
        }

        #[test]
        fn garbage_is_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for encoding in ALL {
                let _ = plain(encoding, &bytes);
            }
        }
    }
}
