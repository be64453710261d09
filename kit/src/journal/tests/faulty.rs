//! A disk in memory that fails as it is told, and forgets what was not synced when the power goes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::journal::disk::{Disk, DiskFile};

#[derive(Clone, Default)]
struct Contents {
    bytes: Vec<u8>,
    synced: Vec<u8>,
}

type Inode = Arc<Mutex<Contents>>;

#[derive(Default)]
pub(super) struct Faults {
    pub(super) sync_fails: bool,
    /// The next sync of a file fails, once whoever holds this lets go; later ones succeed.
    pub(super) next_sync_fails: Option<Arc<Mutex<()>>>,
    /// Bytes that can still be written before the disk is full.
    pub(super) room: Option<usize>,
    syncs: usize,
    names: BTreeMap<PathBuf, Inode>,
    synced_names: BTreeMap<PathBuf, Inode>,
}

#[derive(Clone, Default)]
pub(super) struct Faulty {
    faults: Arc<Mutex<Faults>>,
    /// Whoever holds it holds back every sync of a file.
    pub(super) gate: Arc<Mutex<()>>,
}

struct FaultyFile {
    disk: Faulty,
    inode: Inode,
}

impl Faulty {
    fn lock(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap()
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.lock());
    }

    pub(super) fn syncs(&self) -> usize {
        self.lock().syncs
    }

    /// Whether no sync has come yet that will fail.
    pub(super) fn awaits_failure(&self) -> bool {
        self.lock().next_sync_fails.is_some()
    }

    pub(super) fn flip(&self, path: &Path, at: usize) {
        let inode = self.lock().names[path].clone();
        inode.lock().unwrap().bytes[at] ^= 0x10;
    }

    pub(super) fn len(&self, path: &Path) -> usize {
        let inode = self.lock().names[path].clone();
        let contents = inode.lock().unwrap();
        contents.bytes.len()
    }

    pub(super) fn snapshot(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let names = self.lock().names.clone();
        names.into_iter().map(|(p, inode)| (p, inode.lock().unwrap().bytes.clone())).collect()
    }

    /// The disk as found after the power was cut: of each file what was synced, and of what was
    /// written since as much as `chance` has it (0: nothing), at worst with a hole.
    pub(super) fn after_power_cut(&self, chance: u64) -> Self {
        let names = self.lock().synced_names.clone();
        let kept = names.into_iter().map(|(path, inode)| {
            let inode = inode.lock().unwrap();
            let bytes = survivors(&inode, chance);
            (path, Arc::new(Mutex::new(Contents { synced: bytes.clone(), bytes })))
        });
        let names: BTreeMap<_, _> = kept.collect();
        let faults = Faults { synced_names: names.clone(), names, ..Faults::default() };
        Self { faults: Arc::new(Mutex::new(faults)), gate: Arc::default() }
    }
}

fn survivors(file: &Contents, chance: u64) -> Vec<u8> {
    let mut bytes = file.synced.clone();
    let Some(new) = file.bytes.len().checked_sub(bytes.len()).filter(|new| *new > 0) else {
        return bytes;
    };
    if chance == 0 {
        return bytes;
    }
    let kept = usize::try_from(chance).unwrap_or(usize::MAX) % (new + 1);
    let from = bytes.len();
    bytes.extend_from_slice(&file.bytes[from..from + kept]);
    if chance.is_multiple_of(3) && kept > 0 {
        // The later pages came to the disk, an earlier one did not.
        bytes[from + kept / 2..from + kept / 2 + 1].fill(0);
    }
    bytes
}

impl Disk for Faulty {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut faults = self.lock();
        if faults.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = Inode::default();
        faults.names.insert(path.into(), inode.clone());
        Ok(Arc::new(FaultyFile { disk: self.clone(), inode }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let inode = self.lock().names.get(path).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(FaultyFile { disk: self.clone(), inode }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let faults = self.lock();
        let inside = faults.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.map(|path| path.file_name().unwrap().to_str().unwrap().into()).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut faults = self.lock();
        let inode = faults.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        faults.names.insert(to.into(), inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.lock().names.remove(path).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut faults = self.lock();
        if faults.sync_fails {
            return Err(io::Error::other("the disk is gone"));
        }
        faults.synced_names = faults.names.clone();
        Ok(())
    }
}

impl DiskFile for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.inode.lock().unwrap().bytes.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let contents = self.inode.lock().unwrap();
        let from = usize::try_from(offset).unwrap().min(contents.bytes.len());
        let read = buf.len().min(contents.bytes.len() - from);
        buf[..read].copy_from_slice(&contents.bytes[from..from + read]);
        Ok(read)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut faults = self.disk.lock();
        let fits = faults.room.map_or(bytes.len(), |room| room.min(bytes.len()));
        if let Some(room) = &mut faults.room {
            *room -= fits;
        }
        let mut contents = self.inode.lock().unwrap();
        let from = usize::try_from(offset).unwrap();
        let end = contents.bytes.len().max(from + fits);
        contents.bytes.resize(end, 0);
        contents.bytes[from..from + fits].copy_from_slice(&bytes[..fits]);
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inode.lock().unwrap().bytes.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let failure = self.disk.lock().next_sync_fails.take();
        if let Some(held) = failure {
            let _held = held.lock().unwrap();
            return Err(io::Error::other("a page could not be written"));
        }
        let _gate = self.disk.gate.lock().unwrap();
        let mut faults = self.disk.lock();
        faults.syncs += 1;
        if faults.sync_fails {
            return Err(io::Error::other("the disk is gone"));
        }
        let mut contents = self.inode.lock().unwrap();
        contents.synced = contents.bytes.clone();
        Ok(())
    }
}
