//! One figure: a measured value of one case, with its bound where there is one.
//!
//! Owns nothing but the shape of a line; `main` prints it, each measure makes it.

/// A measured value.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// Name of the measure, `codec.encode`.
    pub(crate) measure: &'static str,
    /// The case it was measured on, `A/64`.
    pub(crate) case: String,
    /// The value, in `unit`.
    pub(crate) value: f64,
    /// Unit of value and limit.
    pub(crate) unit: &'static str,
    /// The physical or theoretical bound, where there is one.
    pub(crate) limit: Option<f64>,
    /// What the bound is.
    pub(crate) limit_is: Option<&'static str>,
}
