//! A plan on our own kernels: its buffers and the order of its steps.
//!
//! Owns which buffer holds which value. A buffer is given back as soon as its
//! value has been read for the last time, so a network runs in as few buffers
//! as it has values alive at once. All are made at load.

use candle_core::{DType, Device, Result, Tensor};

use crate::network::Shape;

use super::super::plan::{Plan, StepOp, Value};
use super::step::OwnStep;

/// Index of a buffer.
type Slot = usize;

/// A network whose weights are packed and whose buffers are made.
#[derive(Debug)]
pub(in super::super) struct OwnNetwork {
    buffers: Vec<Tensor>,
    image: OwnStep,
    steps: Vec<Placed>,
    answer: OwnStep,
    /// The network's answer, channels first.
    result: Tensor,
    result_from: Slot,
}

/// A step with its buffers.
#[derive(Debug)]
struct Placed {
    /// One, but as many as inputs for a concatenation.
    parts: Vec<(OwnStep, Slot)>,
    second: Option<Slot>,
    out: Slot,
}

/// Gives buffers to values.
#[derive(Debug, Default)]
struct Slots {
    elements: Vec<usize>,
    free: Vec<Slot>,
}

impl Slots {
    /// A free buffer, the best fitting one: the smallest that is large enough,
    /// else the largest, grown.
    fn take(&mut self, elements: usize) -> Slot {
        let fits = |slot: &Slot| self.elements[*slot] >= elements;
        let size = |slot: &Slot| self.elements[*slot];
        let best = self.free.iter().copied().filter(fits).min_by_key(size);
        let best = best.or_else(|| self.free.iter().copied().max_by_key(size));
        let Some(slot) = best else {
            self.elements.push(elements);
            return self.elements.len() - 1;
        };
        self.free.retain(|free| *free != slot);
        self.elements[slot] = self.elements[slot].max(elements);
        slot
    }
}

impl OwnNetwork {
    pub(in super::super) fn new(plan: Plan, batch: usize) -> Result<OwnNetwork> {
        let shapes: Vec<Shape> = plan.steps.iter().map(|step| step.shape).collect();
        let shape_of = |value: &Value| match value {
            Value::Input => plan.input,
            Value::Step(index) => shapes[*index],
        };
        let mut slots = Slots::default();
        let input = slots.take(batch * plan.input.elements());
        let mut made: Vec<Slot> = Vec::new();
        let mut steps = Vec::new();
        for mut step in plan.steps {
            let slot_of = |value: &Value| match value {
                Value::Input => input,
                Value::Step(index) => made[*index],
            };
            let inputs: Vec<Slot> = step.inputs.iter().map(slot_of).collect();
            let mut second = step.residual.as_ref().map(slot_of);
            let freed: Vec<Slot> = step.frees.iter().map(slot_of).collect();
            let out = slots.take(batch * step.shape.elements());
            let mut parts = Vec::new();
            if matches!(step.op, StepOp::Concat) {
                let mut first = 0;
                for (value, slot) in step.inputs.iter().zip(&inputs) {
                    let shape = shape_of(value);
                    parts.push((OwnStep::place(first, shape, step.shape, batch), *slot));
                    first += shape.channels();
                }
            } else {
                second = second.or(inputs.get(1).copied());
                let shape = shape_of(&step.inputs[0]);
                parts.push((OwnStep::new(&mut step, shape, batch), inputs[0]));
            }
            steps.push(Placed { parts, second, out });
            made.push(out);
            slots.free.extend(freed);
        }
        let shape = shape_of(&plan.output);
        let result_from = made.last().copied().unwrap_or(input);
        let buffer = |elements: &usize| Tensor::zeros(*elements, DType::F32, &Device::Cpu);
        Ok(OwnNetwork {
            buffers: slots.elements.iter().map(buffer).collect::<Result<_>>()?,
            image: OwnStep::channels_last(plan.input, batch),
            steps,
            answer: OwnStep::channels_first(shape, batch),
            result: Tensor::zeros(shape.with_batch(batch), DType::F32, &Device::Cpu)?,
            result_from,
        })
    }

    /// Brings the image (N × C × H × W) into the first buffer.
    pub(in super::super) fn accept(&self, image: &Tensor) -> Result<()> {
        self.buffers[0].inplace_op2(image, &self.image)
    }

    pub(in super::super) fn step(&self, index: usize) -> Result<()> {
        let step = &self.steps[index];
        let out = &self.buffers[step.out];
        for (part, slot) in &step.parts {
            match step.second {
                None => out.inplace_op2(&self.buffers[*slot], part)?,
                Some(second) => {
                    out.inplace_op3(&self.buffers[*slot], &self.buffers[second], part)?;
                }
            }
        }
        Ok(())
    }

    /// The answer, copied out of the buffers.
    pub(in super::super) fn answer(&self) -> Result<Tensor> {
        self.result.inplace_op2(&self.buffers[self.result_from], &self.answer)?;
        self.result.copy()
    }
}
