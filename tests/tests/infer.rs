//! `networks` and `infer`: what is computed, apart from what it costs.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what it misses by failing"
)]

use std::fs;
use std::path::Path;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use wattline_tests::{Outcome, Sandbox};

fn infer(sandbox: &Sandbox, more: &[&str]) -> Outcome {
    let args = ["infer", "--network", "resnet18", "--input", "hashed:2", "--size", "64"];
    sandbox.agent(&[&args[..], more].concat())
}

fn output(path: &Path) -> Vec<f32> {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor("output").unwrap();
    assert_eq!((tensor.dtype(), tensor.shape()), (Dtype::F32, &[2, 1000][..]));
    let (words, rest) = tensor.data().as_chunks::<4>();
    assert!(rest.is_empty());
    words.iter().map(|word| f32::from_le_bytes(*word)).collect()
}

#[test]
fn networks_are_listed_one_json_object_a_line() {
    let sandbox = Sandbox::new();
    let outcome = sandbox.wattline(&["networks", "--json"]).ends_with(0);
    let rows: Vec<serde_json::Value> =
        outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for id in ["alexnet", "resnet18", "resnet50", "enet"] {
        let row = rows.iter().find(|row| row["id"] == id).unwrap_or_else(|| panic!("no {id}"));
        assert!(row["macs"].as_u64().unwrap() > 100_000_000, "{row}");
        assert!(row["params"].as_u64().unwrap() > 1_000_000, "{row}");
    }
    // torchvision's own count of parameters.
    let resnet = rows.iter().find(|row| row["id"] == "resnet18").unwrap();
    assert_eq!(resnet["params"], 11_689_512);
    sandbox.wattline(&["networks", "resnet99"]).fails_with(2, &["resnet99", "resnet18"]);
}

#[test]
fn one_seed_gives_one_output_and_another_seed_another() {
    let sandbox = Sandbox::new();
    for (weights, file) in [("hashed:1", "a"), ("hashed:1", "b"), ("hashed:3", "c")] {
        infer(&sandbox, &["--weights", weights, "--batch", "2", "--output", file]).ends_with(0);
    }
    let file = |name| fs::read(sandbox.work().join(name)).unwrap();
    assert!(file("a") == file("b"), "two inferences differ");
    assert!(file("a") != file("c"), "the weights change nothing");
}

#[test]
fn folding_the_normalisation_changes_the_output_by_rounding_alone() {
    let sandbox = Sandbox::new();
    let common = ["--weights", "hashed:1", "--batch", "2", "--output"];
    infer(&sandbox, &[&common[..], &["folded"]].concat()).ends_with(0);
    infer(&sandbox, &[&common[..], &["plain", "--no-fold"]].concat()).ends_with(0);
    let (folded, plain) =
        (output(&sandbox.work().join("folded")), output(&sandbox.work().join("plain")));
    let scale = plain.iter().fold(0_f32, |most, value| most.max(value.abs()));
    assert!(scale > 0.0 && scale.is_finite());
    // Two dozen layers of single precision, each rounding at 2^-24 of its scale.
    for (one, other) in folded.iter().zip(&plain) {
        assert!((one - other).abs() <= 1e-4 * scale, "{one} and {other} at scale {scale}");
    }
    assert!(folded != plain, "--no-fold folds all the same");
}

/// A file of one tensor.
fn tensor_file(sandbox: &Sandbox, name: &str, key: &str, shape: &[usize]) {
    let bytes = vec![0; 4 * shape.iter().product::<usize>()];
    let view = TensorView::new(Dtype::F32, shape.to_vec(), &bytes).unwrap();
    sandbox.file(name, safetensors::serialize([(key, view)], None).unwrap());
}

#[test]
fn damaged_weights_are_refused_by_name() {
    let sandbox = Sandbox::new();
    tensor_file(&sandbox, "shape.safetensors", "bn1.bias", &[63]);
    tensor_file(&sandbox, "keys.safetensors", "nothing.weight", &[1]);
    let whole = fs::read(sandbox.work().join("shape.safetensors")).unwrap();
    sandbox.file("cut.safetensors", &whole[..whole.len() - 100]);
    sandbox.file("head.safetensors", &whole[..20]);
    sandbox.file("empty.safetensors", "");
    sandbox.file("text.safetensors", "these are not weights, but a line of text\n");
    for name in ["cut", "head", "empty", "text", "absent"] {
        let file = format!("{name}.safetensors");
        let args = ["--weights", &file, "--batch", "1", "--output", "out"];
        infer(&sandbox, &args).fails_with(1, &[&file]);
    }
    let wrong = |file| infer(&sandbox, &["--weights", file, "--batch", "1", "--output", "out"]);
    wrong("shape.safetensors").fails_with(1, &["bn1.bias", "[64]", "[63]"]);
    wrong("keys.safetensors").fails_with(1, &["bn1.bias", "missing"]);
    wrong(".").fails_with(1, &["."]);
    assert!(!sandbox.work().join("out").exists(), "a failed inference left an output");
}

#[test]
fn wrong_flags_of_infer_are_refused_with_their_mend() {
    let sandbox = Sandbox::new();
    let weights = ["--weights", "hashed:1", "--output", "out"];
    let with = |more: &[&str]| infer(&sandbox, &[&weights[..], more].concat());
    with(&["--batch", "0"]).fails_with(2, &["--batch"]);
    with(&["--batch", "4000000000"]).fails_with(2, &["batch"]);
    with(&["--batch", "1", "--precision", "f31"]).fails_with(2, &["f31"]);
    with(&["--batch", "1", "--precision", "tf32"]).fails_with(2, &["tf32"]);
    with(&["--batch", "1", "--device", "tpu"]).fails_with(2, &["tpu"]);
    let seed = ["--weights", "hashed:x", "--batch", "1", "--output", "out"];
    infer(&sandbox, &seed).fails_with(2, &["hashed:x"]);
    let args = ["--network", "resnet19", "--input", "hashed:1", "--batch", "1"];
    let args = [&["infer"], &args[..], &weights].concat();
    sandbox.agent(&args).fails_with(2, &["resnet19", "resnet18"]);
    let args = ["infer", "--network", "alexnet", "--input", "hashed:1", "--batch", "1"];
    let args = [&args[..], &weights, &["--size", "8"]].concat();
    sandbox.agent(&args).fails_with(2, &["alexnet", "--size"]);
    tensor_file(&sandbox, "input.safetensors", "input", &[1, 3, 32, 32]);
    let args = ["infer", "--network", "resnet18", "--input", "input.safetensors", "--batch", "1"];
    let args = [&args[..], &weights, &["--size", "64"]].concat();
    sandbox.agent(&args).fails_with(1, &["input", "[1, 3, 64, 64]", "[1, 3, 32, 32]"]);
    let args = ["infer", "--network", "resnet18", "--input", "hashed:1", "--batch", "1"];
    let args = [&args[..], &["--size", "64", "--weights", "hashed:1", "--output", "no/such/out"]];
    sandbox.agent(&args.concat()).fails_with(1, &["no/such/out"]);
}
