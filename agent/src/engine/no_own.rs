//! Stands for `own` in a build without the feature `own-kernels`.

use candle_core::{Result, Tensor, bail};

use super::plan::Plan;

/// Whether this build has our own kernels.
pub(super) const BUILT: bool = false;

/// No value of it can be made.
#[derive(Debug)]
pub(super) enum OwnNetwork {}

impl OwnNetwork {
    pub(super) fn new(_plan: Plan, _batch: usize) -> Result<OwnNetwork> {
        bail!("this build has no kernels of its own")
    }

    pub(super) fn accept(&self, _image: &Tensor) -> Result<()> {
        match *self {}
    }

    pub(super) fn step(&self, _index: usize) -> Result<()> {
        match *self {}
    }

    pub(super) fn answer(&self) -> Result<Tensor> {
        match *self {}
    }
}
