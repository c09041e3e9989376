//! Scheduling class, memory locking and timer slack of the sampler's thread.
//!
//! Owns the requests to the kernel and what came of them; a refusal degrades
//! and is reported, never fatal. Who asks, and what runs, is the sampler's.
//! Source: sched(7), mlock(2), PR_SET_TIMERSLACK(2const).
#![expect(unsafe_code, reason = "libc has no safe form of these calls")]

use wattline_protocol::record::Scheduling;

/// Priority of the sampler: above threaded interrupts' default of 50 nothing
/// of ours may stand, and 50 is what `LimitRTPRIO` of the unit grants.
pub const PRIORITY: u8 = 50;

/// What the kernel granted the calling thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// The scheduling class.
    pub scheduling: Scheduling,
    /// Error number of the refused class; `None` where it was granted.
    pub refusal_errno: Option<i32>,
    /// Whether the process's memory stays in memory.
    pub memory_locked: bool,
}

/// Asks for SCHED_FIFO, locked memory and a timer slack of 1 ns for the
/// calling thread.
pub fn request() -> Granted {
    // Also where the class is refused: 1 ns instead of 50 µs costs nothing.
    let _ = nix::sys::prctl::set_timerslack(1);
    let memory_locked = lock_memory();
    match fifo() {
        Ok(()) => Granted {
            scheduling: Scheduling::Fifo { priority: PRIORITY },
            refusal_errno: None,
            memory_locked,
        },
        Err(errno) => {
            Granted { scheduling: Scheduling::Normal, refusal_errno: Some(errno), memory_locked }
        }
    }
}

fn fifo() -> Result<(), i32> {
    let parameters = libc::sched_param { sched_priority: i32::from(PRIORITY) };
    // SAFETY: 0 names the calling thread; the kernel reads one `sched_param`
    // through the pointer, which lives until the call returns.
    let failed = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
    if failed == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Locks what the process touches from now on, page by page as it touches it.
/// Only without a limit on locked memory: under one, a later allocation of any
/// thread would fail once it is reached.
fn lock_memory() -> bool {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one `rlimit` through the pointer.
    let failed = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    if failed != 0 || limit.rlim_cur != libc::RLIM_INFINITY {
        return false;
    }
    let flags = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
    // SAFETY: takes flags alone and changes no memory's content.
    unsafe { libc::mlockall(flags) == 0 }
}

fn last_errno() -> i32 {
    nix::errno::Errno::last_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_its_errno_and_a_grant_has_none() {
        let granted = std::thread::spawn(request).join().unwrap();
        assert_eq!(granted.refusal_errno.is_none(), granted.scheduling != Scheduling::Normal);
    }
}
