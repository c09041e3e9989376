//! Accuracies beside cells: measured ones that joined the run, else published.
//!
//! Owns which accuracy stands for a cell. Draws nothing, reads no file.

use wattline_protocol::published::published_accuracy;

use super::model::{Accuracy, AccuracyOrigin, CellResult, MeasuredAccuracy};

/// Classes of the images that published accuracies are about (ImageNet-1k).
const PUBLISHED_CLASSES: u64 = 1000;
/// What stands between a graph file's path and its digest.
const DIGEST_MARK: char = '#';

/// The sets of images that accuracies were measured over, in order of name.
#[must_use]
pub fn image_sets(measured: &[MeasuredAccuracy]) -> Vec<&str> {
    let mut sets: Vec<&str> = measured.iter().map(|one| one.images_sha256.as_str()).collect();
    sets.sort_unstable();
    sets.dedup();
    sets
}

/// The accuracy that stands for `cell`: measured over the images `set` with the
/// cell's own weights, precision and image size; else what is published of its network,
/// unless `set` has other classes than the published figures.
#[must_use]
pub fn accuracy_of(
    measured: &[MeasuredAccuracy],
    set: Option<&str>,
    cell: &CellResult,
) -> Option<Accuracy> {
    let in_set = || measured.iter().filter(|one| Some(one.images_sha256.as_str()) == set);
    let own = in_set().find(|one| {
        one.weights_sha256 == cell.weights_sha256
            && one.size == cell.cell.size
            && one.precision == cell.cell.precision.name()
            && is_same_network(&one.network, &cell.cell.network)
    });
    if let Some(own) = own {
        return Some(Accuracy {
            top1: own.top1,
            top5: own.top5,
            origin: AccuracyOrigin::Measured { images: own.images, device: own.device.clone() },
        });
    }
    if in_set().any(|one| one.classes != PUBLISHED_CLASSES)
        || cell.cell.size != published_size(&cell.cell.network)
    {
        return None;
    }
    let row = published_accuracy(&cell.cell.network, file_stem(&cell.cell.weights))?;
    Some(Accuracy {
        top1: [row.top1_percent; 3],
        top5: row.top5_percent.map(|percent| [percent; 3]),
        origin: AccuracyOrigin::Published { source: row.source() },
    })
}

/// Side of the images, in pixels, that a published accuracy of `network` is for.
fn published_size(network: &str) -> u32 {
    match network {
        "inception-v3" | "inception-v4" => 299,
        "alexnet-bvlc" => 227,
        _ => 224,
    }
}

/// An id, or a graph file of which the path may differ and the digest not.
fn is_same_network(one: &str, other: &str) -> bool {
    match (one.rsplit_once(DIGEST_MARK), other.rsplit_once(DIGEST_MARK)) {
        (Some((_, one)), Some((_, other))) => one == other,
        (None, None) => one == other,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Name of a weights file without folder and ending; the board's path, so its
/// separator is a slash on every host.
fn file_stem(weights: &str) -> &str {
    let name = weights.rsplit('/').next().unwrap_or(weights);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    fn cell() -> CellResult {
        example::simulated().cells.remove(0)
    }

    fn of(images: &str, classes: u64) -> MeasuredAccuracy {
        MeasuredAccuracy {
            network: "alexnet".into(),
            weights_sha256: cell().weights_sha256,
            precision: "f32".into(),
            device: "cuda:0".into(),
            classes,
            size: 224,
            images_sha256: images.into(),
            images: 500,
            corrupt: 0,
            top1: [55.0, 50.6, 59.3],
            top5: Some([78.0, 74.1, 81.4]),
        }
    }

    fn is_measured(measured: &[MeasuredAccuracy], set: &str, cell: &CellResult) -> Option<bool> {
        let found = accuracy_of(measured, Some(set), cell)?;
        Some(matches!(found.origin, AccuracyOrigin::Measured { .. }))
    }

    #[test]
    fn a_measured_accuracy_needs_the_same_weights_precision_and_images() {
        let all = [of("aa", 1000)];
        assert_eq!(is_measured(&all, "aa", &cell()), Some(true));
        assert_eq!(is_measured(&all, "bb", &cell()), Some(false));
        let mut other = cell();
        other.weights_sha256 = "cd".repeat(32);
        assert_eq!(is_measured(&all, "aa", &other), Some(false));
        let mut small = cell();
        small.cell.size = 64;
        assert_eq!(is_measured(&all, "aa", &small), None, "nor is what is published for it");
        let mut half = all.clone();
        half[0].precision = "f16".into();
        assert_eq!(is_measured(&half, "aa", &cell()), Some(false));
    }

    #[test]
    fn published_accuracies_do_not_stand_beside_those_of_other_classes() {
        let mut other = cell();
        other.cell.network = "resnet18".into();
        assert_eq!(is_measured(&[of("aa", 10)], "aa", &other), None);
        assert_eq!(is_measured(&[of("aa", 1000)], "aa", &other), Some(false));
    }

    #[test]
    fn a_published_set_is_told_by_the_name_of_the_cells_weights() {
        let mut cell = cell();
        cell.cell.network = "resnet50".into();
        cell.cell.weights = "weights/resnet50-11ad3fa6.pth".into();
        let found = accuracy_of(&[], None, &cell).unwrap();
        assert!((found.top1[0] - 80.858).abs() < 1e-9);
    }

    #[test]
    fn a_graph_file_is_the_same_network_in_another_folder() {
        let digest = "#0123456789abcdef";
        assert!(is_same_network(&format!("a/net.toml{digest}"), &format!("net.toml{digest}")));
        assert!(!is_same_network("net.toml#0123456789abcdef", "net.toml#fedcba9876543210"));
    }
}
