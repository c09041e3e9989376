//! Weight files: what is read, what is refused, and in which words.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize_to_file};
use wattline_agent::network::{self, Graph, WeightTensor, Weights, WeightsError};

/// Key → (shape, values) of a file under test.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn squeezenet() -> Graph {
    network::by_id("squeezenet1-1").expect("in the catalogue")
}

fn complete() -> Tensors {
    let weights = Weights::hashed(&squeezenet(), 3);
    let keys = squeezenet().weight_keys();
    let tensor = |key: &str| weights.get(key).map(|t| (t.shape.clone(), t.values.clone()));
    keys.iter().filter_map(|key| Some((key.key.clone(), tensor(&key.key)?))).collect()
}

fn write(tensors: &Tensors, folder: &Path) -> PathBuf {
    let bytes: BTreeMap<&String, (Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(key, (shape, values))| {
            (key, (shape.clone(), values.iter().flat_map(|value| value.to_le_bytes()).collect()))
        })
        .collect();
    let views = bytes.iter().map(|(key, (shape, bytes))| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
        (*key, view.expect("written"))
    });
    let path = folder.join("weights.safetensors");
    serialize_to_file(views, None, &path).expect("written");
    path
}

fn read(tensors: &Tensors) -> Result<Weights, WeightsError> {
    let folder = tempfile::tempdir().expect("written");
    Weights::from_file(&write(tensors, folder.path()), &squeezenet())
}

#[test]
fn a_complete_file_gives_the_weights_that_were_written() {
    let weights = read(&complete()).unwrap();
    assert_eq!(weights, Weights::hashed(&squeezenet(), 3));
    assert_eq!(weights.digest(), Weights::hashed(&squeezenet(), 3).digest());
    assert_ne!(weights.digest(), Weights::hashed(&squeezenet(), 4).digest());
}

#[test]
fn the_digest_is_that_of_the_documented_bytes() {
    let mut weights = Weights::default();
    weights.insert("b".to_owned(), WeightTensor { shape: vec![2], values: vec![1.0, -0.5] });
    // Origin: Python's hashlib over struct.pack("<Q1sQQff", 1, b"b", 1, 2, 1.0, -0.5).
    let expected = "8b5d7aa112e3e45ade35a05118548847e2a1d00d19513f2b43c5bf3f8831b937";
    assert_eq!(weights.digest(), expected);
}

#[test]
fn training_leftovers_are_ignored_and_nothing_else() {
    for key in ["bn.num_batches_tracked", "aux1.conv.weight", "aux2.fc.bias", "AuxLogits.fc.bias"] {
        let mut tensors = complete();
        tensors.insert(key.to_owned(), (vec![1], vec![0.0]));
        assert!(read(&tensors).is_ok(), "{key}");
    }
    let mut tensors = complete();
    tensors.insert("features.13.weight".to_owned(), (vec![1], vec![0.0]));
    let error = read(&tensors).unwrap_err();
    assert!(matches!(error, WeightsError::Unknown { key, .. } if key == "features.13.weight"));
}

#[test]
fn a_missing_tensor_is_named_with_its_shape() {
    let mut tensors = complete();
    tensors.remove("features.3.squeeze.weight");
    let text = read(&tensors).unwrap_err().to_string();
    assert!(
        text.contains("features.3.squeeze.weight") && text.contains("[16, 64, 1, 1]"),
        "{text}"
    );
}

#[test]
fn a_tensor_of_another_shape_is_named_with_both_shapes() {
    let mut tensors = complete();
    tensors.insert("features.0.bias".to_owned(), (vec![65], vec![0.0; 65]));
    let text = read(&tensors).unwrap_err().to_string();
    for part in ["features.0.bias", "[65]", "[64]"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn cut_and_foreign_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&complete(), folder.path());
    let bytes = std::fs::read(&path).unwrap();
    for length in [0, 7, 8, 100, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        assert!(Weights::from_file(&path, &squeezenet()).is_err(), "{length} bytes");
    }
    std::fs::write(&path, [&bytes[..], &[0]].concat()).unwrap();
    let error = Weights::from_file(&path, &squeezenet()).unwrap_err();
    assert!(matches!(error, WeightsError::WrongLength { .. }), "{error}");
    std::fs::write(&path, [0xff; 64]).unwrap();
    let error = Weights::from_file(&path, &squeezenet()).unwrap_err();
    assert!(matches!(error, WeightsError::NotSafetensors { .. }), "{error}");
    let absent = Weights::from_file(&folder.path().join("absent"), &squeezenet());
    assert!(matches!(absent, Err(WeightsError::Read { .. })));
}
