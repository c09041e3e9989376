//! `wattline-agent infer`: one inference from file or hash to file.
//!
//! Owns the sources of weights and input as typed, and the two file formats
//! around an inference: a safetensors with `input` (N × 3 × S × S, f32), and
//! one with `output` (batch first, f32). Measures nothing.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use candle_core::{Device, Tensor};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError};
use thiserror::Error;

use crate::engine::{
    CandleExecutor, EngineError, Options, Precision, Processor, Spans, check_batch,
};
use crate::network::{self, Graph, NetworkError, Weights, WeightsError, hashed_input, read_tensor};

/// What stands before the seed on a command line.
const HASHED: &str = "hashed:";
/// Key of the images in an input file.
const INPUT_KEY: &str = "input";
/// Key of the answer in an output file.
const OUTPUT_KEY: &str = "output";

/// A file, or values made from a seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TensorSource {
    /// A safetensors file.
    File(PathBuf),
    /// Hashed values of this seed.
    Hashed(u64),
}

/// Where the weights come from: `hashed:SEED` or a file.
pub type WeightsSource = TensorSource;
/// Where the images come from: `hashed:SEED` or a file.
pub type InputSource = TensorSource;

/// One inference as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferRequest {
    /// Id of the network, or its graph file.
    pub network: String,
    /// Its weights.
    pub weights: WeightsSource,
    /// The images.
    pub input: InputSource,
    /// Images in the batch.
    pub batch: usize,
    /// Height and width in pixels; the network's own where absent.
    pub size: Option<usize>,
    /// Where to compute.
    pub processor: Processor,
    /// In which numbers.
    pub precision: Precision,
    /// Whether normalisation is folded into weights.
    pub fold: bool,
    /// The file that is written.
    pub output: PathBuf,
}

/// Why there is no output file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InferError {
    /// No network of this id, or a graph file that is none.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Weights or input cannot be read or do not fit.
    #[error(transparent)]
    Tensors(#[from] WeightsError),
    /// The network cannot be loaded or run.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The input does not become a tensor, or the output no list of numbers.
    #[error("{what}: not usable as a tensor")]
    Tensor {
        /// Input or output.
        what: &'static str,
        /// candle's word.
        source: candle_core::Error,
    },
    /// The output file cannot be written.
    #[error("output {path}: cannot be written")]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: SafeTensorError,
    },
}

/// `hashed:` without a number behind it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{text}: expected hashed:SEED with a whole number, or a file")]
pub struct BadSeed {
    /// What was typed.
    pub text: String,
}

impl TensorSource {
    /// Reads `hashed:SEED`; anything else is a path.
    ///
    /// # Errors
    /// [`BadSeed`] where `hashed:` is not followed by a whole number.
    pub fn parse(text: &str) -> Result<TensorSource, BadSeed> {
        match text.strip_prefix(HASHED) {
            None => Ok(TensorSource::File(PathBuf::from(text))),
            Some(seed) => match seed.parse() {
                Ok(seed) => Ok(TensorSource::Hashed(seed)),
                Err(_) => Err(BadSeed { text: text.to_owned() }),
            },
        }
    }
}

impl FromStr for TensorSource {
    type Err = BadSeed;

    fn from_str(text: &str) -> Result<TensorSource, BadSeed> {
        TensorSource::parse(text)
    }
}

impl fmt::Display for TensorSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TensorSource::File(path) => write!(f, "{}", path.display()),
            TensorSource::Hashed(seed) => write!(f, "{HASHED}{seed}"),
        }
    }
}

/// Weights of `graph` from a file or a seed.
///
/// # Errors
/// [`WeightsError`] naming the file or the key that does not fit.
pub fn load_weights(graph: &Graph, source: &WeightsSource) -> Result<Weights, WeightsError> {
    match source {
        TensorSource::File(path) => Weights::from_file(path, graph),
        TensorSource::Hashed(seed) => Ok(Weights::hashed(graph, *seed)),
    }
}

/// Runs one inference and writes its output.
///
/// # Errors
/// [`InferError`]; no output file is left half written in its place.
pub fn infer(request: &InferRequest) -> Result<(), InferError> {
    let graph = network::open(&request.network)?;
    let size = request.size.unwrap_or(graph.input.size);
    // Before anything is read or made: what cannot be costs nothing.
    check_batch(request.batch)?;
    graph.shapes(size).map_err(EngineError::from)?;
    let options = Options {
        batch: request.batch,
        size,
        processor: request.processor,
        precision: request.precision,
        fold: request.fold,
        fused: true,
    };
    let input = load_input(request, graph.input.channels, size)?;
    let weights = load_weights(&graph, &request.weights)?;
    let mut executor = CandleExecutor::load(&graph, weights, options)?;
    let output = executor.run(&input, Spans::Off)?;
    write_output(request, &output)
}

fn load_input(request: &InferRequest, channels: usize, size: usize) -> Result<Tensor, InferError> {
    let shape = [request.batch, channels, size, size];
    let values = match &request.input {
        TensorSource::Hashed(seed) => hashed_input(*seed, request.batch, channels, size),
        TensorSource::File(path) => read_tensor(path, INPUT_KEY, &shape)?,
    };
    Tensor::from_vec(values, &shape, &Device::Cpu)
        .map_err(|source| InferError::Tensor { what: INPUT_KEY, source })
}

fn write_output(request: &InferRequest, output: &Tensor) -> Result<(), InferError> {
    let path = || request.output.clone();
    let values = output
        .flatten_all()
        .and_then(|all| all.to_vec1::<f32>())
        .map_err(|source| InferError::Tensor { what: OUTPUT_KEY, source })?;
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let write = || {
        let view = TensorView::new(Dtype::F32, output.dims().to_vec(), &bytes)?;
        safetensors::serialize_to_file([(OUTPUT_KEY, view)], None, &request.output)
    };
    write().map_err(|source| InferError::Write { path: path(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_read_back_as_written() {
        for text in ["hashed:1", "hashed:18446744073709551615", "weights/alexnet.safetensors"] {
            let source = TensorSource::parse(text).unwrap();
            assert_eq!(source.to_string(), text);
        }
        assert!(TensorSource::parse("hashed:").is_err());
        assert!(TensorSource::parse("hashed:-1").is_err());
    }
}
