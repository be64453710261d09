//! Opening a store: take the folder, read the manifest, open its blocks, clear what a crash left.

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};

use taffrail_kit::journal::disk::create_durably;
use tracing::warn;

use super::block::Block;
use super::manifest::{Found, Manifest, block_name, block_number};
use super::{Error, Inner, MetricStore, MetricStoreConfig, Numbers, Opened};

/// The index of a block is believed up to a size that so many series stay below.
const SERIES_MAX: usize = 8_000_000;

pub(super) fn open(mut config: MetricStoreConfig) -> Result<Opened, Error> {
    config.series_max = config.series_max.min(SERIES_MAX);
    let folder = config.dir.clone();
    create_durably(&folder).map_err(|e| Error::io("create", &folder, e))?;
    let lock = lock(&folder)?;
    let present = present(&folder)?;
    let manifest = match Manifest::read(&folder)? {
        Found::Whole(manifest) => Some(manifest),
        Found::Lost => {
            if !present.is_empty() {
                warn!(folder = %folder.display(), "manifest is lost, rebuilding it from the blocks");
            }
            None
        }
    };
    let listed = manifest.as_ref().map_or_else(|| present.clone(), |m| m.blocks.clone());
    let mut inner = Inner::default();
    let mut damaged = 0;
    for number in &listed {
        match open_block(&folder, *number, &mut inner)? {
            Some(block) => inner.blocks.push(Arc::new(block)),
            None => damaged += 1,
        }
    }
    let from_blocks = inner.blocks.iter().map(|b| b.file.meta.next_seq).max().unwrap_or(0);
    inner.durable_seq = manifest.as_ref().map_or(from_blocks, |m| m.durable_seq);
    inner.next_seq = inner.durable_seq;
    let whole = Manifest {
        durable_seq: inner.durable_seq,
        blocks: inner.blocks.iter().map(|block| block.file.number).collect(),
    };
    if manifest.as_ref() != Some(&whole) {
        whole.write(&folder)?;
    }
    clear(&folder, &listed)?;
    let next_block = listed.iter().chain(&present).max().map_or(1, |last| last + 1);
    let replay_from = inner.durable_seq;
    let store = MetricStore {
        config,
        inner: RwLock::new(inner),
        maintenance: Mutex::new(Numbers { next_block, forget: false }),
        numbering: RwLock::new(()),
        damaged: AtomicU64::new(damaged),
        over_limit: AtomicU64::new(0),
        _lock: lock,
    };
    Ok(Opened { store: Arc::new(store), replay_from })
}

fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join("lock");
    let file = File::create(&path).map_err(|e| Error::io("create", &path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { path: folder.to_owned() }),
        Err(TryLockError::Error(e)) => Err(Error::io("lock", &path, e)),
    }
}

/// Opens a block; a damaged one is set aside and gives `None`.
fn open_block(folder: &Path, number: u64, inner: &mut Inner) -> Result<Option<Block>, Error> {
    let path = folder.join(block_name(number));
    match Block::open(&path, number, &mut inner.index) {
        Ok(block) => Ok(Some(block)),
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            warn!(path = %path.display(), "a block is missing");
            Ok(None)
        }
        Err(error @ Error::Damaged { .. }) => {
            warn!(%error, "block is set aside");
            set_aside(&path);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Gives a damaged block a name under which nobody looks for it.
pub(super) fn set_aside(path: &Path) {
    let aside = path.with_extension("damaged");
    if let Err(error) = std::fs::rename(path, &aside) {
        warn!(path = %path.display(), %error, "cannot rename the damaged block");
    }
}

/// Numbers of the block files in the folder, ascending.
fn present(folder: &Path) -> Result<Vec<u64>, Error> {
    let mut numbers: Vec<u64> = names(folder)?.iter().filter_map(|(_, n)| *n).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Removes what no manifest names: blocks written or merged away just before a crash.
fn clear(folder: &Path, listed: &[u64]) -> Result<(), Error> {
    let listed: HashSet<u64> = listed.iter().copied().collect();
    for (path, number) in names(folder)? {
        let leftover = number.is_some_and(|n| !listed.contains(&n));
        if leftover || path.extension().is_some_and(|e| e == "tmp") {
            std::fs::remove_file(&path).map_err(|e| Error::io("remove", &path, e))?;
        }
    }
    Ok(())
}

fn names(folder: &Path) -> Result<Vec<(PathBuf, Option<u64>)>, Error> {
    let step = |e| Error::io("list", folder, e);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(step)? {
        let path = entry.map_err(step)?.path();
        let number = path.file_name().and_then(|n| n.to_str()).and_then(block_number);
        names.push((path, number));
    }
    Ok(names)
}
