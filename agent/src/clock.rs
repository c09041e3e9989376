//! The one place on the board where time is read or waited for.
//!
//! Owns the trait [`Clock`] with its two kinds, the four-clock snapshot, the
//! CPU time of another process, and the kernel's boot id. Knows nothing of
//! what is timed. Everything that is stamped carries CLOCK_MONOTONIC, because
//! it is the one clock that can be slept on and never steps.
#![expect(clippy::disallowed_methods, reason = "this module is the fence's inside")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};
use nix::unistd::Pid;
use wattline_protocol::record::ClockSnapshot;
use wattline_protocol::units::{BoardTime, Nanos};

/// Bracketing reads of CLOCK_MONOTONIC farther apart than this make a
/// snapshot worthless: the reads between them were interrupted.
const SNAPSHOT_BRACKET_NS_MAX: i64 = 5_000;
/// Attempts at a tight snapshot before the best one so far is taken.
const SNAPSHOT_ATTEMPTS_MAX: u32 = 16;

/// Reads and waits on the board's monotonic time.
pub trait Clock: Send + Sync {
    /// The instant now, in nanoseconds of CLOCK_MONOTONIC.
    fn now(&self) -> BoardTime;
    /// Returns at `deadline` or later; at once where it has passed.
    fn sleep_until(&self, deadline: BoardTime);
}

/// The kernel's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> BoardTime {
        BoardTime(read(ClockId::CLOCK_MONOTONIC))
    }

    fn sleep_until(&self, deadline: BoardTime) {
        let wake = to_timespec(deadline.0);
        // Interrupted by a signal: the deadline is absolute, so sleep again.
        while clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::TIMER_ABSTIME, &wake)
            == Err(nix::errno::Errno::EINTR)
        {}
    }
}

/// A clock that moves only when somebody waits on it: simulations run as fast
/// as the code under test does.
#[derive(Debug, Default)]
pub struct VirtualClock {
    now_ns: AtomicU64,
}

impl VirtualClock {
    /// A virtual clock that shows `start`.
    #[must_use]
    pub fn starting_at(start: BoardTime) -> Self {
        Self { now_ns: AtomicU64::new(start.0) }
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> BoardTime {
        BoardTime(self.now_ns.load(Ordering::Acquire))
    }

    fn sleep_until(&self, deadline: BoardTime) {
        self.now_ns.fetch_max(deadline.0, Ordering::AcqRel);
    }
}

/// Reads four clocks together, bracketed by two reads of CLOCK_MONOTONIC that
/// lie within 5 µs; `None` where sixteen attempts were interrupted. For the
/// record of each second: a worse one would be worth less than its neighbours.
/// After a resume the next one comes within a second as well, since
/// CLOCK_MONOTONIC, by which it is due, stands still meanwhile.
#[must_use]
pub fn tight_snapshot() -> Option<ClockSnapshot> {
    Some(snapshot()).filter(is_tight)
}

fn is_tight(snapshot: &ClockSnapshot) -> bool {
    snapshot.bracket_ns <= SNAPSHOT_BRACKET_NS_MAX
}

/// Reads four clocks together, as tight as sixteen attempts give; the bracket
/// says how tight. For the start of a run, which must say when it was.
#[must_use]
pub fn snapshot() -> ClockSnapshot {
    let mut best = snapshot_once();
    for _ in 1..SNAPSHOT_ATTEMPTS_MAX {
        if is_tight(&best) {
            break;
        }
        let next = snapshot_once();
        if next.bracket_ns < best.bracket_ns {
            best = next;
        }
    }
    best
}

fn snapshot_once() -> ClockSnapshot {
    let before = BoardTime(read(ClockId::CLOCK_MONOTONIC));
    let monotonic_raw_ns = read(ClockId::CLOCK_MONOTONIC_RAW);
    let boottime_ns = read(ClockId::CLOCK_BOOTTIME);
    let realtime_ns = read(ClockId::CLOCK_REALTIME);
    let after = BoardTime(read(ClockId::CLOCK_MONOTONIC));
    let bracket = after - before;
    ClockSnapshot {
        monotonic: before + Nanos(bracket.0 / 2),
        monotonic_raw_ns,
        boottime_ns,
        realtime_ns,
        bracket_ns: bracket.0,
    }
}

/// The CPU-time clock of one process: the sum over its threads, to the
/// nanosecond, running ones included.
#[derive(Debug, Clone, Copy)]
pub struct CpuClock(ClockId);

impl CpuClock {
    /// The clock of process `pid`.
    ///
    /// # Errors
    /// The errno where no such process exists.
    pub fn of_process(pid: u32) -> Result<Self, nix::errno::Errno> {
        let pid = i32::try_from(pid).map_err(|_| nix::errno::Errno::ESRCH)?;
        nix::time::clock_getcpuclockid(Pid::from_raw(pid)).map(Self)
    }

    /// CPU time used so far; `None` once the process is gone.
    #[must_use]
    pub fn used(self) -> Option<Nanos> {
        let time = clock_gettime(self.0).ok()?;
        Some(Nanos(time.tv_sec() * 1_000_000_000 + time.tv_nsec()))
    }
}

/// The kernel's boot id; empty where the kernel offers none.
#[must_use]
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

fn read(clock: ClockId) -> u64 {
    // These clocks exist on every kernel since 2.6.39; a failure would be our own bug.
    let time = clock_gettime(clock).unwrap_or(TimeSpec::new(0, 0));
    u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec()).unwrap_or(0)
}

fn to_timespec(ns: u64) -> TimeSpec {
    TimeSpec::from_duration(Duration::from_nanos(ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_clock_moves_only_forward_and_only_when_waited_on() {
        let clock = VirtualClock::starting_at(BoardTime(10));
        clock.sleep_until(BoardTime(25));
        clock.sleep_until(BoardTime(3));
        assert_eq!(clock.now(), BoardTime(25));
    }

    #[test]
    fn the_system_clock_wakes_at_the_deadline_or_later() {
        let deadline = SystemClock.now() + Nanos::from_micros(200);
        SystemClock.sleep_until(deadline);
        assert!(SystemClock.now() >= deadline);
    }

    #[test]
    fn a_snapshot_holds_four_clocks_of_one_instant() {
        let shot = snapshot();
        assert!(shot.boottime_ns >= shot.monotonic.0.saturating_sub(1_000_000));
        assert!(shot.realtime_ns > 1_500_000_000 * 1_000_000_000);
    }

    #[test]
    fn a_snapshot_that_was_interrupted_is_rejected() {
        let shot = |bracket_ns| ClockSnapshot { bracket_ns, ..snapshot() };
        assert!(is_tight(&shot(5_000)) && !is_tight(&shot(5_001)));
        assert!(tight_snapshot().is_none_or(|shot| shot.bracket_ns <= 5_000));
    }

    #[test]
    fn cpu_time_of_this_process_is_counted() {
        let clock = CpuClock::of_process(std::process::id()).unwrap();
        assert!(clock.used().unwrap() > Nanos(0));
    }
}
