//! Weight keys of a graph: names and shapes as in PyTorch's `state_dict`.
//!
//! Owns which tensors a graph needs and what each of them is for. Knows no
//! values and no files.

use super::graph::{Graph, Node, Op};

/// What a weight tensor does in its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightRole {
    /// Kernel of a convolution or matrix of a linear layer.
    Kernel,
    /// Added per output channel, also the shift of a normalisation.
    Bias,
    /// Factor of a normalisation.
    NormScale,
    /// Running mean of a normalisation.
    NormMean,
    /// Running variance of a normalisation.
    NormVariance,
    /// Slope of a PReLU.
    Slope,
}

/// One tensor that a graph needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightKey {
    /// Name in the weight file.
    pub key: String,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Use in the layer.
    pub role: WeightRole,
}

impl WeightKey {
    /// Elements of the tensor.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether training changes it: all but running statistics.
    #[must_use]
    pub fn is_parameter(&self) -> bool {
        !matches!(self.role, WeightRole::NormMean | WeightRole::NormVariance)
    }
}

impl Graph {
    /// All tensors that the graph needs, in the order of its layers.
    #[must_use]
    pub fn weight_keys(&self) -> Vec<WeightKey> {
        self.nodes.iter().flat_map(Node::weight_keys).collect()
    }
}

impl Node {
    /// The tensors that this layer needs; most layers need none.
    #[must_use]
    pub fn weight_keys(&self) -> Vec<WeightKey> {
        use WeightRole::{Bias, Kernel, NormMean, NormScale, NormVariance, Slope};
        match &self.op {
            Op::Conv2d(conv) => {
                let [kh, kw] = conv.kernel;
                let per_group = conv.in_channels / conv.groups;
                let weight = self.key("weight", &[conv.out_channels, per_group, kh, kw], Kernel);
                let bias = conv.bias.then(|| self.key("bias", &[conv.out_channels], Bias));
                [weight].into_iter().chain(bias).collect()
            }
            Op::Linear(linear) => {
                let dims = [linear.out_features, linear.in_features];
                let bias = linear.bias.then(|| self.key("bias", &[linear.out_features], Bias));
                [self.key("weight", &dims, Kernel)].into_iter().chain(bias).collect()
            }
            Op::BatchNorm(norm) => vec![
                self.key("weight", &[norm.channels], NormScale),
                self.key("bias", &[norm.channels], Bias),
                self.key("running_mean", &[norm.channels], NormMean),
                self.key("running_var", &[norm.channels], NormVariance),
            ],
            Op::Prelu(prelu) => vec![self.key("weight", &[prelu.channels], Slope)],
            Op::Relu
            | Op::Relu6
            | Op::Silu
            | Op::Sigmoid
            | Op::MaxPool(_)
            | Op::AvgPool(_)
            | Op::AdaptiveAvgPool(_)
            | Op::GlobalAvgPool
            | Op::Flatten
            | Op::Add
            | Op::Concat
            | Op::ScaleChannels
            | Op::PadChannels(_)
            | Op::Lrn(_)
            | Op::ChannelAffine(_) => Vec::new(),
        }
    }

    fn key(&self, leaf: &str, shape: &[usize], role: WeightRole) -> WeightKey {
        WeightKey { key: format!("{}.{leaf}", self.name), shape: shape.to_vec(), role }
    }
}
