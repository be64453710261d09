//! Patterns of file names: `*` and `?` within a name, `**` over any folders. Pure.

use std::path::{Path, PathBuf};

use regex::Regex;

/// How deep below a rule's root logs are looked for.
pub(super) const DEPTH_MAX: usize = 8;
/// How a file that was compressed ends.
const PACKED: [&str; 5] = [".gz", ".xz", ".bz2", ".zst", ".lz4"];
/// Where the name of a rotated file goes on behind that of the file it was.
const JOINTS: [char; 3] = ['.', '-', '_'];

/// A pattern over paths relative to a root, ready to be used.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    regex: Regex,
    /// How many folders below the root its files can lie.
    pub(super) depth: usize,
}

impl Pattern {
    /// `None` when it is too large to be used.
    pub(super) fn new(glob: &str) -> Option<Self> {
        let depth = if glob.contains("**") { DEPTH_MAX } else { glob.matches('/').count() };
        Some(Self { regex: regex(glob)?, depth: depth.min(DEPTH_MAX) })
    }

    /// Whether a path is meant.
    pub(super) fn matches(&self, path: &str) -> bool {
        self.regex.is_match(path)
    }

    /// The path under which a file that is not meant was meant before it was rotated away, as its
    /// name tells: `a.log` of `a.log.1` and of `a.log-20261120`. None for what is compressed: that
    /// is another file.
    pub(super) fn before_rotation<'p>(&self, path: &'p str) -> Option<&'p str> {
        if PACKED.iter().any(|end| path.ends_with(end)) {
            return None;
        }
        let name = path.rfind('/').map_or(0, |slash| slash + 1);
        let joints = path[name..].rmatch_indices(JOINTS).map(|(at, _)| &path[..name + at]);
        joints.filter(|start| start.len() > name).find(|start| self.matches(start))
    }
}

fn regex(glob: &str) -> Option<Regex> {
    let mut text = String::from("^");
    let mut rest = glob;
    while let Some(first) = rest.chars().next() {
        let (piece, skip) = if rest.starts_with("**/") {
            ("(?:.*/)?".to_owned(), 3)
        } else if rest.starts_with("**") {
            (".*".to_owned(), 2)
        } else {
            let piece = match first {
                '*' => "[^/]*".to_owned(),
                '?' => "[^/]".to_owned(),
                other => regex::escape(other.encode_utf8(&mut [0; 4])),
            };
            (piece, first.len_utf8())
        };
        text.push_str(&piece);
        rest = &rest[skip..];
    }
    text.push('$');
    regex::RegexBuilder::new(&text).dot_matches_new_line(true).size_limit(1 << 20).build().ok()
}

/// Whether a text can be a pattern below a folder: not empty, not leaving it, not too large.
#[must_use]
pub fn is_pattern(glob: &str) -> bool {
    !glob.is_empty() && glob.split('/').all(|part| part != "..") && regex(glob).is_some()
}

/// An absolute pattern as the folder before its first sign and the pattern below that folder.
/// `None` when it is not absolute, names a folder, or cannot be used.
#[must_use]
pub fn split(path: &str) -> Option<(PathBuf, String)> {
    let sign = path.find(['*', '?']).unwrap_or(path.len());
    let slash = path[..sign].rfind('/')?;
    let (root, glob) = (&path[..slash], &path[slash + 1..]);
    let absolute = path.starts_with('/')
        && Path::new(path)
            .components()
            .all(|part| !matches!(part, std::path::Component::ParentDir));
    let root = if root.is_empty() { "/" } else { root };
    (absolute && !glob.ends_with('/') && is_pattern(glob))
        .then(|| (PathBuf::from(root), glob.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns() {
        let cases = [
            ("**/*.log", "a.log", true),
            ("**/*.log", "x/y/a.log", true),
            ("**/*.log", "a.log.1", false),
            ("*.log", "x/a.log", false),
            ("logs/**", "logs/x/y", true),
            ("a?c.log", "abc.log", true),
            ("a+b(.log", "a+b(.log", true),
            ("*.log", "new\nline.log", true),
        ];
        for (glob, path, expected) in cases {
            assert_eq!(Pattern::new(glob).unwrap().matches(path), expected, "{glob} {path}");
        }
        let depths = [("*.log", 0), ("a/*/c.log", 2), ("**/*.log", DEPTH_MAX), ("a/**", DEPTH_MAX)];
        for (glob, depth) in depths {
            assert_eq!(Pattern::new(glob).unwrap().depth, depth, "{glob}");
        }
    }

    #[test]
    fn rotated_names() {
        let cases = [
            ("*.log", "a.log.1", Some("a.log")),
            ("*.log", "a.log-20261120", Some("a.log")),
            ("**/*.log", "x.y/a.log.2026-11-20", Some("x.y/a.log")),
            ("syslog", "syslog.1", Some("syslog")),
            ("syslog", "syslog.1.gz", None),
            ("*.log", "a.txt.1", None),
            ("*.log", "a.log", None),
            ("*", ".hidden", None),
            ("d/*.log", "a.log.1", None),
        ];
        for (glob, path, expected) in cases {
            assert_eq!(
                Pattern::new(glob).unwrap().before_rotation(path),
                expected,
                "{glob} {path}"
            );
        }
    }

    #[test]
    fn absolute_patterns() {
        let cases = [
            ("/var/log/*.log", Some(("/var/log", "*.log"))),
            ("/var/log/audit/audit.log", Some(("/var/log/audit", "audit.log"))),
            ("/srv/**/*.log", Some(("/srv", "**/*.log"))),
            ("/srv/a*/x/*.log", Some(("/srv", "a*/x/*.log"))),
            ("/*.log", Some(("/", "*.log"))),
            ("var/*.log", None),
            ("/var/log/", None),
            ("/var/../etc/*", None),
            ("/var/*/../x", None),
            ("", None),
        ];
        for (path, expected) in cases {
            let expected = expected.map(|(root, glob)| (PathBuf::from(root), glob.to_owned()));
            assert_eq!(split(path), expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_pattern_and_path(glob in "\\PC{0,20}", path in "\\PC{0,30}") {
            if let Some(pattern) = Pattern::new(&glob) {
                pattern.matches(&path);
                if let Some(before) = pattern.before_rotation(&path) {
                    prop_assert!(path.starts_with(before) && before.len() < path.len());
                }
            }
            if let Some((root, glob)) = split(&path) {
                prop_assert!(root.is_absolute() && is_pattern(&glob));
            }
        }
    }
}
