//! Accuracies that others published: constants for tables and figures.
//!
//! Owns the weight sets' names and single-crop accuracies on ImageNet-1k's
//! validation images. What is published is never shown as measured.
//! Sources: `meta` of torchvision 0.29.2's weights; notes beside timm's results
//! (inception-v4, whose exact row is not at hand); [`paper2017`] for networks
//! of which no public weights can be loaded.

use crate::paper2017;

/// A published accuracy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PublishedAccuracy {
    /// Id of the network.
    pub network: &'static str,
    /// Name of the weight set in its library, or of a paper's series.
    pub set: &'static str,
    /// How its file is called there, without the ending; empty for a series.
    pub file: &'static str,
    /// One central crop, in percent.
    pub top1_percent: f64,
    /// The same for the best five, in percent, where it was published.
    pub top5_percent: Option<f64>,
}

impl PublishedAccuracy {
    /// Who says so.
    #[must_use]
    pub fn source(&self) -> String {
        if self.file.is_empty() {
            return self.set.to_owned();
        }
        format!("{} ({})", self.set, self.file)
    }
}

/// What is published of `network` with the weights of this file's name: those
/// of the set that it names, else of the usual one.
#[must_use]
pub fn published_accuracy(network: &str, file_stem: &str) -> Option<PublishedAccuracy> {
    let of_network = || ACCURACIES.iter().filter(|row| row.network == network);
    let named = of_network().find(|row| file_stem.starts_with(row.file));
    let row = named.or_else(|| of_network().next()).copied();
    row.or_else(|| {
        paper2017::PAPER_2017.iter().find(|row| row.id == network).map(|row| PublishedAccuracy {
            network: row.id,
            set: paper2017::SERIES,
            file: "",
            top1_percent: row.top1_percent,
            top5_percent: None,
        })
    })
}

const fn v1(
    network: &'static str,
    file: &'static str,
    [top1_percent, top5]: [f64; 2],
) -> PublishedAccuracy {
    let set = "torchvision IMAGENET1K_V1";
    PublishedAccuracy { network, set, file, top1_percent, top5_percent: Some(top5) }
}

const fn v2(network: &'static str, file: &'static str, accuracy: [f64; 2]) -> PublishedAccuracy {
    PublishedAccuracy { set: "torchvision IMAGENET1K_V2", ..v1(network, file, accuracy) }
}

/// All weight sets; a network's usual one before its others.
pub const ACCURACIES: [PublishedAccuracy; 20] = [
    v1("alexnet", "alexnet-owt-7be5be79", [56.522, 79.066]),
    v1("googlenet", "googlenet-1378be20", [69.778, 89.530]),
    v1("resnet18", "resnet18-f37072fd", [69.758, 89.078]),
    v1("vgg16", "vgg16-397923af", [71.592, 90.382]),
    v1("vgg19", "vgg19-dcbb9e9d", [72.376, 90.876]),
    v1("resnet34", "resnet34-b627a593", [73.314, 91.420]),
    v1("resnet50", "resnet50-0676ba61", [76.130, 92.862]),
    v2("resnet50", "resnet50-11ad3fa6", [80.858, 95.434]),
    v1("resnet101", "resnet101-63fe2227", [77.374, 93.546]),
    v2("resnet101", "resnet101-cd907fc2", [81.886, 95.780]),
    v1("resnet152", "resnet152-394f9c45", [78.312, 94.046]),
    v2("resnet152", "resnet152-f82ba261", [82.284, 96.002]),
    v1("inception-v3", "inception_v3_google-0cc3c7bd", [77.294, 93.450]),
    PublishedAccuracy {
        set: "timm tf_in1k",
        ..v1("inception-v4", "inception_v4.tf_in1k", [80.2, 95.0])
    },
    v1("vgg16-bn", "vgg16_bn-6c64b313", [73.360, 91.516]),
    v1("vgg19-bn", "vgg19_bn-c79401a0", [74.218, 91.842]),
    v1("squeezenet1-1", "squeezenet1_1-b8a52dc0", [58.178, 80.624]),
    v1("mobilenet-v2", "mobilenet_v2-b0353104", [71.878, 90.286]),
    v2("mobilenet-v2", "mobilenet_v2-7ebf99e0", [72.154, 90.822]),
    v1("efficientnet-b0", "efficientnet_b0_rwightman-7f5810bc", [77.692, 93.532]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_set_is_told_by_its_files_name_and_a_series_where_there_is_none() {
        let of = |network, stem| published_accuracy(network, stem).map(|row| row.source());
        assert_eq!(
            of("resnet50", "resnet50-11ad3fa6").as_deref(),
            Some("torchvision IMAGENET1K_V2 (resnet50-11ad3fa6)")
        );
        assert_eq!(
            of("resnet50", "mine").as_deref(),
            Some("torchvision IMAGENET1K_V1 (resnet50-0676ba61)")
        );
        assert_eq!(of("enet", "").as_deref(), Some("paper 2017"));
        assert_eq!(of("mine.toml", ""), None);
    }
}
