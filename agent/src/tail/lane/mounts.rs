//! Where network file systems are, as `/proc/self/mountinfo` says, which never hangs.
//!
//! A path that leads through one may hang at it, whatever is mounted further down: what counts is
//! the first one on the way. The root does not count: without it there is no agent either.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Types whose files are somewhere else, or are served by a process. Those of FUSE come on top.
const REMOTE: [&str; 17] = [
    "9p",
    "afs",
    "autofs",
    "beegfs",
    "ceph",
    "cifs",
    "davfs",
    "glusterfs",
    "gpfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "orangefs",
    "smb3",
    "smbfs",
    "wekafs",
];
/// Most bytes of the table of mounts that are read.
const TABLE_BYTES_MAX: u64 = 32 << 20;
/// Most links on the way to a folder, as in the kernel.
const LINKS_MAX: usize = 40;

/// A mounted network file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Where.
    pub(super) point: PathBuf,
    /// Which: the same one may be mounted in many places.
    pub(super) device: String,
    /// Whether a process serves it (FUSE).
    pub(super) served: bool,
}

/// The network file systems that this process sees.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    table: Option<File>,
    pub(super) remote: Vec<Mount>,
    /// Those that a test says are there.
    #[cfg(test)]
    pub(super) pretended: Vec<Mount>,
}

impl Mounts {
    /// Looks whether something was mounted or unmounted, and if so, where.
    pub(super) fn refresh(&mut self) -> std::io::Result<()> {
        if let Some(table) = &self.table {
            let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
            let changed = poll(&mut [PollFd::new(table, PollFlags::PRI)], Some(&at_once))?;
            if changed == 0 {
                return Ok(());
            }
        }
        let table = match &mut self.table {
            Some(table) => {
                table.rewind()?;
                table
            }
            none => none.insert(File::open("/proc/self/mountinfo")?),
        };
        let mut text = Vec::new();
        table.by_ref().take(TABLE_BYTES_MAX).read_to_end(&mut text)?;
        self.remote = parse(&text);
        #[cfg(test)]
        self.remote.extend_from_slice(&self.pretended);
        Ok(())
    }

    /// The first network file system on the way to a path that has no links in it.
    pub(super) fn on_the_way(&self, path: &Path) -> Option<&Mount> {
        let on_the_way = self.remote.iter().filter(|mount| path.starts_with(&mount.point));
        on_the_way.min_by_key(|mount| mount.point.as_os_str().len())
    }

    /// Where a path below `base` leads when links are followed as if `base` were the root, up to the
    /// first network file system: behind it nothing is touched.
    pub(super) fn follow(&self, base: &Path, path: &Path) -> PathBuf {
        let mut real = base.to_owned();
        let mut ahead = parts(path);
        let mut links = 0;
        while let Some(part) = ahead.pop() {
            if part == ".." {
                if real != base {
                    real.pop();
                }
                continue;
            }
            let next = real.join(part);
            if self.on_the_way(&next).is_some() {
                ahead.reverse();
                return ahead.iter().fold(next, |path, part| path.join(part));
            }
            match std::fs::read_link(&next) {
                Ok(target) if links < LINKS_MAX => {
                    links += 1;
                    if target.is_absolute() {
                        base.clone_into(&mut real);
                    }
                    ahead.extend(parts(&target));
                }
                _ => real = next,
            }
        }
        real
    }
}

/// Names and `..` of a path, the last first.
fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    parts.collect()
}

/// The network file systems of a table. What is mounted over another one hides it.
fn parse(table: &[u8]) -> Vec<Mount> {
    let mut found: Vec<Mount> = Vec::new();
    for line in table.split(|b| *b == b'\n') {
        let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
        let (Some(device), Some(point)) = (fields.get(2), fields.get(4)) else { continue };
        let Some(dash) = fields.iter().skip(6).position(|f| *f == b"-") else { continue };
        let Some(kind) = fields.get(6 + dash + 1) else { continue };
        let point = unescape(point);
        found.retain(|mount| mount.point != point);
        let served = is_served(kind);
        if (served || is_remote(kind)) && point != Path::new("/") {
            let device = String::from_utf8_lossy(device).into_owned();
            found.push(Mount { point, device, served });
        }
    }
    found
}

