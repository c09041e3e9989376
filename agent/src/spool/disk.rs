//! Real files below one folder, held by one agent at a time.
//!
//! Owns the lock on the spool's root and the system calls behind
//! [`Storage`]. Knows neither frames nor runs.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use thiserror::Error;

use super::storage::{AppendFile, Storage};

/// Name of the locked file; it holds the process id of its holder.
const LOCK_NAME: &str = "lock";
/// Files of the spool are read by their owner and its group.
const FILE_MODE: u32 = 0o640;
/// Folders likewise.
const FOLDER_MODE: u32 = 0o750;

/// Files of a real disk.
#[derive(Debug)]
pub struct DiskStorage {
    root: PathBuf,
    // Held for its lock, which ends with the process however that ends.
    _lock: File,
}

/// Why a folder cannot be the spool's root.
#[derive(Debug, Error)]
pub enum RootError {
    /// Two agents would write into one log.
    #[error("spool {} is used by another agent (process {})", root.display(), process.trim())]
    InUse {
        /// The folder.
        root: PathBuf,
        /// Process id of the other agent; empty where it has not said.
        process: String,
    },
    /// The folder cannot be made or written.
    #[error("spool {} cannot be opened", root.display())]
    Unusable {
        /// The folder.
        root: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl DiskStorage {
    /// Takes the folder, which is made where it is absent.
    ///
    /// # Errors
    /// [`RootError::InUse`] where another agent holds it,
    /// [`RootError::Unusable`] where it cannot be made or written.
    pub fn open(root: &Path) -> Result<Self, RootError> {
        let unusable = |source| RootError::Unusable { root: root.to_owned(), source };
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(FOLDER_MODE).create(root).map_err(unusable)?;
        let path = root.join(LOCK_NAME);
        let mut options = OpenOptions::new();
        // Not truncated: until the lock is ours, the text is the other agent's.
        let options = options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
        let mut lock = options.open(&path).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let process = fs::read_to_string(&path).unwrap_or_default();
                return Err(RootError::InUse { root: root.to_owned(), process });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        // The number is a courtesy to a reader: a full disk does not make the spool unusable.
        let _ = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }
}

/// A fresh random identity from the kernel, as text.
///
/// # Errors
/// What the system says where `/proc` offers none.
pub fn random_id() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/uuid").map(|text| text.trim().to_owned())
}

impl Storage for DiskStorage {
    fn create(&self, name: &str) -> io::Result<Box<dyn AppendFile>> {
        let mut options = OpenOptions::new();
        let file = options.append(true).create_new(true).mode(FILE_MODE).open(self.path(name))?;
        Ok(Box::new(DiskFile { file }))
    }

    fn create_folder(&self, name: &str) -> io::Result<()> {
        match fs::DirBuilder::new().mode(FOLDER_MODE).create(self.path(name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    fn sync_folder(&self, name: &str) -> io::Result<()> {
        File::open(self.path(name))?.sync_all()
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.path(folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut names = Vec::new();
        for entry in entries {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn read_at(&self, name: &str, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        File::open(self.path(name))?.read_at(bytes, offset)
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.path(name))?.len())
    }

    fn truncate(&self, name: &str, length: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.path(name))?;
        file.set_len(length)?;
        file.sync_all()
    }

    fn settle(&self, name: &str) -> io::Result<()> {
        let file = File::open(self.path(name))?;
        let synced = file.sync_all();
        // Pages that the kernel could not write count as clean after the failed sync,
        // and read as if they were on the disk. Forgotten, they are read from there.
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        synced
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        if fs::symlink_metadata(&path)?.is_dir() {
            fs::remove_dir(path)
        } else {
            fs::remove_file(path)
        }
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = nix::sys::statvfs::statvfs(&self.root)?;
        Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
    }
}

#[derive(Debug)]
struct DiskFile {
    file: File,
}

impl AppendFile for DiskFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_agent_on_the_same_spool_is_refused_and_told_which_one_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = DiskStorage::open(folder.path()).unwrap();
        let refusal = DiskStorage::open(folder.path()).unwrap_err();
        let own = std::process::id().to_string();
        assert!(
            matches!(&refusal, RootError::InUse { process, .. } if process.trim() == own),
            "{refusal}"
        );
        drop(first);
        assert!(DiskStorage::open(folder.path()).is_ok());
    }

    #[test]
    fn files_grow_are_read_cut_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let disk = DiskStorage::open(folder.path()).unwrap();
        disk.create_folder("runs").unwrap();
        disk.create_folder("runs").unwrap();
        let mut file = disk.create("runs/a").unwrap();
        file.append(b"abcdef").unwrap();
        file.sync().unwrap();
        disk.sync_folder("runs").unwrap();
        disk.sync_folder("").unwrap();
        assert_eq!(disk.create("runs/a").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        disk.truncate("runs/a", 4).unwrap();
        let mut bytes = [0; 8];
        assert_eq!(disk.read_at("runs/a", 1, &mut bytes).unwrap(), 3);
        assert_eq!(bytes.get(..3), Some(b"bcd".as_slice()));
        assert_eq!(disk.length("runs/a").unwrap(), 4);
        assert_eq!(disk.list("runs").unwrap(), ["a"]);
        disk.settle("runs/a").unwrap();
        assert_eq!(disk.read_at("runs/a", 1, &mut bytes).unwrap(), 3);
        assert_eq!(disk.settle("runs/b").unwrap_err().kind(), io::ErrorKind::NotFound);
        disk.remove("runs/a").unwrap();
        disk.remove("runs").unwrap();
        assert!(disk.list("runs").unwrap().is_empty());
        assert!(disk.free_bytes().unwrap() > 0);
    }
}
