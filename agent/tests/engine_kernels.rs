//! Our kernels against candle's operations, on shapes no network has.
//!
//! Both ways start from one graph and the same weights, so a difference is a
//! slip in a plan's pass, in a kernel, or in what is made of candle's pools.

#![allow(clippy::expect_used, reason = "a test says what it missed")]

use candle_core::{Device, Tensor};
use wattline_agent::engine::{CandleExecutor, Options, Precision, Processor, Spans};
use wattline_agent::network::{
    AdaptiveAvgPool, AvgPool, BatchNorm, Conv2d, Graph, Input, Linear, Lrn, MaxPool, Node, Op,
    PadChannels, Prelu, Weights, hashed_input,
};

const SIZE: usize = 19;
const CHANNELS: usize = 10;
const BATCH: usize = 3;
/// Of two ways of rounding in f32, relative to the largest value.
const TOLERANCE: f32 = 1e-5;

fn node(name: &str, op: Op, inputs: &[&str]) -> Node {
    let inputs = inputs.iter().map(|input| (*input).to_owned()).collect();
    Node { name: name.to_owned(), op, inputs }
}

fn graph(nodes: Vec<Node>) -> Graph {
    Graph { id: "test".to_owned(), input: Input { channels: CHANNELS, size: SIZE }, nodes }
}

fn conv(out_channels: usize) -> Conv2d {
    Conv2d {
        in_channels: CHANNELS,
        out_channels,
        kernel: [3, 3],
        stride: [1, 1],
        padding: [1, 1],
        dilation: 1,
        groups: 1,
        bias: true,
    }
}

fn run(graph: &Graph, fused: bool) -> (Vec<usize>, Vec<f32>) {
    let (processor, precision) = (Processor::Cpu, Precision::F32);
    let options = Options { batch: BATCH, size: SIZE, processor, precision, fold: fused, fused };
    let weights = Weights::hashed(graph, 5);
    let mut executor = CandleExecutor::load(graph, weights, options).expect("loads");
    let image = hashed_input(5, BATCH, CHANNELS, SIZE);
    let shape = (BATCH, CHANNELS, SIZE, SIZE);
    let input = Tensor::from_vec(image, shape, &Device::Cpu).expect("input");
    // Twice: buffers hold the first run's values then.
    executor.run(&input, Spans::Off).expect("runs");
    let output = executor.run(&input, Spans::Off).expect("runs again");
    let values = output.flatten_all().and_then(|all| all.to_vec1()).expect("f32 output");
    (output.dims().to_vec(), values)
}

fn assert_same(what: &str, nodes: Vec<Node>) {
    let graph = graph(nodes);
    let (plain_shape, plain) = run(&graph, false);
    let (own_shape, own) = run(&graph, true);
    assert_eq!(plain_shape, own_shape, "{what}");
    let largest = plain.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let differences = plain.iter().zip(&own).map(|(a, b)| (a - b).abs());
    let difference = differences.fold(0.0, f32::max) / largest;
    assert!(difference <= TOLERANCE, "{what}: {difference:e}");
    assert!(plain.iter().all(|value| value.is_finite()), "{what}");
}

/// Kernels that are oblong, strided, padded and spread in every mixture.
fn dense() -> [Conv2d; 10] {
    let plain = conv(7);
    let point = Conv2d { kernel: [1, 1], padding: [0, 0], ..plain };
    [
        plain,
        point,
        Conv2d { out_channels: 33, ..plain },
        Conv2d { stride: [2, 2], ..point },
        Conv2d { kernel: [1, 7], padding: [0, 3], ..plain },
        Conv2d { kernel: [7, 1], padding: [3, 0], bias: false, ..plain },
        Conv2d { kernel: [5, 2], padding: [2, 1], stride: [2, 2], ..plain },
        Conv2d { stride: [1, 3], ..plain },
        Conv2d { dilation: 4, padding: [4, 4], ..plain },
        Conv2d { kernel: [19, 19], padding: [0, 0], ..plain },
    ]
}

/// Two and more groups, down to one filter per channel.
fn grouped() -> [Conv2d; 5] {
    let each = Conv2d { groups: 10, ..conv(10) };
    [
        Conv2d { groups: 2, ..conv(46) },
        Conv2d { groups: 5, ..conv(5) },
        each,
        Conv2d { out_channels: 20, ..each },
        Conv2d { kernel: [5, 3], stride: [2, 1], ..each },
    ]
}

#[test]
fn convolutions_of_every_geometry_agree() {
    for conv in dense().into_iter().chain(grouped()) {
        assert_same(&format!("{conv:?}"), vec![node("conv", Op::Conv2d(conv), &["input"])]);
    }
}

