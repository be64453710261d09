//! Opening a store: what the manifest names is taken, the rest is cleared away.
//!
//! A segment that is damaged or gone is moved to `quarantine/` and the store goes on without it. A
//! folder of a segment that the manifest does not name is what a crash has left of a flush or a
//! compaction; its lines are in the write-ahead log or in other segments, so it is removed. Without
//! a manifest nothing is removed: then nothing says what counts.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::time::Instant;

use taffrail_query::source::Cancel;
use tokio::sync::broadcast;

use super::crew::Crew;
use super::deletions::Deletions;
use super::known::Known;
use super::manifest::{self, Manifest};
use super::memtable::Memtable;
use super::retain::Retaining;
use super::segment::Segment;
use super::streams::{Streams, StreamsFile};
use super::{
    Counters, Error, FORMAT, Keeper, LIVE_FRAMES, LogStore, LogStoreConfig, Opened, State, files,
    recover,
};

/// Folder of the segments.
pub(super) const SEGMENTS: &str = "segments";
/// Folder of damaged segments.
const QUARANTINE: &str = "quarantine";
/// The table of streams.
pub(super) const STREAMS: &str = "streams";
const LOCK: &str = "LOCK";
/// Bounds of [`LogStoreConfig::block_bytes`].
const BLOCK_BYTES: std::ops::RangeInclusive<usize> = 64..=16 << 20;

impl LogStore {
    /// Opens the store in `config.dir`, or makes a new one there.
    ///
    /// # Errors
    /// When the folder cannot be used, is in use, has another format, or lacks what the store cannot
    /// do without. Nothing was changed then, but for an interrupted flush being cleared away.
    pub fn open(mut config: LogStoreConfig) -> Result<Opened, Error> {
        config.block_bytes = config.block_bytes.clamp(*BLOCK_BYTES.start(), *BLOCK_BYTES.end());
        let dir = config.dir.clone();
        files::create_dir(&dir)?;
        let lock = lock(&dir)?;
        let loaded = match manifest_or_the_one_before(&dir)? {
            Some(manifest) => load(&dir, manifest)?,
            None => create(&dir)?,
        };
        let (deletions, hides) = Deletions::open(&dir)?;
        let replay_from = loaded.manifest.replay_from;
        let counters = Counters { quarantined: loaded.quarantined.into(), ..Counters::default() };
        let store = Self {
            streams: RwLock::new(loaded.streams),
            state: Mutex::new(State {
                active: Memtable::new(config.block_bytes),
                frozen: None,
                segments: Arc::new(loaded.segments),
                hides: Arc::new(hides),
                durable: loaded.manifest.positions.clone(),
                next_seq: replay_from,
            }),
            room: Condvar::new(),
            keeper: Mutex::new(Keeper {
                // A lost manifest may have known higher ones; what comes must be above each cut.
                next_segment: loaded.manifest.next_segment.max(deletions.highest_cut()),
                manifest: loaded.manifest,
                flushed: Instant::now(),
                streams: loaded.streams_file,
            }),
            deletions: Mutex::new(deletions),
            retaining: Retaining::default(),
            compacting: Mutex::new(()),
            ending: Cancel::new(),
            crew: Crew::new(),
            known: Known::default(),
            live: broadcast::Sender::new(LIVE_FRAMES),
            counters,
            _lock: lock,
            config,
        };
        Ok(Opened { store: Arc::new(store), replay_from })
    }
}

/// What is on disk.
struct Loaded {
    manifest: Manifest,
    streams_file: StreamsFile,
    streams: Streams,
    segments: Vec<Arc<Segment>>,
    quarantined: u64,
}

fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join(LOCK);
    let file = File::create(&path).map_err(Error::io("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", &path)(error)),
    }
}

/// The manifest; rebuilt if it is damaged, or gone while the one before it is there.
fn manifest_or_the_one_before(dir: &Path) -> Result<Option<Manifest>, Error> {
    match manifest::read(dir) {
        Ok(None) => recover::manifest(dir, "it is gone"),
        Err(error @ Error::Damaged { .. }) => {
            recover::manifest(dir, &error.to_string())?.map_or(Err(error), |found| Ok(Some(found)))
        }
        read => read,
    }
}

fn create(dir: &Path) -> Result<Loaded, Error> {
    let segments = dir.join(SEGMENTS);
    files::create_dir(&segments)?;
    let mut names = fs::read_dir(&segments).map_err(Error::io("list", &segments))?;
    if names.next().is_some() {
        return Err(Error::NoManifest { dir: dir.to_owned() });
    }
    let mut streams_file = StreamsFile::create(&dir.join(STREAMS))?;
    let (streams_bytes, streams_count) = streams_file.append(&[])?;
    let manifest = Manifest {
        format: FORMAT,
        replay_from: 0,
        next_segment: 1,
        streams_bytes,
        streams_count,
        segments: Vec::new(),
        positions: Default::default(),
    };
    manifest::write(dir, &manifest)?;
    let streams = Streams::default();
    Ok(Loaded { manifest, streams_file, streams, segments: Vec::new(), quarantined: 0 })
}

fn load(dir: &Path, mut manifest: Manifest) -> Result<Loaded, Error> {
    let path = dir.join(STREAMS);
    let (streams_file, streams, damaged) =
        StreamsFile::open(&path, manifest.streams_bytes, manifest.streams_count)?;
    if damaged > 0 {
        let path = path.display();
        tracing::error!(%path, damaged, "streams are damaged, their lines are left out of answers");
    }
    let mut segments = Vec::new();
    let mut named = Vec::new();
    for name in &manifest.segments {
        match Segment::open(&dir.join(SEGMENTS).join(name)) {
            Ok(segment) => {
                segments.push(Arc::new(segment));
                named.push(name.clone());
            }
            Err(error) if is_damage(&error) => quarantine(dir, name, &error)?,
            Err(error) => return Err(error),
        }
    }
    let quarantined = (manifest.segments.len() - named.len()) as u64;
    if quarantined > 0 {
        manifest.segments = named;
        manifest::write(dir, &manifest)?;
    }
    remove_orphans(dir, &manifest)?;
    let quarantined = quarantined + u64::from(damaged);
    Ok(Loaded { manifest, streams_file, streams, segments, quarantined })
}

fn is_damage(error: &Error) -> bool {
    match error {
        Error::Damaged { .. } => true,
        Error::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

fn quarantine(dir: &Path, name: &str, error: &Error) -> Result<(), Error> {
    tracing::error!(segment = name, %error, "segment is damaged, moved to quarantine");
    let aside = dir.join(QUARANTINE);
    files::create_dir(&aside)?;
    let from = dir.join(SEGMENTS).join(name);
    match fs::rename(&from, aside.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        moved => moved.map_err(Error::io("move", &from))?,
    }
    files::sync_dir(&aside)?;
    files::sync_dir(&dir.join(SEGMENTS))
}

/// Removes the folders of segments that a manifest does not name.
pub(super) fn remove_orphans(dir: &Path, manifest: &Manifest) -> Result<(), Error> {
    let named: HashSet<&str> = manifest.segments.iter().map(String::as_str).collect();
    let dir = dir.join(SEGMENTS);
    for entry in fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
        let entry = entry.map_err(Error::io("list", &dir))?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| named.contains(name)) {
            continue;
        }
        let path = entry.path();
        if path.is_dir() {
            tracing::info!(path = %path.display(), "removing what an interrupted write has left");
            fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}
