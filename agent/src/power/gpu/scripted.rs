//! GPUs whose answers a test writes down, in virtual time.

use std::sync::{Arc, Mutex};

use wattline_protocol::units::BoardTime;

use super::{GpuError, GpuQuantity, Gpus};
use crate::clock::{Clock, VirtualClock};

/// One GPU of a script.
#[derive(Debug, Clone)]
pub(crate) struct ScriptedGpu {
    /// Millijoules a millisecond, or why there is no counter of energy.
    pub(crate) energy: Result<u64, GpuError>,
    /// Milliwatts, or why they are not told.
    pub(crate) power: Result<u64, GpuError>,
    /// The counter moves so often, in ns.
    pub(crate) step_ns: u64,
}

impl ScriptedGpu {
    /// A GPU whose counter adds `watts` mJ each millisecond, in steps of 20 ms.
    pub(crate) fn of_watts(watts: u64) -> Self {
        Self { energy: Ok(watts), power: Ok(watts * 1_000), step_ns: 20_000_000 }
    }

    /// The GPU of a Jetson: there, and nothing is supported.
    pub(crate) fn of_a_jetson() -> Self {
        let no = Err(GpuError::NotSupported);
        Self { energy: no, power: no, step_ns: 1 }
    }
}

/// What the GPUs say.
#[derive(Debug)]
pub struct Script {
    gpus: Mutex<Vec<ScriptedGpu>>,
    clock: Arc<VirtualClock>,
}

impl Script {
    pub(crate) fn new(clock: Arc<VirtualClock>, gpus: Vec<ScriptedGpu>) -> Arc<Self> {
        Arc::new(Self { gpus: Mutex::new(gpus), clock })
    }

    pub(crate) fn gpus(self: &Arc<Self>) -> Gpus {
        Gpus::Scripted(Arc::clone(self))
    }

    /// From now on the GPU at `index` is this one.
    pub(crate) fn becomes(&self, index: usize, gpu: ScriptedGpu) {
        self.gpus.lock().unwrap()[index] = gpu;
    }

    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.gpus.lock().unwrap().len()).unwrap()
    }

    pub(super) fn name(&self, index: u32) -> String {
        format!("scripted GPU of place {index}")
    }

    pub(super) fn read(&self, index: u32, quantity: GpuQuantity) -> Result<u64, GpuError> {
        let gpus = self.gpus.lock().unwrap();
        let gpu = &gpus[usize::try_from(index).unwrap()];
        let BoardTime(now) = self.clock.now();
        match quantity {
            // Watts over whole steps, in mJ.
            GpuQuantity::Energy => {
                gpu.energy.map(|watts| now / gpu.step_ns * gpu.step_ns / 1_000_000 * watts)
            }
            GpuQuantity::Power => gpu.power,
        }
    }
}
