//! A user's own files: graphs as TOML and JSON, weights as PyTorch saves them.
//!
//! Weight files: torch 2.15, made by `tests/tools/make_weight_files.py`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use wattline_agent::engine::{Precision, Processor};
use wattline_agent::infer::{InferRequest, TensorSource, infer};
use wattline_agent::network::{self, Graph, NetworkError, Op, Weights, WeightsError};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/weights").join(name)
}

fn tiny() -> Graph {
    network::open(golden("tiny.toml").to_str().unwrap()).unwrap()
}

fn weights(name: &str) -> Result<Weights, WeightsError> {
    Weights::from_file(&golden(name), &tiny())
}

#[test]
fn every_form_that_pytorch_saves_gives_the_same_weights() {
    let expected = weights("f32.safetensors").unwrap();
    let files = [
        "f32.pth",
        "f16.pth",
        "bf16.pth",
        "f64.pth",
        "checkpoint.pth",
        "views.pth",
        "bf16.safetensors",
    ];
    for name in files {
        assert_eq!(weights(name).unwrap(), expected, "{name}");
        assert_eq!(weights(name).unwrap().digest(), expected.digest(), "{name}");
    }
}

#[test]
fn an_old_pth_says_how_to_convert_it() {
    let text = weights("old.pth").unwrap_err().to_string();
    for part in ["old.pth", "python3 -c", "torch.save(torch.load(", "weights_only=True"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn what_is_no_set_of_float_tensors_is_refused_by_name() {
    let ints = weights("ints.pth").unwrap_err().to_string();
    assert!(ints.contains("fc.weight") && ints.contains("I32"), "{ints}");
    let model = weights("model.pth").unwrap_err().to_string();
    assert!(model.contains("state_dict()"), "{model}");
}

#[test]
fn missing_and_unknown_keys_and_wrong_shapes_of_a_pth_are_named() {
    let refused = |change: fn(&mut Graph)| {
        let mut graph = tiny();
        change(&mut graph);
        Weights::from_file(&golden("f32.pth"), &graph).unwrap_err()
    };
    let missing = refused(|graph| graph.nodes[5].name = "head".into());
    assert!(matches!(missing, WeightsError::Missing { key, .. } if key.starts_with("head.")));
    let unknown = refused(|graph| {
        graph.nodes.pop();
    });
    assert!(matches!(unknown, WeightsError::Unknown { key, .. } if key == "fc.bias"));
    let shape = refused(|graph| {
        let Op::Linear(linear) = &mut graph.nodes[5].op else { panic!("linear") };
        linear.out_features = 6;
    });
    let text = shape.to_string();
    assert!(text.contains("[5]") && text.contains("[6]"), "{text}");
}

#[test]
fn a_pth_cut_anywhere_is_refused_and_never_panics() {
    let bytes = std::fs::read(golden("f32.pth")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.pth");
    for length in (0..bytes.len()).step_by(37) {
        std::fs::write(&path, &bytes[..length]).unwrap();
        assert!(Weights::from_file(&path, &tiny()).is_err(), "{length} bytes");
    }
}

#[test]
fn the_graph_file_of_resnet18_gives_its_output_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let graph = network::by_id("resnet18").unwrap();
    let output = |network: &str| {
        let path = folder.path().join("output.safetensors");
        infer(&InferRequest {
            network: network.to_owned(),
            weights: TensorSource::Hashed(1),
            input: TensorSource::Hashed(2),
            batch: 1,
            size: Some(64),
            processor: Processor::Cpu,
            precision: Precision::F32,
            fold: true,
            output: path.clone(),
        })
        .unwrap();
        std::fs::read(path).unwrap()
    };
    let expected = output("resnet18");
    let texts = [
        ("net.toml", toml::to_string(&graph).unwrap()),
        ("net.json", serde_json::to_string_pretty(&graph).unwrap()),
    ];
    for (name, text) in texts {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        assert_eq!(output(path.to_str().unwrap()), expected, "{name}");
    }
}

fn refused(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.toml");
    std::fs::write(&path, text).unwrap();
    let error = network::open(path.to_str().unwrap()).unwrap_err();
    let below = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    format!("{error}: {below}")
}

#[test]
fn a_graph_file_that_is_none_is_refused_with_its_layer() {
    let text = std::fs::read_to_string(golden("tiny.toml")).unwrap();
    let cases = [
        ("op = \"relu\"", "op = \"rellu\"", "layer relu", "rellu"),
        ("stride = [2, 2]", "strides = [2, 2]", "layer conv", "strides"),
        ("padding = [1, 1]", "padding = [-1, 1]", "layer conv", "-1"),
        ("inputs = [\"input\"]", "inputs = [\"pool\"]", "layer conv", "a cycle"),
        ("inputs = [\"conv\"]", "inputs = [\"bn\"]", "layer bn", "a cycle"),
        ("inputs = [\"bn\"]", "inputs = [\"norm\"]", "layer relu", "norm"),
        ("in_features = 4", "in_features = 8", "layer fc", "8"),
        ("eps = 1e-5", "eps = -1e-5", "layer bn", "zero or more"),
        ("eps = 1e-5", "eps = nan", "layer bn", "f64"),
        ("name = \"bn\"", "name = \"\"", "number 2", "name"),
        ("id = \"tiny\"", "id = \"../tiny\"", "id", "letters"),
        ("id = \"tiny\"", "", "id", "missing"),
        ("kernel = [3, 3]", "kernel = [3, 3", "line", ""),
        ("out_channels = 4", "out_channels = 1048576", "layer bn", "1048576"),
    ];
    for (old, new, layer, word) in cases {
        assert!(text.contains(old), "{old}");
        let said = refused(&text.replacen(old, new, 1));
        assert!(said.contains(layer) && said.contains(word), "{new}: {said}");
    }
    let later = text.replacen("inputs = [\"input\"]", "inputs = [\"extra\"]", 1)
        + "\n[[nodes]]\nname = \"extra\"\ninputs = [\"input\"]\nop = \"relu\"\n";
    let said = refused(&later);
    assert!(said.contains("layer conv") && said.contains("comes after"), "{said}");
    let absent = network::open("no-such-file.json").unwrap_err();
    assert!(matches!(absent, NetworkError::Read { .. }));
    assert!(matches!(network::open("resnet51").unwrap_err(), NetworkError::Unknown(_)));
}

#[test]
fn a_graph_may_not_ask_for_more_weights_than_boards_hold() {
    let mut graph = tiny();
    let Op::Linear(linear) = &mut graph.nodes[5].op else { panic!("linear") };
    linear.out_features = 1 << 20;
    for number in 0..3 {
        let mut node = graph.nodes[5].clone();
        node.name = format!("wide{number}");
        node.inputs = vec![graph.nodes.last().unwrap().name.clone()];
        let Op::Linear(linear) = &mut node.op else { panic!("linear") };
        (linear.in_features, linear.out_features) =
            if number % 2 == 0 { (1 << 20, 1023) } else { (1023, 1 << 20) };
        graph.nodes.push(node);
    }
    let said = refused(&toml::to_string(&graph).unwrap());
    assert!(said.contains("parameters") && said.contains("at most"), "{said}");
}

/// A number put in the place of another in a graph's JSON.
fn mutated(graph: &Graph, edits: &[(usize, i64)]) -> String {
    let mut text = serde_json::to_string(graph).unwrap();
    for (place, number) in edits {
        let numbers: Vec<(usize, usize)> = numbers(&text);
        let (start, end) = numbers[place % numbers.len()];
        text.replace_range(start..end, &number.to_string());
    }
    text
}

fn numbers(text: &str) -> Vec<(usize, usize)> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut start = None;
    for (index, byte) in bytes.iter().enumerate() {
        let before = index.checked_sub(1).map_or(b' ', |before| bytes[before]);
        match (start, byte.is_ascii_digit()) {
            (None, true) if b":[,".contains(&before) => start = Some(index),
            (Some(first), false) => {
                found.push((first, index));
                start = None;
            }
            _ => {}
        }
    }
    found
}

fn open_text(text: &[u8], name: &str) -> Result<Graph, NetworkError> {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = Path::new(folder.path()).join(name);
    std::fs::write(&path, text).unwrap();
    network::open(path.to_str().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn graphs_with_mutated_numbers_are_counted_or_refused(
        which in 0_usize..20,
        edits in proptest::collection::vec(
            (any::<usize>(), prop_oneof![
                -2_i64..20, Just(1 << 20), Just(1 << 31), Just(i64::MAX), any::<i64>()
            ]),
            1..4,
        ),
    ) {
        let graph = network::by_id(network::catalog()[which]).unwrap();
        if let Ok(graph) = open_text(mutated(&graph, &edits).as_bytes(), "net.json") {
            let _ = network::totals(&graph.counts(graph.input.size).unwrap());
            let _ = graph.counts(16);
            let _ = graph.counts(2048);
        }
    }

    #[test]
    fn rewired_graphs_are_wired_or_refused(
        edits in proptest::collection::vec((0_usize..69, 0_usize..69, 0_usize..2), 1..5)
    ) {
        let mut graph = network::by_id("resnet18").unwrap();
        for (reader, read, rename) in edits {
            let count = graph.nodes.len();
            let name = graph.nodes[read % count].name.clone();
            let node = &mut graph.nodes[reader % count];
            if rename == 1 { node.name = name } else { node.inputs[0] = name }
        }
        if let Ok(read) = open_text(serde_json::to_string(&graph).unwrap().as_bytes(), "net.json") {
            prop_assert_eq!(read, graph);
        }
    }

    #[test]
    fn damaged_text_is_a_graph_or_an_error(
        place in any::<usize>(), byte in any::<u8>(), cut in any::<usize>(),
    ) {
        let mut text = std::fs::read(golden("tiny.toml")).unwrap();
        let length = text.len();
        text[place % length] = byte;
        let _ = open_text(&text, "net.toml");
        let _ = open_text(&text[..cut % length], "net.toml");
    }

    #[test]
    fn a_damaged_pth_is_read_or_refused(places in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6)) {
        let mut bytes = std::fs::read(golden("f32.pth")).unwrap();
        let length = bytes.len();
        for (place, byte) in places {
            bytes[place % length] = byte;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("damaged.pth");
        std::fs::write(&path, &bytes).unwrap();
        let _ = Weights::from_file(&path, &tiny());
    }
}
