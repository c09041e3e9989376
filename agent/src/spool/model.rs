//! A model of a disk, in memory: it loses what was not synced, tears what was
//! half written, fills up, and fails on demand.
//!
//! Owns what a power cut may leave of files and names, by a seed. Knows
//! neither frames nor runs. It is harsher than most disks and no harsher than
//! the worst: a failed sync marks pages clean that were never written, a
//! removed file may come back, a new one may go where its folder was not synced.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::segment::as_u64;
use super::storage::{AppendFile, Storage};

/// Linux's error number of a failed input or output.
const EIO: i32 = 5;
/// Sector of the disk, in bytes: what a power cut writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// What an operation on the model does instead of succeeding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelFault {
    /// It fails as a broken disk does.
    Io,
    /// It fails as a full disk does.
    Full,
}

impl ModelFault {
    fn error(self) -> io::Error {
        match self {
            Self::Io => io::Error::from_raw_os_error(EIO),
            Self::Full => io::Error::from(io::ErrorKind::StorageFull),
        }
    }
}

/// A disk in memory. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct ModelStorage {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Debug, Default)]
struct Disk {
    files: BTreeMap<String, File>,
    /// Folders whose name is durable, and those whose name is not yet.
    folders: BTreeMap<String, Name>,
    /// Removed files whose folder was not synced since.
    ghosts: Vec<(String, File)>,
    /// Power cuts so far: a file opened before one is stale.
    cuts: u64,
    operations: u64,
    faults: BTreeMap<u64, ModelFault>,
    /// Calls of any kind so far, reads among them.
    calls: u64,
    /// These calls fail, with this error number.
    refusal: Option<(u64, u64, i32)>,
    /// Files of which a read was refused since this was last asked.
    refused: BTreeSet<String>,
    capacity_bytes: Option<u64>,
    unreadable: Vec<(String, Range<u64>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Name {
    #[default]
    Fleeting,
    Durable,
}

#[derive(Debug, Clone, Default)]
struct File {
    name: Name,
    /// What a reader sees.
    cache: Vec<u8>,
    /// What is on the disk, with holes where a failed sync lost pages.
    durable: Vec<u8>,
}

impl ModelStorage {
    /// An empty disk without bound.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writing operations so far: creating, appending, syncing, removing.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.disk().operations
    }

    /// Lets the writing operation with this number fail; the first one is 0.
    pub fn fail_operation(&self, number: u64, fault: ModelFault) {
        self.disk().faults.insert(number, fault);
    }

    /// Calls of the storage so far, of every kind.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.disk().calls
    }

    /// Lets the calls with these numbers fail with an error of the system,
    /// reads among them; the first call is 0.
    pub fn refuse_calls(&self, calls: Range<u64>, errno: i32) {
        self.disk().refusal = Some((calls.start, calls.end, errno));
    }

