//! GPU time of one inference: two events on the stream that computes it.
//!
//! Owns the events. On a CPU, and in a program without CUDA, there are none.
//! Resolution about 0.5 µs (CUDA driver API, cuEventElapsedTime).

use candle_core::{Device, Result};
use wattline_protocol::units::Nanos;

#[cfg(feature = "cuda")]
use events::Events;

/// Two events, or nothing.
#[derive(Debug)]
pub(super) struct Stopwatch {
    #[cfg(feature = "cuda")]
    events: Option<Events>,
}

impl Stopwatch {
    /// Events on the stream of a GPU; none on the CPU.
    #[cfg(feature = "cuda")]
    pub(super) fn of(device: &Device) -> Result<Self> {
        let events = match device {
            Device::Cuda(gpu) => Some(Events::new(gpu)?),
            _ => None,
        };
        Ok(Self { events })
    }

    /// Nothing: this program links no CUDA.
    #[cfg(not(feature = "cuda"))]
    #[expect(clippy::unnecessary_wraps, reason = "the form that it has with CUDA")]
    pub(super) fn of(_: &Device) -> Result<Self> {
        Ok(Self {})
    }

    /// Marks the stream before the first step.
    #[cfg(feature = "cuda")]
    pub(super) fn start(&self) -> Result<()> {
        self.events.as_ref().map_or(Ok(()), Events::start)
    }

    /// Nothing to mark.
    #[cfg(not(feature = "cuda"))]
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "the form with CUDA")]
    pub(super) fn start(&self) -> Result<()> {
        Ok(())
    }

    /// Marks the stream after the last step.
    #[cfg(feature = "cuda")]
    pub(super) fn stop(&self) -> Result<()> {
        self.events.as_ref().map_or(Ok(()), Events::stop)
    }

    /// Nothing to mark.
    #[cfg(not(feature = "cuda"))]
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "the form with CUDA")]
    pub(super) fn stop(&self) -> Result<()> {
        Ok(())
    }

    /// Time between both marks on the GPU's own clock; waits for the second.
    #[cfg(feature = "cuda")]
    pub(super) fn elapsed(&self) -> Result<Option<Nanos>> {
        self.events.as_ref().map(Events::elapsed).transpose()
    }

    /// No GPU, no time of it.
    #[cfg(not(feature = "cuda"))]
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "the form with CUDA")]
    pub(super) fn elapsed(&self) -> Result<Option<Nanos>> {
        Ok(None)
    }
}

#[cfg(feature = "cuda")]
mod events {
    use std::sync::Arc;

    use candle_core::cuda::cudarc::driver::sys::CUevent_flags::CU_EVENT_DEFAULT;
    use candle_core::cuda::cudarc::driver::{CudaEvent, CudaStream};
    use candle_core::{CudaDevice, Error, Result};
    use wattline_protocol::units::Nanos;

    /// The stream and its two events.
    #[derive(Debug)]
    pub(super) struct Events {
        stream: Arc<CudaStream>,
        first: CudaEvent,
        last: CudaEvent,
    }

    impl Events {
        pub(super) fn new(gpu: &CudaDevice) -> Result<Self> {
            let stream = gpu.cuda_stream();
            // The default flags: an event without timing cannot be read.
            let event = || stream.context().new_event(Some(CU_EVENT_DEFAULT)).map_err(Error::wrap);
            let (first, last) = (event()?, event()?);
            Ok(Self { stream, first, last })
        }

        pub(super) fn start(&self) -> Result<()> {
            self.first.record(&self.stream).map_err(Error::wrap)
        }

        pub(super) fn stop(&self) -> Result<()> {
            self.last.record(&self.stream).map_err(Error::wrap)
        }

        pub(super) fn elapsed(&self) -> Result<Nanos> {
            let ms = self.first.elapsed_ms(&self.last).map_err(Error::wrap)?;
            let ns = (f64::from(ms) * 1e6).round();
            // An f32 of milliseconds: far below 2⁶³ ns for any inference.
            #[expect(clippy::cast_possible_truncation, reason = "saturates, and NaN becomes 0")]
            Ok(Nanos(ns as i64))
        }
    }
}
