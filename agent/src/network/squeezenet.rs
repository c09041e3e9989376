//! SqueezeNet 1.1.
//!
//! Source: Iandola and others, arXiv 1602.07360, and its repository for 1.1;
//! keys as in torchvision. All pools round up.

use super::build::{Builder, Wire, kernel, max_window};
use super::graph::{Graph, MaxPool, Op};

/// 1.24 M parameters, 0.35 G MACs at 224.
pub(super) fn squeezenet1_1() -> Graph {
    let pool = MaxPool { ceil: true, ..max_window(3, 2) };
    let (mut net, image) = Builder::new("squeezenet1-1", 224);
    let mut wire = net.conv("features.0", kernel(64, 3).stride(2).bias(), &image);
    wire = net.relu("features.1", &wire);
    let fires = [(3, 16), (4, 16), (6, 32), (7, 32), (9, 48), (10, 48), (11, 64), (12, 64)];
    for (index, squeezed) in fires {
        if [3, 6, 9].contains(&index) {
            wire = net.max_pool(format!("features.{}", index - 1), pool, &wire);
        }
        wire = fire(&mut net, &format!("features.{index}"), squeezed, &wire);
    }
    wire = net.conv("classifier.1", kernel(1000, 1).bias(), &wire);
    wire = net.relu("classifier.2", &wire);
    wire = net.same("classifier.3", Op::GlobalAvgPool, &wire);
    net.flatten(1, &wire);
    net.finish()
}

/// Squeeze to few channels, expand to four times as many by two kernels.
fn fire(net: &mut Builder, name: &str, squeezed: usize, input: &Wire) -> Wire {
    let wide = 4 * squeezed;
    let mut part = |layer: &str, kernel, input: &Wire| {
        let wire = net.conv(format!("{name}.{layer}"), kernel, input);
        net.relu(format!("{name}.{layer}_activation"), &wire)
    };
    let squeeze = part("squeeze", kernel(squeezed, 1).bias(), input);
    let small = part("expand1x1", kernel(wide, 1).bias(), &squeeze);
    let large = part("expand3x3", kernel(wide, 3).pad(1).bias(), &squeeze);
    net.concat(format!("{name}.concat"), &[&small, &large])
}
