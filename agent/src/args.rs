//! What is typed after `wattline-agent`.
//!
//! Owns the flags and their help. Gives them no meaning: that is
//! [`crate::command`].

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use wattline_pinned::{PeerName, Pin};

use crate::byte_count::ByteCount;
use crate::trigger::TriggerSpec;

/// The part of Wattline that runs on the board.
#[derive(Debug, Parser)]
#[command(name = "wattline-agent", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: AgentCommand,
}

/// Sub-commands.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Serve hosts on a Unix socket; prints `ready PATH` once it does
    Serve(ServeArgs),
    /// Bridge standard input and output to a serving agent; starts one where none serves
    Stdio(ServeArgs),
    /// Let hosts in over TLS 1.3 with pinned keys, and bridge them to the agent's socket
    Gate(GateArgs),
    /// The gate's key, and the keys that it lets in
    Keys(KeysArgs),
    /// Ask the agent that serves who it is; exit 1 where none answers
    Hello(HelloArgs),
    /// List the power rails of this board
    Rails(RailsArgs),
    /// Restore what a run that was cut left changed in kernel drivers
    Restore(RestoreArgs),
    /// Hold this board's clocks, set its power mode, or put clocks back
    Board(BoardArgs),
    /// Check what the agent needs on this board
    Doctor(DoctorArgs),
    /// Run one network once and write its output
    Infer(InferArgs),
    /// Evaluate top-1 and top-5 accuracy over a folder of labelled images
    Accuracy(AccuracyArgs),
    /// List the networks, or print one
    Networks(NetworksArgs),
    /// One trial, driven over a pipe by the agent
    #[command(hide = true)]
    Runner(RunnerArgs),
}

/// Flags of `serve` and `stdio`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Use a simulated board instead of this one's rails
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "ina3221", conflicts_with = "exclusive")]
    pub simulated: Option<SimulatedChip>,
    /// Draw the simulated chip's errors and noise from this seed
    #[arg(long, value_name = "SEED", requires = "simulated")]
    pub simulated_seed: Option<u64>,
    /// Socket to serve at [default: wattline/agent.sock in the runtime folder]
    #[arg(long, value_name = "PATH", env = "WATTLINE_SOCKET")]
    pub socket: Option<PathBuf>,
    /// Folder of the spool [default: wattline/spool in the state folder]
    #[arg(long, value_name = "DIR", env = "WATTLINE_SPOOL")]
    pub spool: Option<PathBuf>,
    /// What the spool may take of its disk
    #[command(flatten)]
    pub room: RoomArgs,
    /// Write every frame to this file as well, as it is recorded
    #[arg(long, value_name = "FILE")]
    pub tee: Option<PathBuf>,
    /// Folder that stands for /sys: no I²C bus is opened, and its files are set as drivers' are
    #[arg(long, value_name = "DIR", conflicts_with_all = ["simulated", "exclusive"], hide = true)]
    pub sysfs_root: Option<PathBuf>,
    /// How chips are sampled
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Have each trial's runner from the service at this socket instead of starting it
    #[arg(long, value_name = "PATH", env = "WATTLINE_RUNNER_SOCKET")]
    pub runner_socket: Option<PathBuf>,
    /// Have clocks and power mode set by the service at this socket instead of setting them
    #[arg(long, value_name = "PATH", env = "WATTLINE_BOARD_SOCKET")]
    pub board_socket: Option<PathBuf>,
    /// Tell an external meter of each window (or inference) by a GPIO line: gpiochip0:17,
    /// gpiochip0:17:inference, or simulated on the simulated board
    #[arg(long, value_name = "LINE[:window|:inference]", env = "WATTLINE_TRIGGER")]
    pub trigger: Option<TriggerSpec>,
    /// End after so many seconds with nothing to do and everything acknowledged
    #[arg(long, value_name = "SECONDS")]
    pub idle_exit_s: Option<u32>,
    /// Which configuration holds
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// What the spool may take of its disk.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct RoomArgs {
    /// Bytes that all runs may take, such as 2GiB or 500MB; the last twentieth is kept for what a
    /// run cannot be read without [default: half of what is free at the start]
    #[arg(long, value_name = "BYTES", env = "WATTLINE_SPOOL_QUOTA", value_parser = ByteCount::quota)]
    pub spool_quota: Option<ByteCount>,
    /// Bytes that stay free on the disk [default: 64MiB]
    #[arg(long, value_name = "BYTES", env = "WATTLINE_SPOOL_RESERVE", value_parser = ByteCount::parse)]
    pub spool_reserve: Option<ByteCount>,
    /// When there is no room left for samples: drop the raw ones and keep their aggregates, or
    /// end the run in order [default: drop]
    #[arg(long, value_enum, value_name = "POLICY", env = "WATTLINE_WHEN_FULL")]
    pub when_full: Option<FullPolicy>,
}

