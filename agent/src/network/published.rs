//! What belongs to the catalogue's networks beside their graphs: in what they
//! are not the study's, and the preprocessing of each public weight set.
//!
//! Owns constants alone; a graph's own numbers are counted, never listed, and
//! published accuracies are the protocol's, since the host draws them too.
//! Sources: `transforms()` of torchvision 0.29.2's weights and the default
//! configuration of timm 1.0.31 (inception-v4).

use wattline_protocol::published::published_accuracy;

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

/// How a public weight set's file is called, without the ending, and what its
/// images go through.
type WeightSet = (&'static str, Preprocess);

/// What is known of one network beside its graph.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Published {
    /// Id in the catalogue.
    pub id: &'static str,
    /// Its public weight sets, the usual one first; may be empty.
    sets: &'static [WeightSet],
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
        match published_accuracy(self.id, "") {
            Some(row) => (Some(row.top1_percent), row.top5_percent, Some(row.source())),
            None => (None, None, None),
        }
    }

    /// The preprocessing of the weight set whose published file is named as
    /// `file_stem` begins; the network's usual one where none is.
    #[must_use]
    pub fn preprocess_for(&self, file_stem: &str) -> Preprocess {
        let named = self.sets.iter().find(|(file, _)| file_stem.starts_with(file));
        named.map_or(self.preprocess, |(_, preprocess)| *preprocess)
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

const fn v1(file: &'static str) -> WeightSet {
    (file, USUAL)
}

const fn v2(file: &'static str) -> WeightSet {
    (file, V2)
}

const fn entry(
    id: &'static str,
    sets: &'static [WeightSet],
    differs: Option<&'static str>,
) -> Published {
    let preprocess = if sets.is_empty() { USUAL } else { sets[0].1 };
    Published { id, sets, differs, preprocess, transform_input: false }
}

const BIASES: Option<&str> =
    Some("the study's convolutions carried biases that normalisation makes idle");
const BEYOND: Option<&str> = Some("not one of the study's fourteen");

/// In the catalogue's order.
const PUBLISHED: [Published; 20] = [
    entry(
        "alexnet",
        &[v1("alexnet-owt-7be5be79")],
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
            &[v1("googlenet-1378be20")],
            Some("normalised and with 3x3 for 5x5 kernels; the study's was Caffe's"),
        )
    },
    entry("resnet18", &[v1("resnet18-f37072fd")], None),
    entry("vgg16", &[v1("vgg16-397923af")], None),
    entry("vgg19", &[v1("vgg19-dcbb9e9d")], None),
    entry("resnet34", &[v1("resnet34-b627a593")], None),
    entry("resnet50", &[v1("resnet50-0676ba61"), v2("resnet50-11ad3fa6")], None),
    entry("resnet101", &[v1("resnet101-63fe2227"), v2("resnet101-cd907fc2")], BIASES),
    entry("resnet152", &[v1("resnet152-394f9c45"), v2("resnet152-f82ba261")], BIASES),
    Published {
        transform_input: true,
        ..entry("inception-v3", &[("inception_v3_google-0cc3c7bd", imagenet(342, 299))], BIASES)
    },
    entry(
        "inception-v4",
        &[(
            "inception_v4.tf_in1k",
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
    entry("vgg16-bn", &[v1("vgg16_bn-6c64b313")], BEYOND),
    entry("vgg19-bn", &[v1("vgg19_bn-c79401a0")], BEYOND),
    Published {
        preprocess: imagenet(256, 227),
        ..entry(
            "alexnet-bvlc",
            &[],
            Some("the study's AlexNet, with groups counted; accuracy is the study's"),
        )
    },
    entry("squeezenet1-1", &[v1("squeezenet1_1-b8a52dc0")], BEYOND),
    entry("mobilenet-v2", &[v1("mobilenet_v2-b0353104"), v2("mobilenet_v2-7ebf99e0")], BEYOND),
    entry(
        "efficientnet-b0",
        &[(
            "efficientnet_b0_rwightman-7f5810bc",
            Preprocess { interpolation: Interpolation::Bicubic, ..USUAL },
        )],
        BEYOND,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Op, PAPER_2017, by_id, catalog};
    use wattline_protocol::published::ACCURACIES;

    #[test]
    fn every_network_of_the_catalogue_has_its_entry_in_order() {
        let ids: Vec<&str> = PUBLISHED.iter().map(|entry| entry.id).collect();
        assert_eq!(ids, catalog());
        assert!(PAPER_2017.iter().all(|row| ids.contains(&row.id)));
    }

    #[test]
    fn each_weight_set_with_a_published_accuracy_has_its_preprocessing() {
        let ours =
            PUBLISHED.iter().flat_map(|entry| entry.sets.iter().map(|set| (entry.id, set.0)));
        let mut ours: Vec<(&str, &str)> = ours.collect();
        let mut theirs: Vec<(&str, &str)> =
            ACCURACIES.iter().map(|row| (row.network, row.file)).collect();
        ours.sort_unstable();
        theirs.sort_unstable();
        assert_eq!(ours, theirs);
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
