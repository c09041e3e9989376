//! What of a run an external meter is told, and by whom.
//!
//! Owns the line of a trigger by windows while a run goes on; one by inferences
//! is the runner's. A line that fails is given up for the run, which goes on:
//! our own measurement does not need it, and a notice says from when the meter
//! hears nothing.

use tracing::warn;
use wattline_protocol::record::{Edge, EdgeOf, Notice, NoticeKind, Record, TriggerFault};

use crate::clock::{Clock, SystemClock};
use crate::trigger::{LineSpec, Trigger, TriggerPer, TriggerSpec};

/// What is marked by edges.
#[derive(Debug)]
pub enum Marked {
    /// Nothing.
    Nothing,
    /// Every window, by this process.
    Windows(Trigger),
    /// Every inference, by the runner, which takes the line for its trial.
    Inferences(LineSpec),
}

impl Marked {
    /// Takes the line for a run; one that a runner will take is tried and
    /// given back, so that a run is refused before its first trial.
    ///
    /// # Errors
    /// [`TriggerFault`] where the line cannot be had.
    pub fn by(spec: Option<&TriggerSpec>) -> Result<Self, TriggerFault> {
        let Some(TriggerSpec { line, per }) = spec else { return Ok(Self::Nothing) };
        let trigger = Trigger::open(line)?;
        Ok(match per {
            TriggerPer::Window => Self::Windows(trigger),
            TriggerPer::Inference => Self::Inferences(line.clone()),
        })
    }

    /// Sets the line for a window; what is to be recorded of it.
    #[must_use]
    pub fn edge(&mut self, window: u32, edge: Edge, clock: &dyn Clock) -> Vec<Record> {
        let Self::Windows(trigger) = self else { return Vec::new() };
        match trigger.set(EdgeOf::Window(window), edge, clock) {
            Ok(()) => trigger.take().into_iter().map(Record::from).collect(),
            Err(fault) => {
                let failed = self.failed(fault);
                *self = Self::Nothing;
                vec![failed]
            }
        }
    }

    /// The notice that the line cannot be set.
    #[must_use]
    pub fn failed(&self, fault: TriggerFault) -> Record {
        let line = match self {
            Self::Nothing => String::new(),
            Self::Windows(trigger) => trigger.name().to_owned(),
            Self::Inferences(line) => line.to_string(),
        };
        warn!(line, ?fault, "The trigger's line cannot be set; the run goes on without.");
        Notice { at: SystemClock.now(), what: NoticeKind::TriggerFailed { line, fault } }.into()
    }
}

#[cfg(test)]
mod tests {
    use wattline_protocol::units::BoardTime;

    use super::*;
    use crate::clock::VirtualClock;
    use crate::trigger::Script;

    #[test]
    fn a_window_has_a_rise_and_a_fall_of_its_own_number() {
        let clock = VirtualClock::starting_at(BoardTime(5));
        let spec = "simulated".parse().unwrap();
        let mut marked = Marked::by(Some(&spec)).unwrap();
        let mut edges = Vec::new();
        for edge in [Edge::Rise, Edge::Fall] {
            let records = marked.edge(3, edge, &clock);
            let [Record::TriggerEdges(record)] = &records[..] else { panic!("{records:?}") };
            assert_eq!(record.line, "simulated");
            edges.extend(record.edges.iter().map(|edge| (edge.of, edge.edge)));
        }
        let of = EdgeOf::Window(3);
        assert_eq!(edges, [(of, Edge::Rise), (of, Edge::Fall)]);
    }

    #[test]
    fn a_line_that_fails_is_told_once_and_left_alone() {
        let clock = VirtualClock::starting_at(BoardTime(5));
        let fault = TriggerFault::Failed { errno: 5 };
        let mut asked = 0;
        let trigger = Trigger::scripted(Script::new(move |_| {
            asked += 1;
            if asked == 1 { Ok(()) } else { Err(fault) }
        }));
        let mut marked = Marked::Windows(trigger);
        assert!(matches!(marked.edge(1, Edge::Rise, &clock)[..], [Record::TriggerEdges(_)]));
        let told = marked.edge(1, Edge::Fall, &clock);
        let [Record::Notice(notice)] = &told[..] else { panic!("{told:?}") };
        let line = "scripted:0".into();
        assert_eq!(notice.what, NoticeKind::TriggerFailed { line, fault });
        assert!(marked.edge(2, Edge::Rise, &clock).is_empty());
    }

    #[test]
    fn inferences_are_left_to_the_runner() {
        let clock = VirtualClock::starting_at(BoardTime(5));
        let spec = "simulated:inference".parse().unwrap();
        let mut marked = Marked::by(Some(&spec)).unwrap();
        assert!(matches!(marked, Marked::Inferences(LineSpec::Simulated)));
        assert!(marked.edge(1, Edge::Rise, &clock).is_empty());
        assert!(matches!(Marked::by(None), Ok(Marked::Nothing)));
    }
}
