//! A recording in the formats of other programs.
//!
//! Owns one file a format. Computes nothing: figures are the analysis's.

pub mod csv;
