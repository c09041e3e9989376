//! The engine against PyTorch.
//!
//! Golden outputs: torch 2.15.0, torchvision 0.29.2, timm 1.0.31 on x86, made
//! by `tests/tools/make_goldens.py`; weights and inputs are hashed, so only
//! outputs are kept. Distance: max |difference| / rms of the golden output.

#![allow(clippy::expect_used, clippy::print_stdout, reason = "a test says what it measured")]

use std::path::PathBuf;

use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use wattline_agent::engine::{CandleExecutor, Options, Precision, Processor, Spans};
use wattline_agent::network::{self, Graph, Op, Weights, hashed_input};

/// Bound of the distance in f32: nine times the worst rounding seen in PyTorch
/// itself, 180 times below the smallest planted mistake.
const TOLERANCE: f32 = 5e-5;

/// Networks with the smaller image sizes at which they still work; those of
/// fixed size have one golden output for both.
const SMALL: [(&str, usize); 20] = [
    ("alexnet", 96),
    ("alexnet-bn", 224),
    ("nin-bn", 224),
    ("enet", 64),
    ("googlenet", 96),
    ("resnet18", 64),
    ("vgg16", 64),
    ("vgg19", 64),
    ("resnet34", 64),
    ("resnet50", 64),
    ("resnet101", 64),
    ("resnet152", 64),
    ("inception-v3", 107),
    ("inception-v4", 107),
    ("vgg16-bn", 64),
    ("vgg19-bn", 64),
    ("alexnet-bvlc", 227),
    ("squeezenet1-1", 64),
    ("mobilenet-v2", 64),
    ("efficientnet-b0", 64),
];

/// How a golden output is to be reached.
#[derive(Clone, Copy, Debug)]
struct Way {
    fold: bool,
    fused: bool,
}

/// As written in the graph, layer by layer.
const UNCHANGED: Way = Way { fold: false, fused: false };
/// As an inference is run where nothing else is asked for.
const FOLDED_AND_FUSED: Way = Way { fold: true, fused: true };
const WAYS: [Way; 4] = [
    UNCHANGED,
    Way { fold: true, fused: false },
    Way { fold: false, fused: true },
    Way { fold: true, fused: true },
];

struct Golden {
    output: Vec<f32>,
    batch: usize,
    size: usize,
    seed: u64,
}

fn golden(network: &str, seed: u64, size: usize) -> Golden {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/networks");
    let path = folder.join(format!("{network}-{seed}-{size}.safetensors"));
    let bytes = std::fs::read(&path).expect("golden output is in the repository");
    let file = SafeTensors::deserialize(&bytes).expect("golden output is a safetensors file");
    let output = file.tensor("output").expect("golden output has the key output");
    let words = output.data().as_chunks::<4>().0;
    let batch = output.shape()[0];
    Golden {
        output: words.iter().map(|word| f32::from_le_bytes(*word)).collect(),
        batch,
        size,
        seed,
    }
}

fn options(golden: &Golden, way: Way) -> Options {
    let (processor, precision) = (Processor::Cpu, Precision::F32);
    let (batch, size) = (golden.batch, golden.size);
    Options { batch, size, processor, precision, fold: way.fold, fused: way.fused }
}

fn distance(graph: &Graph, golden: &Golden, way: Way) -> f32 {
    let weights = Weights::hashed(graph, golden.seed);
    let mut executor = CandleExecutor::load(graph, weights, options(golden, way)).expect("loads");
    let image = hashed_input(golden.seed, golden.batch, 3, golden.size);
    let shape = (golden.batch, 3, golden.size, golden.size);
    let input = Tensor::from_vec(image, shape, &Device::Cpu).expect("input");
    let output = executor.run(&input, Spans::Off).expect("runs");
    let output = output.flatten_all().and_then(|all| all.to_vec1::<f32>()).expect("f32 output");
    assert_eq!(output.len(), golden.output.len());
    let squares: f64 = golden.output.iter().map(|value| f64::from(*value).powi(2)).sum();
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
    let rms = (squares / golden.output.len() as f64).sqrt() as f32;
    let differences = output.iter().zip(&golden.output).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f32::max) / rms
}

