//! GPUs that count their own energy, by NVIDIA's management library (NVML).
//!
//! Owns which counts there are, what an answer of the library means and how
//! often a counter moves. The library is opened when it is asked for: nothing
//! links to it, and a board without it starts all the same. No context is made
//! on a GPU and no work is given to one. Knows no rails.
//! Source: NVML API reference, nvmlDeviceGetTotalEnergyConsumption (mJ since
//! the driver was loaded; Volta and later) and nvmlDeviceGetPowerUsage (mW).

use std::fmt;
use std::io;
use std::sync::Arc;

use thiserror::Error;
use wattline_protocol::units::Nanos;

use crate::clock::Clock;

/// The library's file, as the driver's packages install it.
pub const LIBRARY: &str = "libnvidia-ml.so.1";
/// A counter is watched for this long to see how often it moves, and so often.
const WATCHED: Nanos = Nanos::from_millis(250);
const LOOK_EVERY: Nanos = Nanos::from_millis(2);

/// Why a GPU gives no count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum GpuError {
    /// The library is not installed: no NVIDIA driver, or one without it.
    #[error("{LIBRARY} is not installed")]
    NoLibrary,
    /// The library is there, its driver is not.
    #[error("NVIDIA's driver is not loaded")]
    NoDriver,
    /// The GPU does not count this: a Jetson's (its rails do), an old one.
    #[error("this GPU does not support it")]
    NotSupported,
    /// The driver lets others ask.
    #[error("permission denied")]
    NoPermission,
    /// The GPU fell off the bus.
    #[error("the GPU is lost")]
    Lost,
    /// Whatever else the library says.
    #[error("the driver's library failed")]
    Failed,
}

impl From<GpuError> for io::Error {
    /// Without allocation: a sampler's loop meets it.
    fn from(error: GpuError) -> Self {
        match error {
            GpuError::NoLibrary | GpuError::NoDriver => io::ErrorKind::NotFound,
            GpuError::NotSupported => io::ErrorKind::Unsupported,
            GpuError::NoPermission => io::ErrorKind::PermissionDenied,
            GpuError::Lost => io::ErrorKind::NotConnected,
            GpuError::Failed => io::ErrorKind::InvalidData,
        }
        .into()
    }
}

/// What a GPU can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GpuQuantity {
    /// Millijoules since the driver was loaded.
    Energy,
    /// Milliwatts, a mean of the driver's own.
    Power,
}

impl GpuQuantity {
    /// Joules or watts of one count.
    pub const STEP: f64 = 1e-3;
}

/// The GPUs of this machine; clones ask the same library.
#[derive(Clone)]
pub enum Gpus {
    /// As the driver's library tells.
    Library(Arc<library::Library>),
    /// As a test's script tells.
    #[cfg(test)]
    Scripted(Arc<scripted::Script>),
}

impl Gpus {
    /// Opens the driver's library.
    ///
    /// # Errors
    /// [`GpuError::NoLibrary`], [`GpuError::NoDriver`], or what it says else.
    pub fn open() -> Result<Self, GpuError> {
        Ok(Self::Library(Arc::new(library::Library::open()?)))
    }

    /// How many there are.
    ///
    /// # Errors
    /// [`GpuError`] where the library does not tell.
    pub fn count(&self) -> Result<u32, GpuError> {
        match self {
            Self::Library(library) => library.count(),
            #[cfg(test)]
            Self::Scripted(script) => Ok(script.count()),
        }
    }

    /// Product name of the GPU at `index`.
    ///
    /// # Errors
    /// [`GpuError`] where the library does not tell.
    pub fn name(&self, index: u32) -> Result<String, GpuError> {
        match self {
            Self::Library(library) => library.name(index),
            #[cfg(test)]
            Self::Scripted(script) => Ok(script.name(index)),
        }
    }

    fn read(&self, index: u32, quantity: GpuQuantity) -> Result<u64, GpuError> {
        match self {
            Self::Library(library) => library.read(index, quantity),
            #[cfg(test)]
            Self::Scripted(script) => script.read(index, quantity),
        }
    }
}

impl fmt::Debug for Gpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gpus")
    }
}

impl PartialEq for Gpus {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Library(one), Self::Library(other)) => Arc::ptr_eq(one, other),
            #[cfg(test)]
            (Self::Scripted(one), Self::Scripted(other)) => Arc::ptr_eq(one, other),
            #[cfg(test)]
            (Self::Library(_), Self::Scripted(_)) | (Self::Scripted(_), Self::Library(_)) => false,
        }
    }
}

/// One count of one GPU.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuCounter {
    /// Whom to ask.
    pub gpus: Gpus,
    /// Which GPU, from 0, in the driver's order.
    pub index: u32,
    /// Which count.
    pub quantity: GpuQuantity,
}

