//! A model of the kernel's INA drivers over a tree in a temporary folder.
//!
//! Owns how a driver makes conversion times of what is written and says them
//! back, which values it refuses, and how a process dies between two of its
//! calls. The tree is real; only the attributes' values live here.
//! Source: Linux drivers/hwmon/ina3221.c (`ina3221_interval_ms_to_conv_time`,
//! `ina3221_reg_to_interval_us`) and ina2xx.c (`ina226_interval_store`).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::sysfs::DriverFiles;
use crate::power::chip::{AVERAGES, CONVERSION_US};

/// What the drivers hold.
#[derive(Debug, Clone, Default)]
pub(super) struct ModelDrivers {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Drivers by the folder of their attributes.
    drivers: BTreeMap<PathBuf, Driver>,
    /// Attributes by name that this process may not write.
    closed: Vec<&'static str>,
    /// Calls so far, and the one at which the process dies.
    calls: u64,
    dies_at: Option<u64>,
}

/// One driver's averaging and conversion time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Driver {
    pub(super) channels: u32,
    pub(super) average: u32,
    pub(super) conversion_us: u32,
    pub(super) refuses_zero: bool,
}

impl Driver {
    fn interval_ms(self) -> u32 {
        (self.conversion_us * 2 * self.channels * self.average + 500) / 1_000
    }
}

impl ModelDrivers {
    pub(super) fn put(&self, folder: &Path, driver: Driver) {
        self.state.lock().unwrap().drivers.insert(folder.to_owned(), driver);
    }

    pub(super) fn driver(&self, folder: &Path) -> Driver {
        self.state.lock().unwrap().drivers[folder]
    }

    pub(super) fn close(&self, attribute: &'static str) {
        self.state.lock().unwrap().closed.push(attribute);
    }

    /// Lets the process die at its call with this number, from 1.
    pub(super) fn die_at(&self, call: u64) {
        let mut state = self.state.lock().unwrap();
        (state.calls, state.dies_at) = (0, Some(call));
    }

    /// Another process, which lives; true where the last one died.
    pub(super) fn live(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        let died = state.dies_at.is_some_and(|at| state.calls >= at);
        state.dies_at = None;
        died
    }
}

impl State {
    fn call(&mut self) -> io::Result<()> {
        self.calls += 1;
        match self.dies_at {
            Some(at) if self.calls >= at => Err(io::Error::from_raw_os_error(libc::EIO)),
            _ => Ok(()),
        }
    }

    fn of(&mut self, path: &Path) -> io::Result<(&mut Driver, String)> {
        let folder = path.parent().unwrap_or(path);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let driver = self.drivers.get_mut(folder).ok_or(io::ErrorKind::NotFound)?;
        Ok((driver, name.to_owned()))
    }
}

impl DriverFiles for ModelDrivers {
    fn read(&self, path: &Path) -> io::Result<String> {
        let mut state = self.state.lock().unwrap();
        state.call()?;
        let (driver, name) = state.of(path)?;
        match name.as_str() {
            "samples" if !driver.refuses_zero => Ok(driver.average.to_string()),
            "update_interval" => Ok(driver.interval_ms().to_string()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn may_write(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.call()?;
        let is_closed = state.closed.iter().any(|name| path.ends_with(name));
        if is_closed { Err(io::Error::from_raw_os_error(libc::EACCES)) } else { Ok(()) }
    }

    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.call()?;
        let (driver, name) = state.of(path)?;
        let value: u32 = text.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
        let closest = |table: &[u32], wanted: u32| {
            table.iter().copied().min_by_key(|entry| entry.abs_diff(wanted)).unwrap()
        };
        match name.as_str() {
            "samples" => driver.average = closest(&AVERAGES, value),
            "update_interval" if value == 0 && driver.refuses_zero => {
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            }
            // An INA226's driver averages, an INA3221's converts for longer.
            "update_interval" if driver.refuses_zero => {
                let each = 2 * driver.conversion_us;
                driver.average = closest(&AVERAGES, (value * 1_000 + each / 2) / each);
            }
            "update_interval" => {
                let wanted = value * 1_000 / driver.channels / driver.average / 2;
                driver.conversion_us = closest(&CONVERSION_US, wanted);
            }
            _ => return Err(io::ErrorKind::NotFound.into()),
        }
        Ok(())
    }
}