/// Policies for a full spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FullPolicy {
    /// Raw samples go, their aggregates stay
    Drop,
    /// The run ends in order
    Stop,
}

/// Which configuration holds.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// Configuration to read alone [default: /etc/wattline/agent.toml, then wattline/agent.toml in
    /// the configuration folder]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the configuration that holds, with every key, and do nothing else
    #[arg(long)]
    pub print_config: bool,
}

/// Flags of how chips are sampled.
#[derive(Debug, Clone, Copy, Args)]
pub struct SamplingArgs {
    /// Take INA monitors from their kernel drivers for each run, and give them back as they were
    #[arg(long)]
    pub exclusive: bool,
    /// How a chip divides its time; `cover` and `total` where no kernel driver holds it
    #[arg(long, value_enum, default_value_t = ProfileName::Fast)]
    pub profile: ProfileName,
    /// How much of each I²C bus to use [default: half where other drivers are bound, else whole]
    #[arg(long, value_enum, value_name = "PART")]
    pub bus_share: Option<BusPart>,
    /// What a run does with the settings of kernel drivers that hold INA monitors
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = DriverSettings::Fast)]
    pub driver_settings: DriverSettings,
}

/// What becomes of a kernel driver's interval and averaging.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DriverSettings {
    /// The shortest conversions and no averaging for the run; restored after it
    Fast,
    /// They are left as they are found
    Keep,
}

/// Profiles of a chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProfileName {
    /// The shortest conversions: the most sweeps
    Fast,
    /// Longer conversions of the shunt: the load is watched for more of the time
    Cover,
    /// The total rail alone
    Total,
}

/// Parts of a bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BusPart {
    /// Back to back, where the bus is slower than the chip
    Whole,
    /// Half of the time at most
    Half,
}

/// Flags of `runner`.
#[derive(Debug, Clone, Args)]
pub struct RunnerArgs {
    /// Standard input is a connection that systemd accepted for this trial
    #[arg(long)]
    pub accepted: bool,
}

/// Simulated boards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SimulatedChip {
    /// Rails VDD_IN (total), VDD_CPU_GPU, VDD_SOC
    Ina3221,
    /// Rail VIN (total)
    Ina226,
}

/// Flags of `gate`.
#[derive(Debug, Clone, Args)]
#[command(group = clap::ArgGroup::new("way").required(true).args(["listen", "dial"]))]
pub struct GateArgs {
    /// Listen there, such as 0.0.0.0:7425; off loopback only with a host's key among the pins
    #[arg(long, value_name = "ADDR:PORT", env = "WATTLINE_GATE_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// Dial a host that listens, for a board behind NAT
    #[arg(long, value_name = "HOST:PORT", env = "WATTLINE_GATE_DIAL", value_parser = dial_target)]
    pub dial: Option<String>,
    /// Socket of the agent [default: as `serve` chooses it]
    #[arg(long, value_name = "PATH", env = "WATTLINE_SOCKET")]
    pub socket: Option<PathBuf>,
    /// Where keys and pins lie
    #[command(flatten)]
    pub keys: KeyFolderArgs,
    /// Let hosts on the same network find it by mDNS: `wattline discover`
    #[cfg(feature = "mdns")]
    #[arg(long, requires = "listen", env = "WATTLINE_GATE_ANNOUNCE")]
    pub announce: bool,
    /// See that it could serve, and end
    #[arg(long)]
    pub check: bool,
}

/// HOST:PORT as it is dialled.
fn dial_target(text: &str) -> Result<String, String> {
    let parts = text.rsplit_once(':');
    let good = parts.is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if good { Ok(text.to_owned()) } else { Err("that is not HOST:PORT".to_owned()) }
}

/// Where keys and pins lie.
#[derive(Debug, Clone, Args)]
pub struct KeyFolderArgs {
    /// Folder of keys and pins [default: /var/lib/wattline-gate where it is, else wattline/keys in
    /// the state folder]
    #[arg(long, value_name = "DIR", env = "WATTLINE_KEYS", global = true)]
    pub keys: Option<PathBuf>,
}

/// Flags of `keys`.
#[derive(Debug, Clone, Args)]
pub struct KeysArgs {
    /// What to do
    #[command(subcommand)]
    pub verb: KeysVerb,
    /// Where keys and pins lie
    #[command(flatten)]
    pub keys: KeyFolderArgs,
}

/// What is done with keys.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum KeysVerb {
    /// Print this board's pin, which hosts are given; its key is made where there is none
    Show,
    /// Print the keys that are let in
    List,
    /// Let a key in
    Add {
        /// Whose it is, such as ana@desk
        name: PeerName,
        /// wattline-key:ed25519:… as `wattline keys show` prints it there
        pin: Pin,
    },
    /// Let a key in no more; its links are cut
    Revoke {
        /// Its name or pin
        who: String,
    },
    /// Make a new key; the one before is shown to hosts that know that one alone
    Rotate,
    /// End a rotation: remove the key before
    Settle,
}

