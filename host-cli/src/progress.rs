//! Progress of a run: a line that changes on a terminal, JSON for a program,
//! and silence on a pipe.
//!
//! Owns what is said while frames arrive. Computes no energies.

use std::io::{self, IsTerminal, Write};

use serde_json::json;
use wattline_protocol::command::Refusal;
use wattline_protocol::frame::Frame;
use wattline_protocol::record::{
    Cell, FailureCause, PhaseMark, PhaseName, Plan, Record, TrialEnd, TrialOutcome, kind,
};
use wattline_protocol::units::{BoardTime, NANOS_PER_SECOND};

use crate::client::ClientError;
use crate::collect::Observer;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// One line on standard error that is written over.
    Line,
    /// One JSON object a line on standard output.
    Json,
    /// Nothing but what a person must know.
    Quiet,
}

/// Shows progress.
#[derive(Debug)]
pub struct Progress {
    manner: Manner,
    simulated: bool,
    plan: Option<Plan>,
    done: usize,
    failed: usize,
    shown: usize,
}

impl Progress {
    /// Progress for a person or a program; `simulated` stands beside it.
    #[must_use]
    pub fn new(json: bool, simulated: bool) -> Self {
        let manner = if json {
            Manner::Json
        } else if io::stderr().is_terminal() {
            Manner::Line
        } else {
            Manner::Quiet
        };
        Self { manner, simulated, plan: None, done: 0, failed: 0, shown: 0 }
    }

    /// Clears the changing line, so that what follows stands alone.
    pub fn clear(&mut self) {
        if self.manner == Manner::Line && self.shown > 0 {
            let blank = " ".repeat(self.shown);
            let _ = write!(io::stderr(), "\r{blank}\r");
            self.shown = 0;
        }
    }

    fn show(&mut self, text: &str) {
        let width = text.chars().count();
        let pad = " ".repeat(self.shown.saturating_sub(width));
        let _ = write!(io::stderr(), "\r{text}{pad}");
        let _ = io::stderr().flush();
        self.shown = width;
    }

    fn say(&mut self, text: &str) {
        self.clear();
        let _ = writeln!(io::stderr(), "{text}");
    }

    fn event(&self, event: &serde_json::Value) {
        if self.manner == Manner::Json {
            let _ = writeln!(io::stdout(), "{event}");
        }
    }

    fn cell_of(&self, trial: u32) -> Option<&Cell> {
        let plan = self.plan.as_ref()?;
        let trial = plan.trials.iter().find(|one| one.trial == trial)?;
        plan.cells.get(usize::from(trial.cell))
    }

    fn phase(&mut self, mark: &PhaseMark) {
        let trials = self.plan.as_ref().map_or(0, |plan| plan.trials.len());
        let left_s = seconds(mark.run_ends, mark.at);
        let what = mark
            .trial
            .and_then(|trial| self.cell_of(trial))
            .map_or_else(String::new, |cell| format!("  {} b{}", cell.network, cell.batch));
        if self.manner == Manner::Line && mark.phase != PhaseName::Done {
            let simulated = if self.simulated { "simulated  " } else { "" };
            let text = format!(
                "{simulated}trial {}/{trials}{what}  {}  {} left",
                (self.done + 1).min(trials.max(1)),
                mark.phase.name(),
                duration(left_s)
            );
            self.show(&text);
        }
        let cell = mark.trial.and_then(|trial| self.cell_of(trial));
        self.event(&json!({
            "event": "phase",
            "phase": mark.phase,
            "trial": mark.trial,
            "trials": trials,
            "network": cell.map(|cell| cell.network.as_str()),
            "batch": cell.map(|cell| cell.batch),
            "left_s": left_s,
            "simulated": self.simulated,
        }));
    }

    fn trial_end(&mut self, end: &TrialEnd) {
        self.done += 1;
        let name = self
            .cell_of(end.trial)
            .map_or_else(String::new, |cell| format!(" {} batch {}", cell.network, cell.batch));
        match end.outcome {
            TrialOutcome::Measured | TrialOutcome::Failed(FailureCause::Stopped) => {}
            TrialOutcome::Failed(cause) => {
                self.failed += 1;
                let text = format!("trial {}{name} failed: {}", end.trial, cause.describe());
                self.say(&text);
            }
        }
        self.event(&json!({
            "event": "trial",
            "trial": end.trial,
            "outcome": end.outcome,
            "simulated": self.simulated,
        }));
    }
}

impl Observer for Progress {
    fn frame(&mut self, frame: &Frame<'_>) {
        if frame.header.kind == kind::SAMPLE_BLOCK {
            return;
        }
        match Record::decode(frame.header.kind, frame.payload) {
            Ok(Record::Plan(plan)) => self.plan = Some(plan),
            Ok(Record::PhaseMark(mark)) => self.phase(&mark),
            Ok(Record::TrialEnd(end)) => self.trial_end(&end),
            // The rest is for the analysis.
            Ok(_) | Err(_) => {}
        }
    }

    fn away(&mut self, error: &ClientError) {
        match self.manner {
            Manner::Line => {
                self.show(&format!("link down, the board goes on; asking again: {error}"));
            }
            Manner::Json => self.event(&json!({"event": "away", "error": error.to_string()})),
            Manner::Quiet => {}
        }
    }

    fn stopping(&mut self) {
        self.say(
            "stopping: the board ends its trial and keeps what was measured \
             (Ctrl-C again leaves it to the board)",
        );
        self.event(&json!({"event": "stopping"}));
    }

    fn not_stopped(&mut self, refusal: &Refusal) {
        if let Refusal::Controlled { run, by } = refusal {
            self.say(&format!(
                "the run goes on: {} controls it now; take it back: wattline stop {run} --take-over",
                by.describe()
            ));
            self.event(&json!({"event": "not_stopped", "controlled_by": by.name.as_str()}));
        }
    }
}

fn seconds(later: BoardTime, earlier: BoardTime) -> i64 {
    ((later - earlier).0 / NANOS_PER_SECOND).max(0)
}

/// `1 h 05 m`, `2 m 10 s`, `9 s`.
#[must_use]
pub fn duration(seconds: i64) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours} h {minutes:02} m")
    } else if minutes > 0 {
        format!("{minutes} m {rest:02} s")
    } else {
        format!("{rest} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_two_units_at_most() {
        assert_eq!(duration(9), "9 s");
        assert_eq!(duration(130), "2 m 10 s");
        assert_eq!(duration(3_900), "1 h 05 m");
    }
}
