//! INA219 and INA220: one-channel shunt and bus voltage monitor, 12 bit.
//!
//! Owns the register map, the configuration and the conversion registers →
//! codes. Knows neither rails nor time. The chip has no identity register: its
//! name comes from the system or the user, and what its registers show may
//! only contradict it.
//! A code counts steps of the converter: the register always counts 10 µV and
//! 4 mV, but at gain 1/8 and 9 bit the converter moves in steps of 640 µV.
//! Source: TI SBOS448, "Register Details", "Programming the INA219"; conversion
//! times as in Linux `drivers/iio/adc/ina2xx-adc.c`.

use wattline_protocol::code::RailScale;
use wattline_protocol::record::ErrorLimits;

use super::Profile;

/// Configuration after power-on: 32 V, gain 1/8, 12 bit.
pub const CONFIG_AT_RESET: u16 = 0x399f;
/// Shunt voltage.
pub const SHUNT: u8 = 0x01;
/// Bus voltage in bits 15:3, and two flags.
pub const BUS: u8 = 0x02;
/// Power; a read of it clears the conversion-ready flag.
pub const POWER: u8 = 0x03;
/// Current, of the calibration.
pub const CURRENT: u8 = 0x04;
/// Calibration; bit 0 is always 0.
pub const CALIBRATION: u8 = 0x05;
/// CNVR in the bus register.
pub const CONVERSION_READY: u16 = 1 << 1;
/// OVF in the bus register: a product did not fit.
pub const OVERFLOW: u16 = 1;
/// Volts across the shunt for one count of the register, at every gain.
pub const SHUNT_COUNT_V: f64 = 10e-6;
/// Volts on the bus for one count of bits 15:3.
pub const BUS_COUNT_V: f64 = 4e-3;
/// Counts of a full shunt reading at gain 1: ±40 mV.
pub const SHUNT_COUNTS_AT_GAIN_1: i32 = 4_000;

/// 32 V range and gain 1/8 (±320 mV): nothing a module's shunt can drop is cut.
const RANGE: u16 = 0x3800;
/// MODE: shunt and bus, continuously.
const CONTINUOUS: u16 = 7;
/// Conversion times of 9 to 12 bit, in µs.
const BITS_US: [u32; 4] = [84, 148, 276, 532];
/// Times of 2 to 128 averaged conversions of 12 bit, in µs.
const AVERAGED_US: [u32; 7] = [1_060, 2_130, 4_260, 8_510, 17_020, 34_050, 68_100];

/// The configuration register for a profile: 9 bit for the most sweeps; 12 bit
/// for the shunt and 9 for the bus to watch the load 86 % of the time.
#[must_use]
pub(super) const fn config(profile: Profile) -> u16 {
    let shunt_bits = match profile {
        Profile::Fast | Profile::Total => 0,
        Profile::Cover => 3 << 3,
    };
    RANGE | shunt_bits | CONTINUOUS
}

/// Length of one conversion for a four-bit code of CONFIG, in ns.
const fn length_ns(code: u16) -> u32 {
    let us = match code {
        0b0000..=0b0111 => BITS_US[(code & 3) as usize],
        0b1000 => BITS_US[3],
        _ => AVERAGED_US[(code & 7) as usize - 1],
    };
    us * 1_000
}

/// Lengths of a shunt and of a bus conversion, averaging included, in ns.
#[must_use]
pub const fn conversion_ns(config: u16) -> (u32, u32) {
    (length_ns((config >> 3) & 0xf), length_ns((config >> 7) & 0xf))
}

/// Bits below the converter's own step for a four-bit code of CONFIG.
const fn coarse_bits(code: u16) -> u32 {
    match code {
        0b0000..=0b0111 => 3 - (code & 3) as u32,
        _ => 0,
    }
}

/// Bits of the shunt register below the converter's step: gain and resolution.
#[must_use]
pub const fn shunt_shift(config: u16) -> u32 {
    ((config >> 11) & 3) as u32 + coarse_bits((config >> 3) & 0xf)
}

