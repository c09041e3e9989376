//! Shapes of a graph's layers for a given image size.
//!
//! Owns shape inference and with it the check that a graph makes sense.
//! Source of the pooling arithmetic: PyTorch, `pooling_output_shape`.

use std::fmt;

use super::graph::{Conv2d, Graph, GraphError, Linear, Node, Op, Source};

/// Largest channel number, kernel extent or image side accepted: far above any
/// network, low enough that products of three stay inside 64 bits.
const NUMBER_MAX: usize = 1 << 20;
/// Elements of one output or one weight: 8 GiB of f32, more than a board has.
const ELEMENTS_MAX: usize = 1 << 31;

/// Shape of one image's activations, the batch left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Channels of pixels.
    Map {
        /// Channels.
        channels: usize,
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
    /// A plain vector.
    Vector {
        /// Its length.
        features: usize,
    },
}

impl Shape {
    /// Elements of one image.
    #[must_use]
    pub fn elements(&self) -> usize {
        match *self {
            Shape::Map { channels, height, width } => channels * height * width,
            Shape::Vector { features } => features,
        }
    }

    /// Channels of a map, features of a vector.
    #[must_use]
    pub fn channels(&self) -> usize {
        match *self {
            Shape::Map { channels, .. } => channels,
            Shape::Vector { features } => features,
        }
    }

    /// Pixels of a map; 1 for a vector.
    #[must_use]
    pub fn pixels(&self) -> usize {
        match *self {
            Shape::Map { height, width, .. } => height * width,
            Shape::Vector { .. } => 1,
        }
    }

    /// Dimensions with the batch in front.
    #[must_use]
    pub fn with_batch(&self, batch: usize) -> Vec<usize> {
        match *self {
            Shape::Map { channels, height, width } => vec![batch, channels, height, width],
            Shape::Vector { features } => vec![batch, features],
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shape::Map { channels, height, width } => write!(f, "{channels}x{height}x{width}"),
            Shape::Vector { features } => write!(f, "{features}"),
        }
    }
}

/// Windows along one axis of `length` pixels, or `None` where not one fits.
/// With `ceil` a last window may reach over the end, but must start inside.
#[must_use]
pub fn pooled_length(
    length: usize,
    window: usize,
    stride: usize,
    padding: usize,
    ceil: bool,
) -> Option<usize> {
    let free = (length + 2 * padding).checked_sub(window)?;
    let floor = free / stride + 1;
    let reaches_over = free % stride != 0 && floor * stride < length + padding;
    Some(floor + usize::from(ceil && reaches_over))
}

impl Graph {
    /// The shape of each node's output for an image of `size` × `size` pixels.
    ///
    /// # Errors
    /// [`GraphError`] naming the first layer that cannot be.
    pub fn shapes(&self, size: usize) -> Result<Vec<Shape>, GraphError> {
        let wiring = self.wiring()?;
        in_range("input", "channels", self.input.channels)?;
        in_range("input", "size", size)?;
        let image = Shape::Map { channels: self.input.channels, height: size, width: size };
        let mut shapes: Vec<Shape> = Vec::with_capacity(self.nodes.len());
        for (node, sources) in self.nodes.iter().zip(wiring) {
            let inputs: Vec<Shape> = sources
                .iter()
                .map(|source| match source {
                    Source::Input => image,
                    Source::Node(index) => shapes[*index],
                })
                .collect();
            let shape = node.shape(&inputs)?;
            node.check_elements("output", &shape.with_batch(1))?;
            shapes.push(shape);
        }
        Ok(shapes)
    }
}

/// Refuses numbers that are zero or so large that products could overflow.
fn in_range(layer: &str, field: &'static str, found: usize) -> Result<(), GraphError> {
    if (1..=NUMBER_MAX).contains(&found) {
        return Ok(());
    }
    Err(GraphError::BadNumber { layer: layer.to_owned(), field, found, expected: "1 to 2^20" })
}