fn is_served(kind: &[u8]) -> bool {
    kind == b"fuse" || kind == b"fuseblk" || kind.starts_with(b"fuse.")
}

fn is_remote(kind: &[u8]) -> bool {
    REMOTE.iter().any(|remote| remote.as_bytes() == kind)
}

/// Spaces and the like are written as a backslash and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, behind)) = rest.split_first() {
        let code = behind
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| u8::from_str_radix(OsStr::from_bytes(digits).to_str()?, 8).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[3..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TABLE: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 0:20 / / rw - nfs4 server:/root rw
40 27 0:50 / /k/pods/1/volumes/kubernetes.io~nfs/pv rw shared:7 master:3 - nfs4 s:/a rw
41 27 0:50 / /k/pods/2/volumes/kubernetes.io~nfs/pv rw - nfs4 s:/a rw
42 40 0:51 / /k/pods/1/volumes/kubernetes.io~nfs/pv/deep rw - cifs //s/b rw
43 27 0:52 / /with\\040space rw - fuse.s3fs s3fs rw
44 27 0:53 / /hidden rw - ceph c rw
45 27 8:1 / /hidden rw - ext4 /dev/sda1 rw
46 27 0:54 / /sys/fs/fuse/connections rw - fusectl fusectl rw
47 27 0:55 / /broken
";

    #[test]
    fn network_file_systems_are_known_by_their_type() {
        let mounts = Mounts { remote: parse(TABLE.as_bytes()), ..Mounts::default() };
        for (path, device) in [
            ("/k/pods/1/volumes/kubernetes.io~nfs/pv", Some("0:50")),
            ("/k/pods/2/volumes/kubernetes.io~nfs/pv/a.log", Some("0:50")),
            ("/k/pods/1/volumes/kubernetes.io~nfs/pv/deep/a.log", Some("0:50")),
            ("/k/pods/1/volumes/kubernetes.io~nfs/pv2", None),
            ("/with space/a.log", Some("0:52")),
            ("/hidden/a.log", None),
            ("/sys/fs/fuse/connections", None),
            ("/var/log", None),
        ] {
            let found = mounts.on_the_way(Path::new(path)).map(|mount| &*mount.device);
            assert_eq!(found, device, "{path}");
        }
        assert_eq!(mounts.remote.len(), 4);
    }

    #[test]
    fn links_are_followed_up_to_a_network_file_system() {
        let base = tempfile::tempdir().expect("folder");
        let path = |name: &str| base.path().join(name);
        std::fs::create_dir_all(path("data/nfs/logs")).expect("create");
        let links = [
            ("data/nfs/logs/link", "/nowhere"),
            ("app", "/data/nfs/logs"),
            ("up", "../../data/./nfs/../here"),
            ("round", "round"),
        ];
        for (name, target) in links {
            std::os::unix::fs::symlink(target, path(name)).expect("link");
        }
        let remote = vec![Mount { point: path("data/nfs"), device: "0:1".into(), served: false }];
        let mounts = Mounts { remote, ..Mounts::default() };
        for (from, to) in [
            ("/app/link", "data/nfs/logs/link"),
            ("app/../x", "data/nfs/logs/../x"),
            ("up", "data/nfs/../here"),
            ("round/x", "round/x"),
            ("/../../not/there", "not/there"),
        ] {
            assert_eq!(mounts.follow(base.path(), Path::new(from)), path(to), "{from}");
        }
        let local = Mounts::default();
        assert_eq!(local.follow(base.path(), Path::new("app/link")), path("nowhere"));
        assert_eq!(local.follow(base.path(), Path::new("up")), path("data/here"));
    }

    #[test]
    fn the_table_is_read_when_it_has_changed() {
        let mut mounts = Mounts::default();
        mounts.refresh().expect("is there");
        mounts.refresh().expect("is there");
        assert!(mounts.table.is_some());
    }

    proptest! {
        #[test]
        fn any_table(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn names_are_read_as_they_were(name in proptest::collection::vec(1_u8..=255, 1..30)) {
            let escaped: Vec<u8> = name.iter().flat_map(|b| match b {
                b' ' | b'\t' | b'\n' | b'\\' => format!("\\{b:03o}").into_bytes(),
                other => vec![*other],
            }).collect();
            prop_assert_eq!(unescape(&escaped).into_os_string().into_vec(), name);
        }
    }
}
