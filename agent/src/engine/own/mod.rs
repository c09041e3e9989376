//! Our own f32 kernels for CPUs, as operations on candle's tensors.
//!
//! candle's convolution copies its input, its columns and its output, and packs
//! the weights at each call. Here activations are N × H × W × C, weights are
//! packed once, a convolution reads its input in place, and bias, residual and
//! activation are applied before the result leaves the registers. All values
//! live in buffers made at load and reused in each run.
//!
//! Idea of the convolution: M. Dukhan, "The Indirect Convolution Algorithm",
//! arXiv 1907.02129. Vectors come from `pulp`, which chooses the instruction
//! set at run time and needs no unsafe code of ours; threads are rayon's.

mod conv;
mod depthwise;
mod elementwise;
mod network;
mod pack;
mod step;
mod tile;
mod window;

pub(super) use network::OwnNetwork;
