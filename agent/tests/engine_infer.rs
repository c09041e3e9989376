//! One inference from file or hash to file, as `wattline-agent infer` does it.

#![allow(clippy::expect_used, clippy::print_stdout, reason = "a test says what it missed")]

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{TensorView, serialize_to_file};
use wattline_agent::engine::{EngineError, Precision, Processor};
use wattline_agent::infer::{InferError, InferRequest, TensorSource, infer};
use wattline_agent::network::{WeightsError, hashed_input};

fn request(output: &Path) -> InferRequest {
    InferRequest {
        network: "squeezenet1_1".to_owned(),
        weights: TensorSource::Hashed(1),
        input: TensorSource::Hashed(1),
        batch: 2,
        size: Some(64),
        processor: Processor::Cpu,
        precision: Precision::F32,
        fold: true,
        output: output.to_owned(),
    }
}

fn read(path: &Path) -> (Vec<usize>, Vec<f32>) {
    let bytes = std::fs::read(path).expect("output file");
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let output = file.tensor("output").expect("a tensor named output");
    let words = output.data().as_chunks::<4>().0;
    let values = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
    (output.shape().to_vec(), values)
}

/// max |difference| / rms against PyTorch's output.
fn distance(values: &[f32]) -> f64 {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/networks");
    let (_, golden) = read(&folder.join("squeezenet1-1-1-64.safetensors"));
    let squares: f64 = golden.iter().map(|value| f64::from(*value).powi(2)).sum();
    let count = f64::from(u32::try_from(golden.len()).expect("two thousand values"));
    let differences = values.iter().zip(&golden).map(|(a, b)| f64::from((a - b).abs()));
    differences.fold(0.0, f64::max) / (squares / count).sqrt()
}

#[test]
fn an_inference_from_seeds_writes_pytorchs_output() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("output.safetensors");
    for fold in [true, false] {
        infer(&InferRequest { fold, ..request(&path) }).expect("runs");
        let (shape, values) = read(&path);
        assert_eq!(shape, [2, 1000]);
        assert!(distance(&values) <= 5e-5, "{}", distance(&values));
    }
}

#[test]
fn lower_precisions_stay_within_their_bands() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("output.safetensors");
    for (precision, band) in [(Precision::F16, 1.5e-2), (Precision::Bf16, 1e-1)] {
        match infer(&InferRequest { precision, ..request(&path) }) {
            Ok(()) => {
                let distance = distance(&read(&path).1);
                println!("{precision}: {distance:.1e}");
                assert!(distance <= band && distance > 5e-5, "{precision}: {distance:e}");
            }
            Err(InferError::Engine(EngineError::PrecisionNotOffered {
                precision: named, ..
            })) => {
                assert_eq!(named, precision);
            }
            Err(other) => unreachable!("{precision}: {other}"),
        }
    }
}

#[test]
fn what_this_build_or_board_cannot_do_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("output.safetensors");
    let refused = |request: InferRequest| infer(&request).expect_err("refused").to_string();
    let tf32 = refused(InferRequest { precision: Precision::Tf32, ..request(&path) });
    assert!(tf32.contains("tf32"), "{tf32}");
    if !candle_core::utils::cuda_is_available() {
        let cuda = refused(InferRequest { processor: Processor::Cuda(0), ..request(&path) });
        assert!(cuda.contains("wattline-runner-cuda"), "{cuda}");
    }
    for batch in [0, usize::MAX] {
        let text = refused(InferRequest { batch, ..request(&path) });
        assert!(text.contains(&format!("batch {batch}")), "{text}");
    }
    for size in [0, 5, 1 << 40] {
        let size = refused(InferRequest { size: Some(size), ..request(&path) });
        assert!(!size.is_empty(), "{size}");
    }
    let network = "resnet51".to_owned();
    let unknown = refused(InferRequest { network, ..request(&path) });
    assert!(unknown.contains("resnet50"), "{unknown}");
    assert!(!path.exists(), "no output file is left");
}

#[test]
fn images_come_from_a_file_of_the_right_shape_alone() {
    let folder = tempfile::tempdir().expect("folder");
    let (path, images) = (folder.path().join("output"), folder.path().join("images"));
    let values = hashed_input(1, 2, 3, 64);
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let view = TensorView::new(safetensors::Dtype::F32, vec![2, 3, 64, 64], &bytes);
    serialize_to_file([("input", view.expect("a tensor"))], None, &images).expect("written");
    let input = TensorSource::File(images);
    infer(&InferRequest { input: input.clone(), ..request(&path) }).expect("runs");
    assert!(distance(&read(&path).1) <= 5e-5);
    let wrong = infer(&InferRequest { input, batch: 1, ..request(&path) });
    let Err(InferError::Tensors(WeightsError::WrongShape { expected, .. })) = wrong else {
        unreachable!("a batch of one has another shape");
    };
    assert_eq!(expected, [1, 3, 64, 64]);
}
