//! The runner seen from the agent: start a process, hear it, end it.
//!
//! Owns the child process and its two pipes. Says what happened as events; the
//! campaign decides what they mean.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;

use tracing::warn;
use wattline_protocol::frame::FrameReader;
use wattline_protocol::record::FailureCause;

use super::message::{FromRunner, Job, ToRunner};

/// Where the two kinds of runner lie.
#[derive(Debug, Clone)]
pub struct RunnerPrograms {
    /// The agent's own executable, whose sub-command `runner` is the CPU's.
    pub cpu: PathBuf,
    /// `wattline-runner-cuda`; absent where it is not installed.
    pub cuda: Option<PathBuf>,
}

impl RunnerPrograms {
    /// The programs beside the running executable.
    ///
    /// # Errors
    /// The error of the system where it does not tell which executable runs.
    pub fn beside_this() -> std::io::Result<Self> {
        let cpu = std::env::current_exe()?;
        let cuda = cpu.with_file_name("wattline-runner-cuda");
        let cuda = cuda.is_file().then_some(cuda);
        Ok(Self { cpu, cuda })
    }

    fn for_device(&self, device: &str) -> Option<&Path> {
        if device == "cpu" { Some(&self.cpu) } else { self.cuda.as_deref() }
    }
}

/// A runner at work.
#[derive(Debug)]
pub struct Runner {
    pid: u32,
    orders: Option<ChildStdin>,
}

/// What is heard of a runner; the last event is always `Gone`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// It said this.
    Said(FromRunner),
    /// It is gone: well, or for this cause.
    Gone(Result<(), FailureCause>),
}

impl Runner {
    /// Starts a runner for `job`; `hear` is called on a thread of its own.
    ///
    /// # Errors
    /// [`FailureCause::NoDevice`] where there is no program for the device,
    /// [`FailureCause::RunnerNotStarted`] where the system refuses.
    pub fn start(
        programs: &RunnerPrograms,
        job: &Job,
        mut hear: impl FnMut(Heard) + Send + 'static,
    ) -> Result<Self, FailureCause> {
        let program = programs.for_device(&job.cell.device).ok_or(FailureCause::NoDevice)?;
        let threads = job.cell.threads.to_string();
        let mut command = Command::new(program);
        if program == programs.cpu {
            command.arg("runner");
        }
        let mut child = command
            .env("RAYON_NUM_THREADS", &threads)
            .env("CANDLE_NUM_THREADS", &threads)
            // f32 means f32 unless TF32 is asked for (NVIDIA's override for every library).
            .env(
                "NVIDIA_TF32_OVERRIDE",
                if job.cell.precision.name() == "tf32" { "1" } else { "0" },
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|error| {
                warn!(%error, program = %program.display(), "A runner could not be started.");
                FailureCause::RunnerNotStarted
            })?;
        let mut runner = Self { pid: child.id(), orders: child.stdin.take() };
        thread::spawn(move || listen(&mut child, &mut hear));
        runner.tell(&ToRunner::Job(Box::new(job.clone())));
        Ok(runner)
    }

    /// Process id of the runner.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Gives an order. A runner that is gone does not hear it; its end is
    /// heard by itself.
    pub fn tell(&mut self, order: &ToRunner) {
        if let Some(orders) = &mut self.orders {
            let sent = orders.write_all(&order.to_bytes()).and_then(|()| orders.flush());
            if sent.is_err() {
                self.orders = None;
            }
        }
    }

    /// Kills the process; its end is heard by itself.
    pub fn kill(&mut self) {
        self.orders = None;
        if let Ok(pid) = i32::try_from(self.pid) {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
    }
}

fn listen(child: &mut Child, hear: &mut impl FnMut(Heard)) {
    let mut reader = FrameReader::new();
    let mut bytes = [0; 16 * 1024];
    let mut end = None;
    if let Some(mut output) = child.stdout.take() {
        while let Ok(count @ 1..) = output.read(&mut bytes) {
            reader.feed(bytes.get(..count).unwrap_or_default());
            while let Ok(Some(message)) = FromRunner::next(&mut reader) {
                match &message {
                    FromRunner::Ended { .. } => end = Some(Ok(())),
                    FromRunner::Failed(cause) => end = Some(Err(*cause)),
                    FromRunner::Loaded(_) | FromRunner::Inferences(_) | FromRunner::Layers(_) => {}
                }
                hear(Heard::Said(message));
            }
        }
    }
    let gone = match (end, child.wait()) {
        (Some(end), _) => end,
        (None, Ok(status)) => Err(cause_of(status)),
        (None, Err(_)) => Err(FailureCause::RunnerNotStarted),
    };
    hear(Heard::Gone(gone));
}

fn cause_of(status: ExitStatus) -> FailureCause {
    match status.signal() {
        Some(signal) => FailureCause::RunnerKilled { signal },
        None => FailureCause::RunnerExited { status: status.code().unwrap_or(-1) },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use wattline_protocol::campaign_spec::Precision;
    use wattline_protocol::record::Cell;

    use super::*;

    fn job(device: &str) -> Job {
        let cell = Cell {
            cell: 0,
            network: "alexnet".into(),
            batch: 1,
            precision: Precision::F32,
            device: device.into(),
            size: 96,
            threads: 1,
            cores: String::new(),
            weights: "hashed:1".into(),
        };
        Job { trial: 0, cell, fold: true, describe_layers: false, layer_spans: 0 }
    }

    #[test]
    fn a_program_that_exits_at_once_is_heard_with_its_status() {
        let programs = RunnerPrograms { cpu: "/bin/false".into(), cuda: None };
        let (sender, events) = channel();
        let started = Runner::start(&programs, &job("cpu"), move |heard| {
            let _ = sender.send(heard);
        });
        assert!(started.is_ok());
        let gone = events.iter().last();
        assert_eq!(gone, Some(Heard::Gone(Err(FailureCause::RunnerExited { status: 1 }))));
    }

    #[test]
    fn a_killed_runner_is_heard_with_its_signal() {
        let programs = RunnerPrograms { cpu: "/bin/false".into(), cuda: Some("/bin/cat".into()) };
        let (sender, events) = channel();
        let mut runner = Runner::start(&programs, &job("cuda"), move |heard| {
            let _ = sender.send(heard);
        })
        .unwrap();
        runner.kill();
        let gone = events.iter().last();
        assert_eq!(gone, Some(Heard::Gone(Err(FailureCause::RunnerKilled { signal: 9 }))));
    }

    #[test]
    fn a_gpu_without_its_runner_is_no_device() {
        let programs = RunnerPrograms { cpu: "/bin/false".into(), cuda: None };
        let refused = Runner::start(&programs, &job("cuda:0"), |_| {}).unwrap_err();
        assert_eq!(refused, FailureCause::NoDevice);
    }
}
