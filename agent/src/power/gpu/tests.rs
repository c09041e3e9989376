//! What counters of a GPU mean, in virtual time.

use wattline_protocol::units::BoardTime;

use super::scripted::{Script, ScriptedGpu};
use super::*;
use crate::clock::VirtualClock;

fn clock() -> Arc<VirtualClock> {
    Arc::new(VirtualClock::starting_at(BoardTime(1_000_000_000)))
}

#[test]
fn energy_is_taken_before_power_and_power_where_there_is_no_counter() {
    let old = ScriptedGpu { energy: Err(GpuError::NotSupported), ..ScriptedGpu::of_watts(40) };
    let gpus = Script::new(clock(), vec![ScriptedGpu::of_watts(70), old]).gpus();
    assert_eq!(GpuCounter::best(&gpus, 0).unwrap().quantity, GpuQuantity::Energy);
    let power = GpuCounter::best(&gpus, 1).unwrap();
    assert_eq!((power.quantity, power.read()), (GpuQuantity::Power, Ok(40_000)));
}

#[test]
fn a_jetsons_gpu_that_is_listed_supports_nothing() {
    let gpus = Script::new(clock(), vec![ScriptedGpu::of_a_jetson()]).gpus();
    assert_eq!(gpus.count(), Ok(1));
    assert_eq!(GpuCounter::best(&gpus, 0), Err(GpuError::NotSupported));
}

#[test]
fn a_lost_gpu_is_not_asked_for_its_power_instead() {
    let lost = ScriptedGpu { energy: Err(GpuError::Lost), ..ScriptedGpu::of_watts(1) };
    let gpus = Script::new(clock(), vec![lost]).gpus();
    assert_eq!(GpuCounter::best(&gpus, 0), Err(GpuError::Lost));
}

#[test]
fn how_often_a_counter_moves_is_seen() {
    let clock = clock();
    let slow = ScriptedGpu { step_ns: 100_000_000, ..ScriptedGpu::of_watts(70) };
    let still = ScriptedGpu { energy: Ok(0), ..ScriptedGpu::of_watts(0) };
    let gpus = Script::new(Arc::clone(&clock), vec![ScriptedGpu::of_watts(70), slow, still]).gpus();
    let counters: Vec<_> = (0..3).map(|index| GpuCounter::best(&gpus, index).unwrap()).collect();
    let rates = rates_hz(&counters, &*clock);
    assert!((rates[0].unwrap() - 50.0).abs() < 1.0, "{rates:?}");
    assert!((rates[1].unwrap() - 10.0).abs() < 0.5, "{rates:?}");
    assert_eq!(rates[2], None);
}

#[cfg(feature = "nvml")]
#[test]
fn a_machine_without_the_library_says_so() {
    // Where this machine has a GPU its driver is asked instead.
    match Gpus::open() {
        Err(error) => assert!(matches!(error, GpuError::NoLibrary | GpuError::NoDriver)),
        Ok(gpus) => assert!(gpus.count().is_ok()),
    }
}
