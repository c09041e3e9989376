//! What is checked before a run starts: better a refusal now than a failed
//! trial at midnight.
//!
//! Owns the checks of networks, devices, cores, weights and disk. Starts
//! nothing.

use std::path::Path;

use wattline_protocol::campaign_spec::{CampaignSpec, Precision};
use wattline_protocol::command::Refusal;
use wattline_protocol::presence::SpoolStanding;
use wattline_protocol::record::Plan;

use crate::campaign::plan::{KnownNetwork, PlanError, plan as make_plan};
use crate::network::{self, Graph, NetworkError, WeightsError, catalog};
use crate::runner::gpu;
use crate::runner::process::RunnerPrograms;
use crate::spool::{Spool, SpoolError};

/// Room that even the shortest run needs: one segment and what is around it.
pub const ROOM_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// Bytes a second of a run, a little more than one INA3221 at full rate
/// (8 kB/s of samples, spans and snapshots).
const BYTES_PER_S: f64 = 16_384.0;
/// Seconds that a trial takes beside its window, for the estimate.
const TRIAL_S: f64 = 10.0;

/// The plan of a campaign, if this board can serve all of it.
///
/// # Errors
/// [`Refusal`] naming the first thing that it cannot.
pub(super) fn plan(
    campaign: &CampaignSpec,
    cores: u16,
    programs: &RunnerPrograms,
) -> Result<Plan, Refusal> {
    let mut graphs = Vec::with_capacity(campaign.networks.len());
    for name in &campaign.networks {
        let graph = network::open(name).map_err(|error| no_network(name, &error))?;
        graphs.push((network::identity(name, &graph), graph));
    }
    let known = |name: &str| {
        let place = campaign.networks.iter().position(|listed| listed == name)?;
        let (identity, graph) = graphs.get(place)?;
        let size = u32::try_from(graph.input.size).ok()?;
        Some(KnownNetwork { identity: identity.clone(), size })
    };
    let plan = make_plan(campaign, cores, known).map_err(refusal_of)?;
    for device in &campaign.device {
        if device != "cpu" {
            gpu::check(programs.cuda.as_deref(), device)
                .map_err(|missing| Refusal::NoGpu { device: device.clone(), missing })?;
        }
        for precision in &campaign.precision {
            // TF32 is a GPU's; candle has no bfloat16 kernels for the CPU.
            let absent = matches!(precision, Precision::Tf32 | Precision::Bf16);
            if device == "cpu" && absent {
                return Err(Refusal::NoPrecision {
                    precision: precision.name().into(),
                    device: device.clone(),
                });
            }
        }
    }
    for cell in &plan.cells {
        let Some((_, graph)) = graphs.iter().find(|(identity, _)| *identity == cell.network) else {
            continue;
        };
        size_fits(graph, cell.size)?;
        weights_are_there(&cell.weights, graph)?;
    }
    Ok(plan)
}

fn refusal_of(error: PlanError) -> Refusal {
    match error {
        PlanError::Spec(_) => Refusal::BadCampaign,
        PlanError::UnknownNetwork { name } => {
            let known = catalog().into_iter().map(str::to_owned).collect();
            Refusal::UnknownNetwork { name, known }
        }
        PlanError::NoCores { cores, online } => Refusal::NoCores { cores, online },
    }
}

fn no_network(name: &str, error: &NetworkError) -> Refusal {
    if let NetworkError::Unknown(unknown) = error {
        let known = unknown.known.iter().map(|&id| id.to_owned()).collect();
        return Refusal::UnknownNetwork { name: unknown.id.clone(), known };
    }
    let mut reason = error.to_string();
    let mut below = std::error::Error::source(error);
    while let Some(source) = below {
        reason = format!("{reason}: {source}");
        below = source.source();
    }
    Refusal::BadGraph { file: name.to_owned(), reason }
}

fn size_fits(graph: &Graph, size: u32) -> Result<(), Refusal> {
    let side = usize::try_from(size).unwrap_or(usize::MAX);
    let fits = graph.shapes(side).is_ok();
    if fits { Ok(()) } else { Err(Refusal::BadSize { network: graph.id.clone(), size }) }
}

fn weights_are_there(weights: &str, graph: &Graph) -> Result<(), Refusal> {
    if weights.starts_with("hashed:") {
        return Ok(());
    }
    let file = network::weights_file(Path::new(weights), graph);
    match network::check_weights(&file, graph) {
        Ok(()) => Ok(()),
        Err(WeightsError::Read { .. }) => {
            Err(Refusal::NoWeights { path: file.display().to_string() })
        }
        Err(error) => {
            Err(Refusal::BadWeights { path: file.display().to_string(), reason: error.to_string() })
        }
    }
}

