//! A plan on candle's operations: its values and their release.

use candle_core::{DType, Device, Result, Tensor};

use super::error::EngineError;
use super::plain::{Place, PlainStep};
use super::plan::{Plan, Step, Value};

/// A network whose weights are on the device.
#[derive(Debug)]
pub(super) struct PlainNetwork {
    steps: Vec<(PlainStep, Links)>,
    output: Value,
    image: Option<Tensor>,
    values: Vec<Option<Tensor>>,
}

/// The part of a step that says what it reads and what nobody needs after it.
#[derive(Debug)]
struct Links {
    inputs: Vec<Value>,
    residual: Option<Value>,
    frees: Vec<Value>,
}

impl PlainNetwork {
    pub(super) fn new(plan: Plan, place: Place<'_>) -> std::result::Result<Self, EngineError> {
        let output = plan.output;
        let load = |mut step: Step| match PlainStep::load(&mut step, place) {
            Ok(plain) => {
                let Step { inputs, residual, frees, .. } = step;
                Ok((plain, Links { inputs, residual, frees }))
            }
            Err(source) => Err(EngineError::Layer { layer: step.name, source }),
        };
        let steps = plan.steps.into_iter().map(load).collect::<std::result::Result<Vec<_>, _>>()?;
        let values = vec![None; steps.len()];
        Ok(PlainNetwork { steps, output, image: None, values })
    }

    pub(super) fn accept(&mut self, image: Tensor) {
        self.image = Some(image);
    }

    pub(super) fn step(&mut self, index: usize) -> Result<()> {
        let (step, links) = &self.steps[index];
        let read = |value: &Value| self.value(*value);
        let inputs = links.inputs.iter().map(read).collect::<Result<Vec<_>>>()?;
        let residual = links.residual.as_ref().map(read).transpose()?;
        let result = step.run(&inputs, residual)?;
        self.values[index] = Some(result);
        for value in &links.frees {
            match value {
                Value::Input => self.image = None,
                Value::Step(dead) => self.values[*dead] = None,
            }
        }
        Ok(())
    }

    /// The answer in f32 on the CPU; it is taken out, so that nothing stays.
    pub(super) fn answer(&mut self) -> Result<Tensor> {
        let output = self.value(self.output)?.to_dtype(DType::F32)?.to_device(&Device::Cpu);
        self.values.fill(None);
        output
    }

    fn value(&self, value: Value) -> Result<&Tensor> {
        let found = match value {
            Value::Input => self.image.as_ref(),
            Value::Step(index) => self.values[index].as_ref(),
        };
        found.ok_or_else(|| candle_core::Error::msg("a value was freed before its last reader"))
    }
}
