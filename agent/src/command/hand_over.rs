//! What needs a GPU goes to `wattline-runner-cuda`: the agent links no CUDA.
//!
//! Owns the decision, the environment that NVIDIA's libraries read at their
//! start, and the words for what is missing.

use std::ffi::OsString;
use std::process::ExitCode;

use super::Failure;
use crate::args::AgentCommand;
use crate::runner::gpu;
use crate::runner::process::RunnerPrograms;

/// NVIDIA's own switch: with 0 no library of theirs rounds f32 to TF32.
const TF32_OVERRIDE: &str = "NVIDIA_TF32_OVERRIDE";

/// Exit status of the program that did it; `None` where it is for this one.
///
/// # Errors
/// [`Failure`] naming what the GPU or its runner lacks, and the mend.
pub(super) fn hand_over(command: &AgentCommand) -> Result<Option<ExitCode>, Failure> {
    let (device, precision) = match command {
        AgentCommand::Infer(args) => (&args.device, &args.precision),
        AgentCommand::Accuracy(args) => (&args.device, &args.precision),
        _ => return Ok(None),
    };
    // Another word than cuda or cuda:N is for the parser to refuse.
    let is_gpu = device == "cuda"
        || device.strip_prefix("cuda:").is_some_and(|number| number.parse::<usize>().is_ok());
    let tf32 = OsString::from(if precision == "tf32" { "1" } else { "0" });
    let is_ready = cfg!(feature = "cuda") && std::env::var_os(TF32_OVERRIDE) == Some(tf32.clone());
    if !is_gpu || is_ready {
        return Ok(None);
    }
    let unstarted = |error: std::io::Error| {
        Failure::of(1, "wattline-runner-cuda cannot be started", &error, "install it again")
    };
    let programs = RunnerPrograms::beside_this().map_err(unstarted)?;
    let program = if cfg!(feature = "cuda") { Some(programs.cpu) } else { programs.cuda };
    gpu::check(program.as_deref(), device).map_err(|missing| Failure {
        status: 3,
        what: format!("device {device} cannot be used"),
        because: vec![missing.describe()],
        mend: missing.mend(),
    })?;
    let Some(program) = program else { return Ok(None) };
    let status = std::process::Command::new(program)
        .args(std::env::args_os().skip(1))
        .env(TF32_OVERRIDE, tf32)
        .status()
        .map_err(unstarted)?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(Some(ExitCode::from(code)))
}
