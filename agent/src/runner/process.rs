//! The runner seen from the agent: have a process, hear it, end it.
//!
//! Owns the link to it: two pipes of a child, or a connection to the service that
//! starts one process for each ([`super::doorstep`]). Says what happened as
//! events; the campaign decides what they mean.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use tracing::warn;
use wattline_protocol::frame::FrameReader;
use wattline_protocol::record::FailureCause;

use super::message::{FromRunner, Job, ToRunner};

/// A service that was asked for a runner says within this that there is one:
/// starting a unit on a board that is busy, many times over.
const STARTED_WITHIN: Duration = Duration::from_secs(30);

/// Where the two kinds of runner lie.
#[derive(Debug, Clone)]
pub struct RunnerPrograms {
    /// The agent's own executable, whose sub-command `runner` is the CPU's.
    pub cpu: PathBuf,
    /// `wattline-runner-cuda`; absent where it is not installed.
    pub cuda: Option<PathBuf>,
    /// The service that starts runners instead of the agent, where there is one.
    pub socket: Option<PathBuf>,
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
        Ok(Self { cpu, cuda, socket: None })
    }

    /// A command that starts the runner of `job`.
    ///
    /// # Errors
    /// [`FailureCause::NoDevice`] where there is no program for the device.
    pub fn command_for(&self, job: &Job) -> Result<Command, FailureCause> {
        let program = self.for_device(&job.cell.device).ok_or(FailureCause::NoDevice)?;
        let threads = job.cell.threads.to_string();
        let mut command = Command::new(program);
        if program == self.cpu {
            command.arg("runner");
        }
        command
            .env("RAYON_NUM_THREADS", &threads)
            .env("CANDLE_NUM_THREADS", &threads)
            // f32 means f32 unless TF32 is asked for (NVIDIA's override for every library).
            .env(
                "NVIDIA_TF32_OVERRIDE",
                if job.cell.precision.name() == "tf32" { "1" } else { "0" },
            );
        Ok(command)
    }

    fn for_device(&self, device: &str) -> Option<&Path> {
        if device == "cpu" { Some(&self.cpu) } else { self.cuda.as_deref() }
    }
}

/// A runner at work.
#[derive(Debug)]
pub struct Runner {
    pid: u32,
    orders: Option<Orders>,
}

#[derive(Debug)]
enum Orders {
    Pipe(std::process::ChildStdin),
    Service(UnixStream),
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
        hear: impl FnMut(Heard) + Send + 'static,
    ) -> Result<Self, FailureCause> {
        let mut runner = match &programs.socket {
            None => Self::spawned(programs, job, hear)?,
            Some(socket) => return Self::asked_for(socket, job, hear),
        };
        runner.tell(&ToRunner::Job(Box::new(job.clone())));
        Ok(runner)
    }

    fn spawned(
        programs: &RunnerPrograms,
        job: &Job,
        mut hear: impl FnMut(Heard) + Send + 'static,
    ) -> Result<Self, FailureCause> {
        let mut command = programs.command_for(job)?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|error| {
                warn!(%error, ?command, "A runner could not be started.");
                FailureCause::RunnerNotStarted
            })?;
        let runner = Self { pid: child.id(), orders: child.stdin.take().map(Orders::Pipe) };
        thread::spawn(move || {
            let end = match child.stdout.take() {
                Some(output) => listen(output, FrameReader::new(), &mut hear),
                None => None,
            };
            let gone = end.unwrap_or_else(|| match child.wait() {
                Ok(status) => Err(cause_of(status)),
                Err(_) => Err(FailureCause::RunnerNotStarted),
            });
            // A child that said its last word is waited for all the same.
            let _ = child.wait();
            hear(Heard::Gone(gone));
        });
        Ok(runner)
    }

    /// Asks the service at `socket` for a process, and gives it the job.
    fn asked_for(
        socket: &Path,
        job: &Job,
        mut hear: impl FnMut(Heard) + Send + 'static,
    ) -> Result<Self, FailureCause> {
        let failed = |error: std::io::Error| {
            warn!(%error, socket = %socket.display(), "The runners' service gave no runner.");
            FailureCause::RunnerNotStarted
        };
        let mut stream = UnixStream::connect(socket).map_err(failed)?;
        stream.write_all(&ToRunner::Job(Box::new(job.clone())).to_bytes()).map_err(failed)?;
        let mut reader = FrameReader::new();
        let pid = wait_for_start(&mut stream, &mut reader).map_err(failed)?;
        let input = stream.try_clone().map_err(failed)?;
        thread::spawn(move || {
            let end = listen(input, reader, &mut hear);
            hear(Heard::Gone(end.unwrap_or(Err(FailureCause::RunnerGone))));
        });
        Ok(Self { pid, orders: Some(Orders::Service(stream)) })
    }

    /// Process id of the runner.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Gives an order. A runner that is gone does not hear it; its end is
    /// heard by itself.
    pub fn tell(&mut self, order: &ToRunner) {
        let bytes = order.to_bytes();
        let sent = match &mut self.orders {
            Some(Orders::Pipe(pipe)) => pipe.write_all(&bytes).and_then(|()| pipe.flush()),
            Some(Orders::Service(stream)) => stream.write_all(&bytes),
            None => Ok(()),
        };
        if sent.is_err() {
            self.orders = None;
        }
    }

    /// Kills the process; its end is heard by itself.
    pub fn kill(&mut self) {
        if let Some(Orders::Service(stream)) = &self.orders {
            // Where the process may not be killed from here: it ends with its link.
            let _ = stream.shutdown(Shutdown::Write);
        }
        self.orders = None;
        if let Ok(pid) = i32::try_from(self.pid) {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
    }
}

