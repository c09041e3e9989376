//! Networks as data: graphs of named layers and the weights that fill them.
//!
//! Owns the graph, what can be said of one without running it (shapes,
//! counts, weight keys), the catalogue of known networks, and weights with
//! their loaders. Knows nothing of candle or of how a graph is executed.
//! Convention for all keys: the `state_dict` names of PyTorch.

mod alexnet;
mod build;
mod catalog;
mod count;
mod enet;
mod googlenet;
mod graph;
mod graph_file;
mod hashed;
mod inception_v3;
mod inception_v4;
mod keys;
mod mobile;
mod nin;
mod pickle;
mod pth_file;
mod published;
mod resnet;
mod shape;
mod squeezenet;
mod vgg;
mod weight_file;
mod weights;

pub use catalog::{UnknownNetwork, by_id, catalog};
pub use count::{LayerCounts, Totals, totals};
pub use graph::{
    AdaptiveAvgPool, AvgPool, BatchNorm, ChannelAffine, Conv2d, Graph, GraphError, INPUT_NAME,
    Input, Linear, Lrn, MaxPool, Node, Op, PadChannels, Prelu, Source,
};
pub use graph_file::{NetworkError, identity, is_graph_file, open};
pub use hashed::{hashed_input, hashed_values};
pub use keys::{WeightKey, WeightRole};
pub use published::{Interpolation, Preprocess, Published, USUAL, published};
pub use shape::{Shape, pooled_length};
pub use wattline_protocol::paper2017::{PAPER_2017, PaperRow, SERIES, paper_2017};
pub use weight_file::read_tensor;
pub use weights::{WeightTensor, Weights, WeightsError, check_weights, weights_file};
