//! What temperature does to a chip and its shunt.
//!
//! Owns the drift limits of datasheets and the temperature that a recording
//! tells. Limits at 25 °C come with the recording and are not repeated here.
//! Source: TI SBOS576 (INA3221), SBOS547 (INA226), SLYS022 (INA238),
//! "Electrical Characteristics".

use wattline_protocol::record::{BoardState, ChipKind};
use wattline_protocol::units::BoardTime;

use crate::recording::Recording;

/// Drift of a shunt, as a fraction a kelvin: the usual class of metal
/// current-sense resistors (75 ppm/K); boards do not tell it.
pub const SHUNT_DRIFT_PER_K: f64 = 75e-6;
/// Temperature at which datasheets state their limits, in °C.
const REFERENCE_C: f64 = 25.0;
/// Distance from it where no thermal zone was recorded, in kelvin: a board in
/// a closed housing.
const OFF_REFERENCE_UNKNOWN_K: f64 = 25.0;
/// What a thermal zone of a working board may say, in °C.
const PLAUSIBLE_C: core::ops::RangeInclusive<f64> = -40.0..=125.0;
/// A zone of Jetson boards that says 100 °C whatever the temperature.
const FIXED_ZONE: &str = "PMIC-Die";

/// Drift limits of a chip, ± a kelvin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drift {
    /// Of the shunt channel's offset, in volts a kelvin.
    pub shunt_offset_v_per_k: f64,
    /// Of each channel's gain, as a fraction a kelvin.
    pub gain_per_k: f64,
}

impl Drift {
    /// Limits of this kind. A family takes those of its best known member;
    /// chips without a stated limit take the widest, the INA3221's. What the
    /// kernel reads for us states none, and none is made up.
    #[must_use]
    pub const fn of(kind: ChipKind) -> Self {
        let (shunt_offset_v_per_k, gain_per_k) = match kind {
            ChipKind::Ina3221 | ChipKind::Ina219 | ChipKind::Ina220 | ChipKind::Ina260 => {
                (0.5e-6, 50e-6)
            }
            ChipKind::Ina226 | ChipKind::Ina230 | ChipKind::Ina231 => (0.1e-6, 50e-6),
            ChipKind::Ina228 | ChipKind::Ina237 | ChipKind::Ina238 => (20e-9, 25e-6),
            ChipKind::Driver | ChipKind::PowerMeter | ChipKind::EnergyCounter => (0.0, 0.0),
        };
        Self { shunt_offset_v_per_k, gain_per_k }
    }
}

/// How far the board was from 25 °C at `at`, in kelvin: by the hottest zone of
/// the last state before it, else of the first after it. A simulated board
/// stands at 25 °C.
pub(super) fn off_25_c_k(recording: &Recording, epoch: u32, at: BoardTime) -> f64 {
    let simulated = recording.start_of(epoch).is_some_and(|start| start.simulation.is_some());
    if simulated {
        return 0.0;
    }
    let states = || {
        let of_epoch = recording.states.iter().filter(|state| state.epoch == epoch);
        of_epoch.map(|state| &state.record)
    };
    let before = states().filter(|state| state.at <= at).max_by_key(|state| state.at);
    let state = before.or_else(|| states().min_by_key(|state| state.at));
    state
        .and_then(hottest_c)
        .map_or(OFF_REFERENCE_UNKNOWN_K, |hottest| (hottest - REFERENCE_C).abs())
}

fn hottest_c(state: &BoardState) -> Option<f64> {
    let zones = state.temperatures.iter().filter(|zone| zone.zone != FIXED_ZONE);
    let celsius = zones.map(|zone| f64::from(zone.millidegree_c) * 1e-3);
    celsius.filter(|celsius| PLAUSIBLE_C.contains(celsius)).reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::InEpoch;
    use crate::recording::synthetic::Synthetic;
    use wattline_protocol::record::Temperature;

    #[test]
    fn the_hottest_plausible_zone_of_the_last_state_tells_the_temperature() {
        let mut recording = Synthetic::default().recording();
        let at = BoardTime(5_000);
        assert!(off_25_c_k(&recording, 1, at).abs() < 1e-12, "simulated");
        recording.starts[0].record.simulation = None;
        recording.states.clear();
        assert!((off_25_c_k(&recording, 1, at) - 25.0).abs() < 1e-12, "unknown");
        let zone = |zone: &str, millidegree_c| Temperature { zone: zone.into(), millidegree_c };
        let state = |at, temperatures| BoardState {
            at: BoardTime(at),
            governor: String::new(),
            core_khz: Vec::new(),
            temperatures,
            load_hundredths: 0,
        };
        let zones = vec![zone("PMIC-Die", 100_000), zone("CPU", 61_000), zone("off", -256_000)];
        for record in [state(1_000, zones), state(9_000, vec![zone("CPU", 80_000)])] {
            recording.states.push(InEpoch { epoch: 1, record });
        }
        assert!((off_25_c_k(&recording, 1, at) - 36.0).abs() < 1e-9);
    }
}