/// Bits of the bus value below the converter's step.
#[must_use]
pub const fn bus_shift(config: u16) -> u32 {
    coarse_bits((config >> 7) & 0xf)
}

/// Code of the shunt register, in steps of the converter.
#[must_use]
pub const fn shunt_code_of(register: u16, config: u16) -> i32 {
    (register.cast_signed() as i32) >> shunt_shift(config)
}

/// Code of the bus register, in steps of the converter; the flags are dropped.
#[must_use]
pub const fn bus_code_of(register: u16, config: u16) -> i32 {
    ((register >> 3) as i32) >> bus_shift(config)
}

/// Largest codes of shunt and bus: the ends of the converter's range.
#[must_use]
pub const fn code_max(config: u16) -> (i32, i32) {
    let shunt = (SHUNT_COUNTS_AT_GAIN_1 << ((config >> 11) & 3)) >> shunt_shift(config);
    // 16 V or 32 V in counts of 4 mV.
    let volts = if config & 0x2000 == 0 { 4_000 } else { 8_000 };
    (shunt, volts >> bus_shift(config))
}

/// What one step means over a shunt of `shunt_ohm`.
#[must_use]
pub fn scale(config: u16, shunt_ohm: f64) -> RailScale {
    let steps = |shift: u32| f64::from(1_u32 << shift);
    RailScale {
        shunt_lsb_v: SHUNT_COUNT_V * steps(shunt_shift(config)),
        bus_lsb_v: BUS_COUNT_V * steps(bus_shift(config)),
        shunt_ohm,
    }
}

/// Largest errors at 25 °C of the A grade: offset ±100 µV at gain 1 to ±200 µV
/// at 1/8 (taken for all), 0.5 % for both channels, bus offset one step of 4 mV
/// (SBOS448, "Electrical Characteristics").
#[must_use]
pub const fn limits(shunt_tolerance: f64) -> ErrorLimits {
    ErrorLimits {
        shunt_offset_v: 200e-6,
        shunt_gain: 0.005,
        bus_offset_v: BUS_COUNT_V,
        bus_gain: 0.005,
        shunt_tolerance,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_right_at_every_corner() {
        // Datasheet, "Shunt Voltage Register": −320 mV at gain 1/8 is 0x8300,
        // and 40 mV at gain 1 is 0x0FA0, both at 12 bit.
        let (wide, narrow) = (CONFIG_AT_RESET, 0x219f);
        assert_eq!(f64::from(shunt_code_of(0x8300, wide)) * scale(wide, 1.0).shunt_lsb_v, -0.32);
        assert_eq!(shunt_code_of(0x0fa0, narrow), 4_000);
        assert_eq!(shunt_code_of(0xffff, narrow), -1);
        assert_eq!(bus_code_of(0x0007, narrow), 0);
        assert_eq!((code_max(narrow), code_max(wide)), ((4_000, 8_000), (4_000, 8_000)));
    }

    #[test]
    fn nine_bits_at_gain_an_eighth_step_by_640_microvolt() {
        let config = config(Profile::Fast);
        assert_eq!((config, conversion_ns(config)), (0x3807, (84_000, 84_000)));
        let scale = scale(config, 0.1);
        assert!((scale.shunt_lsb_v - 640e-6).abs() < 1e-12);
        assert!((scale.bus_lsb_v - 32e-3).abs() < 1e-12);
        assert_eq!(shunt_code_of(64, config), 1);
    }

    #[test]
    fn averaged_conversions_take_their_tabled_time() {
        assert_eq!(conversion_ns(0x3fff), (68_100_000, 68_100_000));
        assert_eq!(conversion_ns(CONFIG_AT_RESET), (532_000, 532_000));
        assert_eq!(conversion_ns(0x3ccf), (1_060_000, 1_060_000));
    }
}