impl GpuCounter {
    /// The count of the GPU at `index` that loses least between two readings:
    /// energy, else power.
    ///
    /// # Errors
    /// [`GpuError`] where it gives neither.
    pub fn best(gpus: &Gpus, index: u32) -> Result<Self, GpuError> {
        let counter = |quantity| Self { gpus: gpus.clone(), index, quantity };
        match gpus.read(index, GpuQuantity::Energy) {
            Ok(_) => Ok(counter(GpuQuantity::Energy)),
            Err(GpuError::NotSupported) => {
                gpus.read(index, GpuQuantity::Power).map(|_| counter(GpuQuantity::Power))
            }
            Err(error) => Err(error),
        }
    }

    /// The count now, in mJ or mW.
    ///
    /// # Errors
    /// [`GpuError`] where the GPU gives none.
    pub fn read(&self) -> Result<i64, GpuError> {
        let count = self.gpus.read(self.index, self.quantity)?;
        i64::try_from(count).map_err(|_| GpuError::Failed)
    }
}

/// New values a second of each counter, watched together for a quarter of a
/// second; `None` where a counter moved less than twice.
#[must_use]
pub fn rates_hz(counters: &[GpuCounter], clock: &dyn Clock) -> Vec<Option<f64>> {
    let mut watches: Vec<Watch> = counters.iter().map(|_| Watch::default()).collect();
    let (begun, mut due) = (clock.now(), clock.now());
    while due - begun < WATCHED {
        for (counter, watch) in counters.iter().zip(&mut watches) {
            if let Ok(count) = counter.read() {
                watch.see(count, clock.now() - begun);
            }
        }
        due = (due + LOOK_EVERY).max(clock.now());
        clock.sleep_until(due);
    }
    watches.iter().map(Watch::rate_hz).collect()
}

/// Changes of one counter.
#[derive(Debug, Default)]
struct Watch {
    last: Option<i64>,
    changes: u32,
    first: Nanos,
    latest: Nanos,
}

impl Watch {
    fn see(&mut self, count: i64, at: Nanos) {
        let before = self.last.replace(count);
        if before.is_some_and(|before| before != count) {
            self.changes += 1;
            self.latest = at;
            if self.changes == 1 {
                self.first = at;
            }
        }
    }

    fn rate_hz(&self) -> Option<f64> {
        let seconds = (self.latest - self.first).0;
        (self.changes > 1 && seconds > 0)
            .then(|| f64::from(self.changes - 1) * 1e9 / seconds_as_f64(seconds))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a quarter of a second")]
const fn seconds_as_f64(nanos: i64) -> f64 {
    nanos as f64
}

/// The driver's library, by the crate `nvml-wrapper`.
#[cfg(feature = "nvml")]
pub mod library {
    use nvml_wrapper::Nvml;
    use nvml_wrapper::error::NvmlError;

    use super::{GpuError, GpuQuantity};

    /// The open library.
    pub struct Library(Nvml);

    impl Library {
        pub(super) fn open() -> Result<Self, GpuError> {
            Nvml::init().map(Self).map_err(|error| meaning(&error))
        }

        pub(super) fn count(&self) -> Result<u32, GpuError> {
            self.0.device_count().map_err(|error| meaning(&error))
        }

        pub(super) fn name(&self, index: u32) -> Result<String, GpuError> {
            let name = self.0.device_by_index(index).and_then(|gpu| gpu.name());
            name.map_err(|error| meaning(&error))
        }

        /// Asks for the GPU anew each time: a handle from before a GPU was
        /// lost may not be used after.
        pub(super) fn read(&self, index: u32, quantity: GpuQuantity) -> Result<u64, GpuError> {
            let count = self.0.device_by_index(index).and_then(|gpu| match quantity {
                GpuQuantity::Energy => gpu.total_energy_consumption(),
                GpuQuantity::Power => gpu.power_usage().map(u64::from),
            });
            count.map_err(|error| meaning(&error))
        }
    }

    fn meaning(error: &NvmlError) -> GpuError {
        match error {
            NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => GpuError::NoLibrary,
            NvmlError::DriverNotLoaded => GpuError::NoDriver,
            // An old library lacks the function, a GPU the counter.
            NvmlError::NotSupported
            | NvmlError::FunctionNotFound
            | NvmlError::FailedToLoadSymbol(_) => GpuError::NotSupported,
            NvmlError::NoPermission => GpuError::NoPermission,
            NvmlError::GpuLost => GpuError::Lost,
            _ => GpuError::Failed,
        }
    }
}

/// Without the feature `nvml` there is no library.
#[cfg(not(feature = "nvml"))]
pub mod library {
    use super::{GpuError, GpuQuantity};

    /// No value of it exists.
    pub enum Library {}

    impl Library {
        pub(super) fn open() -> Result<Self, GpuError> {
            Err(GpuError::NoLibrary)
        }

        pub(super) fn count(&self) -> Result<u32, GpuError> {
            match *self {}
        }

        pub(super) fn name(&self, _: u32) -> Result<String, GpuError> {
            match *self {}
        }

        pub(super) fn read(&self, _: u32, _: GpuQuantity) -> Result<u64, GpuError> {
            match *self {}
        }
    }
}

#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
mod tests;
