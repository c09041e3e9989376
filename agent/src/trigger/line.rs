//! The line of a trigger: taken from the kernel, set, given back.
//!
//! Owns the request of a GPIO line and what the kernel's refusals mean. On a
//! Raspberry Pi the line is claimed from the kernel like everywhere else, so
//! that nobody else takes it, and set through the pin's register, which takes
//! less than a call of the kernel. Stamps nothing.
//! Source: Linux Documentation/userspace-api/gpio/chardev.rst.

use std::path::PathBuf;

use gpiocdev::chip::Chip;
use gpiocdev::line::Value;
use gpiocdev::{Error, Request, UapiCall};
use gpiocdev_uapi as uapi;
use nix::errno::Errno;
use rppal::gpio::{Gpio, OutputPin};
use tracing::info;
use wattline_protocol::record::{Edge, TriggerFault};

use super::LineSpec;

/// Who uses the line, as `gpioinfo` shows it.
const CONSUMER: &str = "wattline";
/// Labels of the chips whose lines have the numbers of a Raspberry Pi's header.
const PI_LABELS: [&str; 3] = ["pinctrl-bcm2835", "pinctrl-bcm2711", "pinctrl-rp1"];

/// A line that is held.
#[derive(Debug)]
pub(super) enum Line {
    /// Set by the kernel.
    Requested(Request),
    /// Claimed from the kernel, set through the register of a Raspberry Pi.
    Mapped {
        /// Set first, given back last.
        pin: OutputPin,
        /// Keeps others from the line.
        _claim: Request,
    },
    /// None.
    Simulated,
    #[cfg(test)]
    Scripted(Script),
}

impl Line {
    /// Takes the line, low.
    ///
    /// # Errors
    /// [`TriggerFault`], by what there is to do about it.
    pub(super) fn open(spec: &LineSpec) -> Result<Self, TriggerFault> {
        let LineSpec::Gpio { chip, offset } = spec else { return Ok(Self::Simulated) };
        let path = PathBuf::from("/dev").join(chip);
        let found = Chip::from_path(&path).map_err(|error| fault(&error))?.info();
        let found = found.map_err(|error| fault(&error))?;
        if *offset >= found.num_lines {
            return Err(TriggerFault::NoLine);
        }
        let request = Request::builder()
            .on_chip(&path)
            .with_consumer(CONSUMER)
            .with_line(*offset)
            .as_output(Value::Inactive)
            .request()
            .map_err(|error| fault(&error))?;
        let pin = PI_LABELS.contains(&found.label.as_str()).then(|| mapped(*offset)).flatten();
        Ok(match pin {
            Some(pin) => Self::Mapped { pin, _claim: request },
            None => Self::Requested(request),
        })
    }

    /// # Errors
    /// [`TriggerFault`] of the kernel.
    pub(super) fn set(&mut self, edge: Edge) -> Result<(), TriggerFault> {
        match self {
            Self::Requested(request) => {
                let value = match edge {
                    Edge::Rise => Value::Active,
                    Edge::Fall => Value::Inactive,
                };
                request.set_lone_value(value).map(|_| ()).map_err(|error| fault(&error))
            }
            Self::Mapped { pin, .. } => {
                match edge {
                    Edge::Rise => pin.set_high(),
                    Edge::Fall => pin.set_low(),
                }
                Ok(())
            }
            Self::Simulated => Ok(()),
            #[cfg(test)]
            Self::Scripted(script) => script.set(edge),
        }
    }
}

/// The register of a Raspberry Pi's header pin; `None` where it may not be
/// mapped: the kernel sets the line then.
fn mapped(offset: u32) -> Option<OutputPin> {
    let pin = Gpio::new().and_then(|gpio| gpio.get(u8::try_from(offset).unwrap_or(u8::MAX)));
    match pin {
        Ok(pin) => {
            let mut pin = pin.into_output_low();
            // What becomes of the line is the kernel's when it is given back.
            pin.set_reset_on_drop(false);
            Some(pin)
        }
        Err(error) => {
            info!(%error, offset, "The pin's register cannot be mapped; the kernel sets the line.");
            None
        }
    }
}

/// What a refusal of the kernel means.
fn fault(error: &Error) -> TriggerFault {
    let (errno, is_request) = match error {
        Error::Uapi(call, uapi::Error::Os(errno)) => {
            (errno.0, matches!(call, UapiCall::GetLine | UapiCall::GetLineHandle))
        }
        Error::Os(errno) => (errno.0, false),
        Error::GpioChip(..) | Error::NoGpioChips() => return TriggerFault::NoChip,
        _ => (0, false),
    };
    match Errno::from_raw(errno) {
        Errno::EBUSY => TriggerFault::Busy,
        Errno::EACCES | Errno::EPERM => TriggerFault::NoPermission,
        Errno::ENOENT | Errno::ENODEV | Errno::ENXIO => TriggerFault::NoChip,
        Errno::EINVAL if is_request => TriggerFault::NoLine,
        _ => TriggerFault::Failed { errno },
    }
}

/// What a test's line does.
#[cfg(test)]
pub(crate) struct Script(Box<dyn FnMut(Edge) -> Result<(), TriggerFault> + Send>);

#[cfg(test)]
impl Script {
    pub(crate) fn new(set: impl FnMut(Edge) -> Result<(), TriggerFault> + Send + 'static) -> Self {
        Self(Box::new(set))
    }

    fn set(&mut self, edge: Edge) -> Result<(), TriggerFault> {
        (self.0)(edge)
    }
}

#[cfg(test)]
impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Script")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_refusals_say_what_is_to_be_done() {
        let request = |errno| Error::Uapi(UapiCall::GetLine, uapi::Error::Os(uapi::Errno(errno)));
        assert_eq!(fault(&request(16)), TriggerFault::Busy);
        assert_eq!(fault(&request(13)), TriggerFault::NoPermission);
        assert_eq!(fault(&request(22)), TriggerFault::NoLine);
        assert_eq!(fault(&Error::Os(uapi::Errno(2))), TriggerFault::NoChip);
        assert_eq!(fault(&Error::Os(uapi::Errno(13))), TriggerFault::NoPermission);
        assert_eq!(fault(&Error::NoGpioChips()), TriggerFault::NoChip);
        let set = Error::Uapi(UapiCall::SetLineValues, uapi::Error::Os(uapi::Errno(5)));
        assert_eq!(fault(&set), TriggerFault::Failed { errno: 5 });
    }
}
