//! What is checked before a run starts: better a refusal now than a failed
//! trial at midnight.
//!
//! Owns the checks of networks, devices, cores, weights and disk. Starts
//! nothing.

use std::path::Path;

use wattline_protocol::campaign_spec::{CampaignSpec, Precision};
use wattline_protocol::command::Refusal;
use wattline_protocol::record::Plan;

use crate::campaign::plan::{PlanError, plan as make_plan};
use crate::network::{by_id, catalog};
use crate::runner::process::RunnerPrograms;
use crate::spool::{Spool, SpoolError};

/// Room that even the shortest run needs: one segment and what is around it.
pub(super) const ROOM_BYTES_MIN: u64 = 16 * 1024 * 1024;
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
    let native = |network: &str| {
        let size = by_id(network).ok()?.input.size;
        u32::try_from(size).ok()
    };
    let plan = make_plan(campaign, cores, native).map_err(refusal_of)?;
    for device in &campaign.device {
        if device != "cpu" && programs.cuda.is_none() {
            return Err(Refusal::NoDevice { device: device.clone() });
        }
        for precision in &campaign.precision {
            if device == "cpu" && *precision == Precision::Tf32 {
                return Err(Refusal::NoPrecision {
                    precision: precision.name().into(),
                    device: device.clone(),
                });
            }
        }
    }
    for cell in &plan.cells {
        size_fits(&cell.network, cell.size)?;
        weights_are_there(&cell.weights, &cell.network)?;
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

fn size_fits(network: &str, size: u32) -> Result<(), Refusal> {
    let side = usize::try_from(size).unwrap_or(usize::MAX);
    let fits = by_id(network).is_ok_and(|graph| graph.shapes(side).is_ok());
    if fits { Ok(()) } else { Err(Refusal::BadSize { network: network.to_owned(), size }) }
}

fn weights_are_there(weights: &str, network: &str) -> Result<(), Refusal> {
    if weights.starts_with("hashed:") {
        return Ok(());
    }
    let path = Path::new(weights);
    let file =
        if path.is_dir() { path.join(format!("{network}.safetensors")) } else { path.to_owned() };
    match std::fs::File::open(&file) {
        Ok(_) => Ok(()),
        Err(_) => Err(Refusal::NoWeights { path: file.display().to_string() }),
    }
}

/// Sees that the spool's disk has room for the run.
///
/// # Errors
/// [`Refusal::BoardDiskFull`] with both numbers.
pub(super) fn room(spool: &Spool, campaign: &CampaignSpec, plan: &Plan) -> Result<(), Refusal> {
    let trials = u32::try_from(plan.trials.len()).unwrap_or(u32::MAX);
    let seconds = f64::from(trials) * (campaign.window_s_min + TRIAL_S) + 2.0 * campaign.idle_s;
    let need_bytes = ROOM_BYTES_MIN.max(bytes(seconds * BYTES_PER_S));
    match spool.make_room(need_bytes) {
        Ok(_) => Ok(()),
        Err(SpoolError::TooLittleSpace { free_bytes, .. }) => {
            Err(Refusal::BoardDiskFull { free_bytes, need_bytes })
        }
        Err(error) => Err(super::hub::no_spool(&error)),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates; positive")]
fn bytes(estimate: f64) -> u64 {
    estimate as u64
}

#[cfg(test)]
mod tests {
    use wattline_protocol::campaign_spec::{CampaignFile, Mode};

    use super::*;

    fn refused(text: &str) -> Refusal {
        let spec = CampaignFile::parse(text).unwrap().resolve(Mode::Full).unwrap();
        let programs = RunnerPrograms { cpu: "/bin/true".into(), cuda: None };
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
        assert_eq!(refusal, Refusal::NoDevice { device: "cuda".into() });
    }

    #[test]
    fn an_image_too_small_for_the_network_is_refused() {
        let refusal = refused("networks = ['alexnet']\nsize = [16]");
        assert_eq!(refusal, Refusal::BadSize { network: "alexnet".into(), size: 16 });
    }

    #[test]
    fn weights_that_are_not_there_are_refused_by_name() {
        let refusal = refused("networks = ['alexnet']\nweights = '/no/such/file'");
        assert_eq!(refusal, Refusal::NoWeights { path: "/no/such/file".into() });
    }
}
