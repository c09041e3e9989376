//! A disk whose every sync of a file takes long.

use std::io;

use wattline_agent::clock::{Clock, SystemClock};
use wattline_agent::spool::{AppendFile, ModelStorage, Storage};
use wattline_protocol::units::Nanos;

/// The model of a disk, slowed down.
#[derive(Debug)]
pub(super) struct SlowStorage {
    disk: ModelStorage,
    sync: Nanos,
}

#[derive(Debug)]
struct SlowFile {
    file: Box<dyn AppendFile>,
    sync: Nanos,
}

impl SlowStorage {
    pub(super) fn new(disk: ModelStorage, sync: Nanos) -> Self {
        Self { disk, sync }
    }
}

impl AppendFile for SlowFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        SystemClock.sleep_until(SystemClock.now() + self.sync);
        self.file.sync()
    }
}

impl Storage for SlowStorage {
    fn create(&self, name: &str) -> io::Result<Box<dyn AppendFile>> {
        let file = self.disk.create(name)?;
        Ok(Box::new(SlowFile { file, sync: self.sync }))
    }

    fn create_folder(&self, name: &str) -> io::Result<()> {
        self.disk.create_folder(name)
    }

    fn sync_folder(&self, name: &str) -> io::Result<()> {
        self.disk.sync_folder(name)
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        self.disk.list(folder)
    }

    fn read_at(&self, name: &str, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.disk.read_at(name, offset, bytes)
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        self.disk.length(name)
    }

    fn truncate(&self, name: &str, length: u64) -> io::Result<()> {
        self.disk.truncate(name, length)
    }

    fn settle(&self, name: &str) -> io::Result<()> {
        self.disk.settle(name)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}
