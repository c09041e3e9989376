//! INA228, INA237 and INA238: one-channel monitor of 20 or 16 bit for 85 V.
//!
//! Owns the register map, the configuration and the conversion registers →
//! codes. Knows neither rails nor time. The accumulators ENERGY and CHARGE of
//! the INA228 are not read: a window's energy would need a record of its own.
//! Source: TI SLYS021 (INA228), SBOSA20 (INA237, INA238); scales as in Linux
//! `drivers/hwmon/ina238.c`.

use wattline_protocol::code::RailScale;
use wattline_protocol::record::{ChipKind, ErrorLimits};

use super::{AVERAGES, Profile};

/// CONFIG: reset, delays, range.
pub const CONFIG: u8 = 0x00;
/// ADC_CONFIG: mode, conversion times, averaging.
pub const ADC_CONFIG: u8 = 0x01;
/// Calibration; the values that are read do not depend on it.
pub const SHUNT_CAL: u8 = 0x02;
/// Shunt voltage.
pub const SHUNT: u8 = 0x04;
/// Bus voltage.
pub const BUS: u8 = 0x05;
/// DIAG_ALRT: alerts, and the conversion-ready flag that a read clears.
pub const DIAG_ALERT: u8 = 0x0b;
/// Manufacturer id.
pub const MANUFACTURER_ID: u8 = 0x3e;
/// Device id, its revision in the low four bits.
pub const DEVICE_ID: u8 = 0x3f;
/// CNVRF in DIAG_ALRT.
pub const CONVERSION_READY: u16 = 1 << 1;
/// ADCRANGE in CONFIG: ±40.96 mV in place of ±163.84 mV.
pub const RANGE_FINE: u16 = 1 << 4;
/// ADC_CONFIG after power-on: all three quantities, 1,052 µs each.
pub const ADC_CONFIG_AT_RESET: u16 = 0xfb68;
/// Conversion times by their three-bit code, in µs.
pub const CONVERSION_US: [u32; 8] = [50, 84, 150, 280, 540, 1_052, 2_074, 4_120];

/// MODE of ADC_CONFIG: shunt and bus, continuously.
const CONTINUOUS: u16 = 0xb000;

/// ADC_CONFIG for a profile.
#[must_use]
pub(super) const fn config(profile: Profile) -> u16 {
    match profile {
        Profile::Fast | Profile::Total => CONTINUOUS,
        Profile::Cover => CONTINUOUS | 5 << 6,
    }
}

/// Lengths of a shunt and of a bus conversion, and how many of each a result
/// takes.
#[must_use]
pub fn conversion_ns(adc_config: u16) -> (u32, u32, u32) {
    let code = |shift: u16| usize::from((adc_config >> shift) & 7);
    (CONVERSION_US[code(6)] * 1_000, CONVERSION_US[code(9)] * 1_000, AVERAGES[code(0)])
}

/// Length of the die temperature's conversion, in ns; 0 where the mode leaves
/// it out.
#[must_use]
pub fn temperature_ns(adc_config: u16) -> u32 {
    match adc_config & 0x4000 {
        0 => 0,
        _ => CONVERSION_US[usize::from((adc_config >> 3) & 7)] * 1_000,
    }
}

/// What DEVICE_ID holds without its revision; `None` where the kernel's driver
/// finds it not available.
#[must_use]
pub const fn device_id(kind: ChipKind) -> Option<u16> {
    match kind {
        ChipKind::Ina228 => Some(0x2280),
        ChipKind::Ina238 => Some(0x2380),
        _ => None,
    }
}

/// Bytes of the shunt and the bus register.
#[must_use]
pub const fn value_bytes(kind: ChipKind) -> u8 {
    match kind {
        ChipKind::Ina228 => 3,
        _ => 2,
    }
}

/// Code of the shunt register: two's complement, in the INA228 in bits 23:4.
#[must_use]
pub const fn shunt_code_of(kind: ChipKind, register: u32) -> i32 {
    match kind {
        ChipKind::Ina228 => (register << 8).cast_signed() >> 12,
        _ => (register << 16).cast_signed() >> 16,
    }
}