impl Node {
    fn shape(&self, inputs: &[Shape]) -> Result<Shape, GraphError> {
        let first = inputs[0];
        match &self.op {
            Op::Relu | Op::Relu6 | Op::Silu | Op::Sigmoid => Ok(first),
            Op::BatchNorm(norm) => {
                self.finite("eps", norm.eps, " of zero or more", norm.eps >= 0.0)?;
                self.same_channels(norm.channels, first).map(|()| first)
            }
            Op::Prelu(prelu) => self.same_channels(prelu.channels, first).map(|()| first),
            Op::ChannelAffine(affine) => {
                for (field, values) in [("scale", &affine.scale), ("shift", &affine.shift)] {
                    for value in values {
                        self.finite(field, f64::from(*value), "", true)?;
                    }
                }
                self.same_channels(affine.scale.len(), first)?;
                self.same_channels(affine.shift.len(), first).map(|()| first)
            }
            Op::Lrn(lrn) => {
                in_range(&self.name, "size", lrn.size)?;
                for (field, value) in [("alpha", lrn.alpha), ("beta", lrn.beta), ("k", lrn.k)] {
                    self.finite(field, value, "", true)?;
                }
                self.map(first).map(|_| first)
            }
            Op::Conv2d(conv) => self.conv_shape(conv, first),
            Op::MaxPool(pool) => {
                self.pool_shape(first, pool.kernel, pool.stride, pool.padding, pool.ceil)
            }
            Op::AvgPool(pool) => {
                self.pool_shape(first, pool.kernel, pool.stride, pool.padding, pool.ceil)
            }
            Op::AdaptiveAvgPool(pool) => self.averaged(first, pool.output),
            Op::GlobalAvgPool => self.averaged(first, [1, 1]),
            Op::Linear(linear) => self.linear_shape(linear, first),
            Op::Flatten => Ok(Shape::Vector { features: first.elements() }),
            Op::Add if first == inputs[1] => Ok(first),
            Op::Add => Err(self.differ(first, inputs[1])),
            Op::Concat => self.concat_shape(inputs),
            Op::ScaleChannels => self.scaled_shape(first, inputs[1]),
            Op::PadChannels(pad) => self.padded_shape(pad.channels, first),
        }
    }

    fn finite(
        &self,
        field: &'static str,
        value: f64,
        bound: &'static str,
        holds: bool,
    ) -> Result<(), GraphError> {
        if value.is_finite() && holds {
            return Ok(());
        }
        let (layer, found) = (self.name.clone(), value.to_string());
        Err(GraphError::BadFactor { layer, field, found, bound })
    }

    fn averaged(&self, input: Shape, output: [usize; 2]) -> Result<Shape, GraphError> {
        let [height, width] = output;
        in_range(&self.name, "output", height)?;
        in_range(&self.name, "output", width)?;
        let [channels, ..] = self.map(input)?;
        Ok(Shape::Map { channels, height, width })
    }

    fn linear_shape(&self, linear: &Linear, input: Shape) -> Result<Shape, GraphError> {
        if matches!(input, Shape::Map { .. }) {
            return Err(self.wrong_rank(input));
        }
        in_range(&self.name, "out_features", linear.out_features)?;
        self.same_channels(linear.in_features, input)?;
        self.check_elements("weight", &[linear.in_features, linear.out_features])?;
        Ok(Shape::Vector { features: linear.out_features })
    }

    fn scaled_shape(&self, input: Shape, factors: Shape) -> Result<Shape, GraphError> {
        let [channels, ..] = self.map(input)?;
        if factors == (Shape::Map { channels, height: 1, width: 1 }) {
            return Ok(input);
        }
        Err(self.differ(input, factors))
    }

    fn padded_shape(&self, padded: usize, input: Shape) -> Result<Shape, GraphError> {
        let [channels, height, width] = self.map(input)?;
        in_range(&self.name, "channels", padded)?;
        if padded < channels {
            self.same_channels(padded, input)?;
        }
        Ok(Shape::Map { channels: padded, height, width })
    }

    fn conv_shape(&self, conv: &Conv2d, input: Shape) -> Result<Shape, GraphError> {
        let name = &self.name;
        in_range(name, "out_channels", conv.out_channels)?;
        in_range(name, "dilation", conv.dilation)?;
        in_range(name, "groups", conv.groups)?;
        self.same_channels(conv.in_channels, input)?;
        let divides = |channels: usize| channels.is_multiple_of(conv.groups);
        if !divides(conv.in_channels) || !divides(conv.out_channels) {
            let expected = "a divisor of both channel numbers";
            let (layer, field, found) = (name.clone(), "groups", conv.groups);
            return Err(GraphError::BadNumber { layer, field, found, expected });
        }
        for (field, pair) in [("kernel", conv.kernel), ("stride", conv.stride)] {
            in_range(name, field, pair[0])?;
            in_range(name, field, pair[1])?;
        }
        let [kh, kw] = conv.kernel;
        let weight = [conv.out_channels, conv.in_channels / conv.groups, kh, kw];
        self.check_elements("weight", &weight)?;
        let window = conv.kernel.map(|k| (k - 1) * conv.dilation + 1);
        self.windowed(input, conv.out_channels, window, conv.stride, conv.padding, false)
    }

