//! One process of a test: what it says, and how it ends.
//!
//! Owns the child and the files that take its output; a process that is still
//! there when its owner is dropped is killed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::{until, until_within};

/// A process that was started.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command`; its output goes into files called `name` below `folder`.
    /// Files, not pipes: nobody has to read them for the process to go on.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn start(mut command: Command, folder: &Path, name: &str) -> Self {
        let stdout = folder.join(format!("{name}.stdout"));
        let stderr = folder.join(format!("{name}.stderr"));
        command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
        let child =
            command.spawn().unwrap_or_else(|error| panic!("{command:?} did not start: {error}"));
        Self { child, stdout, stderr }
    }

    /// Process id.
    ///
    /// # Panics
    /// Never: process ids are positive 32-bit numbers.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// What it has written to standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        text(&self.stdout)
    }

    /// What it has written to standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        text(&self.stderr)
    }

    /// True where it has ended.
    pub fn is_over(&mut self) -> bool {
        self.status().is_some()
    }

    /// Its exit code, where it has ended by itself.
    pub fn code(&mut self) -> Option<i32> {
        self.status()?.code()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// Where there is no such process any more.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Kills it and sees it gone.
    pub fn kill(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// Where it does not end.
    pub fn finish(mut self) -> Outcome {
        let status = until("a process ends", || self.status());
        Outcome { code: status.code(), stdout: self.stdout(), stderr: self.stderr() }
    }

    /// Waits for its end as long as `looks` looks take.
    ///
    /// # Panics
    /// Where it does not end.
    pub fn finish_within(mut self, looks: u32) -> Outcome {
        let ended = |process: &mut Self| process.status().map(|status| status.code());
        let code = until_within(looks, "a process ends", || ended(&mut self));
        Outcome { code, stdout: self.stdout(), stderr: self.stderr() }
    }

    fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// How a process ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Outcome {
    /// The last line of standard output.
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    pub fn last_line(&self) -> &str {
        self.stdout.lines().last().unwrap_or_else(|| panic!("nothing was printed: {self:?}"))
    }

    /// Standard output as one JSON value.
    ///
    /// # Panics
    /// Where it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts the exit code, and that nothing panicked.
    ///
    /// # Panics
    /// Where it is another.
    pub fn ends_with(self, code: i32) -> Self {
        assert!(!self.stderr.contains("panicked"), "a panic: {self:#?}");
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// Asserts a failure as the contract has it: the exit code, `error:` and
    /// `try:` lines, each of `words` on standard error, and no panic.
    ///
    /// # Panics
    /// Where one of these is not so.
    pub fn fails_with(self, code: i32, words: &[&str]) -> Self {
        let outcome = self.ends_with(code);
        let line = |start: &str| outcome.stderr.lines().any(|line| line.starts_with(start));
        assert!(line("error: "), "no `error:` line: {outcome:#?}");
        assert!(line("try: "), "no `try:` line: {outcome:#?}");
        for word in words {
            assert!(outcome.stderr.contains(word), "`{word}` is not named: {outcome:#?}");
        }
        outcome
    }
}
