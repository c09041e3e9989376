//! Storage: the few calls that the spool makes of a disk.
//!
//! Owns the seam between the log and the disk, and what an error of the disk
//! means. Knows neither frames nor runs. Two kinds implement it: real files
//! ([`super::disk`]) and a model that loses and tears what was not synced
//! ([`super::model`]), because a full disk, a failed sync and a power cut
//! cannot be had from real files in a test.

use std::fmt::Debug;
use std::io;

use thiserror::Error;

/// A disk below the spool's root. Names are relative to the root, with `/`
/// between folder and file.
pub trait Storage: Debug + Send + Sync {
    /// Creates the file, which must not exist, for appending. It is durable
    /// under its name only after [`Storage::sync_folder`] of its folder.
    ///
    /// # Errors
    /// What the disk says; `AlreadyExists` where the name is taken.
    fn create(&self, name: &str) -> io::Result<Box<dyn AppendFile>>;

    /// Creates a folder below an existing one; one that is there is fine.
    ///
    /// # Errors
    /// What the disk says.
    fn create_folder(&self, name: &str) -> io::Result<()>;

    /// Makes the names in a folder durable; the root is the empty name.
    ///
    /// # Errors
    /// What the disk says.
    fn sync_folder(&self, name: &str) -> io::Result<()>;

    /// Names in a folder, sorted; none where there is no such folder.
    ///
    /// # Errors
    /// What the disk says.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;

    /// Reads into `bytes` from `offset` on; returns how many bytes, 0 at the
    /// end of the file alone.
    ///
    /// # Errors
    /// What the disk says; `NotFound` where there is no such file.
    fn read_at(&self, name: &str, offset: u64, bytes: &mut [u8]) -> io::Result<usize>;

    /// Length of a file, in bytes.
    ///
    /// # Errors
    /// What the disk says; `NotFound` where there is no such file.
    fn length(&self, name: &str) -> io::Result<u64>;

    /// Cuts a file to `length` bytes, durably.
    ///
    /// # Errors
    /// What the disk says.
    fn truncate(&self, name: &str, length: u64) -> io::Result<()>;

    /// Makes what was ever written to a file durable, and forgets what the
    /// kernel holds of it in memory: what is read from now on is what the disk
    /// has. After an error of the sync as well, as far as the kernel forgets.
    ///
    /// # Errors
    /// What the disk says; `NotFound` where there is no such file.
    fn settle(&self, name: &str) -> io::Result<()>;

    /// Removes a file or an empty folder.
    ///
    /// # Errors
    /// What the disk says; `NotFound` where there is no such name.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Bytes that an unprivileged program may still write.
    ///
    /// # Errors
    /// What the disk says.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// A file that only grows.
pub trait AppendFile: Debug + Send {
    /// Writes all bytes at the end. After an error, an unknown part of them
    /// is there.
    ///
    /// # Errors
    /// What the disk says.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the contents durable, not the name. After an error the file must
    /// not be used again: the kernel may have dropped what it could not
    /// write, and the next sync would succeed without it.
    ///
    /// # Errors
    /// What the disk says.
    fn sync(&mut self) -> io::Result<()>;
}

/// Numbers of errors by which Linux says that bytes of a file are lost: EIO,
/// ENODATA (a bad sector), EBADMSG and EUCLEAN (a checksum of the file system),
/// EREMOTEIO (a card that does not answer).
const LOST: [i32; 5] = [5, 61, 74, 117, 121];

/// True where a failed read says that the bytes are lost. Any other error, such
/// as no file descriptor left, says nothing of them: they may be read later.
pub(super) fn is_lost(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|errno| LOST.contains(&errno))
}

/// What the spool asked of the disk when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Creating a file or a folder.
    Create,
    /// Writing.
    Append,
    /// Making contents or names durable.
    Sync,
    /// Reading or listing.
    Read,
    /// Removing.
    Remove,
}

impl Operation {
    /// The operation as a word of an error text.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Append => "append",
            Self::Sync => "sync",
            Self::Read => "read",
            Self::Remove => "remove",
        }
    }
}

/// The disk refused a call.
#[derive(Debug, Error)]
#[error("spool: cannot {} `{name}`", operation.name())]
pub struct StorageError {
    /// What was asked.
    pub operation: Operation,
    /// Of which name below the root.
    pub name: String,
    /// What the disk said.
    pub source: io::Error,
}

impl StorageError {
    pub(super) fn new(operation: Operation, name: &str, source: io::Error) -> Self {
        Self { operation, name: name.to_owned(), source }
    }

    /// Cannot read `name`, for a cause that says nothing of what it holds.
    pub(super) fn reading(name: &str, source: io::Error) -> Self {
        Self::new(Operation::Read, name, source)
    }

    /// True where the disk, or this user's share of it, is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}
