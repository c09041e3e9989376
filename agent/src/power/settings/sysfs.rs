//! The files through which a kernel driver is set.
//!
//! Owns the seam between settings and sysfs, and the values that are wanted of
//! a driver. Two kinds implement it: the files themselves and, in tests, a
//! model of the drivers, because a driver that rounds or refuses a value
//! cannot be had from plain files.
//! Source: Linux Documentation/hwmon/ina3221.rst, ina2xx.rst.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use wattline_protocol::record::DriverAttribute;

/// Longest attribute that is read: the kernel gives one page at most.
const ATTRIBUTE_BYTES_MAX: u64 = 4_096;

/// What is set for a run, in this order: the driver `ina3221` makes conversion
/// times of the interval by the averaging that stands. Averaging is an
/// exponential filter in that chip; 0 asks for the shortest conversions
/// whatever the number of channels (1 does for three alone), and drivers that
/// refuse it (`ina2xx`) take 1.
pub const WANTED: [(DriverAttribute, &[i64]); 2] =
    [(DriverAttribute::Samples, &[1]), (DriverAttribute::UpdateInterval, &[0, 1])];

/// Attributes of drivers.
pub trait DriverFiles: Debug + Send + Sync {
    /// An attribute's text without what surrounds it.
    ///
    /// # Errors
    /// The kernel's; `InvalidInput` for what is no file.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// Whether this process may write it; nothing is written.
    ///
    /// # Errors
    /// The kernel's: why it may not.
    fn may_write(&self, path: &Path) -> io::Result<()>;

    /// Writes an attribute.
    ///
    /// # Errors
    /// The driver's or the kernel's.
    fn write(&self, path: &Path, text: &str) -> io::Result<()>;
}

/// Files of sysfs, or of a copy of it.
#[derive(Debug, Clone, Copy)]
pub struct SysfsFiles;

impl DriverFiles for SysfsFiles {
    fn read(&self, path: &Path) -> io::Result<String> {
        // A pipe in the place of an attribute would be waited on for ever.
        if !fs::metadata(path)?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut text = String::new();
        File::open(path)?.take(ATTRIBUTE_BYTES_MAX).read_to_string(&mut text)?;
        Ok(text.trim().to_owned())
    }

    fn may_write(&self, path: &Path) -> io::Result<()> {
        OpenOptions::new().write(true).open(path).map(|_| ())
    }

    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        // Truncation means nothing in sysfs and the old text's end in a copy.
        let mut file = OpenOptions::new().write(true).truncate(true).open(path)?;
        // One call: the kernel hands each write to the driver as a value.
        file.write_all(format!("{text}\n").as_bytes())
    }
}

/// Whether two texts of an attribute are one value.
pub(super) fn same(one: &str, other: &str) -> bool {
    match (one.parse::<i64>(), other.parse::<i64>()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}
