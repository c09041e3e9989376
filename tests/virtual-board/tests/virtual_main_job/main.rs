//! The main job on the virtual board: deploy, doctor, run, report.
//!
//! One guest serves all of it, in the order of a first evening: what is refused while
//! the board is fresh, the deployment, a run while the kernel's drivers hold the chips,
//! chips that fail, a run that takes them. Ignored without QEMU: `make virtual-board`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what it misses by failing"
)]

mod bad_input;
mod faults;

use std::fs;

use wattline_virtual_board::guest::Guest;
use wattline_virtual_board::log::Transfer;
use wattline_virtual_board::rails::{self, RAILS};
use wattline_virtual_board::tables::{Tables, matched, sweeps};
use wattline_virtual_board::wire::{INA226_AT, INA3221_AT};

/// One window of two inferences or a second: emulation is slow.
const RUN: [&str; 9] =
    ["--quick", "--networks", "resnet18", "--size", "64", "--batch", "1", "--windows", "1"];

/// What a driver shows of a chip: the register behind each file, and the unit of
/// its code in the file's (mV, mA): SBOS576 and SBOS547 with 5 mΩ and 10 mΩ.
struct Shown {
    driver: &'static str,
    address: u8,
    shift: u32,
    volts: (u8, f64),
    amperes: (u8, f64),
}

const SHOWN: [Shown; 2] = [
    Shown { driver: "ina3221", address: INA3221_AT, shift: 3, volts: (2, 8.0), amperes: (1, 8.0) },
    Shown { driver: "ina226", address: INA226_AT, shift: 0, volts: (2, 1.25), amperes: (4, 0.25) },
];

#[test]
#[ignore = "needs QEMU and an image: make virtual-board"]
fn a_fresh_board_is_deployed_to_measured_and_its_values_are_those_on_the_wire() {
    let guest = Guest::boot();
    rails::configure(&guest);
    bad_input::is_refused(&guest);
    let board = guest.address();
    let deployed = guest.wattline(&["deploy", &board]).ends_with(0);
    assert!(deployed.last_line().contains("answers"), "{deployed:#?}");
    let doctor = guest.wattline(&["doctor", &board]).ends_with(0);
    println!("{}", doctor.stdout);
    assert!(!doctor.stdout.contains("FAIL"), "{doctor:#?}");

    bad_input::a_pin_that_is_missing(&guest);

    let bound = measured(&guest, "bound");
    let ahead_ns = assert_values_are_the_logs(&bound, &guest.transfers());
    assert_energy_is_true(&guest, &bound, ahead_ns);
    hwmon_is_the_register_within_its_rounding(&guest);
    faults::are_recorded_and_survived(&guest);

    take_the_chips(&guest);
    let taken = measured(&guest, "taken");
    let ahead_ns = assert_values_are_the_logs(&taken, &guest.transfers());
    assert_energy_is_true(&guest, &taken, ahead_ns);
}

/// A run into `out`, reported and exported.
fn measured(guest: &Guest, out: &str) -> Tables {
    let board = guest.address();
    let run = ["run", "--on", &board, "--out", out];
    let outcome = guest.wattline(&[&run[..], &RUN[..]].concat());
    // 4: a busy machine left a gap in the window, which is said.
    if !matches!(outcome.code, Some(0 | 4)) {
        let journal = guest.root("journalctl --no-pager --lines 40 --unit 'wattline-*'");
        panic!("{outcome:#?}\n{journal}");
    }
    println!("{}\n{}", outcome.stderr, outcome.stdout);
    let folder = guest.sandbox.work().join(out);
    assert!(guest.sandbox.work().join(outcome.last_line()).is_file(), "{outcome:#?}");
    let reported = guest.wattline(&["report", out]);
    assert_eq!(reported.code, outcome.code, "{reported:#?}");
    let page = fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(page.contains("resnet18") && page.contains("VIN"), "the report names no rail");
    let _ = guest.wattline(&["export", out, "--to", "csv"]).ends_with(0);
    Tables::read(&folder.join("export"))
}

