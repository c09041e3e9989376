//! The search for GPUs that count their energy.
//!
//! Owns which GPU becomes which rail, and what is said where none does. The
//! library's answers are [`crate::power::gpu`]'s.

use std::path::PathBuf;

use wattline_protocol::record::{RailSource, SkipReason};

use super::LookedFor;
use super::search::{Draft, Rate, Search};
use crate::clock::Clock;
use crate::power::gpu::{GpuCounter, GpuError, GpuQuantity, Gpus, LIBRARY, rates_hz};
use crate::power::meter::{Count, CountSource, Files};

/// Time between two readings where a counter is not seen to move, in ms:
/// counters move every 20 to 100 ms (Yang et al., arXiv:2312.02741).
const PERIOD_MS: f64 = 50.0;

/// Lists the GPUs, or says why there are none.
pub(super) fn find(
    search: &mut Search<'_>,
    opened: Result<Gpus, GpuError>,
    clock: &dyn Clock,
) -> LookedFor {
    let looked_for = |what, found| LookedFor { what, path: PathBuf::from(LIBRARY), found };
    let gpus = match opened {
        Ok(gpus) => gpus,
        Err(GpuError::NoLibrary) => {
            return looked_for("NVIDIA GPUs (NVML, which is not installed)", 0);
        }
        Err(GpuError::NoDriver) => {
            return looked_for("NVIDIA GPUs (NVML, whose driver is not loaded)", 0);
        }
        Err(_) => return looked_for("NVIDIA GPUs (NVML, which does not start)", 0),
    };
    let count = gpus.count().unwrap_or(0);
    let counters: Vec<_> = (0..count).map(|index| GpuCounter::best(&gpus, index)).collect();
    let good: Vec<GpuCounter> = counters.iter().flatten().cloned().collect();
    let mut rates = rates_hz(&good, clock).into_iter();
    for (index, counter) in (0..count).zip(counters) {
        let chip = gpus.name(index).unwrap_or_else(|_| "NVIDIA GPU".into());
        let channel = u8::try_from(index + 1).unwrap_or(u8::MAX);
        let name = format!("GPU {index}");
        let mut draft = Draft::new(RailSource::Nvml, &chip, channel, name, None);
        match counter {
            Ok(counter) => {
                let seen_hz = rates.next().flatten();
                draft.rate = Rate::Seen(seen_hz);
                draft.period_ms = Some(seen_hz.map_or(PERIOD_MS, |hz| 1e3 / hz));
                draft.take(files(counter));
            }
            Err(error) => draft.skipped = Some(reason(error)),
        }
        search.add(draft);
    }
    looked_for("NVIDIA GPUs (NVML)", usize::try_from(count).unwrap_or(0))
}

fn files(counter: GpuCounter) -> Files {
    let quantity = counter.quantity;
    let count = Count { source: CountSource::Gpu(counter), step: GpuQuantity::STEP };
    match quantity {
        // 64 bits of millijoules do not wrap.
        GpuQuantity::Energy => Files::Energy { counter: count, wraps_at: None },
        GpuQuantity::Power => Files::Power(count),
    }
}

const fn reason(error: GpuError) -> SkipReason {
    match error {
        GpuError::NotSupported => SkipReason::NotSupported,
        GpuError::NoPermission => SkipReason::NoPermission,
        GpuError::NoLibrary | GpuError::NoDriver | GpuError::Lost | GpuError::Failed => {
            SkipReason::Unreadable
        }
    }
}
