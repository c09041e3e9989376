//! The board's rails, as its owner would name them.
//!
//! Owns `/etc/wattline` of the guest: a PC has no device tree, so that the chips'
//! drivers tell no labels.

use std::fmt::Write;

use crate::guest::Guest;
use crate::wire::{INA226_AT, INA3221_AT};

/// A rail of the board.
#[derive(Debug, Clone, Copy)]
pub struct Rail {
    /// Its label.
    pub label: &'static str,
    /// Its chip.
    pub chip: &'static str,
    /// Where the chip answers.
    pub address: u8,
    /// The chip's channel, from 1.
    pub channel: u8,
    /// The simulated board's shunt, in ohms.
    pub shunt_ohm: f64,
    /// `total` or `part`.
    pub role: &'static str,
}

const fn of_ina3221(label: &'static str, channel: u8) -> Rail {
    let (chip, role) = ("ina3221", "part");
    Rail { label, chip, address: INA3221_AT, channel, shunt_ohm: 0.005, role }
}

/// All of them.
pub const RAILS: [Rail; 4] = [
    Rail {
        label: "VIN",
        chip: "ina226",
        address: INA226_AT,
        channel: 1,
        shunt_ohm: 0.01,
        role: "total",
    },
    of_ina3221("VDD_IN", 1),
    of_ina3221("VDD_CPU_GPU", 2),
    of_ina3221("VDD_SOC", 3),
];

/// Puts a graph file where the agent reads it; returns its path there.
#[must_use]
pub fn bring_graph(guest: &Guest, text: &str) -> String {
    let file = "/etc/wattline/tiny.toml";
    let _ = guest.root(&format!("cat >{file} <<'END'\n{text}END\n"));
    file.to_owned()
}

/// Writes the rails' names onto the board.
///
/// # Panics
/// Where the drivers do not hold their chips.
pub fn configure(guest: &Guest) {
    let chips = guest.root("ls /sys/bus/i2c/devices; cat /sys/bus/i2c/devices/*-004?/name");
    let bus = chips.lines().find_map(|line| line.strip_suffix("-0040"));
    let bus = bus.unwrap_or_else(|| panic!("no chip is bound: {chips}\n{}", guest.console()));
    let mut text = String::new();
    for Rail { label, chip, address, channel, shunt_ohm, role } in RAILS {
        // A String takes all that is written to it.
        let _ = write!(
            text,
            "[[rail]]\nlabel = \"{label}\"\nchip = \"{chip}\"\nbus = {bus}\n\
             address = {address:#04x}\nchannel = {channel}\nshunt_ohm = {shunt_ohm}\n\
             role = \"{role}\"\n\n"
        );
    }
    let file = "/etc/wattline/agent.toml";
    let _ = guest.root(&format!("mkdir -p /etc/wattline\ncat >{file} <<'END'\n{text}END\n"));
}
