//! VGG networks of 16 and 19 layers, with and without normalisation.
//!
//! Source: Simonyan and Zisserman, arXiv 1409.1556, configurations D and E;
//! keys and adaptive pool as in torchvision.

use super::alexnet::classifier;
use super::build::{Builder, kernel, max_window};
use super::graph::Graph;

const EPS: f64 = 1e-5;
/// Channels of the five stages.
const CHANNELS: [usize; 5] = [64, 128, 256, 512, 512];
/// Convolutions per stage, 16 layers.
const DEPTHS_16: [usize; 5] = [2, 2, 3, 3, 3];
/// Convolutions per stage, 19 layers.
const DEPTHS_19: [usize; 5] = [2, 2, 4, 4, 4];

/// What stands between a convolution and its ReLU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Between {
    Nothing,
    Norm,
}

/// 138.4 M parameters, 15.5 G MACs at 224.
pub(super) fn vgg16() -> Graph {
    vgg("vgg16", DEPTHS_16, Between::Nothing)
}

/// 143.7 M parameters, 19.6 G MACs at 224.
pub(super) fn vgg19() -> Graph {
    vgg("vgg19", DEPTHS_19, Between::Nothing)
}

/// As [`vgg16`], normalised after each convolution.
pub(super) fn vgg16_bn() -> Graph {
    vgg("vgg16-bn", DEPTHS_16, Between::Norm)
}

/// As [`vgg19`], normalised after each convolution.
pub(super) fn vgg19_bn() -> Graph {
    vgg("vgg19-bn", DEPTHS_19, Between::Norm)
}

fn vgg(id: &str, depths: [usize; 5], between: Between) -> Graph {
    let (mut net, image) = Builder::new(id, 224);
    let mut wire = image;
    let mut layers = 0;
    let mut name = || {
        layers += 1;
        format!("features.{}", layers - 1)
    };
    for (channels, depth) in CHANNELS.into_iter().zip(depths) {
        for _ in 0..depth {
            wire = net.conv(name(), kernel(channels, 3).pad(1).bias(), &wire);
            if between == Between::Norm {
                wire = net.norm(name(), EPS, &wire);
            }
            wire = net.relu(name(), &wire);
        }
        wire = net.max_pool(name(), max_window(2, 2), &wire);
    }
    wire = net.adaptive("avgpool", 7, &wire);
    wire = net.flatten(7, &wire);
    classifier(&mut net, [0, 3, 6], &wire);
    net.finish()
}
