//! AlexNet: as torchvision ships it, normalised, and as Caffe shipped it.
//!
//! Sources: Krizhevsky, "One weird trick", arXiv 1404.5997, for the one tower
//! (keys and adaptive pool as in torchvision); soumith's two-tower table with
//! normalisation, of which the paper's counts are exactly reproduced; BVLC's
//! `deploy.prototxt` for the net of 2012. Two towers that never meet before
//! the classifier are one stack of convolutions in two groups.

use super::build::{Builder, Wire, kernel, max_window};
use super::graph::{Graph, Lrn, MaxPool, Op};

/// Features of both hidden layers.
const HIDDEN: usize = 4096;

/// 61.1 M parameters, 0.71 G MACs at 224.
pub(super) fn alexnet() -> Graph {
    let (mut net, image) = Builder::new("alexnet", 224);
    let mut wire = image;
    let convolutions = [
        (0, kernel(64, 11).stride(4).pad(2)),
        (3, kernel(192, 5).pad(2)),
        (6, kernel(384, 3).pad(1)),
        (8, kernel(256, 3).pad(1)),
        (10, kernel(256, 3).pad(1)),
    ];
    for (index, kernel) in convolutions {
        wire = net.conv(format!("features.{index}"), kernel.bias(), &wire);
        wire = net.relu(format!("features.{}", index + 1), &wire);
        if [0, 3, 10].contains(&index) {
            wire = net.max_pool(format!("features.{}", index + 2), max_window(3, 2), &wire);
        }
    }
    wire = net.adaptive("avgpool", 6, &wire);
    wire = net.flatten(6, &wire);
    classifier(&mut net, [1, 4, 6], &wire);
    net.finish()
}

/// Three linear layers at the given indices, a ReLU after the first two.
pub(super) fn classifier(net: &mut Builder, indices: [usize; 3], input: &Wire) {
    let mut wire = input.clone();
    for index in &indices[..2] {
        wire = net.linear(&format!("classifier.{index}"), HIDDEN, &wire);
        wire = net.relu(format!("classifier.{}", index + 1), &wire);
    }
    net.linear(&format!("classifier.{}", indices[2]), 1000, &wire);
}

/// The two-tower net with normalisation: 60.5 M parameters, 0.65 G MACs.
pub(super) fn alexnet_bn() -> Graph {
    let eps = 1e-3;
    let (mut net, image) = Builder::new("alexnet-bn", 224);
    let mut wire = image;
    let convolutions = [
        (0, kernel(96, 11).stride(4).pad(2)),
        (4, kernel(256, 5).pad(2).groups(2)),
        (8, kernel(384, 3).pad(1).groups(2)),
        (11, kernel(384, 3).pad(1).groups(2)),
        (14, kernel(256, 3).pad(1).groups(2)),
    ];
    for (index, kernel) in convolutions {
        wire = net.conv(format!("features.{index}"), kernel.bias(), &wire);
        wire = net.norm(format!("features.{}", index + 1), eps, &wire);
        wire = net.relu(format!("features.{}", index + 2), &wire);
        if [0, 4, 14].contains(&index) {
            wire = net.max_pool(format!("features.{}", index + 3), max_window(3, 2), &wire);
        }
    }
    wire = net.flatten(6, &wire);
    for index in [1, 5] {
        wire = net.linear(&format!("classifier.{index}"), HIDDEN, &wire);
        wire = net.norm(format!("classifier.{}", index + 1), eps, &wire);
        wire = net.relu(format!("classifier.{}", index + 2), &wire);
    }
    net.linear("classifier.8", 1000, &wire);
    net.finish()
}

/// The net of 2012 on 227 pixels, with local response normalisation:
/// 61.0 M parameters, 0.72 G MACs.
pub(super) fn alexnet_bvlc() -> Graph {
    let pool = MaxPool { ceil: true, ..max_window(3, 2) };
    let lrn = Op::Lrn(Lrn { size: 5, alpha: 1e-4, beta: 0.75, k: 1.0 });
    let (mut net, image) = Builder::new("alexnet-bvlc", 227);
    let mut wire = image;
    for (first, kernel) in [(0, kernel(96, 11).stride(4)), (4, kernel(256, 5).pad(2).groups(2))] {
        wire = net.conv(format!("features.{first}"), kernel.bias(), &wire);
        wire = net.relu(format!("features.{}", first + 1), &wire);
        wire = net.same(format!("features.{}", first + 2), lrn.clone(), &wire);
        wire = net.max_pool(format!("features.{}", first + 3), pool, &wire);
    }
    for (first, channels, groups) in [(8, 384, 1), (10, 384, 2), (12, 256, 2)] {
        let kernel = kernel(channels, 3).pad(1).groups(groups).bias();
        wire = net.conv(format!("features.{first}"), kernel, &wire);
        wire = net.relu(format!("features.{}", first + 1), &wire);
    }
    wire = net.max_pool("features.14", pool, &wire);
    wire = net.flatten(6, &wire);
    classifier(&mut net, [1, 4, 6], &wire);
    net.finish()
}