/// Sees that the spool's disk has room for the run.
///
/// # Errors
/// [`Refusal::SpoolFull`] with all numbers.
pub(super) fn room(spool: &Spool, campaign: &CampaignSpec, plan: &Plan) -> Result<(), Refusal> {
    let trials = u32::try_from(plan.trials.len()).unwrap_or(u32::MAX);
    let seconds = f64::from(trials) * (campaign.window_s_min + TRIAL_S) + 2.0 * campaign.idle_s;
    let need_bytes = ROOM_BYTES_MIN.max(bytes(seconds * BYTES_PER_S));
    match spool.make_room(need_bytes) {
        Ok(_) => Ok(()),
        Err(SpoolError::TooLittleSpace { standing, .. }) => Err(spool_full(need_bytes, standing)),
        Err(error) => Err(super::refused::no_spool(&error)),
    }
}

/// The refusal of a run that needs more room than there is.
pub(super) fn spool_full(need_bytes: u64, standing: SpoolStanding) -> Refusal {
    let SpoolStanding { used_bytes, quota_bytes, free_bytes, reserve_bytes, .. } = standing;
    Refusal::SpoolFull { need_bytes, used_bytes, quota_bytes, free_bytes, reserve_bytes }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates; positive")]
fn bytes(estimate: f64) -> u64 {
    estimate as u64
}

#[cfg(test)]
mod tests {
    use wattline_protocol::campaign_spec::{CampaignFile, Mode};

    use wattline_protocol::command::GpuPart;

    use super::*;

    fn refused(text: &str) -> Refusal {
        let spec = CampaignFile::parse(text).unwrap().resolve(Mode::Full).unwrap();
        let programs = RunnerPrograms { cpu: "/bin/true".into(), cuda: None, socket: None };
        plan(&spec, 2, &programs).unwrap_err()
    }

    #[test]
    fn an_unknown_network_is_refused_with_the_list() {
        let Refusal::UnknownNetwork { name, known } = refused("networks = ['alexnett']") else {
            panic!("another refusal")
        };
        assert_eq!(name, "alexnett");
        assert!(known.contains(&"alexnet".to_owned()));
    }

    #[test]
    fn a_gpu_without_a_runner_is_refused_before_the_night() {
        let refusal = refused("networks = ['alexnet']\ndevice = ['cuda']");
        let missing = GpuPart::Runner;
        assert_eq!(refusal, Refusal::NoGpu { device: "cuda".into(), missing });
    }

    #[test]
    fn precisions_that_no_cpu_kernel_has_are_refused_before_the_night() {
        for precision in ["tf32", "bf16"] {
            let text = format!("networks = ['alexnet']\nprecision = ['{precision}']");
            let device = "cpu".into();
            assert_eq!(
                refused(&text),
                Refusal::NoPrecision { precision: precision.into(), device }
            );
        }
    }

    #[test]
    fn an_image_too_small_for_the_network_is_refused() {
        let refusal = refused("networks = ['alexnet']\nsize = [16]");
        assert_eq!(refusal, Refusal::BadSize { network: "alexnet".into(), size: 16 });
    }

    #[test]
    fn a_graph_file_is_refused_with_its_layer_and_planned_with_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my_net.toml");
        let good = toml::to_string(&network::by_id("squeezenet1-1").unwrap()).unwrap();
        let text = format!("networks = ['{}']\nbatch = [1]", path.display());
        std::fs::write(&path, good.replacen("out_channels = 16", "out_channels = 17", 1)).unwrap();
        let Refusal::BadGraph { reason, .. } = refused(&text) else { panic!("another refusal") };
        assert!(reason.contains("layer features.3.expand1x1"), "{reason}");

        std::fs::write(&path, &good).unwrap();
        let spec = CampaignFile::parse(&text).unwrap().resolve(Mode::Full).unwrap();
        let programs = RunnerPrograms { cpu: "/bin/true".into(), cuda: None, socket: None };
        let plan = plan(&spec, 2, &programs).unwrap();
        let name = &plan.cells[0].network;
        assert!(name.starts_with(&format!("{}#", path.display())), "{name}");
        assert!(network::open(name).is_ok());
        std::fs::write(&path, good.replacen("size = 224", "size = 192", 1)).unwrap();
        assert!(matches!(network::open(name), Err(NetworkError::Changed { .. })));
    }

    #[test]
    fn weights_that_are_not_there_are_refused_by_name() {
        let refusal = refused("networks = ['alexnet']\nweights = '/no/such/file'");
        assert_eq!(refusal, Refusal::NoWeights { path: "/no/such/file".into() });
    }
}