/// Each good sample is a sweep on the wire, in the same order, none twice. Returns
/// how far this machine's clock is ahead of the board's, in nanoseconds: the median
/// over the total rail's samples.
fn assert_values_are_the_logs(run: &Tables, log: &[Transfer]) -> i64 {
    let mut ahead = Vec::new();
    for rail in RAILS {
        let (samples, swept) = (run.good(rail.label), sweeps(log, &rail));
        let count = samples.len();
        assert!(count > 100, "{}: {count} samples", rail.label);
        let pairs = matched(&samples, &swept).unwrap_or_else(|sample| {
            panic!("{}: {sample:?} of {count} samples is not on the wire", rail.label)
        });
        println!("{}: {count} samples, all among {} sweeps on the wire", rail.label, swept.len());
        if rail.role == "total" {
            ahead = pairs.iter().map(|(told, wire)| (wire.at - told.at).0).collect();
        }
    }
    ahead.sort_unstable();
    ahead[ahead.len() / 2]
}

/// The energy of each window is that of the current that the chip measured.
fn assert_energy_is_true(guest: &Guest, run: &Tables, ahead_ns: i64) {
    let column = |name| run.windows.numbers(name);
    let bounds =
        |name| run.windows.texts(name).into_iter().map(|text| text.parse::<u64>().unwrap());
    let windows = bounds("t0_ns").zip(bounds("t1_ns"));
    let told = column("energy_j").into_iter().zip(column("u_energy_j"));
    for ((from, to), (energy_j, u_energy_j)) in windows.zip(told) {
        let here = |time: u64| time.checked_add_signed(ahead_ns).unwrap();
        let asked = format!("energy {INA226_AT:#04x} 0 {} {}", here(from), here(to));
        let true_j: f64 = guest.bus(&asked).parse().unwrap();
        println!("window: {energy_j} ± {u_energy_j} J measured, {true_j} J true");
        assert!(u_energy_j > 0.0 && u_energy_j < 0.2 * energy_j, "{u_energy_j} says nothing");
        // k = 2; a wrong factor must not pass, and one unlucky draw must.
        assert!((energy_j - true_j).abs() <= 4.0 * u_energy_j, "{energy_j} is not {true_j}");
    }
}

/// What `in1_input` and `curr1_input` show is what the driver read on the wire,
/// within the half unit of a whole number of mV and mA.
fn hwmon_is_the_register_within_its_rounding(guest: &Guest) {
    let script = "for h in /sys/class/hwmon/hwmon*; do n=$(cat $h/name); case $n in ina*) \
                  echo $n $(cat $h/in1_input) $(cat $h/curr1_input);; esac; done";
    let _ = guest.root("systemctl stop wattline-agent");
    for _ in 0..3 {
        let before = guest.transfers().len();
        let told = guest.root(script);
        let log = guest.transfers().split_off(before);
        for shown in SHOWN {
            let line = told.lines().find(|line| line.starts_with(shown.driver));
            let line = line.unwrap_or_else(|| panic!("no {}: {told}", shown.driver));
            let words: Vec<f64> =
                line.split(' ').skip(1).map(|word| word.parse().unwrap()).collect();
            for (value, (register, unit)) in words.iter().zip([shown.volts, shown.amperes]) {
                let code = last_read(&log, &shown, register) >> shown.shift;
                let on_the_wire = f64::from(code) * unit;
                assert!((value - on_the_wire).abs() <= 0.5, "{line}: {on_the_wire} on the wire");
            }
            println!("hwmon {line}");
        }
    }
    let _ = guest.root("systemctl start wattline-agent");
}

fn last_read(log: &[Transfer], shown: &Shown, register: u8) -> i16 {
    let of_chip = log.iter().filter(|transfer| transfer.address == shown.address);
    let mut read = of_chip.flat_map(Transfer::registers).filter(|(of, _)| *of == register);
    let last = read.next_back().map(|(_, value)| value.cast_signed());
    last.unwrap_or_else(|| panic!("{} did not read register {register}", shown.driver))
}

/// The service with `--exclusive`, which only root may ask for.
fn take_the_chips(guest: &Guest) {
    let _ = guest.root(
        "systemctl stop wattline-agent\n\
         systemd-run --quiet --unit wattline-taken --property UMask=0007 \
         --property Group=wattline --property RuntimeDirectory=wattline \
         --property RuntimeDirectoryMode=0750 /usr/local/bin/wattline-agent serve --exclusive \
         --socket /run/wattline/agent.sock --spool /var/lib/wattline \
         --runner-socket /run/wattline-runner.sock --board-socket /run/wattline-board.sock\n\
         for i in $(seq 60); do [ -S /run/wattline/agent.sock ] && exit 0; sleep 1; done; exit 1",
    );
}
