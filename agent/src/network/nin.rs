//! Network in Network with normalisation.
//!
//! Source: soumith, imagenet-multiGPU.torch, `ninbn.lua`; the network itself
//! is of Lin and others, arXiv 1312.4400.

use super::build::{Builder, kernel, max_window};
use super::graph::{AvgPool, Graph, MaxPool};

const EPS: f64 = 1e-3;

/// 8.66 M parameters, 1.26 G MACs at 224.
pub(super) fn nin_bn() -> Graph {
    let (mut net, image) = Builder::new("nin-bn", 224);
    let mut wire = image;
    let blocks = [
        (0, kernel(96, 11).stride(4).pad(5)),
        (10, kernel(256, 5).pad(2)),
        (20, kernel(384, 3).pad(1)),
        (30, kernel(1024, 3).pad(1)),
    ];
    for (first, wide) in blocks {
        if first > 0 {
            let pool = MaxPool { padding: [1, 1], ..max_window(3, 2) };
            wire = net.max_pool(format!("features.{}", first - 1), pool, &wire);
        }
        for (step, index) in [first, first + 3, first + 6].into_iter().enumerate() {
            let kernel = if step == 0 { wide } else { kernel(wire.channels(), 1) };
            wire = net.conv(format!("features.{index}"), kernel.bias(), &wire);
            wire = net.norm(format!("features.{}", index + 1), EPS, &wire);
            wire = net.relu(format!("features.{}", index + 2), &wire);
        }
    }
    let (kernel, stride, padding) = ([7, 7], [1, 1], [0, 0]);
    let pool = AvgPool { kernel, stride, padding, ceil: false, count_padding: true };
    wire = net.avg_pool("features.39", pool, &wire);
    wire = net.flatten(1, &wire);
    net.linear("classifier", 1000, &wire);
    net.finish()
}
