//! A model of the kernel's INA drivers over a tree in a temporary folder.
//!
//! Owns how a driver makes conversion times of what is written and says them
//! back, which values it refuses, how it lets go of an INA3221 and resets it
//! when it takes it again, and how a process dies between two of its calls. The
//! tree is real; only the values of attributes and registers live here.
//! Source: Linux drivers/hwmon/ina3221.c (`ina3221_interval_ms_to_conv_time`,
//! `ina3221_reg_to_interval_us`) and ina2xx.c (`ina226_interval_store`).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::exclusive::Buses;
use super::sysfs::DriverFiles;
use crate::power::bus::{Address7, BusError, I2cBus, Message};
use crate::power::chip::{AVERAGES, CONVERSION_US};

/// The chip that can be let go of.
const PLACE: &str = "1-0040";
/// Milliamperes of one step of a limit over 5 mΩ, in the register's bits 15:3.
const LIMIT_STEP_MA: u32 = 8;

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
    /// Attributes by name of which its driver takes no value.
    stubborn: Vec<&'static str>,
    /// Registers of the INA3221 but its configuration.
    registers: BTreeMap<u8, u16>,
    /// Its configuration while no driver holds it.
    config: u16,
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
    /// An INA3221's driver as it begins.
    pub(super) const AT_RESET: Self =
        Self { channels: 3, average: 1, conversion_us: 1_100, refuses_zero: false };

    fn config(self) -> u16 {
        let code = |table: &[u32], value| {
            u16::try_from(table.iter().position(|entry| *entry == value).unwrap()).unwrap()
        };
        let time = code(&CONVERSION_US, self.conversion_us);
        0x7007 | code(&AVERAGES, self.average) << 9 | time << 6 | time << 3
    }

    fn interval_ms(self) -> u32 {
        (self.conversion_us * 2 * self.channels * self.average + 500) / 1_000
    }
}

impl ModelDrivers {
    pub(super) fn put(&self, folder: &Path, driver: Driver) {
        self.state.lock().unwrap().drivers.insert(folder.to_owned(), driver);
    }

    /// Sets a register as firmware or nvpmodel did before any run.
    pub(super) fn set_register(&self, register: u8, value: u16) {
        self.state.lock().unwrap().registers.insert(register, value);
    }

    pub(super) fn registers(&self) -> BTreeMap<u8, u16> {
        self.state.lock().unwrap().registers.clone()
    }

    pub(super) fn config(&self) -> u16 {
        self.state.lock().unwrap().config()
    }

    pub(super) fn driver(&self, folder: &Path) -> Driver {
        self.state.lock().unwrap().drivers[folder]
    }

    pub(super) fn close(&self, attribute: &'static str) {
        self.state.lock().unwrap().closed.push(attribute);
    }

    pub(super) fn refuse(&self, attribute: &'static str) {
        self.state.lock().unwrap().stubborn.push(attribute);
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
    fn set_config(&mut self, value: u16) {
        self.config = value;
        let held = self.drivers.iter_mut().find(|(folder, _)| is_of_place(folder));
        if let Some((_, driver)) = held {
            driver.average = AVERAGES[usize::from(value >> 9 & 7)];
            driver.conversion_us = CONVERSION_US[usize::from(value >> 3 & 7)];
        }
    }

    fn call(&mut self) -> io::Result<()> {
        self.calls += 1;
        match self.dies_at {
            Some(at) if self.calls >= at => Err(io::Error::from_raw_os_error(libc::EIO)),
            _ => Ok(()),
        }
    }

    fn config(&self) -> u16 {
        let held = self.drivers.iter().find(|(folder, _)| is_of_place(folder));
        held.map_or(self.config, |(_, driver)| driver.config())
    }

    fn unbind(&mut self, client: &Path) -> io::Result<()> {
        self.config = self.config();
        self.drivers.retain(|folder, _| !is_of_place(folder));
        fs::remove_dir_all(client.join("hwmon"))?;
        fs::remove_file(client.join("driver"))
    }

    /// The driver takes the chip: it resets it, and shows itself under another
    /// number than before.
    fn bind(&mut self, client: &Path) -> io::Result<()> {
        let folder = client.join("hwmon/hwmon9");
        fs::create_dir_all(&folder)?;
        for name in ["name", "samples", "update_interval", "curr1_crit"] {
            fs::write(folder.join(name), "ina3221\n")?;
        }
        std::os::unix::fs::symlink("../../drivers/ina3221", client.join("driver"))?;
        self.registers = BTreeMap::from([(0xfe, 0x5449), (0xff, 0x3220)]);
        self.drivers.insert(folder, Driver { average: 1, ..Driver::AT_RESET });
        Ok(())
    }

    fn limit_ma(&self) -> u32 {
        u32::from(self.registers.get(&0x07).copied().unwrap_or(0x7ff8) >> 3) * LIMIT_STEP_MA
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
        let limit_ma = state.limit_ma();
        let (driver, name) = state.of(path)?;
        match name.as_str() {
            "curr1_crit" if !driver.refuses_zero => Ok(limit_ma.to_string()),
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
        if let Some(i2c) = path.ancestors().nth(3).filter(|_| text == PLACE) {
            let client = i2c.join("devices").join(PLACE);
            return match path.file_name().and_then(|name| name.to_str()) {
                Some("unbind") => state.unbind(&client),
                _ => state.bind(&client),
            };
        }
        if state.stubborn.iter().any(|name| path.ends_with(name)) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
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
            "curr1_crit" => {
                let code = u16::try_from(value / LIMIT_STEP_MA).unwrap() << 3;
                state.registers.insert(0x07, code);
            }
            _ => return Err(io::ErrorKind::NotFound.into()),
        }
        Ok(())
    }
}

fn is_of_place(folder: &Path) -> bool {
    folder.components().any(|part| part.as_os_str() == PLACE)
}

impl Buses for ModelDrivers {
    fn open(&self, _root: &Path, _bus: u8) -> io::Result<Box<dyn I2cBus>> {
        self.state.lock().unwrap().call()?;
        Ok(Box::new(ModelBus(Arc::clone(&self.state))))
    }
}

/// The chip's registers on the wire.
struct ModelBus(Arc<Mutex<State>>);

impl I2cBus for ModelBus {
    fn transfer(
        &mut self,
        address: Address7,
        messages: &mut [Message<'_>],
    ) -> Result<(), BusError> {
        let address = address.get();
        let mut state = self.0.lock().unwrap();
        state.call().map_err(|_| BusError::Failed { address, errno: libc::EIO })?;
        let mut pointer = 0;
        for message in messages {
            match message {
                Message::Write([register]) => pointer = *register,
                Message::Write([register, high, low]) => {
                    let (register, high, low) = (*register, *high, *low);
                    let value = u16::from_be_bytes([high, low]);
                    assert_eq!(value & 0x8000 & u16::from(register == 0), 0, "reset is written");
                    match register {
                        0 => state.set_config(value),
                        _ => {
                            state.registers.insert(register, value);
                        }
                    }
                }
                Message::Write(other) => panic!("{other:?}"),
                Message::Read(bytes) => {
                    let value = match pointer {
                        0 => state.config(),
                        0x07..=0x0c => state.registers.get(&pointer).copied().unwrap_or(0x7ff8),
                        _ => state.registers.get(&pointer).copied().unwrap_or(0),
                    };
                    bytes.copy_from_slice(&value.to_be_bytes());
                }
            }
        }
        Ok(())
    }
}
