//! The plan: from a campaign's axes to cells and an order of trials.
//!
//! Pure. Owns the product of the axes and the interleaving: every pass makes
//! one repeat of every cell, in an order shuffled by the campaign's seed, so
//! that drift of the board spreads over all cells instead of biasing one.

use thiserror::Error;
use wattline_protocol::campaign_spec::{CampaignSpec, SpecError, parse_cores};
use wattline_protocol::record::{Cell, Plan, Trial};

/// Why a campaign cannot be planned on this board.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum PlanError {
    /// The campaign does not pass its own check.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A network that is not in the catalog.
    #[error("unknown network `{name}`")]
    UnknownNetwork {
        /// Its name.
        name: String,
    },
    /// A core set that names cores the board lacks.
    #[error("cores `{cores}`: the board has {online} on line")]
    NoCores {
        /// The set.
        cores: String,
        /// Cores on line.
        online: u16,
    },
}

/// A network that the board has, as it will be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownNetwork {
    /// What names it in a cell: an id, or a graph file with its digest.
    pub identity: String,
    /// Image side in pixels that it is made for.
    pub size: u32,
}

/// Cells in the order of the axes, and trials interleaved over them, for a
/// board with `cores_online` cores; `known` finds a network by what was typed.
///
/// # Errors
/// [`PlanError`] naming the value that this board cannot serve.
pub fn plan(
    spec: &CampaignSpec,
    cores_online: u16,
    known: impl Fn(&str) -> Option<KnownNetwork>,
) -> Result<Plan, PlanError> {
    spec.check()?;
    let mut cells = Vec::new();
    for network in &spec.networks {
        let KnownNetwork { identity, size } =
            known(network).ok_or_else(|| PlanError::UnknownNetwork { name: network.clone() })?;
        let sizes = if spec.size.is_empty() { vec![size] } else { spec.size.clone() };
        for (device, precision, size, cores, threads, batch) in combinations(spec, &sizes) {
            let cell = u16::try_from(cells.len()).unwrap_or(u16::MAX);
            cells.push(Cell {
                cell,
                network: identity.clone(),
                batch,
                precision,
                device: device.clone(),
                size,
                threads: threads_of(threads, cores, cores_online)?,
                cores: cores.clone(),
                weights: spec.weights.clone(),
            });
        }
    }
    let trials = interleave(cells.len(), spec.windows, spec.seed);
    Ok(Plan { cells, trials })
}

type Combination<'a> =
    (&'a String, wattline_protocol::campaign_spec::Precision, u32, &'a String, u16, u32);

fn combinations<'a>(spec: &'a CampaignSpec, sizes: &[u32]) -> Vec<Combination<'a>> {
    let mut all = Vec::new();
    for device in &spec.device {
        for precision in &spec.precision {
            for size in sizes {
                for cores in &spec.cores {
                    for threads in &spec.threads {
                        for batch in &spec.batch {
                            all.push((device, *precision, *size, cores, *threads, *batch));
                        }
                    }
                }
            }
        }
    }
    all
}

fn threads_of(asked: u16, cores: &str, online: u16) -> Result<u16, PlanError> {
    let set = parse_cores(cores)?;
    if set.iter().any(|core| *core >= online) {
        return Err(PlanError::NoCores { cores: cores.to_owned(), online });
    }
    let allowed =
        if set.is_empty() { online } else { u16::try_from(set.len()).unwrap_or(u16::MAX) };
    Ok(if asked == 0 { allowed } else { asked })
}

fn interleave(cells: usize, repeats: u16, seed: u64) -> Vec<Trial> {
    let mut random = SplitMix(seed);
    let mut trials = Vec::new();
    for repeat in 0..repeats {
        let mut order: Vec<u16> = (0..u16::try_from(cells).unwrap_or(u16::MAX)).collect();
        shuffle(&mut order, &mut random);
        for cell in order {
            let trial = u32::try_from(trials.len()).unwrap_or(u32::MAX);
            trials.push(Trial { trial, cell, repeat });
        }
    }
    trials
}

/// Fisher and Yates, as in Knuth, The Art of Computer Programming 3.4.2 P.
fn shuffle(order: &mut [u16], random: &mut SplitMix) {
    for last in (1..order.len()).rev() {
        let bound = u64::try_from(last).unwrap_or(u64::MAX).saturating_add(1);
        let other = usize::try_from(random.next() % bound).unwrap_or(0);
        order.swap(last, other);
    }
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use wattline_protocol::campaign_spec::{CampaignFile, Mode};

    use super::*;

    fn spec(text: &str) -> CampaignSpec {
        CampaignFile::parse(text).unwrap().resolve(Mode::Full).unwrap()
    }

    fn native(name: &str) -> Option<KnownNetwork> {
        let known = KnownNetwork { identity: name.to_owned(), size: 224 };
        (name != "nonesuch").then_some(known)
    }

    #[test]
    fn every_cell_gets_every_repeat_once_and_passes_do_not_mix() {
        let spec = spec("networks = ['a', 'b']\nbatch = [1, 2, 4]\nwindows = 5\nseed = 9");
        let plan = plan(&spec, 4, native).unwrap();
        assert_eq!((plan.cells.len(), plan.trials.len()), (6, 30));
        for (pass, trials) in plan.trials.chunks(6).enumerate() {
            let mut cells: Vec<u16> = trials.iter().map(|trial| trial.cell).collect();
            assert!(trials.iter().all(|trial| usize::from(trial.repeat) == pass));
            cells.sort_unstable();
            assert_eq!(cells, [0, 1, 2, 3, 4, 5]);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_order_and_another_seed_another() {
        let order = |seed: u64| {
            let spec = spec(&format!("networks = ['a', 'b', 'c']\nseed = {seed}"));
            plan(&spec, 4, native).unwrap().trials
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }

    #[test]
    fn threads_zero_is_one_for_each_core_allowed() {
        let spec = spec("networks = ['a']\nbatch = [1]\nthreads = [0, 3]\ncores = ['', '1-2']");
        let threads: Vec<u16> =
            plan(&spec, 4, native).unwrap().cells.iter().map(|cell| cell.threads).collect();
        assert_eq!(threads, [4, 3, 2, 3]);
    }

    #[test]
    fn cores_that_the_board_lacks_are_named() {
        let spec = spec("networks = ['a']\ncores = ['2-7']");
        let error = plan(&spec, 4, native).unwrap_err();
        assert_eq!(error, PlanError::NoCores { cores: "2-7".into(), online: 4 });
    }

    #[test]
    fn an_unknown_network_is_named() {
        let spec = spec("networks = ['nonesuch']");
        assert!(matches!(plan(&spec, 4, native), Err(PlanError::UnknownNetwork { .. })));
    }
}
