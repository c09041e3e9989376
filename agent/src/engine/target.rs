//! Where a network runs and in which numbers.
//!
//! Owns the two choices as they are typed on a command line and written in a
//! campaign, and what of them this build and this processor can do.

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device, Tensor};
use thiserror::Error;

use super::error::EngineError;

/// The processor that computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Processor {
    /// The board's CPU cores.
    Cpu,
    /// The CUDA GPU with this ordinal.
    Cuda(usize),
}

/// The numbers that are computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// IEEE single precision throughout.
    F32,
    /// f32 in memory, 10 bits of mantissa in products; only on a GPU.
    Tf32,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
}

/// A processor or precision that is none.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetError {
    /// Not a processor.
    #[error("device {text}: expected cpu, cuda or cuda:N")]
    Processor {
        /// What was typed.
        text: String,
    },
    /// Not a precision.
    #[error("precision {text}: expected f32, tf32, f16 or bf16")]
    Precision {
        /// What was typed.
        text: String,
    },
}

impl FromStr for Processor {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Processor, TargetError> {
        let ordinal = |number: &str| number.parse().ok().map(Processor::Cuda);
        let found = match text {
            "cpu" => Some(Processor::Cpu),
            "cuda" => Some(Processor::Cuda(0)),
            other => other.strip_prefix("cuda:").and_then(ordinal),
        };
        found.ok_or_else(|| TargetError::Processor { text: text.to_owned() })
    }
}

impl fmt::Display for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Processor::Cpu => f.write_str("cpu"),
            Processor::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

impl FromStr for Precision {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Precision, TargetError> {
        match text {
            "f32" => Ok(Precision::F32),
            "tf32" => Ok(Precision::Tf32),
            "f16" => Ok(Precision::F16),
            "bf16" => Ok(Precision::Bf16),
            _ => Err(TargetError::Precision { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::Tf32 => "tf32",
            Precision::F16 => "f16",
            Precision::Bf16 => "bf16",
        })
    }
}

impl Precision {
    /// The type in which candle keeps activations and weights.
    pub(super) fn element(self) -> DType {
        match self {
            Precision::F32 | Precision::Tf32 => DType::F32,
            Precision::F16 => DType::F16,
            Precision::Bf16 => DType::BF16,
        }
    }
}

/// Opens the processor for computing in `precision`.
pub(super) fn open(processor: Processor, precision: Precision) -> Result<Device, EngineError> {
    let candle = |source| EngineError::Open { processor, source };
    match processor {
        Processor::Cpu if precision == Precision::Tf32 => Err(EngineError::Tf32OnCpu),
        Processor::Cpu => check_cpu(precision).map(|()| Device::Cpu),
        Processor::Cuda(_) if !candle_core::utils::cuda_is_available() => {
            Err(EngineError::CudaNotBuilt)
        }
        Processor::Cuda(ordinal) => {
            let device = Device::new_cuda(ordinal).map_err(candle)?;
            // Set either way: f32 must not silently become TF32.
            let reduced = precision == Precision::Tf32;
            candle_core::cuda::set_gemm_reduced_precision_f32(reduced);
            Ok(device)
        }
    }
}

/// Opens the GPU with this ordinal and lets it go again.
///
/// # Errors
/// [`EngineError::CudaNotBuilt`] and [`EngineError::Open`].
pub fn probe_cuda(ordinal: usize) -> Result<(), EngineError> {
    open(Processor::Cuda(ordinal), Precision::F32).map(|_| ())
}

/// Asks candle for the smallest convolution and product, because which types
/// its CPU kernels take changes from release to release.
fn check_cpu(precision: Precision) -> Result<(), EngineError> {
    let probe = || -> candle_core::Result<()> {
        let map = Tensor::ones((1, 1, 3, 3), precision.element(), &Device::Cpu)?;
        map.conv2d(&map, 0, 1, 1, 1)?;
        let matrix = Tensor::ones((2, 2), precision.element(), &Device::Cpu)?;
        matrix.matmul(&matrix).map(|_| ())
    };
    probe().map_err(|source| EngineError::PrecisionNotOffered { precision, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_and_precisions_read_back_as_written() {
        for processor in [Processor::Cpu, Processor::Cuda(0), Processor::Cuda(3)] {
            assert_eq!(processor.to_string().parse(), Ok(processor));
        }
        assert_eq!("cuda".parse(), Ok(Processor::Cuda(0)));
        assert!("cuda:".parse::<Processor>().is_err());
        assert!("gpu".parse::<Processor>().is_err());
        for precision in [Precision::F32, Precision::Tf32, Precision::F16, Precision::Bf16] {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
        assert!("f64".parse::<Precision>().is_err());
    }
}