/// Flags of `hello`.
#[derive(Debug, Clone, Args)]
pub struct HelloArgs {
    /// Socket of the agent [default: as `serve` chooses it]
    #[arg(long, value_name = "PATH", env = "WATTLINE_SOCKET")]
    pub socket: Option<PathBuf>,
}

/// Flags of `rails`.
#[derive(Debug, Clone, Args)]
pub struct RailsArgs {
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Folder that stands for /sys
    #[arg(long, value_name = "DIR")]
    pub sysfs_root: Option<PathBuf>,
    /// How chips are sampled
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Folder of the spool, where exclusive mode keeps what it found [default: as `serve`]
    #[arg(long, value_name = "DIR", env = "WATTLINE_SPOOL")]
    pub spool: Option<PathBuf>,
    /// Which configuration holds
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Flags of `restore`.
#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    /// Folder of the spool [default: wattline/spool in the state folder]
    #[arg(long, value_name = "DIR", env = "WATTLINE_SPOOL")]
    pub spool: Option<PathBuf>,
    /// Folder that stands for /sys [default: the one that the run used]
    #[arg(long, value_name = "DIR")]
    pub sysfs_root: Option<PathBuf>,
}

/// Flags of `board`.
#[derive(Debug, Clone, Args)]
pub struct BoardArgs {
    /// What to do
    #[command(subcommand)]
    pub verb: BoardVerb,
    /// Folder that stands for /sys
    #[arg(long, value_name = "DIR", hide = true)]
    pub sysfs_root: Option<PathBuf>,
    /// Folder of the journal [default: /run/wattline-board]
    #[arg(long, value_name = "DIR", hide = true)]
    pub folder: Option<PathBuf>,
}

/// What root may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum BoardVerb {
    /// Say which power mode holds, and whether clocks are held
    Show,
    /// Hold the clocks of cores and GPU at their most
    Pin,
    /// Put clocks back as they were found
    Restore,
    /// Set a power mode of the board's own table
    Mode {
        /// Its number, as `show` lists it
        id: u16,
    },
    /// Answer one question on standard input, as systemd hands it over
    #[command(hide = true)]
    Answer,
}

/// Flags of `doctor`.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Folder that stands for /sys
    #[arg(long, value_name = "DIR")]
    pub sysfs_root: Option<PathBuf>,
    /// Folder of the spool [default: wattline/spool in the state folder]
    #[arg(long, value_name = "DIR", env = "WATTLINE_SPOOL")]
    pub spool: Option<PathBuf>,
    /// What the spool may take of its disk
    #[command(flatten)]
    pub room: RoomArgs,
    /// Which configuration holds
    #[command(flatten)]
    pub config: ConfigArgs,
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

/// Flags of `infer`.
#[derive(Debug, Clone, Args)]
pub struct InferArgs {
    /// A network's id, or a graph file that ends in .toml or .json
    #[arg(long)]
    pub network: String,
    /// A safetensors file, or hashed:SEED
    #[arg(long, value_name = "FILE|hashed:SEED")]
    pub weights: String,
    /// A safetensors file with `input`, or hashed:SEED
    #[arg(long, value_name = "FILE|hashed:SEED")]
    pub input: String,
    /// Images at once
    #[arg(long)]
    pub batch: u32,
    /// Height and width of an image in pixels [default: the network's own]
    #[arg(long)]
    pub size: Option<u32>,
    /// cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// f32, tf32, f16 or bf16
    #[arg(long, default_value = "f32")]
    pub precision: String,
    /// Keep BatchNorm as layers of its own
    #[arg(long)]
    pub no_fold: bool,
    /// Safetensors file to write `output` to
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
}

/// Flags of `accuracy`.
#[derive(Debug, Clone, Args)]
pub struct AccuracyArgs {
    /// A network's id, or a graph file that ends in .toml or .json
    #[arg(long)]
    pub network: String,
    /// A safetensors or zip .pth file, a folder of such, or hashed:SEED
    #[arg(long, value_name = "FILE")]
    pub weights: String,
    /// Folder of class folders with JPEG or PNG images, or of images with --labels
    #[arg(long, value_name = "DIR")]
    pub images: PathBuf,
    /// Lines NAME CLASS: NAME an image or a class folder, CLASS its index from 0
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// Classes of another head than the network's own
    #[arg(long, value_name = "N")]
    pub classes: Option<u32>,
    /// Images at once
    #[arg(long, default_value_t = 8)]
    pub batch: u32,
    /// cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// f32, tf32, f16 or bf16
    #[arg(long, default_value = "f32")]
    pub precision: String,
    /// Shorter side after the resize [default: the weight set's]
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub resize: Option<u32>,
    /// bilinear or bicubic [default: the weight set's]
    #[arg(long, value_parser = ["bilinear", "bicubic"])]
    pub interpolation: Option<String>,
    /// Folder of journal and summary; the same one resumes [default: wattline-accuracy/...]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}
