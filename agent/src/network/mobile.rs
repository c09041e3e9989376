//! MobileNet-v2 and EfficientNet-B0: inverted residuals with one filter per
//! channel.
//!
//! Sources: Sandler and others, arXiv 1801.04381; Tan and Le, arXiv
//! 1905.11946; keys as in torchvision.

use super::build::{Builder, Kernel, Wire, kernel};
use super::graph::{Graph, Op};

const EPS: f64 = 1e-5;

/// One stage: expansion, kernel side, first stride, channels out, blocks.
type Stage = (usize, usize, usize, usize, usize);

const MOBILENET_V2: [Stage; 7] = [
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 3, 2, 32, 3),
    (6, 3, 2, 64, 4),
    (6, 3, 1, 96, 3),
    (6, 3, 2, 160, 3),
    (6, 3, 1, 320, 1),
];

const EFFICIENTNET_B0: [Stage; 7] = [
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
];

/// 3.50 M parameters, 0.30 G MACs at 224.
pub(super) fn mobilenet_v2() -> Graph {
    let (mut net, image) = Builder::new("mobilenet-v2", 224);
    let stem = kernel(32, 3).stride(2).pad(1);
    let mut wire = normalised(&mut net, "features.0", stem, Some(Op::Relu6), &image);
    let mut index = 1;
    for (expansion, side, first_stride, channels, blocks) in MOBILENET_V2 {
        for block in 0..blocks {
            let stride = if block == 0 { first_stride } else { 1 };
            let name = format!("features.{index}");
            let depthwise = spread(wire.channels() * expansion, side, stride);
            wire = inverted(&mut net, &name, expansion, depthwise, channels, &wire);
            index += 1;
        }
    }
    wire = normalised(&mut net, "features.18", kernel(1280, 1), Some(Op::Relu6), &wire);
    net.mean_and_linear("pool", "classifier.1", &wire);
    net.finish()
}

/// 5.29 M parameters, 0.39 G MACs at 224.
pub(super) fn efficientnet_b0() -> Graph {
    let (mut net, image) = Builder::new("efficientnet-b0", 224);
    let stem = kernel(32, 3).stride(2).pad(1);
    let mut wire = normalised(&mut net, "features.0", stem, Some(Op::Silu), &image);
    for (stage, (expansion, side, first_stride, channels, blocks)) in (1..).zip(EFFICIENTNET_B0) {
        for block in 0..blocks {
            let stride = if block == 0 { first_stride } else { 1 };
            let name = format!("features.{stage}.{block}");
            let depthwise = spread(wire.channels() * expansion, side, stride);
            wire = squeezed(&mut net, &name, expansion, depthwise, channels, &wire);
        }
    }
    wire = normalised(&mut net, "features.8", kernel(1280, 1), Some(Op::Silu), &wire);
    net.mean_and_linear("avgpool", "classifier.1", &wire);
    net.finish()
}

/// One filter per channel, padded so that only the stride shrinks.
fn spread(channels: usize, side: usize, stride: usize) -> Kernel {
    kernel(channels, side).stride(stride).pad(side / 2).groups(channels)
}

/// Convolution `NAME.0`, normalisation `NAME.1`, activation `NAME.2`.
fn normalised(
    net: &mut Builder,
    name: &str,
    kernel: Kernel,
    activation: Option<Op>,
    input: &Wire,
) -> Wire {
    let wire = net.conv(format!("{name}.0"), kernel, input);
    let wire = net.norm(format!("{name}.1"), EPS, &wire);
    match activation {
        Some(op) => net.same(format!("{name}.2"), op, &wire),
        None => wire,
    }
}

/// The block's sum, where shapes allow one.
fn closed(net: &mut Builder, name: &str, input: &Wire, output: Wire, depthwise: Kernel) -> Wire {
    if depthwise.keeps_size() && input.channels() == output.channels() {
        return net.add(format!("{name}.add"), &output, input);
    }
    output
}

/// MobileNet-v2's block; its last convolution and norm are named flat.
fn inverted(
    net: &mut Builder,
    name: &str,
    expansion: usize,
    depthwise: Kernel,
    channels: usize,
    input: &Wire,
) -> Wire {
    let mut wire = input.clone();
    let mut part = 0;
    if expansion > 1 {
        let widen = kernel(input.channels() * expansion, 1);
        wire = normalised(net, &format!("{name}.conv.{part}"), widen, Some(Op::Relu6), &wire);
        part += 1;
    }
    wire = normalised(net, &format!("{name}.conv.{part}"), depthwise, Some(Op::Relu6), &wire);
    wire = net.conv(format!("{name}.conv.{}", part + 1), kernel(channels, 1), &wire);
    wire = net.norm(format!("{name}.conv.{}", part + 2), EPS, &wire);
    closed(net, name, input, wire, depthwise)
}

/// EfficientNet's block: as [`inverted`], with channels weighed by their means.
fn squeezed(
    net: &mut Builder,
    name: &str,
    expansion: usize,
    depthwise: Kernel,
    channels: usize,
    input: &Wire,
) -> Wire {
    let mut wire = input.clone();
    let mut part = 0;
    if expansion > 1 {
        let widen = kernel(input.channels() * expansion, 1);
        wire = normalised(net, &format!("{name}.block.{part}"), widen, Some(Op::Silu), &wire);
        part += 1;
    }
    wire = normalised(net, &format!("{name}.block.{part}"), depthwise, Some(Op::Silu), &wire);
    let gate = format!("{name}.block.{}", part + 1);
    let mean = net.same(format!("{gate}.avgpool"), Op::GlobalAvgPool, &wire);
    let few = net.conv(format!("{gate}.fc1"), kernel(input.channels() / 4, 1).bias(), &mean);
    let few = net.same(format!("{gate}.activation"), Op::Silu, &few);
    let factors = net.conv(format!("{gate}.fc2"), kernel(wire.channels(), 1).bias(), &few);
    let factors = net.same(format!("{gate}.scale_activation"), Op::Sigmoid, &factors);
    wire = net.node(gate, Op::ScaleChannels, &[&wire, &factors], wire.channels());
    wire = normalised(net, &format!("{name}.block.{}", part + 2), kernel(channels, 1), None, &wire);
    closed(net, name, input, wire, depthwise)
}
