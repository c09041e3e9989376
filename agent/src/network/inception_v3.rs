//! Inception-v3 in torchvision's form.
//!
//! Source: Szegedy and others, arXiv 1512.00567. The pool branches count
//! their padding. The auxiliary classifier is for training and left out.

use super::build::{Builder, Kernel, Wire, avg_same, kernel, max_window, oblong};
use super::graph::Graph;

/// 23.8 M parameters, 5.71 G MACs at 299.
pub(super) fn inception_v3() -> Graph {
    let (mut net, image) = Builder::new("inception-v3", 299);
    let mut wire = net.rescaled(&image);
    wire = net.unit("Conv2d_1a_3x3", kernel(32, 3).stride(2), &wire);
    wire = net.unit("Conv2d_2a_3x3", kernel(32, 3), &wire);
    wire = net.unit("Conv2d_2b_3x3", kernel(64, 3).pad(1), &wire);
    wire = net.max_pool("maxpool1", max_window(3, 2), &wire);
    wire = net.unit("Conv2d_3b_1x1", kernel(80, 1), &wire);
    wire = net.unit("Conv2d_4a_3x3", kernel(192, 3), &wire);
    wire = net.max_pool("maxpool2", max_window(3, 2), &wire);
    for (name, pooled) in [("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)] {
        wire = block_a(&mut net, name, pooled, &wire);
    }
    wire = reduce_b(&mut net, "Mixed_6a", &wire);
    for (name, width) in
        [("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)]
    {
        wire = block_c(&mut net, name, width, &wire);
    }
    wire = reduce_d(&mut net, "Mixed_7a", &wire);
    for name in ["Mixed_7b", "Mixed_7c"] {
        wire = block_e(&mut net, name, &wire);
    }
    net.mean_and_linear("avgpool", "fc", &wire);
    net.finish()
}

/// 1 × 7, padded so that the size stays.
fn flat(channels: usize) -> Kernel {
    oblong(channels, [1, 7]).pads([0, 3])
}

/// 7 × 1, padded so that the size stays.
fn tall(channels: usize) -> Kernel {
    oblong(channels, [7, 1]).pads([3, 0])
}

/// Average pool of the block's input, then a 1 × 1 convolution.
fn pool_branch(net: &mut Builder, name: &str, channels: usize, input: &Wire) -> Wire {
    let pool = net.avg_pool(format!("{name}.pool"), avg_same(true), input);
    net.unit(format!("{name}.branch_pool"), kernel(channels, 1), &pool)
}

fn block_a(net: &mut Builder, name: &str, pooled: usize, input: &Wire) -> Wire {
    let direct = net.unit(format!("{name}.branch1x1"), kernel(64, 1), input);
    let kernels = [kernel(48, 1), kernel(64, 5).pad(2)];
    let five = net.units(&format!("{name}.branch5x5_"), 1, &kernels, input);
    let kernels = [kernel(64, 1), kernel(96, 3).pad(1), kernel(96, 3).pad(1)];
    let double = net.units(&format!("{name}.branch3x3dbl_"), 1, &kernels, input);
    let pool = pool_branch(net, name, pooled, input);
    net.concat(format!("{name}.concat"), &[&direct, &five, &double, &pool])
}

fn reduce_b(net: &mut Builder, name: &str, input: &Wire) -> Wire {
    let three = net.unit(format!("{name}.branch3x3"), kernel(384, 3).stride(2), input);
    let kernels = [kernel(64, 1), kernel(96, 3).pad(1), kernel(96, 3).stride(2)];
    let double = net.units(&format!("{name}.branch3x3dbl_"), 1, &kernels, input);
    let pool = net.max_pool(format!("{name}.pool"), max_window(3, 2), input);
    net.concat(format!("{name}.concat"), &[&three, &double, &pool])
}

fn block_c(net: &mut Builder, name: &str, width: usize, input: &Wire) -> Wire {
    let direct = net.unit(format!("{name}.branch1x1"), kernel(192, 1), input);
    let kernels = [kernel(width, 1), flat(width), tall(192)];
    let seven = net.units(&format!("{name}.branch7x7_"), 1, &kernels, input);
    let kernels = [kernel(width, 1), tall(width), flat(width), tall(width), flat(192)];
    let double = net.units(&format!("{name}.branch7x7dbl_"), 1, &kernels, input);
    let pool = pool_branch(net, name, 192, input);
    net.concat(format!("{name}.concat"), &[&direct, &seven, &double, &pool])
}

fn reduce_d(net: &mut Builder, name: &str, input: &Wire) -> Wire {
    let kernels = [kernel(192, 1), kernel(320, 3).stride(2)];
    let three = net.units(&format!("{name}.branch3x3_"), 1, &kernels, input);
    let kernels = [kernel(192, 1), flat(192), tall(192), kernel(192, 3).stride(2)];
    let seven = net.units(&format!("{name}.branch7x7x3_"), 1, &kernels, input);
    let pool = net.max_pool(format!("{name}.pool"), max_window(3, 2), input);
    net.concat(format!("{name}.concat"), &[&three, &seven, &pool])
}

fn block_e(net: &mut Builder, name: &str, input: &Wire) -> Wire {
    let direct = net.unit(format!("{name}.branch1x1"), kernel(320, 1), input);
    let reduced = net.unit(format!("{name}.branch3x3_1"), kernel(384, 1), input);
    let three = split(net, &format!("{name}.branch3x3_2"), &reduced);
    let kernels = [kernel(448, 1), kernel(384, 3).pad(1)];
    let wide = net.units(&format!("{name}.branch3x3dbl_"), 1, &kernels, input);
    let double = split(net, &format!("{name}.branch3x3dbl_3"), &wide);
    let pool = pool_branch(net, name, 192, input);
    let [three_a, three_b] = &three;
    let [double_a, double_b] = &double;
    let all = [&direct, three_a, three_b, double_a, double_b, &pool];
    net.concat(format!("{name}.concat"), &all)
}

/// 1 × 3 and 3 × 1 side by side, named `a` and `b`.
fn split(net: &mut Builder, name: &str, input: &Wire) -> [Wire; 2] {
    let a = net.unit(format!("{name}a"), oblong(384, [1, 3]).pads([0, 1]), input);
    let b = net.unit(format!("{name}b"), oblong(384, [3, 1]).pads([1, 0]), input);
    [a, b]
}
