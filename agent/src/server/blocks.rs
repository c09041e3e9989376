//! Runs that follow each other in other power modes: the blocks of a campaign.
//!
//! Owns which block is next, durably, and the mode that held before the first. A
//! block is a run of its own, so that each has its own idle windows and its own end;
//! a mode that holds after a reboot only is left to the maker's program, and the
//! agent's next start goes on with the block that it was for. How a run is made is
//! the hub's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tracing::{info, warn};
use wattline_protocol::campaign_spec::CampaignSpec;
use wattline_protocol::command::{PowerBlock, Refusal, Reply};
use wattline_protocol::record::{PinRefusal, RunId, RunSettings};

use super::hub::Hub;
use super::preflight;
use super::request::{Request, Visitor};
use crate::board::mode;

/// Most blocks: no board's table has more modes.
const BLOCKS_MAX: usize = 16;
/// Name of the file in the spool's folder.
const FILE: &str = "blocks.json";

/// What is left of a campaign over power modes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Chain {
    campaign: CampaignSpec,
    pin: bool,
    /// Blocks that are not over, the present one first.
    left: Vec<PowerBlock>,
    /// The mode that is set at the end.
    before: Option<u16>,
    /// The mode that the board was last rebooted for: never twice for one.
    rebooted: Option<u16>,
}

/// The chain, and its file.
#[derive(Debug)]
pub(super) struct Blocks {
    path: PathBuf,
    chain: Option<Chain>,
}

