//! GoogLeNet in torchvision's form.
//!
//! Source: Szegedy and others, arXiv 1409.4842; torchvision normalises, has no
//! convolution biases, and has a 3 × 3 where the original has a 5 × 5. All
//! pools round up. The auxiliary classifiers are for training and left out.

use super::build::{Builder, Wire, kernel, max_window};
use super::graph::{Graph, MaxPool};

/// Channels: 1 × 1; 3 × 3 reduced, 3 × 3; "5 × 5" reduced, "5 × 5"; pooled.
type Row = [usize; 6];

/// 6.62 M parameters, 1.50 G MACs at 224.
pub(super) fn googlenet() -> Graph {
    let pool = MaxPool { ceil: true, ..max_window(3, 2) };
    let last_pool = MaxPool { ceil: true, ..max_window(2, 2) };
    let (mut net, image) = Builder::new("googlenet", 224);
    let mut wire = net.rescaled(&image);
    wire = net.unit("conv1", kernel(64, 7).stride(2).pad(3), &wire);
    wire = net.max_pool("maxpool1", pool, &wire);
    wire = net.unit("conv2", kernel(64, 1), &wire);
    wire = net.unit("conv3", kernel(192, 3).pad(1), &wire);
    wire = net.max_pool("maxpool2", pool, &wire);
    wire = inception(&mut net, "inception3a", [64, 96, 128, 16, 32, 32], &wire);
    wire = inception(&mut net, "inception3b", [128, 128, 192, 32, 96, 64], &wire);
    wire = net.max_pool("maxpool3", pool, &wire);
    wire = inception(&mut net, "inception4a", [192, 96, 208, 16, 48, 64], &wire);
    wire = inception(&mut net, "inception4b", [160, 112, 224, 24, 64, 64], &wire);
    wire = inception(&mut net, "inception4c", [128, 128, 256, 24, 64, 64], &wire);
    wire = inception(&mut net, "inception4d", [112, 144, 288, 32, 64, 64], &wire);
    wire = inception(&mut net, "inception4e", [256, 160, 320, 32, 128, 128], &wire);
    wire = net.max_pool("maxpool4", last_pool, &wire);
    wire = inception(&mut net, "inception5a", [256, 160, 320, 32, 128, 128], &wire);
    wire = inception(&mut net, "inception5b", [384, 192, 384, 48, 128, 128], &wire);
    net.mean_and_linear("avgpool", "fc", &wire);
    net.finish()
}

fn inception(net: &mut Builder, name: &str, row: Row, input: &Wire) -> Wire {
    let [direct, reduce3, wide3, reduce5, wide5, pooled] = row;
    let first = net.unit(format!("{name}.branch1"), kernel(direct, 1), input);
    let kernels = [kernel(reduce3, 1), kernel(wide3, 3).pad(1)];
    let second = net.units(&format!("{name}.branch2."), 0, &kernels, input);
    let kernels = [kernel(reduce5, 1), kernel(wide5, 3).pad(1)];
    let third = net.units(&format!("{name}.branch3."), 0, &kernels, input);
    let window = MaxPool { padding: [1, 1], ceil: true, ..max_window(3, 1) };
    let pool = net.max_pool(format!("{name}.branch4.0"), window, input);
    let fourth = net.unit(format!("{name}.branch4.1"), kernel(pooled, 1), &pool);
    net.concat(format!("{name}.concat"), &[&first, &second, &third, &fourth])
}
