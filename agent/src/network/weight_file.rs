//! Reading tensors from a safetensors file, one at a time.
//!
//! Owns the file's layout (8 bytes of header length, a JSON header, values).
//! Knows no graph. The header's own checks are those of the `safetensors`
//! crate; values are read in pieces, so that a weight set is in memory once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::de::Error as _;

use super::weights::{WeightTensor, WeightsError};

/// Header bytes accepted: ten times what the largest known network needs.
const HEADER_BYTES_MAX: u64 = 4 << 20;
/// Bytes read at a time: a few pages, small beside any weight set.
const PIECE_BYTES: usize = 64 << 10;

/// An open safetensors file whose header has been checked.
pub(super) struct WeightFile {
    path: PathBuf,
    file: File,
    metadata: Metadata,
}

impl WeightFile {
    pub(super) fn open(path: &Path) -> Result<WeightFile, WeightsError> {
        let read = |source: io::Error| WeightsError::Read { path: path.to_owned(), source };
        let refuse = |text: String| WeightsError::NotSafetensors {
            path: path.to_owned(),
            source: serde_json::Error::custom(text),
        };
        let mut file = File::open(path).map_err(read)?;
        let found = file.metadata().map_err(read)?.len();
        if found < 8 {
            return Err(refuse(format!("{found} bytes")));
        }
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(read)?;
        let header_bytes = u64::from_le_bytes(length);
        if header_bytes > HEADER_BYTES_MAX {
            return Err(refuse(format!("a header of {header_bytes} bytes")));
        }
        if found < 8 + header_bytes {
            let expected = 8 + header_bytes;
            return Err(WeightsError::WrongLength { path: path.to_owned(), expected, found });
        }
        let mut header = Vec::new();
        (&mut file).take(header_bytes).read_to_end(&mut header).map_err(read)?;
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|source| WeightsError::NotSafetensors { path: path.to_owned(), source })?;
        let expected = 8 + header_bytes + metadata.data_len() as u64;
        if expected != found {
            return Err(WeightsError::WrongLength { path: path.to_owned(), expected, found });
        }
        Ok(WeightFile { path: path.to_owned(), file, metadata })
    }

    /// Shape and stored type of each tensor.
    pub(super) fn tensors(&self) -> BTreeMap<String, (Vec<usize>, Dtype)> {
        let tensors = self.metadata.tensors().into_iter();
        tensors.map(|(key, tensor)| (key, (tensor.shape.clone(), tensor.dtype))).collect()
    }

    /// The values of those tensors that `wanted` names; all must be f32.
    pub(super) fn read_f32(
        &mut self,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, WeightTensor>, WeightsError> {
        let mut tensors = BTreeMap::new();
        for key in self.metadata.offset_keys() {
            let Some(stored) = self.metadata.info(&key) else {
                continue;
            };
            let bytes = stored.data_offsets.1 - stored.data_offsets.0;
            let shape = stored.shape.clone();
            let read = if wanted(&key) {
                if stored.dtype != Dtype::F32 {
                    return Err(WeightsError::WrongType { key, found: stored.dtype });
                }
                read_values(&mut self.file, bytes).map(Some)
            } else {
                skip(&mut self.file, bytes).map(|()| None)
            };
            let path = || self.path.clone();
            let values = read.map_err(|source| WeightsError::Read { path: path(), source })?;
            if let Some(values) = values {
                tensors.insert(key, WeightTensor { shape, values });
            }
        }
        Ok(tensors)
    }
}

/// One f32 tensor of a safetensors file, checked against `shape`; other
/// tensors in the file are passed over.
///
/// # Errors
/// [`WeightsError`] naming the file, or the key with both shapes.
pub fn read_tensor(path: &Path, key: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
    let missing = || WeightsError::Missing { key: key.to_owned(), expected: shape.to_vec() };
    let mut file = WeightFile::open(path)?;
    let found = file.metadata.info(key).ok_or_else(missing)?.shape.clone();
    if found != shape {
        let (key, expected) = (key.to_owned(), shape.to_vec());
        return Err(WeightsError::WrongShape { key, expected, found });
    }
    let mut tensors = file.read_f32(|name| name == key)?;
    tensors.remove(key).map(|tensor| tensor.values).ok_or_else(missing)
}

fn read_values(file: &mut File, bytes: usize) -> io::Result<Vec<f32>> {
    let mut values = Vec::with_capacity(bytes / 4);
    let mut piece = vec![0; PIECE_BYTES.min(bytes)];
    let mut left = bytes;
    while left > 0 {
        let piece = &mut piece[..left.min(PIECE_BYTES)];
        file.read_exact(piece)?;
        let words = piece.as_chunks::<4>().0;
        values.extend(words.iter().map(|word| f32::from_le_bytes(*word)));
        left -= piece.len();
    }
    Ok(values)
}

fn skip(file: &mut File, bytes: usize) -> io::Result<()> {
    io::copy(&mut file.take(bytes as u64), &mut io::sink()).map(|_| ())
}
