//! Durable before acknowledged: what was received lies in a journal, as it was received, until the
//! store behind it has written it to files of its own.
//!
//! There is one journal for logs and one for metrics. A frame holds a request's body untouched and
//! what is needed to read it, so what is stored is a pure function of the frame
//! ([`crate::ingest::decode`]), and replay does what ingest did.
//!
//! ```text
//! frame  ┌─────────┬──────┬──────────┬──────────────┬───────────────┬────────┬──────┐
//!        │ version │ kind │ encoding │ tenant bytes │ received (ns) │ tenant │ body │
//!        │ u8 = 1  │ u8   │ u8       │ u8           │ i64 LE        │        │      │
//!        └─────────┴──────┴──────────┴──────────────┴───────────────┴────────┴──────┘
//! ```
//!
//! The tenant is empty in this version. Numbers of kinds and encodings are on disk and never change.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;

use taffrail_kit::journal::{self, Journal, Options, Recovery};
use taffrail_model::Nanos;
use taffrail_model::limits::BODY_BYTES_MAX;

/// Version of the frame.
const VERSION: u8 = 1;
/// Bytes before tenant and body.
const HEAD_BYTES: usize = 12;

/// Size of a file. A file is removed when all its frames are in the store, so this is also about what
/// is kept too long.
const SEGMENT_BYTES: u64 = 16 << 20;

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// OTLP `ExportLogsServiceRequest`, protobuf.
    OtlpLogs = 1,
    /// The same as JSON.
    OtlpLogsJson = 2,
    /// OTLP `ExportMetricsServiceRequest`, protobuf.
    OtlpMetrics = 3,
    /// The same as JSON.
    OtlpMetricsJson = 4,
    /// Loki's `PushRequest`, protobuf.
    LokiPush = 5,
    /// The same as JSON.
    LokiPushJson = 6,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::OtlpLogs,
        Self::OtlpLogsJson,
        Self::OtlpMetrics,
        Self::OtlpMetricsJson,
        Self::LokiPush,
        Self::LokiPushJson,
    ];
}

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Encoding {
    /// Not at all.
    Identity = 0,
    /// gzip (RFC 1952).
    Gzip = 1,
    /// zstd (RFC 8878).
    Zstd = 2,
    /// A raw snappy block.
    Snappy = 3,
    /// Raw deflate (RFC 1951), as Loki reads `deflate`.
    Deflate = 4,
}

impl Encoding {
    const ALL: [Self; 5] = [Self::Identity, Self::Gzip, Self::Zstd, Self::Snappy, Self::Deflate];
}

/// One request as it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// What the body is.
    pub kind: Kind,
    /// How it is compressed.
    pub encoding: Encoding,
    /// When it came: the time of records that have none.
    pub at: Nanos,
    /// The body, still compressed.
    pub body: &'a [u8],
}

/// A frame that this program did not write.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FrameError {
    /// The frame is of another version.
    #[error("write-ahead frame has version {0}, this program reads version {VERSION}")]
    Version(u8),
    /// The frame is shorter than it says, or has an unknown kind or encoding.
    #[error("write-ahead frame makes no sense")]
    Malformed,
}

impl<'a> Received<'a> {
    /// Appends the frame to a journal and returns its number.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn append_to(&self, journal: &Journal) -> Result<u64, journal::Error> {
        journal.append(&[&self.head(), self.body])
    }

    fn head(&self) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        head[..4].copy_from_slice(&[VERSION, self.kind as u8, self.encoding as u8, 0]);
        head[4..].copy_from_slice(&self.at.to_le_bytes());
        head
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// When it is not one of ours.
    pub fn parse(frame: &'a [u8]) -> Result<Self, FrameError> {
        let (&version, _) = frame.split_first().ok_or(FrameError::Malformed)?;
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        let (head, rest) = frame.split_first_chunk::<HEAD_BYTES>().ok_or(FrameError::Malformed)?;
        let kind = Kind::ALL.into_iter().find(|kind| *kind as u8 == head[1]);
        let encoding = Encoding::ALL.into_iter().find(|encoding| *encoding as u8 == head[2]);
        let at = i64::from_le_bytes(head[4..].try_into().expect("the slice has eight bytes"));
        let body = rest.get(usize::from(head[3])..).ok_or(FrameError::Malformed)?;
        Ok(Self {
            kind: kind.ok_or(FrameError::Malformed)?,
            encoding: encoding.ok_or(FrameError::Malformed)?,
            at,
            body,
        })
    }
}

