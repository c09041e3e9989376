//! Clocks and power mode for a run: asked of root, put back whatever happens.
//!
//! Owns who is asked (root's service behind its socket, or this program itself
//! where there is none) and when all is put back: at the end of the sampling, at
//! the agent's next start after a kill. As a service, systemd puts it back as well
//! (`ExecStopPost=`). What is set is [`super::pin`]'s.

use std::path::{Path, PathBuf};

use tracing::{info, warn};
use wattline_protocol::record::{PinRefusal, RunSettings};

use super::pin::Place;
use super::verb::{self, Answer, AskError, Refused, Verb};
use crate::clock;

/// Whom a run asks.
#[derive(Debug, Clone)]
pub struct Keeper {
    /// Root's service; `None` where this program does it itself.
    socket: Option<PathBuf>,
    root: PathBuf,
    /// Where this program keeps what it found, where it does it itself.
    folder: PathBuf,
}

impl Keeper {
    /// Asks behind `socket`, or sets the tree at `root` itself with its journal in
    /// `folder`.
    #[must_use]
    pub fn new(socket: Option<PathBuf>, root: &Path, folder: &Path) -> Self {
        Self { socket, root: root.to_owned(), folder: folder.to_owned() }
    }

    /// Sets what a run asks for; dropping what comes puts clocks back.
    ///
    /// # Errors
    /// [`PinRefusal`]; clocks are as they were.
    pub fn hold(&self, settings: RunSettings) -> Result<Pinned, PinRefusal> {
        if let Some(id) = settings.power_mode {
            self.ask(Verb::Mode { id }, settings)?;
        }
        if settings.pin {
            let files = self.ask(Verb::Pin {}, settings)?;
            info!(files, "Clocks are held for a run.");
        }
        Ok(Pinned { keeper: settings.pin.then(|| self.clone()) })
    }

    /// Sets a power mode.
    ///
    /// # Errors
    /// [`PinRefusal`].
    pub fn set_mode(&self, id: u16) -> Result<(), PinRefusal> {
        let settings = RunSettings { pin: false, power_mode: Some(id) };
        self.ask(Verb::Mode { id }, settings).map(|_| ())
    }

    /// Has the board reboot into a power mode. The answer may not come: the board goes
    /// down meanwhile.
    pub fn reboot_into(&self, id: u16) {
        match self.answer(Verb::Reboot { id }) {
            Ok(Answer::Done { .. }) => {}
            Ok(Answer::Refused { why, said }) => {
                warn!(id, ?why, said, "The board does not reboot.");
            }
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "Root's service does not answer.");
            }
        }
    }

    /// Puts back what a run that was cut left held; nothing to do is success.
    pub fn restore(&self) {
        // A board without the service never held any.
        if self.socket.as_ref().is_some_and(|socket| !socket.exists()) {
            return;
        }
        if let Err(why) = self.ask(Verb::Restore {}, RunSettings::default()) {
            warn!(?why, "Clocks are not put back: sudo wattline-agent board restore.");
        }
    }

    fn ask(&self, verb: Verb, settings: RunSettings) -> Result<usize, PinRefusal> {
        let id = settings.power_mode.unwrap_or(0);
        match self.answer(verb) {
            Ok(Answer::Done { files }) => Ok(files),
            Ok(Answer::Refused { why, said }) => {
                warn!(?verb, ?why, said, "The board refuses.");
                Err(match why {
                    Refused::NoClock => PinRefusal::NoClock,
                    Refused::NoSuchMode => PinRefusal::NoSuchMode { id },
                    Refused::NeedsReboot => PinRefusal::NeedsReboot { id },
                    Refused::Failed | Refused::NoVerb => PinRefusal::NotPermitted,
                })
            }
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "Root's service does not answer.");
                Err(PinRefusal::NotPermitted)
            }
        }
    }

    fn answer(&self, verb: Verb) -> Result<Answer, AskError> {
        match &self.socket {
            Some(socket) => verb::ask(socket, verb),
            None => {
                let boot = clock::boot_id();
                let place = Place { root: &self.root, folder: &self.folder, boot: &boot };
                Ok(verb::perform(place, verb))
            }
        }
    }
}

/// Clocks that are held for a run.
#[derive(Debug, Default)]
pub struct Pinned {
    keeper: Option<Keeper>,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Some(keeper) = &self.keeper {
            keeper.restore();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn clocks_are_put_back_when_the_run_ends_and_at_the_next_start_after_a_kill() {
        let root = tempfile::tempdir().unwrap();
        let policy = root.path().join("devices/system/cpu/cpufreq/policy0");
        fs::create_dir_all(&policy).unwrap();
        fs::write(policy.join("scaling_max_freq"), "900").unwrap();
        let min = policy.join("scaling_min_freq");
        fs::write(&min, "100").unwrap();
        let keeper = Keeper::new(None, root.path(), &root.path().join("spool"));
        let asked = RunSettings { pin: true, power_mode: None };
        let held = keeper.hold(asked).unwrap();
        assert_eq!(fs::read_to_string(&min).unwrap(), "900");
        drop(held);
        assert_eq!(fs::read_to_string(&min).unwrap(), "100");
        // A kill runs no drop.
        std::mem::forget(keeper.hold(asked).unwrap());
        Keeper::new(None, root.path(), &root.path().join("spool")).restore();
        assert_eq!(fs::read_to_string(&min).unwrap(), "100");
        // Nothing asked, nothing set.
        drop(keeper.hold(RunSettings::default()).unwrap());
        let modes = RunSettings { pin: false, power_mode: Some(3) };
        assert_eq!(keeper.hold(modes).unwrap_err(), PinRefusal::NoSuchMode { id: 3 });
    }
}
