//! Seeds over all cores, with a watch on those that never come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// A seed takes milliseconds. Where no core finishes one for this long, the
/// product does not come back: it waits for something that never happens.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// The work on these seeds did not end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hung {
    /// The seeds under way, one for each core.
    pub seeds: Vec<u64>,
}

/// Does `work` on the seeds from `from` on and gives each result to `take`,
/// in no order.
///
/// # Errors
/// [`Hung`] with the seeds under way, where none of them came back.
pub fn each<T: Send + 'static>(
    from: u64,
    seeds: u64,
    work: impl Fn(u64) -> T + Clone + Send + 'static,
    mut take: impl FnMut(u64, T),
) -> Result<(), Hung> {
    let end = from.saturating_add(seeds);
    let next = Arc::new(AtomicU64::new(from));
    let (results, done) = channel();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let under_way: Vec<Arc<AtomicU64>> = (0..cores).map(|_| Arc::default()).collect();
    for own in &under_way {
        let (next, own, results, work) =
            (Arc::clone(&next), Arc::clone(own), results.clone(), work.clone());
        thread::spawn(move || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                own.store(seed, Ordering::Relaxed);
                if seed >= end || results.send((seed, work(seed))).is_err() {
                    return;
                }
            }
        });
    }
    drop(results);
    loop {
        match done.recv_timeout(HANGS_AFTER) {
            Ok((seed, result)) => take(seed, result),
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {
                let seeds = under_way.iter().map(|seed| seed.load(Ordering::Relaxed));
                return Err(Hung { seeds: seeds.filter(|seed| *seed < end).collect() });
            }
        }
    }
}