/// Opens the journal in a folder. `replay_from` is the first frame that its store still needs.
///
/// # Errors
/// As [`Journal::open`].
pub fn open(dir: &Path, name: &str, replay_from: u64) -> Result<Journal, journal::Error> {
    let options = Options {
        name: format!("wal-{name}"),
        frame_bytes_max: u32::try_from(BODY_BYTES_MAX + HEAD_BYTES + 255).unwrap_or(u32::MAX),
        segment_bytes: SEGMENT_BYTES,
        next_seq_min: replay_from,
        ..Options::default()
    };
    let (journal, recovery) = Journal::open(dir, options)?;
    report(name, &recovery, replay_from);
    Ok(journal)
}

/// Keeps a frame that cannot be decoded in the folder `<journal>-undecodable` beside its journal,
/// durably. The file holds the frame's payload and is named by its number.
///
/// # Errors
/// When the file cannot be written.
pub fn set_aside(journal_dir: &Path, seq: u64, payload: &[u8]) -> anyhow::Result<PathBuf> {
    let mut name = journal_dir.file_name().unwrap_or_default().to_owned();
    name.push("-undecodable");
    let folder = journal_dir.with_file_name(name);
    let path = folder.join(format!("{seq:020}"));
    let write = || {
        std::fs::create_dir_all(&folder)?;
        let mut file = File::create(&path)?;
        file.write_all(payload)?;
        file.sync_all()?;
        File::open(&folder)?.sync_all()
    };
    write().with_context(|| format!("keep frame {seq} in {}", path.display()))?;
    Ok(path)
}

fn report(name: &str, recovery: &Recovery, replay_from: u64) {
    if recovery.truncated_bytes > 0 {
        let bytes = recovery.truncated_bytes;
        tracing::info!(wal = name, bytes, "cut off a torn tail, nothing acknowledged was in it");
    }
    for part in &recovery.quarantined {
        let file = part.path.display();
        tracing::error!(wal = name, %file, bytes = part.bytes, "put damaged frames aside");
    }
    for &(first, last) in recovery.missing.iter().filter(|(_, last)| *last >= replay_from) {
        tracing::error!(wal = name, first, last, "acknowledged frames are missing");
    }
    tracing::debug!(wal = name, frames = recovery.frames, "journal is open");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_received() -> impl Strategy<Value = (Kind, Encoding, i64, Vec<u8>)> {
        let kind = prop::sample::select(Kind::ALL.to_vec());
        let encoding = prop::sample::select(Encoding::ALL.to_vec());
        (kind, encoding, any::<i64>(), prop::collection::vec(any::<u8>(), 0..64))
    }

    proptest! {
        #[test]
        fn frames_round_trip((kind, encoding, at, body) in any_received()) {
            let received = Received { kind, encoding, at, body: &body };
            let frame = [&received.head()[..], &body].concat();
            prop_assert_eq!(Received::parse(&frame), Ok(received));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Received::parse(&bytes);
        }
    }

    #[test]
    fn another_version_is_named() {
        assert_eq!(Received::parse(&[9; 20]), Err(FrameError::Version(9)));
        assert_eq!(Received::parse(&[]), Err(FrameError::Malformed));
        assert_eq!(
            Received::parse(&[1, 1, 0, 200, 0, 0, 0, 0, 0, 0, 0, 0]),
            Err(FrameError::Malformed)
        );
    }
}