#[test]
fn convolutions_of_few_channels_agree() {
    for conv in dense() {
        let first = Conv2d { kernel: [1, 1], padding: [0, 0], ..self::conv(3) };
        let second = Conv2d { in_channels: 3, ..conv };
        let nodes = vec![
            node("first", Op::Conv2d(first), &["input"]),
            node("second", Op::Conv2d(second), &["first"]),
        ];
        assert_same(&format!("{second:?}"), nodes);
    }
}

#[test]
fn endings_of_a_convolution_agree_with_and_without_a_sum() {
    let channels = 21;
    let pointwise = Conv2d { kernel: [1, 1], padding: [0, 0], ..conv(channels) };
    for op in [
        Op::Relu,
        Op::Relu6,
        Op::Silu,
        Op::Sigmoid,
        Op::Prelu(Prelu { channels }),
        Op::BatchNorm(BatchNorm { channels, eps: 0.1 }),
    ] {
        let first = node("first", Op::Conv2d(conv(channels)), &["input"]);
        let norm = node("norm", Op::BatchNorm(BatchNorm { channels, eps: 1e-3 }), &["first"]);
        let second = node("second", Op::Conv2d(pointwise), &["input"]);
        let alone = node("end", op.clone(), &["norm"]);
        assert_same(op.kind(), vec![first.clone(), norm.clone(), alone]);
        for terms in [["norm", "second"], ["second", "norm"], ["norm", "norm"]] {
            let sum = node("sum", Op::Add, &terms);
            let end = node("end", op.clone(), &["sum"]);
            let nodes = vec![first.clone(), norm.clone(), second.clone(), sum, end];
            assert_same(&format!("{} after {terms:?}", op.kind()), nodes);
        }
    }
}

#[test]
fn a_value_read_twice_is_neither_folded_nor_overwritten() {
    let channels = 16;
    let nodes = vec![
        node("conv", Op::Conv2d(conv(channels)), &["input"]),
        node("norm", Op::BatchNorm(BatchNorm { channels, eps: 1e-5 }), &["conv"]),
        node("relu", Op::Relu, &["norm"]),
        node("sum", Op::Add, &["conv", "relu"]),
        node("both", Op::Concat, &["sum", "norm", "input"]),
    ];
    assert_same("shared values", nodes);
}

#[test]
fn pools_of_negative_values_agree_and_padding_never_wins() {
    let shift =
        node("shift", Op::BatchNorm(BatchNorm { channels: CHANNELS, eps: 1e-5 }), &["input"]);
    let (kernel, stride, padding) = ([3, 3], [2, 2], [1, 1]);
    let mut ops = Vec::new();
    for ceil in [false, true] {
        for (kernel, stride, padding) in
            [(kernel, stride, padding), ([2, 3], [3, 2], [0, 1]), ([4, 4], [4, 3], [2, 2])]
        {
            ops.push(Op::MaxPool(MaxPool { kernel, stride, padding, ceil }));
            for count_padding in [false, true] {
                let pool = AvgPool { kernel, stride, padding, ceil, count_padding };
                ops.push(Op::AvgPool(pool));
            }
        }
    }
    ops.push(Op::AdaptiveAvgPool(AdaptiveAvgPool { output: [6, 7] }));
    ops.push(Op::AdaptiveAvgPool(AdaptiveAvgPool { output: [23, 19] }));
    ops.push(Op::GlobalAvgPool);
    for op in ops {
        assert_same(&format!("{op:?}"), vec![shift.clone(), node("pool", op, &["shift"])]);
    }
}

#[test]
fn layers_without_weights_agree() {
    let lrn = Lrn { size: 5, alpha: 0.1, beta: 0.75, k: 1.0 };
    assert_same("lrn", vec![node("lrn", Op::Lrn(lrn), &["input"])]);
    let even = Lrn { size: 4, ..lrn };
    assert_same("lrn of even size", vec![node("lrn", Op::Lrn(even), &["input"])]);
    let pad = Op::PadChannels(PadChannels { channels: 13 });
    assert_same("pad", vec![node("pad", pad, &["input"])]);
    assert_same("relu", vec![node("relu", Op::Relu, &["input"])]);
    let mean = node("mean", Op::GlobalAvgPool, &["input"]);
    let gate = node("gate", Op::Sigmoid, &["mean"]);
    assert_same("scale", vec![mean, gate, node("scale", Op::ScaleChannels, &["input", "gate"])]);
}

#[test]
fn a_flattened_map_enters_a_linear_layer_channels_first() {
    let linear = Linear { in_features: CHANNELS * SIZE * SIZE, out_features: 37, bias: true };
    let nodes = vec![
        node("flat", Op::Flatten, &["input"]),
        node("linear", Op::Linear(linear), &["flat"]),
        node("norm", Op::BatchNorm(BatchNorm { channels: 37, eps: 1e-3 }), &["linear"]),
        node("relu", Op::Relu, &["norm"]),
    ];
    assert_same("linear", nodes);
}
