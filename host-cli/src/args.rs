//! What is typed after `wattline`.
//!
//! Owns the flags and their help. Gives them no meaning: that is
//! [`crate::command`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use wattline_pinned::{PeerName, Pin};

/// What a neural network costs on a board: how long, how many joules, how sure.
#[derive(Debug, Parser)]
#[command(name = "wattline", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: HostCommand,
}

/// Sub-commands.
#[derive(Debug, Subcommand)]
pub enum HostCommand {
    /// Measure networks on a board and write a report
    Run(RunArgs),
    /// Follow a run, or replay a recorded one
    Watch(WatchArgs),
    /// Say what a board does and holds
    Status(StatusArgs),
    /// End a run; what was measured stays
    Stop(StopArgs),
    /// Bring a run's records from its board
    Fetch(FetchArgs),
    /// Make the report of a recorded run
    Report(ReportArgs),
    /// Hold a run against an earlier one, cell by cell
    Compare(CompareArgs),
    /// Write a recorded run in other formats
    Export(ExportArgs),
    /// Evaluate top-1 and top-5 accuracy of your weights over a folder of labelled images
    Accuracy(AccuracyArgs),
    /// List the networks, or print one
    Networks(NetworksArgs),
    /// Install or upgrade the agent on a board over ssh
    Deploy(DeployArgs),
    /// This machine's key for TLS, and the boards' keys that it takes
    Keys(KeysArgs),
    /// Find boards on this network whose gates let themselves be found (mDNS)
    #[cfg(feature = "mdns")]
    Discover(DiscoverArgs),
    /// Check this machine, and a board, for what measuring needs
    Doctor(DoctorArgs),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Flags of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Campaign file; flags win over its values
    pub campaign: Option<PathBuf>,
    /// Board: simulated[:ina226], local, ssh://user@host, tls://host:port, listen://address:port,
    /// unix:/path, or a configured name; several, or a group, with commas
    #[arg(long, value_name = "BOARD", env = "WATTLINE_BOARD")]
    pub on: Option<String>,
    /// Networks, such as alexnet,resnet18, or graph files ending in .toml or .json on the board
    #[arg(long, value_delimiter = ',', value_name = "IDS")]
    pub networks: Option<Vec<String>>,
    /// Images at once, such as 1,8
    #[arg(long, value_delimiter = ',', value_name = "NUMBERS")]
    pub batch: Option<Vec<u32>>,
    /// f32, tf32, f16, bf16
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub precision: Option<Vec<String>>,
    /// cpu, cuda or cuda:N
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub device: Option<Vec<String>>,
    /// Image sides in pixels [default: each network's own]
    #[arg(long, value_delimiter = ',', value_name = "PIXELS")]
    pub size: Option<Vec<u32>>,
    /// Threads of the runner; 0: one for each core
    #[arg(long, value_delimiter = ',', value_name = "NUMBERS")]
    pub threads: Option<Vec<u16>>,
    /// Core sets such as 0-3 or 0+2; several are separated by commas
    #[arg(long, value_delimiter = ',', value_name = "SETS")]
    pub cores: Option<Vec<String>>,
    /// Windows a cell [default: 5, with --quick 3]
    #[arg(long, value_name = "N")]
    pub windows: Option<u16>,
    /// Shortest window in seconds [default: 10, with --quick 1]
    #[arg(long, value_name = "S")]
    pub window_s_min: Option<f64>,
    /// Seed of the order of the trials [default: 1]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// hashed:SEED, or on the board a safetensors or zip .pth file, or a folder with NETWORK.safetensors
    #[arg(long, value_name = "SOURCE")]
    pub weights: Option<String>,
    /// Hold the board's clocks at their most for the run; they are put back whatever ends it
    #[arg(long)]
    pub pin: bool,
    /// Set this power mode (nvpmodel's number) before the run; it stays. Several, such as 0,2: a
    /// run in each, over reboots as well, and the mode before is set again
    #[arg(long, value_delimiter = ',', value_name = "IDS")]
    pub power_mode: Option<Vec<u16>>,
    /// A first look: batches 1 and 4, three windows of a second; flagged at best
    #[arg(long)]
    pub quick: bool,
    /// Start the run, print its id and leave it to the board
    #[arg(long)]
    pub detach: bool,
    /// Directory of the run, absent or empty [default: wattline-runs/ID]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Events as one JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Flags of `watch`.
#[derive(Debug, Clone, Args)]
pub struct WatchArgs {
    /// Directory or id of a run
    pub run: String,
    /// Board [default: the one the run was started on]
    #[arg(long, value_name = "BOARD", env = "WATTLINE_BOARD")]
    pub on: Option<String>,
}

/// Flags of `status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// Board, or several with commas
    #[arg(long, value_name = "BOARD", env = "WATTLINE_BOARD")]
    pub on: Option<String>,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// Flags of `stop`.
#[derive(Debug, Clone, Args)]
pub struct StopArgs {
    /// Directory or id of a run, also of several boards
    pub run: String,
    /// Board [default: the one the run was started on, or all]
    #[arg(long, value_name = "BOARD", env = "WATTLINE_BOARD")]
    pub on: Option<String>,
    /// Stop it although another user or machine controls it (yours goes by WATTLINE_NAME, or
    /// user@machine)
    #[arg(long)]
    pub take_over: bool,
}

/// Flags of `fetch`.
#[derive(Debug, Clone, Args)]
pub struct FetchArgs {
    /// Directory or id of a run, also of several boards
    pub run: String,
    /// Board [default: the one the run was started on, or all]
    #[arg(long, value_name = "BOARD", env = "WATTLINE_BOARD")]
    pub on: Option<String>,
    /// Directory of the run [default: where it lies, else wattline-runs/ID]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// One JSON object with `frames` and `frames_sha256`
    #[arg(long)]
    pub json: bool,
}

/// Flags of `report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// Directory or id of a run
    pub run: String,
    /// Use this resistance for a rail's shunt, such as VDD_IN=0.005
    #[arg(long, value_name = "RAIL=OHM")]
    pub shunt: Vec<String>,
    /// Show the page in the browser
    #[arg(long)]
    pub open: bool,
}

