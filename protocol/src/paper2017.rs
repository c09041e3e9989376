//! The constant series "paper 2017": what the study itself plotted.
//!
//! Owns the fourteen rows of figures 1, 2 and 10 of Canziani, Culurciello and
//! Paszke, "An Analysis of Deep Neural Network Models for Practical
//! Applications", arXiv 1605.07678v4, and why ours differ where they do.
//! Source of the numbers: the authors' own vector figures
//! (culurciello/culurciello.github.io, commit a5cfcff, `acc_vs_net_vs_ops.svg`
//! and `acc_dens_vs_net.svg`); circle areas, centres and bar heights agree to
//! the last of two decimals.

/// Name of the series in tables, figures and JSON.
pub const SERIES: &str = "paper 2017";

/// One network as the study plotted it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PaperRow {
    /// Id of ours that stands for it.
    pub id: &'static str,
    /// The study's name for it.
    pub name: &'static str,
    /// Single-crop top-1 accuracy, in percent.
    pub top1_percent: f64,
    /// 10⁹ operations for one image, counted by torch-opCounter.
    pub gops: f64,
    /// 10⁶ parameters.
    pub params_m: f64,
    /// Why parameters or operations differ from ours by more than 1 %; empty
    /// where they do not.
    pub difference: &'static str,
}

impl PaperRow {
    /// Percent of top-1 accuracy for each 10⁶ parameters (figure 10).
    #[must_use]
    pub fn density(&self) -> f64 {
        self.top1_percent / self.params_m
    }
}

const fn row(
    (id, name): (&'static str, &'static str),
    [top1_percent, gops, params_m]: [f64; 3],
    difference: &'static str,
) -> PaperRow {
    PaperRow { id, name, top1_percent, gops, params_m, difference }
}

/// The fourteen, in the study's order of accuracy.
pub const PAPER_2017: [PaperRow; 14] = [
    row(
        ("alexnet-bvlc", "AlexNet"),
        [54.61, 2.26, 60.97],
        "the study counted 2.26 G: its counter left out the groups of conv2, conv4 and conv5",
    ),
    row(("alexnet-bn", "BN-AlexNet"), [56.60, 1.30, 60.54], ""),
    row(("nin-bn", "BN-NIN"), [62.62, 2.52, 8.64], ""),
    row(("enet", "ENet"), [68.40, 1.57, 5.86], ""),
    row(
        ("googlenet", "GoogLeNet"),
        [68.70, 3.00, 6.99],
        "the study's 6.99 M fits Caffe's net with 5x5 kernels and no normalisation; \
         torchvision's, which users own, has 3x3 there (6.62 M)",
    ),
    row(("resnet18", "ResNet-18"), [69.57, 3.63, 11.69], ""),
    row(("vgg16", "VGG-16"), [70.62, 30.97, 138.36], ""),
    row(("vgg19", "VGG-19"), [70.74, 39.29, 143.67], ""),
    row(("resnet34", "ResNet-34"), [73.27, 7.34, 21.80], ""),
    row(("resnet50", "ResNet-50"), [75.99, 8.21, 25.56], ""),
    row(("resnet101", "ResNet-101"), [77.56, 15.65, 44.60], ""),
    row(("resnet152", "ResNet-152"), [77.84, 23.10, 60.27], ""),
    row(("inception-v3", "Inception-v3"), [78.53, 11.45, 23.85], ""),
    row(
        ("inception-v4", "Inception-v4"),
        [80.10, 18.44, 31.57],
        "the published architecture has 42.68 M and 24.57 G; the study's definition, not known \
         in detail, must have lacked blocks",
    ),
];

/// The study's row that a network of ours stands for.
#[must_use]
pub fn paper_2017(id: &str) -> Option<&'static PaperRow> {
    PAPER_2017.iter().find(|row| row.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn densities_are_the_bar_heights_of_figure_10() {
        // Decoded from `acc_dens_vs_net.svg`, apart from the two columns here.
        let bars = [
            0.896, 0.935, 7.248, 11.672, 9.828, 5.951, 0.510, 0.492, 3.361, 2.973, 1.739, 1.292,
            3.293, 2.537,
        ];
        for (row, bar) in PAPER_2017.iter().zip(bars) {
            assert!((row.density() - bar).abs() < 6e-4, "{}: {}", row.name, row.density());
        }
    }
}