impl Blocks {
    /// What a start of the agent finds in the spool's folder.
    pub(super) fn find(spool: &Path) -> Self {
        let path = spool.join(FILE);
        let read = fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        let chain = match read {
            Ok(chain) => Some(chain),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                warn!(%error, path = %path.display(), "The blocks that were left cannot be read.");
                None
            }
        };
        Self { path, chain }
    }

    /// The run that the board is or will be busy with.
    pub(super) fn front(&self) -> Option<&RunId> {
        self.chain.as_ref()?.left.first().map(|block| &block.run)
    }

    /// True where nothing is left to be made or put back.
    pub(super) const fn is_over(&self) -> bool {
        self.chain.is_none()
    }

    pub(super) fn holds(&self, run: &RunId) -> bool {
        self.chain.iter().flat_map(|chain| &chain.left).any(|block| block.run == *run)
    }

    /// Blocks that have not begun: those behind `current`, the run that goes on.
    pub(super) fn waiting(&self, current: Option<&RunId>) -> Vec<PowerBlock> {
        let left = self.chain.iter().flat_map(|chain| &chain.left);
        left.filter(|block| Some(&block.run) != current).cloned().collect()
    }

    /// Makes a change durable, and then takes it.
    fn keep(&mut self, chain: Chain) -> io::Result<()> {
        let beside = self.path.with_extension("json.new");
        fs::write(&beside, serde_json::to_vec(&chain)?)?;
        fs::File::open(&beside)?.sync_all()?;
        fs::rename(&beside, &self.path)?;
        if let Some(folder) = self.path.parent() {
            fs::File::open(folder)?.sync_all()?;
        }
        self.chain = Some(chain);
        Ok(())
    }

    fn change(&mut self, change: impl FnOnce(&mut Chain)) {
        let Some(mut chain) = self.chain.clone() else { return };
        change(&mut chain);
        if let Err(error) = self.keep(chain.clone()) {
            // In memory it holds; after a power cut a block that was made is seen by its run.
            warn!(%error, "The blocks that are left cannot be written.");
            self.chain = Some(chain);
        }
    }

    fn forget(&mut self) {
        self.chain = None;
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(%error, "The blocks that were left cannot be removed.");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

impl Hub {
    /// Starts the first block, and keeps the others for when it is over.
    pub(super) fn start_blocks(
        &mut self,
        visitor: &Visitor,
        campaign: CampaignSpec,
        blocks: Vec<PowerBlock>,
        pin: bool,
        requests: &mpsc::Sender<Request>,
    ) -> Reply {
        match self.begin_blocks(visitor, campaign, blocks, pin, requests) {
            Ok(()) => Reply::Started,
            Err(refusal) => Reply::Refused(refusal),
        }
    }

    fn begin_blocks(
        &mut self,
        visitor: &Visitor,
        campaign: CampaignSpec,
        left: Vec<PowerBlock>,
        pin: bool,
        requests: &mpsc::Sender<Request>,
    ) -> Result<(), Refusal> {
        let known = mode::modes(self.sysfs_root());
        for PowerBlock { power_mode: id, .. } in &left {
            if !known.iter().any(|mode| mode.id == *id) {
                return Err(Refusal::NoPin { why: PinRefusal::NoSuchMode { id: *id } });
            }
        }
        let Some(first) = left.first().cloned().filter(|_| left.len() <= BLOCKS_MAX) else {
            return Err(Refusal::BadCampaign);
        };
        // A link that was cut before the answer: the same blocks are asked for again.
        if self.blocks.chain.as_ref().is_some_and(|chain| chain.left == left) {
            return self.starts_again(visitor);
        }
        if left.iter().any(|block| self.spool.first_record(&block.run).is_some()) {
            return Err(Refusal::RunExists);
        }
        if let Some(busy) = self.busy_with() {
            return Err(Refusal::Busy { run: busy });
        }
        let plan = preflight::plan(&campaign, self.board.cores, &self.programs)?;
        preflight::room(&self.spool, &campaign, &plan)?;
        let before = mode::of(self.sysfs_root()).map(|mode| mode.id);
        let chain = Chain { campaign: campaign.clone(), pin, left, before, rebooted: None };
        self.blocks.keep(chain).map_err(|error| Refusal::SpoolFailed {
            errno: error.raw_os_error().unwrap_or_default(),
        })?;
        let settings = RunSettings { pin, power_mode: Some(first.power_mode) };
        match self.start(visitor, &first.run, campaign, settings, requests) {
            Err(Refusal::NoPin { why: PinRefusal::NeedsReboot { id } }) => {
                info!(id, "The first power mode holds after a reboot; the run begins then.");
                self.reboot_into(id);
                Ok(())
            }
            Err(refusal) => {
                self.blocks.change(|chain| chain.left.clear());
                self.next_block(requests);
                Err(refusal)
            }
            Ok(()) => Ok(()),
        }
    }

    /// The run that goes on, or the block that waits for a reboot.
    pub(super) fn busy_with(&self) -> Option<RunId> {
        let current = self.current.as_ref().map(|current| &current.run);
        current.or(self.blocks.front()).cloned()
    }

    /// Begins the next block where no run goes on; puts the mode back behind the last.
    pub(super) fn next_block(&mut self, requests: &mpsc::Sender<Request>) {
        while self.current.is_none() {
            let Some(chain) = self.blocks.chain.clone() else { return };
            let Some(block) = chain.left.first() else {
                return self.put_mode_back(chain.before, chain.rebooted);
            };
            // Made already, perhaps before an agent's end that fell between two blocks.
            if self.spool.first_record(&block.run).is_some() {
                self.blocks.change(|chain| drop(chain.left.remove(0)));
                continue;
            }
            let settings = RunSettings { pin: chain.pin, power_mode: Some(block.power_mode) };
            let plan = preflight::plan(&chain.campaign, self.board.cores, &self.programs);
            let begun = plan.and_then(|plan| {
                self.launch(&block.run, chain.campaign.clone(), plan, settings, requests)
            });
            match begun {
                Ok(()) => info!(run = %block.run, mode = block.power_mode, "A block begins."),
                Err(Refusal::NoPin { why: PinRefusal::NeedsReboot { id } })
                    if chain.rebooted != Some(id) =>
                {
                    return self.reboot_into(id);
                }
                Err(why) => {
                    warn!(run = %block.run, ?why, "A block cannot be made; the next is tried.");
                    self.blocks.change(|chain| drop(chain.left.remove(0)));
                }
            }
        }
    }

    /// Leaves the blocks behind the present one away: somebody stops them. True where
    /// the run was one that had not begun.
    pub(super) fn stop_blocks(&mut self, run: &RunId, requests: &mpsc::Sender<Request>) -> bool {
        if !self.blocks.holds(run) {
            return false;
        }
        let current = self.current.as_ref().map(|current| current.run.clone());
        self.blocks.change(|chain| chain.left.retain(|block| Some(&block.run) == current.as_ref()));
        self.next_block(requests);
        current.as_ref() != Some(run)
    }

    fn put_mode_back(&mut self, before: Option<u16>, rebooted: Option<u16>) {
        let now = mode::of(self.sysfs_root()).map(|mode| mode.id);
        if let Some(id) = before.filter(|id| now != Some(*id)) {
            match self.keeper.set_mode(id) {
                Ok(()) => info!(id, "The power mode is as it was before the run."),
                Err(PinRefusal::NeedsReboot { .. }) if rebooted != Some(id) => {
                    return self.reboot_into(id);
                }
                Err(why) => warn!(id, ?why, "The power mode is not put back: nvpmodel -m ID."),
            }
        }
        self.blocks.forget();
    }

    /// Durably, so that a mode that the reboot does not bring is not tried for ever.
    fn reboot_into(&mut self, id: u16) {
        self.blocks.change(|chain| chain.rebooted = Some(id));
        info!(id, "The board reboots into a power mode; the campaign goes on after that.");
        self.keeper.reboot_into(id);
    }
}

#[cfg(test)]
mod tests {
    use wattline_protocol::campaign_spec::{CampaignFile, Mode};

    use super::*;

    fn chain() -> Chain {
        let campaign = CampaignFile::default().resolve(Mode::Quick).unwrap();
        let block =
            |name: &str, power_mode| PowerBlock { run: RunId::new(name).unwrap(), power_mode };
        let left = vec![block("a-m0", 0), block("a-m2", 2)];
        Chain { campaign, pin: true, left, before: Some(1), rebooted: None }
    }

    #[test]
    fn what_is_left_outlives_the_agent_and_is_gone_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut blocks = Blocks::find(folder.path());
        assert!(blocks.is_over() && blocks.front().is_none());
        blocks.keep(chain()).unwrap();
        blocks.change(|chain| drop(chain.left.remove(0)));
        blocks.change(|chain| chain.rebooted = Some(2));
        let found = Blocks::find(folder.path());
        assert_eq!(found.chain, blocks.chain);
        assert_eq!(found.front().map(RunId::as_str), Some("a-m2"));
        assert!(found.holds(&RunId::new("a-m2").unwrap()));
        let waiting = found.waiting(None);
        assert_eq!(waiting.iter().map(|block| block.power_mode).collect::<Vec<_>>(), [2]);
        assert!(found.waiting(found.front()).is_empty());
        blocks.forget();
        assert!(Blocks::find(folder.path()).is_over());
        // A file that a disk fault tore starts nothing.
        fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(Blocks::find(folder.path()).is_over());
    }
}
