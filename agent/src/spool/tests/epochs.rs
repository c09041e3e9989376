//! Every short sequence of faults that can meet the two slots of the epoch.
//!
//! The nights draw such sequences too seldom: each needs three rare faults in a row.

use super::*;
use crate::spool::model::ModelFault;

/// Writing operations of a start that makes both slots anew: seven each.
const OPERATIONS: u64 = 14;
/// What power cuts may leave is drawn anew for each.
const CUTS: u64 = 12;

/// Epochs as they were given, each above all before.
#[derive(Debug, Clone, Default)]
struct Given(Vec<u32>);

impl Given {
    /// A start; one that fails gives nothing.
    fn start(&mut self, model: &ModelStorage, story: impl Fn() -> String) {
        if let Ok(raised) = open(model).raise_epoch("boot") {
            let last = self.0.last().copied().unwrap_or(0);
            assert!(raised.epoch > last, "{} after {:?}: {}", raised.epoch, self.0, story());
            self.0.push(raised.epoch);
        }
        model.mend();
    }
}

/// Lets every writing operation from `first` on fail: the process is killed there.
fn kill_at(model: &ModelStorage, first: u64) {
    let next = model.operations();
    (first..2 * OPERATIONS).for_each(|at| model.fail_operation(next + at, ModelFault::Io));
}

#[test]
fn two_faults_a_kill_and_a_power_cut_in_a_row_give_no_epoch_twice() {
    for starts in 0..3_u64 {
        let model = ModelStorage::new();
        let mut given = Given::default();
        (0..starts).for_each(|_| given.start(&model, String::new));
        for first in 0..OPERATIONS {
            for second in first..OPERATIONS {
                let failed = model.copy();
                let mut given = given.clone();
                let next = failed.operations();
                for at in [first, second] {
                    failed.fail_operation(next + at, ModelFault::Io);
                }
                let story = || format!("{starts} starts; {first} and {second} fail");
                given.start(&failed, story);
                for killed in 0..=OPERATIONS {
                    let cut = failed.copy();
                    let mut given = given.clone();
                    kill_at(&cut, killed);
                    given.start(&cut, || format!("{}; killed at {killed}", story()));
                    for seed in 0..CUTS {
                        let left = cut.copy();
                        let mut given = given.clone();
                        left.cut_power(seed);
                        let story = || format!("{}; killed at {killed}, cut {seed}", story());
                        given.start(&left, story);
                        given.start(&left, story);
                    }
                }
            }
        }
    }
}

#[test]
fn two_power_cuts_with_a_kill_before_each_give_no_epoch_twice() {
    for starts in 0..3_u64 {
        let model = ModelStorage::new();
        let mut given = Given::default();
        (0..starts).for_each(|_| given.start(&model, String::new));
        for first in 0..=OPERATIONS {
            for cut in 0..CUTS {
                let failed = model.copy();
                let mut given = given.clone();
                kill_at(&failed, first);
                let story = || format!("{starts} starts; killed at {first}, cut {cut}");
                given.start(&failed, story);
                failed.cut_power(cut);
                for second in 0..=OPERATIONS {
                    for seed in 0..CUTS {
                        let left = failed.copy();
                        let mut given = given.clone();
                        kill_at(&left, second);
                        let story = || format!("{}; killed at {second}, cut {seed}", story());
                        given.start(&left, story);
                        left.cut_power(seed);
                        given.start(&left, story);
                    }
                }
            }
        }
    }
}
