//! How many files may be held open: what the system allows the process, less what else it needs.
//!
//! Without this, a node with more log files than descriptors would have some that are never read,
//! and no descriptor left for the connection to the collector.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Most log files held open, whatever the system allows.
const FILES_MAX: u64 = 8192;
/// For connections, targets that are scraped, folders that are looked at.
const OTHERS: u64 = 256;

/// Raises the limit of the process as far as is useful and allowed, and says how many log files may
/// be open.
#[must_use]
pub(crate) fn for_files() -> usize {
    let wanted = FILES_MAX + OTHERS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let new = wanted.min(maximum.unwrap_or(wanted));
    if current.is_some_and(|now| now < new)
        && setrlimit(Resource::Nofile, Rlimit { current: Some(new), maximum }).is_ok()
    {
        return share(Some(new));
    }
    share(current)
}

/// What of a limit is for log files.
fn share(limit: Option<u64>) -> usize {
    let limit = limit.unwrap_or(u64::MAX);
    let files = limit.saturating_sub(OTHERS.min(limit / 2)).clamp(1, FILES_MAX);
    usize::try_from(files).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_keep_their_part() {
        let cases = [
            (None, 8192),
            (Some(1 << 20), 8192),
            (Some(8192), 7936),
            (Some(1024), 768),
            (Some(64), 32),
            (Some(0), 1),
        ];
        for (limit, files) in cases {
            assert_eq!(share(limit), files, "{limit:?}");
        }
        let open = u64::try_from(for_files()).expect("a count");
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        assert!(open < limit, "{open} of {limit}");
    }
}