/// Flags of `compare`.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// Directory or id of the earlier run
    pub before: String,
    /// Directory or id of the later run
    pub after: String,
    /// Exit 8 where a cell got worse by more than this, such as 5%
    #[arg(long, value_name = "SHARE")]
    pub fail_above: Option<String>,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Flags of `export`.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// Directory or id of a run
    pub run: String,
    /// Formats: csv
    #[arg(long, value_delimiter = ',', value_name = "FORMATS", required = true)]
    pub to: Vec<String>,
    /// Folder to write into [default: RUN/export]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Use this resistance for a rail's shunt, such as VDD_IN=0.005
    #[arg(long, value_name = "RAIL=OHM")]
    pub shunt: Vec<String>,
}

/// Flags of `networks`.
#[derive(Debug, Clone, Args)]
pub struct NetworksArgs {
    /// A network's id, or a graph file that ends in .toml or .json
    pub name: Option<String>,
    /// Print the graph as TOML (with --json as JSON); the text is a graph file
    #[arg(long, requires = "name")]
    pub graph: bool,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Flags of `accuracy`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "The board's agent does the work: for simulated and local the agent's \
    program of this machine, for ssh:// the one on the board, with FILE and DIR on the board. \
    The same command after a kill goes on where it was. Preprocessing is the weight set's, told \
    by the file's name as torchvision publishes it.")]
