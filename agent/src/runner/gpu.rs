//! Whether this board's GPU can be measured, and what is missing where not.
//!
//! Owns the detection of a GPU and the probe of `wattline-runner-cuda`. Opens
//! no GPU itself: this process links no CUDA.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use wattline_protocol::command::GpuPart;

/// Device nodes of NVIDIA GPUs: Jetsons up to JetPack 5, later ones, PCIe.
const NODES: [&str; 4] =
    ["/dev/nvhost-gpu", "/dev/nvgpu/igpu0/ctrl", "/dev/nvhost-ctrl-gpu", "/dev/nvidia0"];
/// Where PCIe drivers name their GPUs.
const NAMES: &str = "/proc/driver/nvidia/gpus";
/// What the dynamic loader says of a library that is not there.
const LOADER: &str = "error while loading shared libraries: ";
/// The driver's own library; every other one is CUDA's.
const DRIVER_LIBRARY: &str = "libcuda.so";

/// Name of an NVIDIA GPU of this board, whether or not it can be used.
#[must_use]
pub fn present() -> Option<String> {
    named().or_else(|| {
        NODES.iter().any(|node| Path::new(node).exists()).then(|| "NVIDIA GPU".to_owned())
    })
}

fn named() -> Option<String> {
    let folder = std::fs::read_dir(NAMES).ok()?.next()?.ok()?;
    let text = std::fs::read_to_string(folder.path().join("information")).ok()?;
    let model = text.lines().find_map(|line| line.strip_prefix("Model:"))?;
    Some(model.trim().to_owned())
}

/// Sees that `program` starts and opens the GPU of `device` (`cuda`, `cuda:N`).
///
/// # Errors
/// The part that is missing.
pub fn check(program: Option<&Path>, device: &str) -> Result<(), GpuPart> {
    let program = program.ok_or(GpuPart::Runner)?;
    let number = device.strip_prefix("cuda:").unwrap_or("0").to_owned();
    let output = Command::new(program).args(["--probe", &number]).stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(missing(&output)),
        Err(_) => Err(GpuPart::Runner),
    }
}

fn missing(output: &Output) -> GpuPart {
    let said = String::from_utf8_lossy(&output.stderr);
    let library = said.split_once(LOADER).and_then(|(_, rest)| rest.split(':').next());
    match library {
        Some(name) if name.starts_with(DRIVER_LIBRARY) => GpuPart::Driver,
        Some(name) => GpuPart::Library(name.trim().chars().take(80).collect()),
        None => GpuPart::Ordinal,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// The part that a runner lacks which does `script`.
    fn lacks(script: &str) -> Result<(), GpuPart> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wattline-runner-cuda");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        check(Some(&path), "cuda:1")
    }

    #[test]
    fn the_missing_part_is_named() {
        let loader = |name: &str| {
            lacks(&format!(
                "echo \"$0: {LOADER}{name}: cannot open shared object file: No such file\" >&2; exit 127"
            ))
        };
        assert_eq!(loader("libcuda.so.1"), Err(GpuPart::Driver));
        assert_eq!(loader("libcublas.so.13"), Err(GpuPart::Library("libcublas.so.13".into())));
        assert_eq!(lacks("[ \"$1 $2\" = '--probe 1' ]"), Ok(()));
        assert_eq!(lacks("exit 1"), Err(GpuPart::Ordinal));
        assert_eq!(check(None, "cuda"), Err(GpuPart::Runner));
        assert_eq!(check(Some(Path::new("/no/such/runner")), "cuda"), Err(GpuPart::Runner));
    }
}
