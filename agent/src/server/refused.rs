//! What the board's own errors are to a host that asks for a run.
//!
//! Owns the way from an error to a refusal; the host has the words.

use tracing::warn;
use wattline_protocol::command::Refusal;

use super::preflight;
use crate::sampling::SamplingError;
use crate::spool::SpoolError;

pub(super) fn no_sampling(error: &SamplingError) -> Refusal {
    warn!(error = error as &dyn std::error::Error, "Nothing can be sampled.");
    let looked_for = match error {
        SamplingError::NoRail { looked_for } => looked_for.clone(),
        SamplingError::Take(take) => {
            let source = std::error::Error::source(take).map(ToString::to_string);
            core::iter::once(take.to_string()).chain(source).collect()
        }
        SamplingError::Chip(chip) => vec![chip.to_string()],
        SamplingError::Start(start) => vec![start.to_string()],
    };
    Refusal::NoRail { looked_for }
}

pub(super) fn no_spool(error: &SpoolError) -> Refusal {
    warn!(error = error as &dyn std::error::Error, "The spool refuses.");
    match error {
        SpoolError::DiskFull { .. } => {
            Refusal::BoardDiskFull { free_bytes: 0, need_bytes: preflight::ROOM_BYTES_MIN }
        }
        SpoolError::RunExists { .. } => Refusal::RunExists,
        other => Refusal::SpoolFailed { errno: errno_of(other) },
    }
}

fn errno_of(error: &SpoolError) -> i32 {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.raw_os_error().unwrap_or(0);
        }
        source = error.source();
    }
    0
}
