//! Places where a test plants a bug, to see that the simulated nights catch it.
//!
//! Owns the macro [`planted!`](crate::planted) and, in the test's own
//! compilation alone, the switch behind it. `protocol/Cargo.toml` has no
//! feature `planted`, so no build of the product can turn it on: there the
//! macro is the constant `false`. `tests/planted` holds packages of other
//! names that compile the same sources with it.

/// True where the test planted the bug of this name; the constant `false` in
/// the product.
#[cfg(not(feature = "planted"))]
#[macro_export]
macro_rules! planted {
    ($name:literal) => {
        $crate::planted::NEVER
    };
}

/// True where the test planted the bug of this name; the constant `false` in
/// the product.
#[cfg(feature = "planted")]
#[macro_export]
macro_rules! planted {
    ($name:literal) => {
        $crate::planted::is($name)
    };
}

/// What [`planted!`](crate::planted) is in the product.
#[cfg(not(feature = "planted"))]
pub const NEVER: bool = false;

#[cfg(feature = "planted")]
pub use switch::{is, plant};

#[cfg(feature = "planted")]
mod switch {
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    /// Plants the bug of this name, or none, in what this thread runs.
    pub fn plant(name: Option<&'static str>) {
        PLANTED.set(name);
    }

    /// True where the bug of this name is planted.
    #[must_use]
    pub fn is(name: &str) -> bool {
        PLANTED.get() == Some(name)
    }
}
