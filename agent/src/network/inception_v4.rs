//! Inception-v4 in timm's form.
//!
//! Source: Szegedy and others, arXiv 1602.07261; keys as in timm's
//! `inception_v4`. The pool branches do not count their padding.

use super::build::{Builder, Kernel, Wire, avg_same, kernel, max_window, oblong};
use super::graph::Graph;

/// 42.7 M parameters, 12.3 G MACs at 299.
pub(super) fn inception_v4() -> Graph {
    let (mut net, image) = Builder::new("inception-v4", 299);
    let mut wire = net.unit("features.0", kernel(32, 3).stride(2), &image);
    wire = net.unit("features.1", kernel(32, 3), &wire);
    wire = net.unit("features.2", kernel(64, 3).pad(1), &wire);
    wire = stem(&mut net, &wire);
    for index in 6..10 {
        wire = block_a(&mut net, &format!("features.{index}"), &wire);
    }
    wire = reduce_a(&mut net, "features.10", &wire);
    for index in 11..18 {
        wire = block_b(&mut net, &format!("features.{index}"), &wire);
    }
    wire = reduce_b(&mut net, "features.18", &wire);
    for index in 19..22 {
        wire = block_c(&mut net, &format!("features.{index}"), &wire);
    }
    net.mean_and_linear("global_pool", "last_linear", &wire);
    net.finish()
}

/// 1 × `side`, padded so that the size stays.
fn flat(channels: usize, side: usize) -> Kernel {
    oblong(channels, [1, side]).pads([0, side / 2])
}

/// `side` × 1, padded so that the size stays.
fn tall(channels: usize, side: usize) -> Kernel {
    oblong(channels, [side, 1]).pads([side / 2, 0])
}

/// The three stages that split and join before the first block.
fn stem(net: &mut Builder, input: &Wire) -> Wire {
    let pool = net.max_pool("features.3.maxpool", max_window(3, 2), input);
    let conv = net.unit("features.3.conv", kernel(96, 3).stride(2), input);
    let wire = net.concat("features.3.concat", &[&pool, &conv]);
    let kernels = [kernel(64, 1), kernel(96, 3)];
    let first = net.units("features.4.branch0.", 0, &kernels, &wire);
    let kernels = [kernel(64, 1), flat(64, 7), tall(64, 7), kernel(96, 3)];
    let second = net.units("features.4.branch1.", 0, &kernels, &wire);
    let wire = net.concat("features.4.concat", &[&first, &second]);
    let conv = net.unit("features.5.conv", kernel(192, 3).stride(2), &wire);
    let pool = net.max_pool("features.5.maxpool", max_window(3, 2), &wire);
    net.concat("features.5.concat", &[&conv, &pool])
}

/// Average pool of the block's input, then a 1 × 1 convolution.
fn pool_branch(net: &mut Builder, name: &str, channels: usize, input: &Wire) -> Wire {
    let pool = net.avg_pool(format!("{name}.branch3.0"), avg_same(false), input);
    net.unit(format!("{name}.branch3.1"), kernel(channels, 1), &pool)
}

fn block_a(net: &mut Builder, name: &str, input: &Wire) -> Wire {
    let first = net.unit(format!("{name}.branch0"), kernel(96, 1), input);
    let kernels = [kernel(64, 1), kernel(96, 3).pad(1)];
    let second = net.units(&format!("{name}.branch1."), 0, &kernels, input);
    let kernels = [kernel(64, 1), kernel(96, 3).pad(1), kernel(96, 3).pad(1)];
    let third = net.units(&format!("{name}.branch2."), 0, &kernels, input);
    let fourth = pool_branch(net, name, 96, input);
    net.concat(format!("{name}.concat"), &[&first, &second, &third, &fourth])
}

fn reduce_a(net: &mut Builder, name: &str, input: &Wire) -> Wire {
    let first = net.unit(format!("{name}.branch0"), kernel(384, 3).stride(2), input);
    let kernels = [kernel(192, 1), kernel(224, 3).pad(1), kernel(256, 3).stride(2)];
    let second = net.units(&format!("{name}.branch1."), 0, &kernels, input);
    let pool = net.max_pool(format!("{name}.branch2"), max_window(3, 2), input);
    net.concat(format!("{name}.concat"), &[&first, &second, &pool])
}

fn block_b(net: &mut Builder, name: &str, input: &Wire) -> Wire {
    let first = net.unit(format!("{name}.branch0"), kernel(384, 1), input);
    let kernels = [kernel(192, 1), flat(224, 7), tall(256, 7)];
    let second = net.units(&format!("{name}.branch1."), 0, &kernels, input);
    let kernels = [kernel(192, 1), tall(192, 7), flat(224, 7), tall(224, 7), flat(256, 7)];
    let third = net.units(&format!("{name}.branch2."), 0, &kernels, input);
    let fourth = pool_branch(net, name, 128, input);
    net.concat(format!("{name}.concat"), &[&first, &second, &third, &fourth])
}

fn reduce_b(net: &mut Builder, name: &str, input: &Wire) -> Wire {
    let kernels = [kernel(192, 1), kernel(192, 3).stride(2)];
    let first = net.units(&format!("{name}.branch0."), 0, &kernels, input);
    let kernels = [kernel(256, 1), flat(256, 7), tall(320, 7), kernel(320, 3).stride(2)];
    let second = net.units(&format!("{name}.branch1."), 0, &kernels, input);
    let pool = net.max_pool(format!("{name}.branch2"), max_window(3, 2), input);
    net.concat(format!("{name}.concat"), &[&first, &second, &pool])
}

fn block_c(net: &mut Builder, name: &str, input: &Wire) -> Wire {
    let first = net.unit(format!("{name}.branch0"), kernel(256, 1), input);
    let wire = net.unit(format!("{name}.branch1_0"), kernel(384, 1), input);
    let second_a = net.unit(format!("{name}.branch1_1a"), flat(256, 3), &wire);
    let second_b = net.unit(format!("{name}.branch1_1b"), tall(256, 3), &wire);
    let kernels = [kernel(384, 1), tall(448, 3), flat(512, 3)];
    let wire = net.units(&format!("{name}.branch2_"), 0, &kernels, input);
    let third_a = net.unit(format!("{name}.branch2_3a"), flat(256, 3), &wire);
    let third_b = net.unit(format!("{name}.branch2_3b"), tall(256, 3), &wire);
    let fourth = pool_branch(net, name, 256, input);
    let all = [&first, &second_a, &second_b, &third_a, &third_b, &fourth];
    net.concat(format!("{name}.concat"), &all)
}
