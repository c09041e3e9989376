//! The networks that have a name.
//!
//! Owns the list of ids and how an id is looked up. The layers are in one
//! file per family.

use thiserror::Error;

use super::graph::Graph;
use super::{
    alexnet, enet, googlenet, inception_v3, inception_v4, mobile, nin, resnet, squeezenet, vgg,
};

/// Makes one network's graph.
type Maker = fn() -> Graph;

/// Ids in the order in which lists show them: the paper's fourteen in its own
/// order, then the others.
const CATALOG: [(&str, Maker); 20] = [
    ("alexnet", alexnet::alexnet),
    ("alexnet-bn", alexnet::alexnet_bn),
    ("nin-bn", nin::nin_bn),
    ("enet", enet::enet),
    ("googlenet", googlenet::googlenet),
    ("resnet18", resnet::resnet18),
    ("vgg16", vgg::vgg16),
    ("vgg19", vgg::vgg19),
    ("resnet34", resnet::resnet34),
    ("resnet50", resnet::resnet50),
    ("resnet101", resnet::resnet101),
    ("resnet152", resnet::resnet152),
    ("inception-v3", inception_v3::inception_v3),
    ("inception-v4", inception_v4::inception_v4),
    ("vgg16-bn", vgg::vgg16_bn),
    ("vgg19-bn", vgg::vgg19_bn),
    ("alexnet-bvlc", alexnet::alexnet_bvlc),
    ("squeezenet1-1", squeezenet::squeezenet1_1),
    ("mobilenet-v2", mobile::mobilenet_v2),
    ("efficientnet-b0", mobile::efficientnet_b0),
];

/// No network of the catalogue has this id.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("network {id}: not known; known are {}", .known.join(", "))]
pub struct UnknownNetwork {
    /// What was asked for.
    pub id: String,
    /// All ids there are.
    pub known: Vec<&'static str>,
}

/// All ids.
#[must_use]
pub fn catalog() -> Vec<&'static str> {
    CATALOG.iter().map(|(id, _)| *id).collect()
}

/// The graph of an id; underscores stand for hyphens.
///
/// # Errors
/// [`UnknownNetwork`] with the list of all ids.
pub fn by_id(id: &str) -> Result<Graph, UnknownNetwork> {
    let hyphened = id.replace('_', "-");
    match CATALOG.iter().find(|(known, _)| *known == hyphened) {
        Some((_, maker)) => Ok(maker()),
        None => Err(UnknownNetwork { id: id.to_owned(), known: catalog() }),
    }
}
