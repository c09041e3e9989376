//! The numbers that fill a graph: tensors by key, their checks, their digest.
//!
//! Owns [`Weights`] and the rules by which a weight set fits a graph. The
//! file formats are in `weight_file` and `pth_file`, hashed values in `hashed`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::graph::Graph;
use super::weight_file::AnyWeightFile;

/// Parts of public weight files that evaluation never reads: the auxiliary
/// classifiers of the Inception family. Nothing else is ignored but
/// [`IGNORED_SUFFIX`].
const IGNORED_PREFIXES: [&str; 3] = ["aux1.", "aux2.", "AuxLogits."];
/// Training's batch counter.
const IGNORED_SUFFIX: &str = "num_batches_tracked";

/// One tensor in f32.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightTensor {
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Values in row-major order.
    pub values: Vec<f32>,
}

/// Tensors by key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    tensors: BTreeMap<String, WeightTensor>,
}

/// Why a file's weights cannot fill a graph.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The file cannot be read.
    #[error("weights {path}: cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The header is no safetensors header.
    #[error("weights {path}: not a safetensors file")]
    NotSafetensors {
        /// The file.
        path: PathBuf,
        /// What the header lacks.
        source: serde_json::Error,
    },
    /// The file is shorter or longer than its header says.
    #[error("weights {path}: {found} bytes, its header tells of {expected}")]
    WrongLength {
        /// The file.
        path: PathBuf,
        /// Bytes by the header.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// A tensor that the graph needs is absent.
    #[error("weight {key}: missing, expected with shape {expected:?}")]
    Missing {
        /// The tensor.
        key: String,
        /// Its shape in the graph.
        expected: Vec<usize>,
    },
    /// A tensor that no layer of the graph knows.
    #[error("weight {key}: network {network} has no such tensor (its shape is {found:?})")]
    Unknown {
        /// The tensor.
        key: String,
        /// The network.
        network: String,
        /// Its shape in the file.
        found: Vec<usize>,
    },
    /// A tensor of another shape.
    #[error("weight {key}: shape {found:?}, expected {expected:?}")]
    WrongShape {
        /// The tensor.
        key: String,
        /// Shape in the graph.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// A tensor that is not stored as a float.
    #[error("weight {key}: stored as {found}, expected F32, F16, BF16 or F64")]
    WrongType {
        /// The tensor.
        key: String,
        /// Type in the file.
        found: &'static str,
    },
    /// A zip archive that is no `.pth` of weights, or a damaged one.
    #[error("weights {path}: not a .pth of weights: {reason}")]
    NotPth {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        reason: String,
    },
    /// A `.pth` of before PyTorch 1.6: a bare pickle.
    #[error(
        "weights {path}: a .pth of the old form, a bare pickle; convert it once: python3 -c \
         \"import torch; torch.save(torch.load('{path}', map_location='cpu', weights_only=True), \
         'new.pth')\""
    )]
    OldPth {
        /// The file.
        path: PathBuf,
    },
}

impl Weights {
    /// Adds a tensor; the last one of a key counts.
    pub fn insert(&mut self, key: String, tensor: WeightTensor) {
        self.tensors.insert(key, tensor);
    }

    /// The tensor of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&WeightTensor> {
        self.tensors.get(key)
    }

    /// Takes the tensor of a key out, so that it is held only once in memory.
    pub fn take(&mut self, key: &str) -> Option<WeightTensor> {
        self.tensors.remove(key)
    }

    /// Reads the weights of `graph` from a safetensors file or a zip `.pth`, by
    /// plain reads and never through a memory map: a file changed meanwhile
    /// must not fault. Half precisions are widened, f64 is rounded to f32.
    ///
    /// # Errors
    /// [`WeightsError`] naming the file, or the first key that does not fit.
    pub fn from_file(path: &Path, graph: &Graph) -> Result<Weights, WeightsError> {
        let (mut file, expected) = open_checked(path, graph)?;
        let tensors = file.read_f32(|key| expected.contains_key(key))?;
        Ok(Weights { tensors })
    }

    /// Whether every tensor of `graph` is there in its shape.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] or [`WeightsError::WrongShape`] with the key.
    pub fn check(&self, graph: &Graph) -> Result<(), WeightsError> {
        for key in graph.weight_keys() {
            match self.tensors.get(&key.key) {
                None => {
                    return Err(WeightsError::Missing { key: key.key, expected: key.shape });
                }
                Some(tensor) if tensor.shape != key.shape => {
                    let found = tensor.shape.clone();
                    let (key, expected) = (key.key, key.shape);
                    return Err(WeightsError::WrongShape { key, expected, found });
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Identity of the weight set: SHA-256 in hexadecimal over, in the order of
    /// the keys' bytes, the key's length and bytes, the number of dimensions,
    /// the dimensions, and the values; all little-endian, counts as 64 bits.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let count = |number: usize| (number as u64).to_le_bytes();
        for (key, tensor) in &self.tensors {
            hash.update(count(key.len()));
            hash.update(key.as_bytes());
            hash.update(count(tensor.shape.len()));
            for dimension in &tensor.shape {
                hash.update(count(*dimension));
            }
            for values in tensor.values.chunks(1024) {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                hash.update(&bytes);
            }
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Sees, without reading a value, that a file holds what `graph` needs and
/// nothing else.
///
/// # Errors
/// As [`Weights::from_file`].
pub fn check_weights(path: &Path, graph: &Graph) -> Result<(), WeightsError> {
    open_checked(path, graph).map(|_| ())
}

/// The file meant by `path`: itself, or in a folder the network's own,
/// `ID.safetensors` or else `ID.pth`.
#[must_use]
pub fn weights_file(path: &Path, graph: &Graph) -> PathBuf {
    if !path.is_dir() {
        return path.to_owned();
    }
    let zipped = path.join(format!("{}.pth", graph.id));
    let safetensors = path.join(format!("{}.safetensors", graph.id));
    if zipped.is_file() && !safetensors.is_file() { zipped } else { safetensors }
}

type Shapes = BTreeMap<String, Vec<usize>>;

fn open_checked(path: &Path, graph: &Graph) -> Result<(AnyWeightFile, Shapes), WeightsError> {
    let file = AnyWeightFile::open(path)?;
    let expected: Shapes =
        graph.weight_keys().into_iter().map(|key| (key.key, key.shape)).collect();
    let found = file.tensors();
    for (key, shape) in &expected {
        let Some(stored) = found.get(key) else {
            return Err(WeightsError::Missing { key: key.clone(), expected: shape.clone() });
        };
        if stored.shape != *shape {
            let (key, expected, found) = (key.clone(), shape.clone(), stored.shape.clone());
            return Err(WeightsError::WrongShape { key, expected, found });
        }
        if stored.element.width().is_none() {
            let found = stored.element.name();
            return Err(WeightsError::WrongType { key: key.clone(), found });
        }
    }
    for (key, stored) in found {
        if !expected.contains_key(&key) && !is_ignored(&key) {
            let network = graph.id.clone();
            return Err(WeightsError::Unknown { key, network, found: stored.shape });
        }
    }
    Ok((file, expected))
}

fn is_ignored(key: &str) -> bool {
    key.ends_with(IGNORED_SUFFIX) || IGNORED_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}
