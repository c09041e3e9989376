//! A bus that plays exact bytes, for `identify` and `configure`.

use std::collections::VecDeque;

use crate::power::bus::{Address7, BusError, I2cBus, Message};

/// One combined transaction.
#[derive(Debug)]
pub(crate) enum Step {
    /// Register reads in their order: pointer and the value to answer.
    Read(Vec<(u8, u16)>),
    /// One write of exactly these bytes.
    Write(Vec<u8>),
}

#[derive(Debug)]
pub(crate) struct Script {
    address: u8,
    steps: VecDeque<Step>,
}

impl Script {
    pub(crate) fn new(address: u8, steps: Vec<Step>) -> Self {
        Self { address, steps: steps.into() }
    }

    pub(crate) fn assert_done(&self) {
        assert!(self.steps.is_empty(), "left over: {:?}", self.steps);
    }
}

impl I2cBus for Script {
    fn transfer(
        &mut self,
        address: Address7,
        messages: &mut [Message<'_>],
    ) -> Result<(), BusError> {
        assert_eq!(address.get(), self.address);
        match self.steps.pop_front().expect("a transaction too many") {
            Step::Write(bytes) => match messages {
                [Message::Write(written)] => assert_eq!(*written, bytes),
                other => panic!("expected one write, got {other:?}"),
            },
            Step::Read(registers) => {
                assert_eq!(messages.len(), 2 * registers.len());
                for (pair, (register, value)) in messages.chunks_exact_mut(2).zip(registers) {
                    let [Message::Write(pointer), Message::Read(bytes)] = pair else {
                        panic!("expected pointer and read, got {pair:?}");
                    };
                    assert_eq!(*pointer, [register]);
                    bytes.copy_from_slice(&value.to_be_bytes());
                }
            }
        }
        Ok(())
    }
}