fn assert_reached(network: &str, seed: u64, size: usize, ways: &[Way]) {
    let graph = network::by_id(network).expect("in the catalogue");
    let golden = golden(network, seed, size);
    for way in ways {
        let distance = distance(&graph, &golden, *way);
        println!("{network} seed {seed} size {size} {way:?}: {distance:.1e}");
        assert!(distance <= TOLERANCE, "{network} {seed} {size} {way:?}: {distance:e}");
    }
}

#[test]
fn small_images_give_pytorchs_output_in_every_way_of_planning() {
    for (network, size) in SMALL {
        assert_reached(network, 1, size, &WAYS);
    }
}

#[test]
fn a_second_seed_gives_pytorchs_output_too() {
    for (network, size) in SMALL {
        assert_reached(network, 7, size, &[FOLDED_AND_FUSED]);
    }
}

#[test]
fn images_of_full_size_give_pytorchs_output() {
    for (network, _) in SMALL {
        let size = network::by_id(network).expect("in the catalogue").input.size;
        assert_reached(network, 1, size, &[Way { fold: true, fused: true }]);
    }
}

/// Distance from the golden output after a planted mistake.
fn distance_with(network: &str, size: usize, mistake: fn(&mut Op)) -> f32 {
    let mut graph = network::by_id(network).expect("in the catalogue");
    for node in &mut graph.nodes {
        mistake(&mut node.op);
    }
    distance(&graph, &golden(network, 1, size), Way { fold: true, fused: true })
}

#[test]
fn a_wrong_epsilon_is_noticed() {
    for (network, size) in [("resnet18", 64), ("enet", 64)] {
        let distance = distance_with(network, size, |op| {
            if let Op::BatchNorm(norm) = op {
                norm.eps = if norm.eps < 1e-4 { 1e-3 } else { 1e-5 };
            }
        });
        assert!(distance > 100.0 * TOLERANCE, "{network}: {distance:e}");
    }
}

#[test]
fn a_dropped_bias_is_noticed() {
    let distance = distance_with("alexnet", 96, |op| {
        if let Op::Conv2d(conv) = op {
            conv.bias = false;
        }
    });
    assert!(distance > 100.0 * TOLERANCE, "{distance:e}");
}

#[test]
fn a_pool_that_rounds_down_instead_of_up_is_noticed() {
    let distance = distance_with("googlenet", 96, |op| {
        if let Op::MaxPool(pool) = op {
            pool.ceil = false;
        }
    });
    assert!(distance > 100.0 * TOLERANCE, "{distance:e}");
}

#[test]
fn padding_that_counts_in_a_mean_is_noticed() {
    for (network, size) in [("inception-v3", 107), ("inception-v4", 107)] {
        let distance = distance_with(network, size, |op| {
            if let Op::AvgPool(pool) = op {
                pool.count_padding = !pool.count_padding;
            }
        });
        assert!(distance > 100.0 * TOLERANCE, "{network}: {distance:e}");
    }
}

#[test]
fn another_activation_is_noticed() {
    let distance = distance_with("resnet18", 64, |op| {
        if matches!(op, Op::Relu) {
            *op = Op::Relu6;
        }
    });
    assert!(distance > TOLERANCE, "{distance:e}");
}

#[test]
fn layer_spans_come_once_each_in_order() {
    let graph = network::by_id("enet").expect("in the catalogue");
    let golden = golden("enet", 1, 64);
    let weights = Weights::hashed(&graph, 1);
    let options = options(&golden, Way { fold: true, fused: true });
    let mut executor = CandleExecutor::load(&graph, weights, options).expect("loads");
    let input =
        Tensor::zeros((2, 3, 64, 64), candle_core::DType::F32, &Device::Cpu).expect("zeros");
    let mut seen = Vec::new();
    executor.run(&input, Spans::Each(&mut |layer| seen.push(layer))).expect("runs");
    assert_eq!(seen, (0..executor.layers().len()).collect::<Vec<_>>());
    let absorbed: usize = executor.layers().iter().map(|layer| layer.absorbed.len()).sum();
    assert_eq!(seen.len() + absorbed, graph.nodes.len(), "no layer is lost");
}
