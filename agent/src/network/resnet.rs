//! Residual networks of 18 to 152 layers.
//!
//! Source: He and others, arXiv 1512.03385, in the form of torchvision and of
//! fb.resnet.torch: the stride is on the 3 × 3 convolution of a bottleneck.

use super::build::{Builder, Wire, kernel, max_window};
use super::graph::{Graph, MaxPool};

const EPS: f64 = 1e-5;

/// The two kinds of residual block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    /// Two 3 × 3 convolutions.
    Basic,
    /// 1 × 1, 3 × 3, 1 × 1 with four times the width at the end.
    Bottleneck,
}

/// 11.7 M parameters, 1.81 G MACs at 224.
pub(super) fn resnet18() -> Graph {
    resnet("resnet18", Block::Basic, [2, 2, 2, 2])
}

/// 21.8 M parameters, 3.66 G MACs at 224.
pub(super) fn resnet34() -> Graph {
    resnet("resnet34", Block::Basic, [3, 4, 6, 3])
}

/// 25.6 M parameters, 4.09 G MACs at 224.
pub(super) fn resnet50() -> Graph {
    resnet("resnet50", Block::Bottleneck, [3, 4, 6, 3])
}

/// 44.5 M parameters, 7.80 G MACs at 224.
pub(super) fn resnet101() -> Graph {
    resnet("resnet101", Block::Bottleneck, [3, 4, 23, 3])
}

/// 60.2 M parameters, 11.5 G MACs at 224.
pub(super) fn resnet152() -> Graph {
    resnet("resnet152", Block::Bottleneck, [3, 8, 36, 3])
}

fn resnet(id: &str, block: Block, depths: [usize; 4]) -> Graph {
    let (mut net, image) = Builder::new(id, 224);
    let mut wire = net.conv("conv1", kernel(64, 7).stride(2).pad(3), &image);
    wire = net.norm("bn1", EPS, &wire);
    wire = net.relu("relu", &wire);
    let stem_pool = MaxPool { padding: [1, 1], ..max_window(3, 2) };
    wire = net.max_pool("maxpool", stem_pool, &wire);
    for (stage, depth) in depths.into_iter().enumerate() {
        let width = 64 << stage;
        for index in 0..depth {
            let stride = if stage > 0 && index == 0 { 2 } else { 1 };
            let name = format!("layer{}.{index}", stage + 1);
            wire = residual(&mut net, &name, block, width, stride, &wire);
        }
    }
    net.mean_and_linear("avgpool", "fc", &wire);
    net.finish()
}

fn residual(
    net: &mut Builder,
    name: &str,
    block: Block,
    width: usize,
    stride: usize,
    input: &Wire,
) -> Wire {
    let kernels = match block {
        Block::Basic => vec![kernel(width, 3).stride(stride).pad(1), kernel(width, 3).pad(1)],
        Block::Bottleneck => {
            let middle = kernel(width, 3).stride(stride).pad(1);
            vec![kernel(width, 1), middle, kernel(4 * width, 1)]
        }
    };
    let mut wire = input.clone();
    let last = kernels.len();
    for (number, kernel) in (1..).zip(kernels) {
        wire = net.conv(format!("{name}.conv{number}"), kernel, &wire);
        wire = net.norm(format!("{name}.bn{number}"), EPS, &wire);
        if number < last {
            wire = net.relu(format!("{name}.relu{number}"), &wire);
        }
    }
    let shortcut = if stride > 1 || input.channels() != wire.channels() {
        let projection = kernel(wire.channels(), 1).stride(stride);
        let projected = net.conv(format!("{name}.downsample.0"), projection, input);
        net.norm(format!("{name}.downsample.1"), EPS, &projected)
    } else {
        input.clone()
    };
    let sum = net.add(format!("{name}.add"), &wire, &shortcut);
    net.relu(format!("{name}.relu{last}"), &sum)
}