    fn pool_shape(
        &self,
        input: Shape,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        ceil: bool,
    ) -> Result<Shape, GraphError> {
        for axis in 0..2 {
            in_range(&self.name, "kernel", kernel[axis])?;
            in_range(&self.name, "stride", stride[axis])?;
            // PyTorch's rule; beyond it a window could hold nothing but padding.
            if padding[axis] > kernel[axis] / 2 {
                let expected = "at most half of the kernel";
                let (layer, found) = (self.name.clone(), padding[axis]);
                return Err(GraphError::BadNumber { layer, field: "padding", found, expected });
            }
        }
        self.windowed(input, input.channels(), kernel, stride, padding, ceil)
    }

    fn windowed(
        &self,
        input: Shape,
        channels: usize,
        window: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        ceil: bool,
    ) -> Result<Shape, GraphError> {
        let [_, height, width] = self.map(input)?;
        let along = |axis: usize, length: usize| {
            if padding[axis] > NUMBER_MAX {
                let (layer, found) = (self.name.clone(), padding[axis]);
                let expected = "at most 2^20";
                return Err(GraphError::BadNumber { layer, field: "padding", found, expected });
            }
            pooled_length(length, window[axis], stride[axis], padding[axis], ceil).ok_or_else(
                || GraphError::WindowTooLarge {
                    layer: self.name.clone(),
                    window: window[axis],
                    length: length + 2 * padding[axis],
                },
            )
        };
        Ok(Shape::Map { channels, height: along(0, height)?, width: along(1, width)? })
    }

    fn concat_shape(&self, inputs: &[Shape]) -> Result<Shape, GraphError> {
        let [_, height, width] = self.map(inputs[0])?;
        let mut channels = 0;
        for input in inputs {
            let [more, h, w] = self.map(*input)?;
            if [h, w] != [height, width] {
                return Err(self.differ(inputs[0], *input));
            }
            channels += more;
        }
        Ok(Shape::Map { channels, height, width })
    }

    fn map(&self, shape: Shape) -> Result<[usize; 3], GraphError> {
        match shape {
            Shape::Map { channels, height, width } => Ok([channels, height, width]),
            Shape::Vector { .. } => Err(self.wrong_rank(shape)),
        }
    }

    fn same_channels(&self, declared: usize, input: Shape) -> Result<(), GraphError> {
        let found = input.channels();
        if declared == found {
            return Ok(());
        }
        Err(GraphError::Channels { layer: self.name.clone(), declared, found })
    }

    fn differ(&self, first: Shape, second: Shape) -> GraphError {
        GraphError::ShapesDiffer { layer: self.name.clone(), first, second }
    }

    fn wrong_rank(&self, found: Shape) -> GraphError {
        GraphError::WrongRank { layer: self.name.clone(), kind: self.op.kind(), found }
    }

    fn check_elements(&self, what: &'static str, dims: &[usize]) -> Result<(), GraphError> {
        let elements = dims.iter().try_fold(1_usize, |product, dim| product.checked_mul(*dim));
        if elements.is_some_and(|elements| elements <= ELEMENTS_MAX) {
            return Ok(());
        }
        Err(GraphError::TooLarge { layer: self.name.clone(), what, limit: ELEMENTS_MAX })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pooled_lengths_follow_pytorch() {
        // (length, window, stride, padding, ceil) → torch 2.15's MaxPool2d.
        assert_eq!(pooled_length(112, 3, 2, 0, true), Some(56));
        assert_eq!(pooled_length(112, 3, 2, 0, false), Some(55));
        assert_eq!(pooled_length(112, 3, 2, 1, false), Some(56));
        // The last window would start in the padding: it is dropped.
        assert_eq!(pooled_length(4, 2, 3, 1, true), Some(2));
        assert_eq!(pooled_length(2, 3, 2, 0, true), None);
        assert_eq!(pooled_length(1, 1, 1, 0, false), Some(1));
    }
}
