//! Reading tensors from a safetensors file, one at a time.
//!
//! Owns the file's layout (8 bytes of header length, a JSON header, values),
//! the kinds of stored numbers, and which of the two readers a file is for.
//! Knows no graph. The header's own checks are those of the `safetensors`
//! crate; values are read in pieces, so that a weight set is in memory once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::de::Error as _;

use super::pth_file::PthFile;
use super::weights::{WeightTensor, WeightsError};

/// Header bytes accepted: ten times what the largest known network needs.
const HEADER_BYTES_MAX: u64 = 4 << 20;
/// Bytes read at a time: a few pages, small beside any weight set.
const PIECE_BYTES: usize = 64 << 10;

/// What a zip archive begins with, hence a `.pth` of today.
const ZIP_MAGIC: [u8; 4] = *b"PK\x03\x04";
/// What a bare pickle of protocol 2 begins with, hence an old `.pth`.
const PICKLE_MAGIC: [u8; 2] = [0x80, 0x02];

/// How numbers are stored in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    F32,
    /// Exact in f32.
    F16,
    /// Exact in f32.
    Bf16,
    /// Rounded to f32, to nearest.
    F64,
    /// No float of these; its name in a safetensors file.
    Foreign(&'static str),
}

/// What is known of a stored tensor before its values are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) shape: Vec<usize>,
    pub(super) element: Element,
}

impl Element {
    fn of_safetensors(dtype: Dtype) -> Element {
        match dtype {
            Dtype::F32 => Element::F32,
            Dtype::F16 => Element::F16,
            Dtype::BF16 => Element::Bf16,
            Dtype::F64 => Element::F64,
            Dtype::I64 => Element::Foreign("I64"),
            Dtype::I32 => Element::Foreign("I32"),
            Dtype::U8 => Element::Foreign("U8"),
            Dtype::I8 => Element::Foreign("I8"),
            Dtype::BOOL => Element::Foreign("BOOL"),
            _ => Element::Foreign("another type"),
        }
    }

    /// The kind of a storage class such as `torch FloatStorage`.
    pub(super) fn of_storage(class: &str) -> Element {
        match class {
            "torch FloatStorage" => Element::F32,
            "torch HalfStorage" => Element::F16,
            "torch BFloat16Storage" => Element::Bf16,
            "torch DoubleStorage" => Element::F64,
            "torch LongStorage" => Element::Foreign("I64"),
            "torch IntStorage" => Element::Foreign("I32"),
            "torch CharStorage" => Element::Foreign("I8"),
            "torch ByteStorage" => Element::Foreign("U8"),
            "torch BoolStorage" => Element::Foreign("BOOL"),
            _ => Element::Foreign("another type"),
        }
    }

    /// Bytes of one number, where it is a float that is read.
    pub(super) fn width(self) -> Option<usize> {
        match self {
            Element::F32 => Some(4),
            Element::F16 | Element::Bf16 => Some(2),
            Element::F64 => Some(8),
            Element::Foreign(_) => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Element::F32 => "F32",
            Element::F16 => "F16",
            Element::Bf16 => "BF16",
            Element::F64 => "F64",
            Element::Foreign(name) => name,
        }
    }

    /// Reads `count` numbers and rounds each to f32.
    pub(super) fn read(self, source: &mut impl Read, count: usize) -> io::Result<Vec<f32>> {
        let width = self.width().unwrap_or(1);
        let mut values = Vec::with_capacity(count);
        let mut piece = vec![0; (PIECE_BYTES / width).min(count) * width];
        while values.len() < count {
            let numbers = (count - values.len()).min(PIECE_BYTES / width);
            let piece = &mut piece[..numbers * width];
            source.read_exact(piece)?;
            self.decode(piece, &mut values);
        }
        Ok(values)
    }

    #[expect(clippy::cast_possible_truncation, reason = "f64 is rounded to f32 by intent")]
    fn decode(self, bytes: &[u8], values: &mut Vec<f32>) {
        match self {
            Element::F32 => {
                values.extend(bytes.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)));
            }
            Element::F16 => {
                let words = bytes.as_chunks().0.iter();
                values.extend(words.map(|word| f16::from_le_bytes(*word).to_f32()));
            }
            Element::Bf16 => {
                let words = bytes.as_chunks().0.iter();
                values.extend(words.map(|word| bf16::from_le_bytes(*word).to_f32()));
            }
            Element::F64 => {
                let words = bytes.as_chunks().0.iter();
                values.extend(words.map(|word| f64::from_le_bytes(*word) as f32));
            }
            // Refused before anything is read of it.
            Element::Foreign(_) => values.extend(bytes.iter().map(|_| f32::NAN)),
        }
    }
}

/// An open weight file of either format.
pub(super) enum AnyWeightFile {
    Safetensors(WeightFile),
    Pth(Box<PthFile>),
}

impl AnyWeightFile {
    /// Opens a file by what it begins with, whatever its name.
    pub(super) fn open(path: &Path) -> Result<AnyWeightFile, WeightsError> {
        let read = |source: io::Error| WeightsError::Read { path: path.to_owned(), source };
        let mut first = Vec::new();
        File::open(path).map_err(read)?.take(4).read_to_end(&mut first).map_err(read)?;
        if first == ZIP_MAGIC {
            return PthFile::open(path).map(|file| AnyWeightFile::Pth(Box::new(file)));
        }
        // As a header's length this would be more than 2¹⁶ bytes of an odd
        // number: a real one is told by its brace, the ninth byte.
        if first.starts_with(&PICKLE_MAGIC) && !is_safetensors(path) {
            return Err(WeightsError::OldPth { path: path.to_owned() });
        }
        WeightFile::open(path).map(AnyWeightFile::Safetensors)
    }

    pub(super) fn tensors(&self) -> BTreeMap<String, Stored> {
        match self {
            AnyWeightFile::Safetensors(file) => file.tensors(),
            AnyWeightFile::Pth(file) => file.tensors(),
        }
    }

    pub(super) fn read_f32(
        &mut self,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, WeightTensor>, WeightsError> {
        match self {
            AnyWeightFile::Safetensors(file) => file.read_f32(wanted),
            AnyWeightFile::Pth(file) => file.read_f32(wanted),
        }
    }
}

fn is_safetensors(path: &Path) -> bool {
    let mut first = [0; 9];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut first));
    read.is_ok() && first[8] == b'{'
}

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
    pub(super) fn tensors(&self) -> BTreeMap<String, Stored> {
        let tensors = self.metadata.tensors().into_iter();
        tensors
            .map(|(key, tensor)| {
                let element = Element::of_safetensors(tensor.dtype);
                (key, Stored { shape: tensor.shape.clone(), element })
            })
            .collect()
    }

    /// The values of those tensors that `wanted` names, rounded to f32.
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
                let element = Element::of_safetensors(stored.dtype);
                let Some(width) = element.width() else {
                    return Err(WeightsError::WrongType { key, found: element.name() });
                };
                element.read(&mut self.file, bytes / width).map(Some)
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

fn skip(file: &mut File, bytes: usize) -> io::Result<()> {
    io::copy(&mut file.take(bytes as u64), &mut io::sink()).map(|_| ())
}