/// Hears a runner until its link closes; its last word, where it said one.
fn listen(
    mut link: impl Read,
    mut reader: FrameReader,
    hear: &mut impl FnMut(Heard),
) -> Option<Result<(), FailureCause>> {
    let mut bytes = [0; 16 * 1024];
    let mut end = None;
    loop {
        while let Ok(Some(message)) = FromRunner::next(&mut reader) {
            match &message {
                FromRunner::Ended { .. } => end = Some(Ok(())),
                FromRunner::Failed(cause) => end = Some(Err(*cause)),
                FromRunner::Loaded(_)
                | FromRunner::Inferences(_)
                | FromRunner::Layers(_)
                | FromRunner::GpuSpans(_)
                | FromRunner::Edges(_)
                | FromRunner::NoEdges(_)
                | FromRunner::Started { .. } => {}
            }
            hear(Heard::Said(message));
        }
        match link.read(&mut bytes) {
            Ok(count @ 1..) => reader.feed(bytes.get(..count).unwrap_or_default()),
            Ok(0) | Err(_) => return end,
        }
    }
}

/// The process id that a service's runner says first.
fn wait_for_start(stream: &mut UnixStream, reader: &mut FrameReader) -> std::io::Result<u32> {
    stream.set_read_timeout(Some(STARTED_WITHIN))?;
    let mut bytes = [0; 4096];
    loop {
        match FromRunner::next(reader).map_err(std::io::Error::other)? {
            Some(FromRunner::Started { pid }) => break stream.set_read_timeout(None).map(|()| pid),
            Some(_) => return Err(std::io::Error::other("it did not say its process id first")),
            None => {}
        }
        let count = stream.read(&mut bytes)?;
        if count == 0 {
            return Err(std::io::Error::other("it closed the connection"));
        }
        reader.feed(bytes.get(..count).unwrap_or_default());
    }
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
        let programs = RunnerPrograms { cpu: "/bin/false".into(), cuda: None, socket: None };
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
        let programs = RunnerPrograms {
            cpu: "/bin/false".into(),
            cuda: Some("/bin/cat".into()),
            socket: None,
        };
        let (sender, events) = channel();
        let mut runner = Runner::start(&programs, &job("cuda"), move |heard| {
            let _ = sender.send(heard);
        })
        .unwrap();
        runner.kill();
        let gone = events.iter().last();
        assert_eq!(gone, Some(Heard::Gone(Err(FailureCause::RunnerKilled { signal: 9 }))));
    }

    /// A service whose runner takes its job, says it started, and then as `speak` will.
    fn service(speak: impl FnOnce(UnixStream) + Send + 'static) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runner.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = FrameReader::new();
            let mut bytes = [0; 4096];
            let count = stream.read(&mut bytes).unwrap();
            reader.feed(&bytes[..count]);
            assert!(matches!(ToRunner::next(&mut reader), Ok(Some(ToRunner::Job(_)))));
            // A number that no process has: nothing is ever signalled.
            stream.write_all(&FromRunner::Started { pid: 1 << 30 }.to_bytes()).unwrap();
            speak(stream);
        });
        (folder, path)
    }

    fn asked_for(
        path: PathBuf,
    ) -> (Result<Runner, FailureCause>, std::sync::mpsc::Receiver<Heard>) {
        let programs = RunnerPrograms { cpu: "/bin/false".into(), cuda: None, socket: Some(path) };
        let (sender, events) = channel();
        let runner = Runner::start(&programs, &job("cpu"), move |heard| {
            let _ = sender.send(heard);
        });
        (runner, events)
    }

    #[test]
    fn a_service_whose_runner_dies_without_a_word_is_heard_as_gone() {
        let (_folder, path) = service(drop);
        let (runner, events) = asked_for(path);
        assert_eq!(runner.unwrap().pid(), 1 << 30);
        assert_eq!(events.iter().last(), Some(Heard::Gone(Err(FailureCause::RunnerGone))));
    }

    #[test]
    fn the_last_word_of_a_services_runner_counts() {
        let (_folder, path) = service(|mut stream| {
            stream.write_all(&FromRunner::Ended { peak_memory_bytes: 7 }.to_bytes()).unwrap();
        });
        let (runner, events) = asked_for(path);
        let runner = runner.unwrap();
        assert_eq!(events.iter().last(), Some(Heard::Gone(Ok(()))));
        drop(runner);
    }

    #[test]
    fn a_service_that_is_not_there_gives_no_runner() {
        let (runner, _) = asked_for("/nowhere/runner.sock".into());
        assert_eq!(runner.unwrap_err(), FailureCause::RunnerNotStarted);
    }

    #[test]
    fn a_gpu_without_its_runner_is_no_device() {
        let programs = RunnerPrograms { cpu: "/bin/false".into(), cuda: None, socket: None };
        let refused = Runner::start(&programs, &job("cuda:0"), |_| {}).unwrap_err();
        assert_eq!(refused, FailureCause::NoDevice);
    }
}
