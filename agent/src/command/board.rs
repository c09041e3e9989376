//! `board`: holds this board's clocks, sets its power mode, or puts both back.
//!
//! Owns what root is asked on the command line, and the one question of a
//! connection that systemd accepted (`wattline-board@.service`). What the verbs
//! do is [`crate::board::verb`]'s.

use std::io;
use std::path::{Path, PathBuf};

use super::{Failure, line};
use crate::args::{BoardArgs, BoardVerb};
use crate::board::mode;
use crate::board::pin::{self, Place};
use crate::board::verb::{self, Answer, Refused, Verb};
use crate::clock;
use crate::power::discover::SYSTEM_ROOT;

/// Root's own folder; it is gone with the power, as what it would restore.
const FOLDER: &str = "/run/wattline-board";

pub(super) fn run(args: &BoardArgs) -> Result<(), Failure> {
    let root = args.sysfs_root.as_deref().unwrap_or_else(|| Path::new(SYSTEM_ROOT));
    let folder = args.folder.clone().unwrap_or_else(|| PathBuf::from(FOLDER));
    let boot = clock::boot_id();
    let place = Place { root, folder: &folder, boot: &boot };
    let verb = match args.verb {
        BoardVerb::Answer => {
            return verb::answer(place, io::stdin(), io::stdout())
                .map_err(|error| Failure::of(1, "no question came", &error, ""));
        }
        BoardVerb::Show => return show(place),
        BoardVerb::Pin => Verb::Pin {},
        BoardVerb::Restore => Verb::Restore {},
        BoardVerb::Mode { id } => Verb::Mode { id },
    };
    match verb::perform(place, verb) {
        Answer::Done { files } => line(&format!("done: {files} settings")),
        Answer::Refused { why, said } => Err(failure(why, said)),
    }
}

fn show(place: Place<'_>) -> Result<(), Failure> {
    let name = |mode: &wattline_protocol::record::PowerMode| {
        format!("{} {}", mode.id, mode.name).trim().to_owned()
    };
    if let Some(now) = mode::of(place.root) {
        let modes: Vec<String> = mode::modes(place.root).iter().map(name).collect();
        line(&format!("power mode {} of {}", name(&now), modes.join(", ")))?;
    }
    let pinned = pin::is_pinned(place)
        .map_err(|error| Failure::of(1, "the journal cannot be read", &error, "run it as root"))?;
    line(if pinned { "clocks are held" } else { "clocks are as the system sets them" })
}

fn failure(why: Refused, said: String) -> Failure {
    let (what, mend) = match why {
        Refused::NoVerb => ("that is not on the list", "see `wattline-agent board --help`"),
        Refused::NoSuchMode => {
            ("the board has no such power mode", "see `wattline-agent board show`")
        }
        Refused::NoClock => ("no clock of this board can be held", "measure without --pin"),
        Refused::Failed => ("the board refuses", "run it as root"),
        Refused::NeedsReboot => {
            ("this power mode holds after a reboot only", "sudo nvpmodel -m ID, and let it reboot")
        }
    };
    let because = if said.is_empty() { Vec::new() } else { vec![said] };
    Failure { status: 1, what: what.into(), because, mend }
}
