//! What makes a file itself, under whatever name: device, inode and time of birth, plus a hash of
//! the bytes before a position.
//!
//! A file system may give a freed inode to the next file at once (ext4 does, at each rotation by the
//! kubelet), so the inode alone does not identify a file. Where there is no birth time (0), the
//! check of the bytes before the position decides, and a new generation begins when it fails.
//!
//! The identity on the wire is `<node>/<device>:<inode>:<birth>:<generation>`, and `:<family>` behind
//! it for the files of a container: when one of them is compressed its identity ends, and what is
//! committed of it is looked for among its family only. The identity of the unpacked content of a
//! compressed file ends in `:gz`.

use std::os::fd::AsFd;
use std::path::Path;

use super::FileKind;
use rustix::fs::{AtFlags, CWD, FileType, Statx, StatxFlags};

/// A file on this node, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// Major and minor number of the device.
    pub device: u64,
    /// Number of the inode.
    pub inode: u64,
    /// Time of birth in nanoseconds since the epoch; 0 where the file system does not tell.
    pub birth: i64,
}

/// What a look at a file tells.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Which file it is.
    pub id: FileId,
    /// Its length in bytes.
    pub size: u64,
    /// How many names it has.
    pub links: u32,
    /// Whether it is a regular file.
    pub regular: bool,
    /// Whether it is a folder.
    pub folder: bool,
    /// Time of the last change of its content, in nanoseconds since the epoch.
    pub modified: i64,
}

/// What a part of an identity stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The content of the file itself, counted up each time that it begins anew.
    Generation(u32),
    /// The unpacked content of a compressed file.
    Unpacked,
}

/// Most bytes that [`check`] covers.
pub const CHECK_BYTES: usize = 64;

const MASK: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

/// Looks at an open file.
///
/// # Errors
/// What the system says.
pub fn look(file: impl AsFd) -> std::io::Result<Look> {
    Ok(rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, MASK)?.into())
}

/// Looks at a path. A link is followed if `follow` is set.
///
/// # Errors
/// What the system says.
pub fn look_at(path: &Path, follow: bool) -> std::io::Result<Look> {
    let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
    Ok(rustix::fs::statx(CWD, path, flags, MASK)?.into())
}

impl From<Statx> for Look {
    fn from(s: Statx) -> Self {
        let device = u64::from(s.stx_dev_major) << 32 | u64::from(s.stx_dev_minor);
        let born = StatxFlags::from_bits_retain(s.stx_mask).contains(StatxFlags::BTIME);
        let birth = if born { nanos(s.stx_btime.tv_sec, s.stx_btime.tv_nsec) } else { 0 };
        let kind = FileType::from_raw_mode(u32::from(s.stx_mode));
        Self {
            id: FileId { device, inode: s.stx_ino, birth },
            size: s.stx_size,
            links: s.stx_nlink,
            regular: kind == FileType::RegularFile,
            folder: kind == FileType::Directory,
            modified: nanos(s.stx_mtime.tv_sec, s.stx_mtime.tv_nsec),
        }
    }
}

fn nanos(seconds: i64, nanos: u32) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(nanos))
}

/// What the files of one container have in common, wherever the folder of all pods is; 0 for files
/// that stand each for itself, whose identity must not depend on their place.
#[must_use]
pub fn family(kind: &FileKind) -> u64 {
    let FileKind::Container { namespace, pod, uid, container, .. } = kind else { return 0 };
    let folder = format!("{namespace}_{pod}_{uid}/{container}");
    xxhash_rust::xxh3::xxh3_64(folder.as_bytes()).max(1)
}

/// The identity of a file on the wire.
#[must_use]
pub fn source(node: &str, id: FileId, family: u64, version: Version) -> String {
    let FileId { device, inode, birth } = id;
    match version {
        Version::Generation(g) if family == 0 => format!("{node}/{device}:{inode}:{birth}:{g}"),
        Version::Generation(g) => format!("{node}/{device}:{inode}:{birth}:{g}:{family:x}"),
        Version::Unpacked => format!("{node}/{device}:{inode}:{birth}:gz"),
    }
}

/// Reads an identity of this node; `None` for any other text.
#[must_use]
pub fn parse_source(node: &str, source: &str) -> Option<(FileId, u64, Version)> {
    let rest = source.strip_prefix(node)?.strip_prefix('/')?;
    let mut parts = rest.split(':');
    let device = parts.next()?.parse().ok()?;
    let inode = parts.next()?.parse().ok()?;
    let birth = parts.next()?.parse().ok()?;
    let version = match parts.next()? {
        "gz" => Version::Unpacked,
        number => Version::Generation(number.parse().ok()?),
    };
    let family = match (parts.next(), version) {
        (None, _) => 0,
        (Some(text), Version::Generation(_)) => u64::from_str_radix(text, 16).ok()?,
        (Some(_), Version::Unpacked) => return None,
    };
    parts.next().is_none().then_some((FileId { device, inode, birth }, family, version))
}

/// A hash of the bytes just before a position (up to [`CHECK_BYTES`]); never 0, which stands for
/// "not known".
#[must_use]
pub fn check(bytes_before: &[u8]) -> u64 {
    let start = bytes_before.len().saturating_sub(CHECK_BYTES);
    xxhash_rust::xxh3::xxh3_64(&bytes_before[start..]).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn identity_survives_renaming_and_ends_with_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&a, "x").unwrap();
        let first = look_at(&a, false).unwrap();
        std::fs::rename(&a, &b).unwrap();
        std::fs::write(&a, "y").unwrap();
        assert_eq!(look_at(&b, false).unwrap().id, first.id);
        assert_ne!(look_at(&a, false).unwrap().id, first.id);
        let open = std::fs::File::open(&b).unwrap();
        std::fs::remove_file(&b).unwrap();
        let last = look(&open).unwrap();
        assert_eq!((last.id, last.links, last.size, last.regular), (first.id, 0, 1, true));
    }

    #[test]
    fn other_texts_are_no_identities() {
        for text in [
            "",
            "n/",
            "n/1:2:3",
            "n/1:2:3:4:x",
            "n/1:2:3:gz:5",
            "n/1:2:3:4:5:6",
            "m/1:2:3:4",
            "n/1:2:x:4",
            "n1:2:3:4",
        ] {
            assert_eq!(parse_source("n", text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn identity_round_trip(device: u64, inode: u64, birth: i64, family: u64, generation: Option<u32>) {
            let id = FileId { device, inode, birth };
            let version = generation.map_or(Version::Unpacked, Version::Generation);
            let text = source("node-1", id, family, version);
            let family = if generation.is_some() { family } else { 0 };
            prop_assert_eq!(parse_source("node-1", &text), Some((id, family, version)));
        }

        #[test]
        fn only_the_last_bytes_count(head in proptest::collection::vec(any::<u8>(), 0..70)) {
            let tail = [7_u8; CHECK_BYTES];
            let text = [&head[..], &tail].concat();
            prop_assert_eq!(check(&text), check(&tail));
        }
    }
}
