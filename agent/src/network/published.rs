//! What is published of the catalogue's networks: accuracy, weight sets and
//! the preprocessing that belongs to each.
//!
//! Owns constants alone; a graph's own numbers are counted, never listed.
//! Sources: `meta` and `transforms()` of torchvision 0.29.2's weights, the
//! default configuration of timm 1.0.31 (inception-v4), and the series
//! "paper 2017" for the networks of which no public weights can be loaded.

use super::paper2017;

/// Resampling filter of a resize; both widen when they shrink (antialiasing).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// Triangle.
    Bilinear,
    /// Keys' cubic with a = −0.5.
    Bicubic,
}

/// From an image file to what enters the network.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Preprocess {
    /// Shorter side after the resize, in pixels.
    pub resize: usize,
    /// Side of the central crop, in pixels.
    pub crop: usize,
    /// Filter of the resize.
    pub interpolation: Interpolation,
    /// Subtracted from each channel (values 0 to 1).
    pub mean: [f32; 3],
    /// Divides each channel after that.
    pub std: [f32; 3],
}

/// A public weight set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WeightSet {
    /// Name in its library.
    pub name: &'static str,
    /// How its file is called there, without the ending.
    pub file: &'static str,
    /// Published single-crop accuracy, in percent.
    pub top1_percent: f64,
    /// The same for the best five.
    pub top5_percent: f64,
    /// What its images go through.
    pub preprocess: Preprocess,
}

/// What is known of one network beside its graph.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Published {
    /// Id in the catalogue.
    pub id: &'static str,
    /// Its public weight sets, the usual one first; may be empty.
    pub sets: &'static [WeightSet],
    /// In what it is not the study's network, or why it is not among them.
    pub differs: Option<&'static str>,
    /// Preprocessing where no weight set says otherwise.
    pub preprocess: Preprocess,
    /// Whether the graph itself rescales its input (`transform_input`).
    pub transform_input: bool,
}

impl Published {
    /// Top-1 and top-5 accuracy in percent, and who says so.
    #[must_use]
    pub fn accuracy(&self) -> (Option<f64>, Option<f64>, Option<String>) {
        if let Some(set) = self.sets.first() {
            let source = format!("{} ({})", set.name, set.file);
            return (Some(set.top1_percent), Some(set.top5_percent), Some(source));
        }
        match paper2017::paper_2017(self.id) {
            Some(row) => (Some(row.top1_percent), None, Some(paper2017::SERIES.to_owned())),
            None => (None, None, None),
        }
    }

    /// The preprocessing of the weight set whose published file is named as
    /// `file_stem` begins; the network's usual one where none is.
    #[must_use]
    pub fn preprocess_for(&self, file_stem: &str) -> Preprocess {
        let named = self.sets.iter().find(|set| file_stem.starts_with(set.file));
        named.map_or(self.preprocess, |set| set.preprocess)
    }
}

/// What is published of a network of the catalogue.
#[must_use]
pub fn published(id: &str) -> Option<&'static Published> {
    PUBLISHED.iter().find(|entry| entry.id == id)
}

const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

const fn imagenet(resize: usize, crop: usize) -> Preprocess {
    let interpolation = Interpolation::Bilinear;
    Preprocess { resize, crop, interpolation, mean: IMAGENET_MEAN, std: IMAGENET_STD }
}

/// 256 to 224 pixels, bilinear: most of torchvision's first sets, and the
/// study's own evaluation (its mean and deviation agree to three digits).
pub const USUAL: Preprocess = imagenet(256, 224);
const V2: Preprocess = imagenet(232, 224);

const fn set(
    name: &'static str,
    file: &'static str,
    [top1_percent, top5_percent]: [f64; 2],
    preprocess: Preprocess,
) -> WeightSet {
    WeightSet { name, file, top1_percent, top5_percent, preprocess }
}

const fn v1(file: &'static str, accuracy: [f64; 2]) -> WeightSet {
    set("torchvision IMAGENET1K_V1", file, accuracy, USUAL)
}

const fn v2(file: &'static str, accuracy: [f64; 2]) -> WeightSet {
    set("torchvision IMAGENET1K_V2", file, accuracy, V2)
}

const fn entry(
    id: &'static str,
    sets: &'static [WeightSet],
    differs: Option<&'static str>,
) -> Published {
    let preprocess = if sets.is_empty() { USUAL } else { sets[0].preprocess };
    Published { id, sets, differs, preprocess, transform_input: false }
}

const BIASES: Option<&str> =
    Some("the study's convolutions carried biases that normalisation makes idle");
const BEYOND: Option<&str> = Some("not one of the study's fourteen");