pub struct AccuracyArgs {
    /// A network's id, or a graph file that ends in .toml or .json
    #[arg(long)]
    pub network: String,
    /// A safetensors or zip .pth file, a folder of such, or hashed:SEED
    #[arg(long, value_name = "FILE")]
    pub weights: String,
    /// Folder of class folders with JPEG or PNG images, or of images with --labels
    #[arg(long, value_name = "DIR")]
    pub images: String,
    /// Board: simulated, local, ssh://user@host, or a configured name
    #[arg(long, value_name = "BOARD", env = "WATTLINE_BOARD")]
    pub on: Option<String>,
    /// Lines NAME CLASS: NAME an image or a class folder, CLASS its index from 0
    #[arg(long, value_name = "FILE")]
    pub labels: Option<String>,
    /// Classes of another head than the network's own
    #[arg(long, value_name = "N")]
    pub classes: Option<u32>,
    /// Images at once [default: 8]
    #[arg(long)]
    pub batch: Option<u32>,
    /// cpu, cuda or cuda:N [default: cpu]
    #[arg(long)]
    pub device: Option<String>,
    /// f32, tf32, f16 or bf16 [default: f32]
    #[arg(long)]
    pub precision: Option<String>,
    /// Shorter side after the resize, in pixels [default: the weight set's]
    #[arg(long, value_name = "PIXELS")]
    pub resize: Option<u32>,
    /// bilinear or bicubic [default: the weight set's]
    #[arg(long)]
    pub interpolation: Option<String>,
    /// Folder of journal and summary on the board; the same one resumes
    #[arg(long, value_name = "DIR")]
    pub out: Option<String>,
    /// Run that the result joins, so that its report draws accuracy
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// Flags of `discover`.
#[cfg(feature = "mdns")]
#[derive(Debug, Clone, Args)]
pub struct DiscoverArgs {
    /// Listen so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub seconds: u16,
    /// One JSON object a board: name, boards, pin, known_as
    #[arg(long)]
    pub json: bool,
}

/// Flags of `deploy`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Needs OpenSSH on this machine, and on the board systemd and a user that \
    is root or has sudo. The version before is kept; a new version that does not answer is put \
    back by the board itself, also where the link is cut meanwhile. Records on the board are \
    never touched: a run that goes on resumes under the new version.")]
pub struct DeployArgs {
    /// Board: ssh://user@host, or a configured name
    pub board: String,
    /// The agent's program [default: the one for the board's processor in boards/, else this machine's]
    #[arg(long, value_name = "FILE")]
    pub agent: Option<PathBuf>,
    /// Bring this wattline-runner-cuda, built on or for the board
    #[arg(long, value_name = "FILE")]
    pub cuda_runner: Option<PathBuf>,
    /// Let this machine in over TLS with pinned keys as well: PORT or ADDRESS:PORT of the board to
    /// listen at, or `off`; keys are exchanged over ssh
    #[arg(long, value_name = "PORT", conflicts_with_all = ["rollback", "remove"])]
    pub tls: Option<GatePlace>,
    /// For a board behind NAT: have it dial this machine, as the board names it; here it is
    /// listen://0.0.0.0:PORT
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["tls", "rollback", "remove"])]
    pub tls_dial: Option<String>,
    /// Say what would be changed, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Go back to the version before
    #[arg(long, conflicts_with_all = ["remove", "agent", "cuda_runner"])]
    pub rollback: bool,
    /// Remove the agent; its records stay
    #[arg(long, conflicts_with_all = ["agent", "cuda_runner"])]
    pub remove: bool,
}

/// Where a board's gate is to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatePlace {
    /// There.
    At(SocketAddr),
    /// Nowhere.
    Off,
}

impl FromStr for GatePlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let everywhere = |port: u16| SocketAddr::from(([0, 0, 0, 0], port));
        let place = text.parse().map(everywhere).or_else(|_| text.parse::<SocketAddr>());
        let place = place.map_err(|_| "that is no PORT, ADDRESS:PORT or off".to_owned())?;
        if place.port() == 0 { Err("a port from 1 on".to_owned()) } else { Ok(Self::At(place)) }
    }
}

/// Flags of `keys`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "A board is called HOST:PORT, as in tls://HOST:PORT, or by the name that a \
    listen://ADDRESS:PORT/NAME has. Rotation: `keys rotate`; `deploy BOARD --tls PORT` for each \
    board, which gives it the new key; `keys settle`; on each board `keys revoke PIN --on BOARD` \
    for the old one. A board's own key: the same with --on BOARD. Keys lie in wattline/keys of the \
    configuration folder (WATTLINE_KEYS names another)."
)]
pub struct KeysArgs {
    /// What to do
    #[command(subcommand)]
    pub verb: KeysVerb,
    /// Do it with the keys of this board's gate, over ssh
    #[arg(long, value_name = "BOARD", global = true)]
    pub on: Option<String>,
}

/// What is done with keys.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum KeysVerb {
    /// Print one's own pin, which the other side is given; a key is made where there is none
    Show,
    /// Print the keys that are taken
    List,
    /// Take a key
    Add {
        /// Whose it is, such as orin:7425
        name: PeerName,
        /// wattline-key:ed25519:… as `keys show` prints it on the other side
        pin: Pin,
    },
    /// Take a key no more; links that it has end
    Revoke {
        /// Its name or pin
        who: String,
    },
    /// Make a new key; the one before is used where the other side knows that one alone
    Rotate,
    /// End a rotation: remove the key before
    Settle,
}

/// Flags of `doctor`.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// Board to check as well
    pub board: Option<String>,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}
