//! Power: from wires to sweeps of codes.
//!
//! Owns buses, chips, the sampler with its ring, and the search for rails.
//! Knows neither records of a run nor sockets: a sweep leaves through the
//! ring, in codes and board time, and the recorder makes a record of it.
//! Theory: TI SBOS576 (INA3221), SBOS547 (INA226).

pub mod bus;
pub mod chip;
pub mod discover;
pub mod gpu;
pub mod meter;
pub mod pace;
pub mod pmic;
pub mod profile;
pub mod ring;
pub mod sampler;
pub mod settings;