/// In the catalogue's order.
const PUBLISHED: [Published; 20] = [
    entry(
        "alexnet",
        &[v1("alexnet-owt-7be5be79", [56.522, 79.066])],
        Some("torchvision's one-tower net without LRN; the study's own is alexnet-bvlc"),
    ),
    entry(
        "alexnet-bn",
        &[],
        Some("no public weights: accuracy is the study's, weights are your own or hashed"),
    ),
    entry(
        "nin-bn",
        &[],
        Some("no public weights: accuracy is the study's, weights are your own or hashed"),
    ),
    entry(
        "enet",
        &[],
        Some(
            "rebuilt from its authors' description to the same counts; no public weights: \
             accuracy is the study's",
        ),
    ),
    Published {
        transform_input: true,
        ..entry(
            "googlenet",
            &[v1("googlenet-1378be20", [69.778, 89.530])],
            Some("normalised and with 3x3 for 5x5 kernels; the study's was Caffe's"),
        )
    },
    entry("resnet18", &[v1("resnet18-f37072fd", [69.758, 89.078])], None),
    entry("vgg16", &[v1("vgg16-397923af", [71.592, 90.382])], None),
    entry("vgg19", &[v1("vgg19-dcbb9e9d", [72.376, 90.876])], None),
    entry("resnet34", &[v1("resnet34-b627a593", [73.314, 91.420])], None),
    entry(
        "resnet50",
        &[v1("resnet50-0676ba61", [76.130, 92.862]), v2("resnet50-11ad3fa6", [80.858, 95.434])],
        None,
    ),
    entry(
        "resnet101",
        &[v1("resnet101-63fe2227", [77.374, 93.546]), v2("resnet101-cd907fc2", [81.886, 95.780])],
        BIASES,
    ),
    entry(
        "resnet152",
        &[v1("resnet152-394f9c45", [78.312, 94.046]), v2("resnet152-f82ba261", [82.284, 96.002])],
        BIASES,
    ),
    Published {
        transform_input: true,
        ..entry(
            "inception-v3",
            &[set(
                "torchvision IMAGENET1K_V1",
                "inception_v3_google-0cc3c7bd",
                [77.294, 93.450],
                imagenet(342, 299),
            )],
            BIASES,
        )
    },
    entry(
        "inception-v4",
        &[set(
            "timm tf_in1k",
            "inception_v4.tf_in1k",
            // As stated in notes beside timm's results; its exact row is not at hand.
            [80.2, 95.0],
            Preprocess {
                resize: 341,
                crop: 299,
                interpolation: Interpolation::Bicubic,
                mean: [0.5; 3],
                std: [0.5; 3],
            },
        )],
        Some("the architecture as published; the study's had 26 % fewer parameters"),
    ),
    entry("vgg16-bn", &[v1("vgg16_bn-6c64b313", [73.360, 91.516])], BEYOND),
    entry("vgg19-bn", &[v1("vgg19_bn-c79401a0", [74.218, 91.842])], BEYOND),
    Published {
        preprocess: imagenet(256, 227),
        ..entry(
            "alexnet-bvlc",
            &[],
            Some("the study's AlexNet, with groups counted; accuracy is the study's"),
        )
    },
    entry("squeezenet1-1", &[v1("squeezenet1_1-b8a52dc0", [58.178, 80.624])], BEYOND),
    entry(
        "mobilenet-v2",
        &[
            v1("mobilenet_v2-b0353104", [71.878, 90.286]),
            v2("mobilenet_v2-7ebf99e0", [72.154, 90.822]),
        ],
        BEYOND,
    ),
    entry(
        "efficientnet-b0",
        &[set(
            "torchvision IMAGENET1K_V1",
            "efficientnet_b0_rwightman-7f5810bc",
            [77.692, 93.532],
            Preprocess { interpolation: Interpolation::Bicubic, ..USUAL },
        )],
        BEYOND,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Op, by_id, catalog};

    #[test]
    fn every_network_of_the_catalogue_has_its_entry_in_order() {
        let ids: Vec<&str> = PUBLISHED.iter().map(|entry| entry.id).collect();
        assert_eq!(ids, catalog());
        assert!(paper2017::PAPER_2017.iter().all(|row| ids.contains(&row.id)));
    }

    #[test]
    fn crop_and_transform_input_are_those_of_the_graph() {
        for entry in &PUBLISHED {
            let graph = by_id(entry.id).unwrap();
            assert_eq!(entry.preprocess.crop, graph.input.size, "{}", entry.id);
            let rescales = matches!(graph.nodes[0].op, Op::ChannelAffine(_));
            assert_eq!(entry.transform_input, rescales, "{}", entry.id);
        }
    }

    #[test]
    fn a_second_weight_set_is_told_by_its_files_name() {
        let resnet50 = published("resnet50").unwrap();
        assert_eq!(resnet50.preprocess_for("resnet50-11ad3fa6").resize, 232);
        assert_eq!(resnet50.preprocess_for("my-weights").resize, 256);
    }
}
