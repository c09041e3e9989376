//! The load of the simulated board: the CPU time of the process that works.
//!
//! Owns the thread that reads it each millisecond. The kernel updates another
//! process's CPU time by its ticks (1 ms to 10 ms), so the utilisation is
//! taken over the last ten milliseconds.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use wattline_protocol::units::{BoardTime, Nanos};

use super::SimBoard;
use crate::clock::CpuClock;

const PERIOD: Nanos = Nanos::from_millis(1);
/// Period while there is no process to follow: an idle agent then costs no
/// CPU time worth naming, and a new load is seen at most this much later.
const PERIOD_IDLE: Nanos = Nanos::from_millis(20);
/// Readings over which utilisation is taken, and the present one.
const READINGS: usize = 11;
/// Utilisation must change by this much to make a step: a steady load then
/// costs no memory. 0.002 of 10.8 W is 22 mW, below an LSB of the INA3221.
const STEP_MIN: f64 = 0.002;

/// A running load meter; dropping it stops the thread.
#[derive(Debug)]
pub struct LoadMeter {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl LoadMeter {
    pub(super) fn start(board: SimBoard) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("load-meter".to_owned())
            .spawn(move || follow(&board, &stopped))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for LoadMeter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A meter that panicked has said so through the panic hook.
            let _ = thread.join();
        }
    }
}

fn follow(board: &SimBoard, stop: &AtomicBool) {
    let cores = std::thread::available_parallelism().map_or(1, core::num::NonZero::get);
    let mut meter = Meter::new(u32::try_from(cores).unwrap_or(1));
    let mut deadline = board.clock().now();
    let mut shown = 0.0;
    while !stop.load(Ordering::Acquire) {
        // After a stall the schedule goes on from now: no burst of readings.
        let idle = shown == 0.0 && board.followed().is_none();
        let period = if idle { PERIOD_IDLE } else { PERIOD };
        deadline = (deadline + period).max(board.clock().now());
        board.clock().sleep_until(deadline);
        let share = meter.utilisation(board.followed(), board.clock().now());
        if (share - shown).abs() >= STEP_MIN || (share == 0.0 && shown != 0.0) {
            board.set_utilisation(share);
            shown = share;
        }
    }
}

struct Meter {
    cores: u32,
    pid: Option<u32>,
    clock: Option<CpuClock>,
    readings: VecDeque<(BoardTime, Nanos)>,
}

impl Meter {
    fn new(cores: u32) -> Self {
        Self { cores, pid: None, clock: None, readings: VecDeque::with_capacity(READINGS) }
    }

    /// Share of all cores that process `pid` used over the last readings; 0
    /// without a process, or with one that is gone.
    fn utilisation(&mut self, pid: Option<u32>, now: BoardTime) -> f64 {
        if pid != self.pid {
            self.pid = pid;
            self.clock = pid.and_then(|pid| CpuClock::of_process(pid).ok());
            self.readings.clear();
        }
        let Some(used) = self.clock.and_then(CpuClock::used) else {
            self.readings.clear();
            return 0.0;
        };
        if self.readings.len() == READINGS {
            self.readings.pop_front();
        }
        self.readings.push_back((now, used));
        match self.readings.front() {
            Some(&(since, before)) if now > since => {
                let share = (used - before).as_seconds() / ((now - since).as_seconds().0);
                (share.0 / f64::from(self.cores)).clamp(0.0, 1.0)
            }
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};

    #[test]
    fn a_busy_process_is_used_and_nobody_is_idle() {
        let mut meter = Meter::new(1);
        let pid = Some(std::process::id());
        let _ = meter.utilisation(pid, SystemClock.now());
        let end = SystemClock.now() + Nanos::from_millis(30);
        while SystemClock.now() < end {}
        assert!(meter.utilisation(pid, SystemClock.now()) > 0.01);
        assert_eq!(meter.utilisation(None, SystemClock.now()), 0.0);
        assert_eq!(meter.utilisation(Some(u32::MAX), SystemClock.now()), 0.0);
    }
}
