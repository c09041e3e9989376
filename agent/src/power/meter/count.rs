//! A count and where it stands: a file, a GPU's counter, a converter of a
//! Pi 5's power chip.
//!
//! Owns how each is opened and read. Knows nothing of rails and schedules.
//! Reading allocates nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::power::gpu::GpuCounter;
use crate::power::pmic::PmicConverter;

/// Longest text of a value: 20 digits, a sign, a point and a line end.
const VALUE_BYTES_MAX: usize = 32;

/// A count, and what one of it is in SI units.
#[derive(Debug, Clone, PartialEq)]
pub struct Count {
    /// Where it stands.
    pub source: CountSource,
    /// Volts, amperes, watts or joules of one.
    pub step: f64,
}

/// Where a count stands.
#[derive(Debug, Clone, PartialEq)]
pub enum CountSource {
    /// A file that holds it as decimal digits.
    File(PathBuf),
    /// A GPU, asked through its driver's library.
    Gpu(GpuCounter),
    /// A converter of the Pi 5's power chip, asked through the firmware.
    Pmic(PmicConverter),
}

impl Count {
    /// A count in a file, of so many SI units each.
    #[must_use]
    pub const fn of_file(path: PathBuf, step: f64) -> Self {
        Self { source: CountSource::File(path), step }
    }
}

/// A count that can be read again and again.
#[derive(Debug)]
pub(super) enum OpenCount {
    File(File),
    Gpu(GpuCounter),
    Pmic(PmicConverter),
}

impl OpenCount {
    /// # Errors
    /// The kernel's error for a file that cannot be opened; what is no file
    /// was open before.
    pub(super) fn open(count: &Count) -> io::Result<Self> {
        Ok(match &count.source {
            CountSource::File(path) => Self::File(File::open(path)?),
            CountSource::Gpu(counter) => Self::Gpu(counter.clone()),
            CountSource::Pmic(converter) => Self::Pmic(converter.clone()),
        })
    }

    /// The count now.
    ///
    /// # Errors
    /// Whoever keeps it gives none, or what is given is no number.
    pub(super) fn read(&self) -> io::Result<i64> {
        match self {
            Self::File(file) => of_file(file),
            Self::Gpu(counter) => counter.read().map_err(io::Error::from),
            Self::Pmic(converter) => converter.read(),
        }
    }
}

/// The count in a file, read from its start: sysfs makes the value anew then.
/// What stands behind a decimal point is below the file's own step.
fn of_file(file: &File) -> io::Result<i64> {
    let mut bytes = [0; VALUE_BYTES_MAX];
    let length = file.read_at(&mut bytes, 0)?;
    let text = bytes.get(..length).unwrap_or_default().trim_ascii();
    let whole = text.split(|&byte| byte == b'.').next().unwrap_or_default();
    let number = core::str::from_utf8(whole).ok().and_then(|whole| whole.parse().ok());
    number.ok_or_else(|| io::ErrorKind::InvalidData.into())
}
