//! `Examine`: the board's own doctor, asked through a session.
//!
//! Owns the process that looks, how long it may take and how much it may say. It
//! is a child of the agent, and so has the rights, limits and sandbox that a run
//! has: a user who logs in has others. Judges nothing.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::sync::Mutex;
use wattline_protocol::check::{CHECKS_MAX, Check, CheckOutcome};

/// Chips are read for some hundred sweeps each; a slow board has many.
const WITHIN: Duration = Duration::from_secs(120);
/// A killed process is waited for so long.
const END_WITHIN: Duration = Duration::from_secs(1);
/// Most bytes that are read of what it says.
const SAID_BYTES_MAX: u64 = 256 * 1024;

/// How the board is examined.
#[derive(Debug)]
pub struct Examiner {
    /// Program and arguments; absent on a simulated board, whose rails lack nothing.
    look: Option<(PathBuf, Vec<OsString>)>,
    /// Two at once would take each other's rate.
    one_at_a_time: Mutex<()>,
}

impl Examiner {
    /// Looks by running `program` with `args`, which prints a check as JSON a line.
    #[must_use]
    pub fn new(look: Option<(PathBuf, Vec<OsString>)>) -> Self {
        Self { look, one_at_a_time: Mutex::new(()) }
    }

    /// The checks; one that failed where the process did.
    pub async fn examine(&self) -> Vec<Check> {
        let Some((program, args)) = &self.look else { return Vec::new() };
        let _one = self.one_at_a_time.lock().await;
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        // A host that leaves takes its question with it.
        let asked = command.kill_on_drop(true).spawn();
        let mut child = match asked {
            Ok(child) => child,
            Err(error) => {
                return vec![failed(format!("{} cannot be started: {error}", program.display()))];
            }
        };
        let mut said = Vec::new();
        let told = async {
            if let Some(output) = child.stdout.take() {
                let _ = output.take(SAID_BYTES_MAX).read_to_end(&mut said).await;
            }
        };
        let in_time = tokio::time::timeout(WITHIN, told).await.is_ok();
        let _ = child.start_kill();
        // One that hangs in the kernel, on a bus that never answers, cannot be killed.
        let _ = tokio::time::timeout(END_WITHIN, child.wait()).await;
        let mut checks = checks_of(&said);
        if !in_time {
            checks.push(failed(format!("not done after {} s", WITHIN.as_secs())));
        } else if checks.is_empty() {
            checks.push(failed(format!("{} said nothing", program.display())));
        }
        checks
    }
}

fn failed(found: String) -> Check {
    Check {
        name: "doctor".into(),
        outcome: CheckOutcome::Failed,
        found,
        cure: "on the board: sudo systemctl restart wattline-agent, then see its journal".into(),
    }
}

/// What the doctor printed, a line each; others are left out.
fn checks_of(said: &[u8]) -> Vec<Check> {
    let text = String::from_utf8_lossy(said);
    text.lines().filter_map(check_of).take(CHECKS_MAX).collect()
}

fn check_of(line: &str) -> Option<Check> {
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    let word = |key: &str| value.get(key)?.as_str().map(str::to_owned);
    let is = |key: &str| value.get(key)?.as_bool();
    let outcome = match (is("good")?, is("warning")?) {
        (false, _) => CheckOutcome::Failed,
        (true, true) => CheckOutcome::Warning,
        (true, false) => CheckOutcome::Good,
    };
    Some(Check { name: word("check")?, outcome, found: word("found")?, cure: word("cure")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examined(script: &str) -> Vec<Check> {
        let look = Some(("/bin/sh".into(), vec!["-c".into(), script.into()]));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(Examiner::new(look).examine())
    }

    #[test]
    fn checks_are_those_that_the_process_prints_whatever_its_status() {
        let line = |name: &str, good: bool, warning: bool| {
            format!(
                r#"{{"check":"{name}","good":{good},"warning":{warning},"found":"f","cure":"c"}}"#
            )
        };
        let script = format!(
            "echo '{}'; echo noise; echo '{}'; echo '{}'; exit 3",
            line("rails", false, false),
            line("governor", true, true),
            line("disk", true, false)
        );
        let outcomes: Vec<(String, CheckOutcome)> =
            examined(&script).into_iter().map(|check| (check.name, check.outcome)).collect();
        assert_eq!(
            outcomes,
            [
                ("rails".into(), CheckOutcome::Failed),
                ("governor".into(), CheckOutcome::Warning),
                ("disk".into(), CheckOutcome::Good)
            ]
        );
    }

    #[test]
    fn a_process_that_says_nothing_or_cannot_be_started_is_a_failed_check() {
        let silent = examined("exit 0");
        assert_eq!(silent.len(), 1);
        assert!(silent[0].found.contains("said nothing"), "{silent:?}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let look = Some(("/nowhere/wattline-agent".into(), Vec::new()));
        let absent = runtime.block_on(Examiner::new(look).examine());
        assert!(absent[0].found.contains("cannot be started"), "{absent:?}");
    }

    #[test]
    fn a_simulated_board_lacks_nothing() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        assert!(runtime.block_on(Examiner::new(None).examine()).is_empty());
    }
}
