//! The catalogue's networks: their counts, keys and serialized form.
//!
//! Counts: hooks on torchvision 0.29.2 and timm 1.0.31 models. Operations in
//! the paper's convention: our own recomputation, which agrees within 0.5 %
//! with the figures of arXiv 1605.07678 for twelve of its fourteen networks
//! (for ENet and Inception-v3 with the pools that hooks do not see).

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use wattline_agent::network::{self, Graph, GraphError, Op, Shape, totals};

/// Id, parameters, running statistics (batch counters left out), 10⁶ MACs (one decimal), 10⁹ operations
/// in the paper's convention (three decimals).
const COUNTS: [(&str, u64, u64, f64, Option<f64>); 20] = [
    ("alexnet", 61_100_840, 0, 714.2, Some(1.430)),
    ("alexnet-bn", 60_541_992, 19_136, 649.7, Some(1.302)),
    ("nin-bn", 8_655_336, 10_560, 1259.9, Some(2.525)),
    ("enet", 5_861_508, 17_312, 779.3, Some(1.568)),
    ("googlenet", 6_624_904, 14_560, 1498.4, Some(3.013)),
    ("vgg16", 138_357_544, 0, 15_470.3, Some(30.974)),
    ("vgg19", 143_667_240, 0, 19_632.1, Some(39.300)),
    ("vgg16-bn", 138_365_992, 8_448, 15_470.3, None),
    ("vgg19-bn", 143_678_248, 11_008, 19_632.1, None),
    ("resnet18", 11_689_512, 9_600, 1814.1, Some(3.634)),
    ("resnet34", 21_797_672, 17_024, 3663.8, Some(7.336)),
    ("resnet50", 25_557_032, 53_120, 4089.2, Some(8.201)),
    ("resnet101", 44_549_160, 105_344, 7801.4, Some(15.637)),
    ("resnet152", 60_192_808, 151_424, 11_513.6, Some(23.077)),
    ("inception-v3", 23_834_568, 34_432, 5713.2, Some(11.460)),
    ("inception-v4", 42_679_816, 63_168, 12_254.0, Some(24.568)),
    ("alexnet-bvlc", 60_965_224, 0, 724.4, None),
    ("squeezenet1-1", 1_235_496, 0, 349.2, None),
    ("mobilenet-v2", 3_504_872, 34_112, 300.8, None),
    ("efficientnet-b0", 5_288_548, 42_016, 385.8, None),
];

fn graph(id: &str) -> Graph {
    network::by_id(id).expect("in the catalogue")
}

#[test]
fn counts_are_those_of_the_published_networks() {
    for (id, parameters, statistics, mega_macs, gops) in COUNTS {
        let graph = graph(id);
        let totals = totals(&graph.counts(graph.input.size).unwrap());
        assert_eq!(totals.parameters, parameters, "{id}");
        assert_eq!(totals.statistics, statistics, "{id}");
        #[expect(clippy::cast_precision_loss)]
        let found = totals.macs as f64 / 1e6;
        assert!((found - mega_macs).abs() <= 0.06, "{id}: {found} M MACs");
        if let Some(gops) = gops {
            assert!((totals.gops_paper - gops).abs() <= 6e-4, "{id}: {} G", totals.gops_paper);
        }
    }
    assert_eq!(network::catalog().len(), COUNTS.len());
}

/// Id, 10⁶ output elements of convolutions and linear layers (three decimals),
/// tensors of PyTorch's `state_dict` (batch counters included, no auxiliary
/// heads). Origin: the same hooks; alexnet-bvlc by hand from its prototxt.
const ACTIVATIONS_AND_KEYS: [(&str, f64, usize); 17] = [
    ("alexnet", 0.494, 16),
    ("alexnet-bn", 0.659, 51),
    ("nin-bn", 1.883, 86),
    ("enet", 3.551, 274),
    ("googlenet", 3.227, 344),
    ("vgg16", 13.557, 32),
    ("vgg16-bn", 13.557, 97),
    ("vgg19", 14.861, 38),
    ("vgg19-bn", 14.861, 118),
    ("resnet18", 2.485, 122),
    ("resnet34", 3.739, 218),
    ("resnet50", 11.115, 320),
    ("resnet101", 16.233, 626),
    ("resnet152", 22.555, 932),
    ("inception-v3", 8.968, 566),
    ("inception-v4", 15.090, 896),
    ("alexnet-bvlc", 0.659, 16),
];

#[test]
fn activations_and_keys_are_those_of_the_published_networks() {
    for (id, mega_activations, keys) in ACTIVATIONS_AND_KEYS {
        let graph = graph(id);
        let totals = totals(&graph.counts(graph.input.size).unwrap());
        #[expect(clippy::cast_precision_loss)]
        let found = totals.activations as f64 / 1e6;
        assert!((found - mega_activations).abs() <= 6e-4, "{id}: {found} M activations");
        let norms = graph.nodes.iter().filter(|node| matches!(node.op, Op::BatchNorm(_))).count();
        assert_eq!(graph.weight_keys().len() + norms, keys, "{id}");
    }
}

