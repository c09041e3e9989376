//! The ENet classifier for ImageNet, version 12 of its authors' trials.
//!
//! Source: E. Culurciello, "Training ENet on ImageNet" (2016), for the table;
//! e-lab's ENet-training, `encoder.lua`, for the bottleneck. The width of the
//! first bottleneck is deduced: only 64 gives the published 5.86 M parameters
//! and 1.57 G operations.

use super::build::{Builder, Wire, kernel, max_window};
use super::graph::Graph;

const EPS: f64 = 1e-3;

/// How a bottleneck differs from the plain one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Same size, kernel spread by this distance.
    Dilated(usize),
    /// Half the size, width divided by this number inside.
    Down(usize),
}

/// 5.86 M parameters, 0.78 G MACs at 224.
pub(super) fn enet() -> Graph {
    let (mut net, image) = Builder::new("enet", 224);
    let learnt = net.conv("conv", kernel(13, 3).stride(2).pad(1).bias(), &image);
    let pooled = net.max_pool("pool", max_window(2, 2), &image);
    let mut wire = net.concat("concat", &[&learnt, &pooled]);
    wire = net.norm("bn", EPS, &wire);
    wire = net.prelu("act", &wire);
    let stages = [
        [(64, Form::Down(1)), (128, Form::Dilated(1)), (128, Form::Dilated(1))],
        [(256, Form::Down(4)), (256, Form::Dilated(1)), (256, Form::Dilated(2))],
        [(512, Form::Down(4)), (512, Form::Dilated(1)), (512, Form::Dilated(4))],
        [(1024, Form::Down(4)), (1024, Form::Dilated(1)), (1024, Form::Dilated(8))],
    ];
    for (stage, blocks) in (1..).zip(stages) {
        for (index, (channels, form)) in blocks.into_iter().enumerate() {
            wire = bottleneck(&mut net, &format!("stage{stage}.{index}"), channels, form, &wire);
        }
    }
    net.mean_and_linear("mean", "classifier", &wire);
    net.finish()
}

fn bottleneck(net: &mut Builder, name: &str, channels: usize, form: Form, input: &Wire) -> Wire {
    // The shortcut stands first, so that a plan can add it inside the last convolution.
    let mut shortcut = input.clone();
    if matches!(form, Form::Down(_)) {
        shortcut = net.max_pool(format!("{name}.pool"), max_window(2, 2), &shortcut);
    }
    if shortcut.channels() < channels {
        shortcut = net.pad_channels(format!("{name}.pad"), channels, &shortcut);
    }
    let (reduce, dilation) = match form {
        Form::Down(scale) => (kernel(channels / scale, 2).stride(2), 1),
        Form::Dilated(distance) => (kernel(channels / 4, 1), distance),
    };
    let mut wire = net.conv(format!("{name}.reduce"), reduce, input);
    wire = net.norm(format!("{name}.bn1"), EPS, &wire);
    wire = net.prelu(format!("{name}.act1"), &wire);
    let middle = kernel(wire.channels(), 3).dilate(dilation).bias();
    wire = net.conv(format!("{name}.conv"), middle, &wire);
    wire = net.norm(format!("{name}.bn2"), EPS, &wire);
    wire = net.prelu(format!("{name}.act2"), &wire);
    wire = net.conv(format!("{name}.expand"), kernel(channels, 1), &wire);
    wire = net.norm(format!("{name}.bn3"), EPS, &wire);
    let sum = net.add(format!("{name}.add"), &wire, &shortcut);
    net.prelu(format!("{name}.act"), &sum)
}