    /// Files of which a read was refused since the last time of asking.
    pub fn take_refused(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.disk().refused)
    }

    /// Sets how many bytes of files the disk takes in all; `None`: any number.
    pub fn set_capacity(&self, capacity_bytes: Option<u64>) {
        self.disk().capacity_bytes = capacity_bytes;
    }

    /// Ends all faults and bounds that are still to come; damage stays.
    pub fn mend(&self) {
        let mut disk = self.disk();
        disk.faults.clear();
        disk.refusal = None;
        disk.capacity_bytes = None;
    }

    /// Bytes that the files take.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.disk().used_bytes()
    }

    /// Takes a file away, name and all.
    pub fn vanish(&self, name: &str) {
        self.disk().files.remove(name);
    }

    /// Changes one bit of a durable byte.
    pub fn flip_bit(&self, name: &str, offset: usize, bit: u32) {
        if let Some(file) = self.disk().files.get_mut(name) {
            for bytes in [&mut file.cache, &mut file.durable] {
                if let Some(byte) = bytes.get_mut(offset) {
                    *byte ^= 1_u8.rotate_left(bit);
                }
            }
        }
    }

    /// Cuts a file to its first bytes.
    pub fn tear(&self, name: &str, length: usize) {
        if let Some(file) = self.disk().files.get_mut(name) {
            file.cache.truncate(length);
            file.durable.truncate(length);
        }
    }

    /// Lets reads that touch these bytes fail.
    pub fn make_unreadable(&self, name: &str, bytes: Range<u64>) {
        self.disk().unreadable.push((name.to_owned(), bytes));
    }

    /// Names of all files.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        self.disk().files.keys().cloned().collect()
    }

    /// A copy that shares nothing with this disk.
    #[must_use]
    pub fn copy(&self) -> Self {
        let disk = self.disk();
        let copied = Disk {
            files: disk.files.clone(),
            folders: disk.folders.clone(),
            ghosts: disk.ghosts.clone(),
            faults: BTreeMap::new(),
            unreadable: disk.unreadable.clone(),
            refused: disk.refused.clone(),
            ..*disk
        };
        Self { disk: Arc::new(Mutex::new(copied)) }
    }

    /// Cuts the power: of all that was not synced, `seed` chooses what is left.
    pub fn cut_power(&self, seed: u64) {
        let mut disk = self.disk();
        let mut dice = Dice(seed);
        disk.cuts += 1;
        disk.faults.clear();
        for (name, file) in std::mem::take(&mut disk.ghosts) {
            if dice.below(2) == 0 {
                disk.files.entry(name).or_insert(file);
            }
        }
        let mut lost_folders = BTreeSet::new();
        disk.folders.retain(|folder, name| {
            let kept = *name == Name::Durable || dice.below(2) == 0;
            *name = Name::Durable;
            if !kept {
                lost_folders.insert(folder.clone());
            }
            kept
        });
        disk.files.retain(|name, file| {
            let in_lost = ancestors(name).any(|folder| lost_folders.contains(folder));
            let kept = !in_lost && (file.name == Name::Durable || dice.below(2) == 0);
            if kept {
                file.survive(&mut dice);
            }
            kept
        });
        let Disk { folders, .. } = &mut *disk;
        folders.retain(|name, _| !ancestors(name).any(|folder| lost_folders.contains(folder)));
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl File {
    /// After a power cut: the durable bytes and a part of the rest, which may
    /// be right, zeros or garbage.
    fn survive(&mut self, dice: &mut Dice) {
        let synced = self.durable.len();
        let tail = self.cache.len().saturating_sub(synced);
        let kept = synced + dice.below(tail + 1);
        let mut left = self.durable.clone();
        left.extend_from_slice(self.cache.get(synced..kept).unwrap_or_default());
        for sector in left.get_mut(synced..).unwrap_or_default().chunks_mut(SECTOR_BYTES) {
            match dice.below(4) {
                0 => sector.fill(0),
                1 => sector.iter_mut().for_each(|byte| *byte = dice.byte()),
                _ => {}
            }
        }
        self.durable.clone_from(&left);
        self.cache = left;
        self.name = Name::Durable;
    }

    fn sync(&mut self, outcome: Result<(), io::Error>) -> io::Result<()> {
        let synced = self.durable.len();
        match outcome {
            Ok(()) => {
                self.durable.extend_from_slice(self.cache.get(synced..).unwrap_or_default());
                Ok(())
            }
            Err(error) => {
                // The pages count as clean from now on, and some are not on the disk.
                let mut dice = Dice(as_u64(self.cache.len()));
                let pages = self.cache.get(synced..).unwrap_or_default();
                for page in pages.chunks(SECTOR_BYTES) {
                    let written = dice.below(2) == 0;
                    self.durable.extend(page.iter().map(|byte| if written { *byte } else { 0 }));
                }
                Err(error)
            }
        }
    }
}

impl Disk {
    /// Counts a writing operation and fails it where that was asked for.
    fn operate(&mut self) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        let called = self.call();
        self.faults.remove(&number).map_or(called, |fault| Err(fault.error()))
    }

    /// Counts a call of any kind and fails it where that was asked for.
    fn call(&mut self) -> io::Result<()> {
        let number = self.calls;
        self.calls += 1;
        match self.refusal {
            Some((from, to, errno)) if (from..to).contains(&number) => {
                Err(io::Error::from_raw_os_error(errno))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn used_bytes(&self) -> u64 {
        self.files.values().map(|file| as_u64(file.cache.len())).sum()
    }

    fn free_bytes(&self) -> u64 {
        let used = self.used_bytes();
        self.capacity_bytes.map_or(u64::MAX, |capacity| capacity.saturating_sub(used))
    }

    fn file(&mut self, name: &str) -> io::Result<&mut File> {
        self.files.get_mut(name).ok_or(io::Error::from(io::ErrorKind::NotFound))
    }
}

impl Storage for ModelStorage {
    fn create(&self, name: &str) -> io::Result<Box<dyn AppendFile>> {
        let mut disk = self.disk();
        disk.operate()?;
        if disk.free_bytes() == 0 {
            return Err(ModelFault::Full.error());
        }
        if disk.files.contains_key(name) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        if !ancestors(name).all(|folder| disk.folders.contains_key(folder)) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        disk.files.insert(name.to_owned(), File::default());
        let cuts = disk.cuts;
        Ok(Box::new(ModelFile { storage: self.clone(), name: name.to_owned(), cuts }))
    }

    fn create_folder(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operate()?;
        if disk.free_bytes() == 0 && !disk.folders.contains_key(name) {
            return Err(ModelFault::Full.error());
        }
        disk.folders.entry(name.to_owned()).or_default();
        Ok(())
    }

    fn sync_folder(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operate()?;
        let within = |other: &str| parent(other) == name;
        for (_, file) in disk.files.iter_mut().filter(|(other, _)| within(other)) {
            file.name = Name::Durable;
        }
        for (_, state) in disk.folders.iter_mut().filter(|(other, _)| within(other)) {
            *state = Name::Durable;
        }
        disk.ghosts.retain(|(other, _)| !within(other));
        Ok(())
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let mut disk = self.disk();
        disk.call()?;
        let names = disk.files.keys().chain(disk.folders.keys());
        let mut found: Vec<String> = names
            .filter(|name| parent(name) == folder)
            .map(|name| name.rsplit('/').next().unwrap_or(name).to_owned())
            .collect();
        found.sort_unstable();
        Ok(found)
    }

    fn read_at(&self, name: &str, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let mut disk = self.disk();
        if let Err(error) = disk.call() {
            disk.refused.insert(name.to_owned());
            return Err(error);
        }
        let end = offset.saturating_add(as_u64(bytes.len()));
        let touches = |(bad, range): &(String, Range<u64>)| {
            bad == name && range.start < end && offset < range.end
        };
        if disk.unreadable.iter().any(touches) {
            return Err(ModelFault::Io.error());
        }
        let cache = &disk.file(name)?.cache;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(cache.len());
        let source = cache.get(from..).unwrap_or_default();
        let got = source.len().min(bytes.len());
        for (target, byte) in bytes.iter_mut().zip(source) {
            *target = *byte;
        }
        Ok(got)
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        let mut disk = self.disk();
        disk.call()?;
        Ok(as_u64(disk.file(name)?.cache.len()))
    }

    fn truncate(&self, name: &str, length: u64) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operate()?;
        let file = disk.file(name)?;
        file.cache.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        file.durable.truncate(file.cache.len());
        file.sync(Ok(()))
    }

    fn settle(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        let outcome = disk.operate();
        let file = disk.file(name)?;
        let synced = file.sync(outcome);
        file.cache.clone_from(&file.durable);
        synced
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        disk.operate()?;
        if let Some(file) = disk.files.remove(name) {
            if file.name == Name::Durable {
                disk.ghosts.push((name.to_owned(), file));
            }
            return Ok(());
        }
        let taken = disk.files.keys().any(|other| parent(other) == name);
        match disk.folders.contains_key(name) {
            true if taken => Err(io::Error::from(io::ErrorKind::DirectoryNotEmpty)),
            true => {
                disk.folders.remove(name);
                Ok(())
            }
            false => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let mut disk = self.disk();
        disk.call()?;
        Ok(disk.free_bytes())
    }
}

#[derive(Debug)]
struct ModelFile {
    storage: ModelStorage,
    name: String,
    cuts: u64,
}

impl ModelFile {
    fn with<T>(&self, act: impl FnOnce(&mut Disk) -> io::Result<T>) -> io::Result<T> {
        let mut disk = self.storage.disk();
        if disk.cuts != self.cuts {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe));
        }
        act(&mut disk)
    }
}

impl AppendFile for ModelFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.with(|disk| {
            let outcome = disk.operate();
            let free = usize::try_from(disk.free_bytes()).unwrap_or(usize::MAX);
            // A failed write leaves a part; a full disk takes what fits.
            let part = if outcome.is_err() { bytes.len() / 2 } else { bytes.len() };
            let taken = bytes.get(..part.min(free)).unwrap_or_default();
            disk.file(&self.name)?.cache.extend_from_slice(taken);
            outcome?;
            if taken.len() < bytes.len() { Err(ModelFault::Full.error()) } else { Ok(()) }
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.with(|disk| {
            let outcome = disk.operate();
            disk.file(&self.name)?.sync(outcome)
        })
    }
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The folders that a name lies in, innermost first, without the root.
fn ancestors(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(parent(name)), |folder| Some(parent(folder)))
        .take_while(|folder| !folder.is_empty())
}

/// Numbers that a seed decides (splitmix64).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = as_u64(bound).max(1);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes().first().copied().unwrap_or(0)
    }
}
