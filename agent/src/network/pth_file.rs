//! Reading tensors from a `.pth` file in its zip form (PyTorch 1.6 and later).
//!
//! Owns what PyTorch puts into the archive: `NAME/data.pkl`, a pickle of the
//! state dictionary, and `NAME/data/N`, one storage each. Executes nothing of
//! the pickle. Only stored entries are read, which is what PyTorch writes.
//! Source: PyTorch, `torch/serialization.py` and `torch/_utils.py`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use zip::ZipArchive;

use super::pickle::{Id, Pickle, Value};
use super::weight_file::{Element, Stored};
use super::weights::{WeightTensor, WeightsError};

/// Bytes of the pickle: 100 times what the largest known network needs.
const PICKLE_BYTES_MAX: u64 = 16 << 20;
/// Entries of the archive: each tensor has one.
const ENTRIES_MAX: usize = 65_536;
/// Under these names training programs keep the state dictionary.
const WRAPPERS: [&str; 4] = ["state_dict", "model", "model_state_dict", "state_dict_ema"];

/// An open archive whose dictionary has been read.
pub(super) struct PthFile {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
    /// Folder of all entries, with its slash.
    folder: String,
    tensors: BTreeMap<String, View>,
}

/// A tensor as a view of a storage.
#[derive(Clone, Debug)]
struct View {
    element: Element,
    storage: String,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl PthFile {
    pub(super) fn open(path: &Path) -> Result<PthFile, WeightsError> {
        let refuse = |reason: String| WeightsError::NotPth { path: path.to_owned(), reason };
        let read = |source: io::Error| WeightsError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(read)?;
        let mut archive = ZipArchive::new(BufReader::new(file))
            .map_err(|error| refuse(format!("its zip directory: {error}")))?;
        if archive.len() > ENTRIES_MAX {
            return Err(refuse(format!("{} entries", archive.len())));
        }
        let names: Vec<String> =
            archive.file_names().filter_map(|name| Some(name.ok()?.into_owned())).collect();
        let pickle = names.iter().find(|name| name.ends_with("/data.pkl"));
        let pickle = pickle.ok_or_else(|| refuse("no data.pkl in the archive".into()))?;
        let folder = pickle.trim_end_matches("data.pkl").to_owned();
        let entry =
            archive.by_name(pickle).map_err(|error| refuse(format!("data.pkl: {error}")))?;
        let mut bytes = Vec::new();
        entry.take(PICKLE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(read)?;
        if bytes.len() as u64 > PICKLE_BYTES_MAX {
            return Err(refuse(format!("a data.pkl of more than {PICKLE_BYTES_MAX} bytes")));
        }
        let pickle = Pickle::read(&bytes).map_err(|error| refuse(error.to_string()))?;
        let tensors = dictionary(&pickle).map_err(refuse)?;
        Ok(PthFile { path: path.to_owned(), archive, folder, tensors })
    }

    /// Shape and stored type of each tensor.
    pub(super) fn tensors(&self) -> BTreeMap<String, Stored> {
        let stored = |view: &View| Stored { shape: view.shape.clone(), element: view.element };
        self.tensors.iter().map(|(key, view)| (key.clone(), stored(view))).collect()
    }

    /// The values of those tensors that `wanted` names, rounded to f32.
    pub(super) fn read_f32(
        &mut self,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, WeightTensor>, WeightsError> {
        let views: Vec<(String, View)> =
            self.tensors.iter().map(|(key, view)| (key.clone(), view.clone())).collect();
        let mut tensors = BTreeMap::new();
        for (key, view) in views.into_iter().filter(|(key, _)| wanted(key)) {
            let values = self.values(&key, &view)?;
            tensors.insert(key, WeightTensor { shape: view.shape, values });
        }
        Ok(tensors)
    }

    fn values(&mut self, key: &str, view: &View) -> Result<Vec<f32>, WeightsError> {
        let name = format!("{}data/{}", self.folder, view.storage);
        let path = self.path.clone();
        let refuse = |reason: String| WeightsError::NotPth {
            path: path.clone(),
            reason: format!("tensor {key}: {reason}"),
        };
        let width = view.element.width().ok_or_else(|| WeightsError::WrongType {
            key: key.to_owned(),
            found: view.element.name(),
        })?;
        let span = view.span().ok_or_else(|| refuse("its strides are absurd".into()))?;
        let entry = self
            .archive
            .by_name(&name)
            .map_err(|error| refuse(format!("storage {}: {error}", view.storage)))?;
        let bytes = |elements: usize| (elements as u64).saturating_mul(width as u64);
        let needs = bytes(view.offset).saturating_add(bytes(span));
        if entry.size() < needs {
            let found = entry.size();
            return Err(refuse(format!("storage {} has {found} bytes of {needs}", view.storage)));
        }
        let read = |source: io::Error| WeightsError::Read { path: path.clone(), source };
        let mut entry = entry;
        io::copy(&mut (&mut entry).take(bytes(view.offset)), &mut io::sink()).map_err(read)?;
        let stored = view.element.read(&mut entry, span).map_err(read)?;
        Ok(view.gather(stored))
    }
}

impl View {
    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Elements of the storage from the first that is used to the last.
    fn span(&self) -> Option<usize> {
        if self.shape.contains(&0) {
            return Some(0);
        }
        let axes = self.shape.iter().zip(&self.strides);
        axes.clone()
            .try_fold(1_usize, |count, (length, _)| count.checked_mul(*length))
            .filter(|_| self.shape.len() == self.strides.len())?;
        let mut last = 0_usize;
        for (length, stride) in axes {
            last = last.checked_add((length - 1).checked_mul(*stride)?)?;
        }
        last.checked_add(1)
    }

    /// The view's elements in row-major order.
    fn gather(&self, stored: Vec<f32>) -> Vec<f32> {
        let mut dense = 1;
        let is_dense = self.shape.iter().zip(&self.strides).rev().all(|(length, stride)| {
            let fits = *length == 1 || *stride == dense;
            dense *= length;
            fits
        });
        if is_dense {
            return stored;
        }
        let mut index = vec![0; self.shape.len()];
        let mut values = Vec::with_capacity(self.elements());
        for _ in 0..self.elements() {
            let place: usize = index.iter().zip(&self.strides).map(|(i, stride)| i * stride).sum();
            values.push(stored.get(place).copied().unwrap_or(f32::NAN));
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                if index[axis] < self.shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        values
    }
}

/// The tensors of the pickle's dictionary, or of the one that a training
/// program wrapped in another.
fn dictionary(pickle: &Pickle) -> Result<BTreeMap<String, View>, String> {
    let Value::Dict(entries) = pickle.get(pickle.root) else {
        return Err("it holds a whole model, not its weights; in Python: \
                    torch.save(model.state_dict(), 'weights.pth')"
            .into());
    };
    let inner = WRAPPERS.iter().find_map(|name| {
        let (_, value) = entries.iter().find(|(key, _)| pickle.text(*key) == Some(name))?;
        match pickle.get(*value) {
            Value::Dict(entries) => Some(entries),
            _ => None,
        }
    });
    let mut tensors = BTreeMap::new();
    for (key, value) in inner.unwrap_or(entries) {
        let Some(name) = pickle.text(*key) else { continue };
        let view = view(pickle, *value)
            .ok_or_else(|| format!("its entry {name} is no tensor that can be read"))?;
        // What `DataParallel` puts before each key is no part of the network's names.
        let name = name.strip_prefix("module.").unwrap_or(name);
        tensors.insert(name.to_owned(), view);
    }
    if tensors.is_empty() { Err("it holds no tensors".into()) } else { Ok(tensors) }
}

fn view(pickle: &Pickle, id: Id) -> Option<View> {
    let Value::Call(function, arguments) = pickle.get(id) else {
        return None;
    };
    let Value::Global(name) = pickle.get(*function) else {
        return None;
    };
    let arguments = pickle.sequence(*arguments)?;
    match (name.as_str(), arguments) {
        // A parameter holds its tensor; one never holds another parameter.
        ("torch._utils _rebuild_parameter", [tensor, ..]) => match pickle.get(*tensor) {
            Value::Call(function, _) if pickle.get(*function) != &Value::Global(name.clone()) => {
                view(pickle, *tensor)
            }
            _ => None,
        },
        ("torch._utils _rebuild_tensor_v2", [storage, offset, shape, strides, ..]) => {
            let Value::Outside(storage) = pickle.get(*storage) else {
                return None;
            };
            let [_, class, storage, ..] = pickle.sequence(*storage)? else {
                return None;
            };
            let Value::Global(class) = pickle.get(*class) else {
                return None;
            };
            let (shape, strides) = (pickle.sizes(*shape)?, pickle.sizes(*strides)?);
            Some(View {
                element: Element::of_storage(class),
                storage: pickle.text(*storage)?.to_owned(),
                offset: pickle.size(*offset)?,
                shape,
                strides,
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view_of(shape: &[usize], strides: &[usize]) -> View {
        let (shape, strides) = (shape.to_vec(), strides.to_vec());
        View { element: Element::F32, storage: "0".into(), offset: 0, shape, strides }
    }

    #[test]
    fn a_transposed_view_is_gathered_in_row_major_order() {
        let view = view_of(&[2, 3], &[1, 2]);
        assert_eq!(view.span(), Some(6));
        assert_eq!(view.gather(vec![0., 1., 2., 3., 4., 5.]), [0., 2., 4., 1., 3., 5.]);
    }

    #[test]
    fn strides_of_another_rank_or_without_end_are_no_span() {
        assert_eq!(view_of(&[2], &[1, 2]).span(), None);
        assert_eq!(view_of(&[usize::MAX], &[usize::MAX]).span(), None);
        assert_eq!(view_of(&[usize::MAX, 2], &[0, 0]).span(), None);
        assert_eq!(view_of(&[0], &[5]).span(), Some(0));
    }
}