#[test]
fn the_studys_alexnet_has_its_counts_at_224_pixels_too() {
    let totals = totals(&graph("alexnet-bvlc").counts(224).unwrap());
    // 720.6 M in the hooks' table.
    assert_eq!(totals.macs / 100_000, 7206);
}

#[test]
fn counts_agree_with_the_study_within_a_percent_or_say_why() {
    for row in network::PAPER_2017 {
        let graph = graph(row.id);
        let totals = totals(&graph.counts(graph.input.size).unwrap());
        #[expect(clippy::cast_precision_loss)]
        let ratios = [totals.parameters as f64 / 1e6 / row.params_m, totals.gops_paper / row.gops];
        let agrees = ratios.iter().all(|ratio| (ratio - 1.0).abs() <= 0.01);
        assert_eq!(agrees, row.difference.is_empty(), "{}: {ratios:?}", row.id);
    }
}

#[test]
fn ids_are_found_with_underscores_and_unknown_ones_list_all() {
    assert_eq!(graph("inception_v3").id, "inception-v3");
    let unknown = network::by_id("resnet51").unwrap_err();
    assert_eq!(unknown.id, "resnet51");
    for id in network::catalog() {
        assert_eq!(graph(id).id, id);
        assert!(unknown.to_string().contains(id), "{unknown}");
    }
}

#[test]
fn every_network_ends_in_a_thousand_classes() {
    for id in network::catalog() {
        let graph = graph(id);
        let shapes = graph.shapes(graph.input.size).unwrap();
        assert_eq!(shapes.last(), Some(&Shape::Vector { features: 1000 }), "{id}");
    }
}

#[test]
fn a_graph_reads_back_from_json_and_from_toml_as_written() {
    for id in network::catalog() {
        let graph = graph(id);
        let json = serde_json::to_string(&graph).unwrap();
        assert_eq!(serde_json::from_str::<Graph>(&json).unwrap(), graph, "{id}");
        let toml = toml::to_string(&graph).unwrap();
        assert_eq!(toml::from_str::<Graph>(&toml).unwrap(), graph, "{id}");
    }
}

#[test]
fn unknown_fields_of_a_graph_are_refused() {
    let json = serde_json::to_string(&graph("alexnet")).unwrap();
    for (known, unknown) in [("\"groups\"", "\"group\""), ("\"inputs\"", "\"input_names\"")] {
        let broken = json.replacen(known, unknown, 1);
        assert!(serde_json::from_str::<Graph>(&broken).is_err(), "{unknown}");
    }
}

/// The error after a change to one layer of ResNet-18.
fn broken(layer: &str, change: fn(&mut network::Node)) -> GraphError {
    let mut graph = graph("resnet18");
    let node = graph.nodes.iter_mut().find(|node| node.name == layer).unwrap();
    change(node);
    graph.shapes(224).unwrap_err()
}

#[test]
fn errors_name_the_layer_that_cannot_be() {
    let error = broken("layer2.0.conv1", |node| {
        let Op::Conv2d(conv) = &mut node.op else { panic!("a convolution") };
        conv.in_channels = 65;
    });
    let (layer, declared, found) = ("layer2.0.conv1".to_owned(), 65, 64);
    assert_eq!(error, GraphError::Channels { layer, declared, found });

    let error = broken("layer1.0.add", |node| node.inputs[1] = "layer9".to_owned());
    let (layer, input) = ("layer1.0.add".to_owned(), "layer9".to_owned());
    assert_eq!(error, GraphError::UnknownInput { layer, input });

    let error = broken("layer2.0.add", |node| node.inputs[1] = "maxpool".to_owned());
    assert!(matches!(error, GraphError::ShapesDiffer { layer, .. } if layer == "layer2.0.add"));

    let error = broken("bn1", |node| node.name = "conv1".to_owned());
    assert_eq!(error, GraphError::NameTaken { layer: "conv1".to_owned() });

    let error = broken("fc", |node| node.inputs = vec!["avgpool".to_owned()]);
    assert!(matches!(error, GraphError::WrongRank { layer, .. } if layer == "fc"));

    let error = broken("conv1", |node| {
        let Op::Conv2d(conv) = &mut node.op else { panic!("a convolution") };
        conv.stride = [0, 2];
    });
    assert!(
        matches!(error, GraphError::BadNumber { layer, field: "stride", .. } if layer == "conv1")
    );
}

#[test]
fn an_image_too_small_is_refused_with_the_layer_that_cannot_take_it() {
    let error = graph("alexnet-bvlc").shapes(32).unwrap_err();
    assert!(matches!(error, GraphError::WindowTooLarge { .. }), "{error}");
    assert!(graph("resnet18").shapes(0).is_err());
    assert!(graph("resnet18").shapes(usize::MAX).is_err());
}
