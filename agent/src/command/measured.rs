//! The rate of a chip, measured as a run would read it.
//!
//! Owns the few hundred sweeps that `rails` and `doctor` take. A chip that is
//! ours to configure is left alone while an agent serves: it may be sampling.

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use wattline_protocol::record::SkipReason;

use super::serve;
use crate::clock::SystemClock;
use crate::power::bus::linux::LinuxBus;
use crate::power::discover::{self, ChipRails};
use crate::power::ring::ring;
use crate::power::sampler::SamplerCore;

/// Sweeps that the ring of a rate measurement holds; nobody reads them.
const RING_SWEEPS: usize = 1024;

/// What was measured of a chip, or why nothing was.
pub(super) enum Measured {
    /// The chip as configured, and its fresh conversions a second.
    Read(Box<SamplerCore>, f64),
    /// It cannot be read by its registers.
    Closed(SkipReason),
    /// An agent serves on this board and may be sampling it.
    Busy,
}

/// Reads `chip` for a moment; writes to it where it is ours.
pub(super) fn measured(chip: &ChipRails) -> Measured {
    if !chip.has_driver() && is_served() {
        return Measured::Busy;
    }
    let (producer, _reader) = ring(RING_SWEEPS);
    let bus = match LinuxBus::open(chip.bus) {
        Ok(bus) => bus,
        Err(error) => return Measured::Closed(discover::why_closed(&error)),
    };
    match chip.sampler(Box::new(bus), Arc::new(SystemClock), producer, 0) {
        Ok(mut core) => {
            let rate_hz = discover::measured_rate_hz(&mut core, &SystemClock);
            Measured::Read(Box::new(core), rate_hz)
        }
        Err(error) => Measured::Closed(discover::why_unusable(&error)),
    }
}

/// Whether an agent answers where agents of this board serve.
fn is_served() -> bool {
    serve::socket(None).is_ok_and(|path| UnixStream::connect(path).is_ok())
}
