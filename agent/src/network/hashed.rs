//! Weights and inputs made from a hash: no file, the same bits everywhere.
//!
//! Each value is a counter hash of (key, seed, index), so that a measurement
//! of time and power needs no download and a golden vector no stored weights.
//! Algorithms: FNV-1a (64 bits) for the key, splitmix64 for the counter.

use super::graph::{Graph, Op};
use super::keys::{WeightKey, WeightRole};
use super::weights::{WeightTensor, Weights};

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;
/// 2⁶⁴ divided by the golden ratio: splitmix64's step.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
/// One unit of the 24 random bits, 2⁻²⁴.
const UNIT: f32 = 1.0 / 16_777_216.0;
/// Side of the coarse pattern in the hashed image, in patches.
const PATCHES: usize = 8;

/// Bounds of a uniform distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Range {
    low: f64,
    high: f64,
}

fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME))
}

/// 24 random bits of the state as a float in [0, 1), exactly.
#[expect(clippy::cast_precision_loss, reason = "24 bits fit the mantissa of f32")]
fn unit(state: u64) -> f32 {
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 40) as f32 * UNIT
}

/// `count` values in [`low`, `high`) for a key and a seed, the same bits on
/// every machine: each step is rounded to f32 and none is fused.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "bounds are rounded to f32 by definition")]
pub fn hashed_values(key: &str, seed: u64, count: usize, low: f64, high: f64) -> Vec<f32> {
    let (base, span) = (low as f32, (high - low) as f32);
    let mut state = fnv1a(key).wrapping_add(seed.wrapping_mul(STEP));
    let mut next = || {
        state = state.wrapping_add(STEP);
        base + span * unit(state)
    };
    (0..count).map(|_| next()).collect()
}

/// A hashed batch of images, N × `channels` × `size` × `size` in f32: coarse
/// patches of colour (so that images differ after pooling) plus fine noise.
#[must_use]
pub fn hashed_input(seed: u64, batch: usize, channels: usize, size: usize) -> Vec<f32> {
    let patches = batch * channels * PATCHES * PATCHES;
    let coarse = hashed_values("coarse", seed, patches, -2.0, 2.0);
    let mut image = hashed_values("input", seed, batch * channels * size * size, -0.5, 0.5);
    if image.is_empty() {
        return image;
    }
    for (plane, pixels) in image.chunks_exact_mut(size * size).enumerate() {
        for (row, line) in pixels.chunks_exact_mut(size).enumerate() {
            let first = (plane * PATCHES + row * PATCHES / size) * PATCHES;
            for (column, pixel) in line.iter_mut().enumerate() {
                *pixel += coarse[first + column * PATCHES / size];
            }
        }
    }
    image
}

impl Weights {
    /// Weights of order one for every key of `graph`, made from `seed`.
    #[must_use]
    pub fn hashed(graph: &Graph, seed: u64) -> Weights {
        let mut weights = Weights::default();
        for node in &graph.nodes {
            for key in node.weight_keys() {
                let Range { low, high } = range(graph, &node.name, &node.op, &key);
                let values = hashed_values(&key.key, seed, key.elements(), low, high);
                weights.insert(key.key, WeightTensor { shape: key.shape, values });
            }
        }
        weights
    }
}

/// The range that keeps activations of order one at any depth.
fn range(graph: &Graph, layer: &str, op: &Op, key: &WeightKey) -> Range {
    let symmetric = |bound: f64| Range { low: -bound, high: bound };
    match key.role {
        WeightRole::Kernel => symmetric(he_bound(&key.shape)),
        WeightRole::Bias => symmetric(0.1),
        WeightRole::Slope => Range { low: 0.1, high: 0.4 },
        WeightRole::NormMean => symmetric(0.2),
        WeightRole::NormVariance => Range { low: 0.5, high: 1.5 },
        WeightRole::NormScale if ends_residual_branch(&graph.id, layer, op) => {
            Range { low: 0.1, high: 0.4 }
        }
        WeightRole::NormScale => Range { low: 0.7, high: 1.2 },
    }
}

/// He's bound for a uniform distribution, √(6 / fan-in).
#[expect(clippy::cast_precision_loss, reason = "fan-ins are far below 2^53")]
fn he_bound(shape: &[usize]) -> f64 {
    let fan_in: usize = shape[1..].iter().product();
    (6.0 / fan_in as f64).sqrt()
}

/// Whether `layer` is the last normalisation of a residual branch: `bn3` of a
/// block in `layerL.B` or `stageS.B`, and `bn2` in the two-convolution ResNets.
fn ends_residual_branch(network: &str, layer: &str, op: &Op) -> bool {
    if !matches!(op, Op::BatchNorm(_)) {
        return false;
    }
    let two_convolutions = ["resnet18", "resnet34"].contains(&network);
    let numbered = |text: &str, prefix: &str| {
        let digits = text.strip_prefix(prefix).unwrap_or_default();
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    let parts: Vec<&str> = layer.split('.').collect();
    match parts[..] {
        [stage, block, "bn3"] => {
            (numbered(stage, "layer") || numbered(stage, "stage")) && numbered(block, "")
        }
        [stage, block, "bn2"] => {
            two_convolutions && numbered(stage, "layer") && numbered(block, "")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_gives_the_published_check_values() {
        // Origin: numpy, the recipe of the golden vectors.
        assert_eq!(fnv1a("conv1.weight"), 0x69a2_9a2c_ee47_d254);
        let values = hashed_values("conv1.weight", 1, 4, -0.5, 0.5);
        let bits: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
        assert_eq!(bits, [0x3e7b_0bac, 0xbef4_439c, 0x3e71_ddd4, 0xbe05_c914]);
        let unit = hashed_values("conv1.weight", 1, 4, 0.0, 16_777_216.0);
        assert_eq!(unit, [12_501_739.0, 384_562.0, 12_351_349.0, 6_196_667.0]);
    }

    #[test]
    fn only_the_last_norm_of_a_residual_branch_is_damped() {
        let norm = Op::BatchNorm(super::super::BatchNorm { channels: 1, eps: 1e-5 });
        assert!(ends_residual_branch("resnet50", "layer3.12.bn3", &norm));
        assert!(!ends_residual_branch("resnet50", "layer3.12.bn2", &norm));
        assert!(ends_residual_branch("resnet18", "layer1.0.bn2", &norm));
        assert!(ends_residual_branch("enet", "stage4.0.bn3", &norm));
        assert!(!ends_residual_branch("enet", "bn", &norm));
        assert!(!ends_residual_branch("resnet18", "layer1.0.downsample.1", &norm));
    }
}