/// Code of the bus register: never negative.
#[must_use]
pub const fn bus_code_of(kind: ChipKind, register: u32) -> i32 {
    match kind {
        ChipKind::Ina228 => (register >> 4).cast_signed() & 0x7_ffff,
        _ => register.cast_signed() & 0x7fff,
    }
}

/// Largest code of both registers.
#[must_use]
pub const fn code_max(kind: ChipKind) -> i32 {
    match kind {
        ChipKind::Ina228 => 524_287,
        _ => 32_767,
    }
}

/// What one step means over a shunt of `shunt_ohm`, for a CONFIG's range.
#[must_use]
pub const fn scale(kind: ChipKind, config: u16, shunt_ohm: f64) -> RailScale {
    let (wide_v, bus_lsb_v) = match kind {
        ChipKind::Ina228 => (312.5e-9, 195.3125e-6),
        _ => (5e-6, 3.125e-3),
    };
    let shunt_lsb_v = if config & RANGE_FINE == 0 { wide_v } else { wide_v / 4.0 };
    RailScale { shunt_lsb_v, bus_lsb_v, shunt_ohm }
}

/// Largest errors at 25 °C: INA228 ±1 µV, ±2.5 mV, 0.05 %; INA238 ±5 µV,
/// ±5 mV, 0.1 %, which the INA237 exceeds threefold ("Electrical
/// Characteristics" of both datasheets; the INA237's as its 0.3 % class).
#[must_use]
pub const fn limits(kind: ChipKind, shunt_tolerance: f64) -> ErrorLimits {
    let (shunt_offset_v, bus_offset_v, gain) = match kind {
        ChipKind::Ina228 => (1e-6, 2.5e-3, 0.0005),
        ChipKind::Ina238 => (5e-6, 5e-3, 0.001),
        _ => (15e-6, 15e-3, 0.003),
    };
    ErrorLimits { shunt_offset_v, shunt_gain: gain, bus_offset_v, bus_gain: gain, shunt_tolerance }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_right_at_every_corner() {
        let wide = [(0x00_0000, 0), (0x7f_fff0, 524_287), (0x80_0000, -524_288), (0xff_fff0, -1)];
        for (register, code) in wide {
            assert_eq!(shunt_code_of(ChipKind::Ina228, register), code, "{register:#x}");
            assert_eq!(shunt_code_of(ChipKind::Ina228, register | 0xf), code, "reserved bits");
        }
        for (register, code) in [(0, 0), (0x7fff, 32_767), (0x8000, -32_768), (0xffff, -1)] {
            assert_eq!(shunt_code_of(ChipKind::Ina238, register), code, "{register:#x}");
        }
        assert_eq!(bus_code_of(ChipKind::Ina228, 0x7f_fff0), 524_287);
        assert_eq!(bus_code_of(ChipKind::Ina237, 0x7fff), 32_767);
    }

    #[test]
    fn full_scale_is_163_millivolt_and_a_fourth_of_it() {
        // Linux ina238.c: 5 µV and 1.25 µV; SLYS021: 312.5 nV and 78.125 nV.
        let full = |kind, config| scale(kind, config, 1.0).shunt_lsb_v * f64::from(code_max(kind));
        assert!((full(ChipKind::Ina228, 0) - 163.84e-3).abs() < 1e-6);
        assert!((full(ChipKind::Ina238, RANGE_FINE) - 40.96e-3).abs() < 2e-6);
    }

    #[test]
    fn the_profiles_are_50_and_1052_microseconds() {
        assert_eq!(conversion_ns(config(Profile::Fast)), (50_000, 50_000, 1));
        assert_eq!(conversion_ns(config(Profile::Cover)), (1_052_000, 50_000, 1));
        assert_eq!(conversion_ns(ADC_CONFIG_AT_RESET), (1_052_000, 1_052_000, 1));
    }
}
