//! The campaign file: types, defaults and checks, shared by host and agent.
//!
//! Owns the keys of the TOML file and of the flags of `wattline run`, which
//! have the same names. Does not know which networks or boards exist: the host
//! checks the one, the agent the other.
//! Method behind the defaults: windows and repeats after EEMBC's energy rules
//! (10 s) and interleaved repeats, `docs/method.md`.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Most values on one axis; a night has 8 hours.
pub const AXIS_VALUES_MAX: usize = 64;
/// Most cells of a campaign: trial numbers and time stay within a week.
pub const CELLS_MAX: usize = 4096;
/// Largest batch that may be asked for.
pub const BATCH_MAX: u32 = 4096;
/// Smallest and largest image side, in pixels.
pub const SIZE_RANGE: (u32, u32) = (16, 2048);
/// Windows a cell gets unless told otherwise (five give a t-interval of use).
pub const WINDOWS_DEFAULT: u16 = 5;
/// Shortest window unless told otherwise, in seconds (EEMBC: 10 s).
pub const WINDOW_S_MIN_DEFAULT: f64 = 10.0;
/// Sweeps a window must hold, so that quantisation averages out.
pub const SWEEPS_MIN: u32 = 200;
/// Inferences a window must hold.
pub const INFERENCES_MIN: u32 = 20;
/// Idle time measured before and after, in seconds.
pub const IDLE_S_DEFAULT: f64 = 30.0;
/// Windows a cell gets with `--quick`.
pub const QUICK_WINDOWS: u16 = 3;
/// Shortest window with `--quick`, in seconds.
pub const QUICK_WINDOW_S_MIN: f64 = 1.0;
/// Inferences a window must hold with `--quick`.
pub const QUICK_INFERENCES_MIN: u32 = 2;
/// Idle time before and after with `--quick`, in seconds.
pub const QUICK_IDLE_S: f64 = 3.0;
/// Batches with `--quick`.
pub const QUICK_BATCHES: [u32; 2] = [1, 4];

/// Networks a campaign measures unless told otherwise.
pub const NETWORKS_DEFAULT: [&str; 4] = ["alexnet", "enet", "resnet18", "resnet50"];

/// Arithmetic of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// IEEE 754 single precision, accumulated in single precision.
    F32,
    /// Single precision in memory, operands rounded to 10 bits of mantissa.
    Tf32,
    /// IEEE 754 half precision.
    F16,
    /// bfloat16.
    Bf16,
}

impl Precision {
    /// All of them, in the order of the command line's help.
    pub const ALL: [Self; 4] = [Self::F32, Self::Tf32, Self::F16, Self::Bf16];

    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// Parses a name of the command line.
    ///
    /// # Errors
    /// [`SpecError::Precision`] with the text.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        Self::ALL
            .into_iter()
            .find(|precision| precision.name() == text)
            .ok_or_else(|| SpecError::Precision { value: text.to_owned() })
    }
}

/// What is wrong with a campaign.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum SpecError {
    /// The file is not TOML, or a value has the wrong type.
    #[error("line {line}: {message}")]
    Syntax {
        /// Line of the file, from 1; 0 where it is not known.
        line: usize,
        /// The parser's words.
        message: String,
    },
    /// A key that no campaign has.
    #[error("unknown key `{key}`{}", nearest_text(nearest.as_deref()))]
    UnknownKey {
        /// The key.
        key: String,
        /// The known key nearest to it.
        nearest: Option<String>,
    },
    /// A list without a value.
    #[error("`{key}` is an empty list")]
    Empty {
        /// The key.
        key: &'static str,
    },
    /// A list that is too long.
    #[error("`{key}` has {count} values, at most {AXIS_VALUES_MAX} are allowed")]
    TooMany {
        /// The key.
        key: &'static str,
        /// How many there are.
        count: usize,
    },
    /// The same value twice on one axis.
    #[error("`{key}` names `{value}` twice")]
    Twice {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
    },
    /// A number outside its range.
    #[error("`{key}` is {value}, allowed is {allowed}")]
    Range {
        /// The key.
        key: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// Not a precision.
    #[error("`precision` is `{value}`, known are f32, tf32, f16, bf16")]
    Precision {
        /// What was given.
        value: String,
    },
    /// Not a device.
    #[error("`device` is `{value}`, known are cpu, cuda and cuda:N")]
    Device {
        /// What was given.
        value: String,
    },
    /// Not a list of cores.
    #[error("`cores` is `{value}`, written are numbers and ranges such as 0-3 or 0+2")]
    Cores {
        /// What was given.
        value: String,
    },
    /// Not a source of weights.
    #[error("`weights` is `{value}`, written is hashed:SEED, or a safetensors file or folder")]
    Weights {
        /// What was given.
        value: String,
    },
    /// More cells than a run takes.
    #[error("{cells} cells, at most {CELLS_MAX} fit in a run")]
    TooManyCells {
        /// The product of the axes.
        cells: usize,
    },
}

fn nearest_text(nearest: Option<&str>) -> String {
    nearest.map(|key| format!(", did you mean `{key}`?")).unwrap_or_default()
}

/// A campaign as typed: a file or flags, nothing filled in.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CampaignFile {
    /// Network ids.
    pub networks: Option<Vec<String>>,
    /// Images at once.
    pub batch: Option<Vec<u32>>,
    /// Names of precisions.
    pub precision: Option<Vec<String>>,
    /// `cpu`, `cuda`, `cuda:N`.
    pub device: Option<Vec<String>>,
    /// Image sides in pixels; absent: each network's own.
    pub size: Option<Vec<u32>>,
    /// Thread counts; 0: one for each core allowed.
    pub threads: Option<Vec<u16>>,
    /// Core sets; an empty text: all cores.
    pub cores: Option<Vec<String>>,
    /// Windows a cell.
    pub windows: Option<u16>,
    /// Shortest window, in seconds.
    pub window_s_min: Option<f64>,
    /// Seed of the order of the trials.
    pub seed: Option<u64>,
    /// `hashed:SEED`, or a file or folder of safetensors on the board.
    pub weights: Option<String>,
    /// Power modes by the board's own numbers; several: a run in each, as outer blocks.
    pub power_mode: Option<Vec<u16>>,
}

/// Keys of a campaign file.
pub const KEYS: [&str; 12] = [
    "networks",
    "batch",
    "precision",
    "device",
    "size",
    "threads",
    "cores",
    "windows",
    "window_s_min",
    "seed",
    "weights",
    "power_mode",
];

impl CampaignFile {
    /// Parses a campaign file.
    ///
    /// # Errors
    /// [`SpecError::UnknownKey`] with the nearest known key;
    /// [`SpecError::Syntax`] with the line.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let table: toml::Table = toml::from_str(text).map_err(|error| syntax(text, &error))?;
        if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(SpecError::UnknownKey { key: key.clone(), nearest: nearest(key) });
        }
        toml::from_str(text).map_err(|error| syntax(text, &error))
    }

    /// The values of `over` where it has them, else those of `self`.
    #[must_use]
    pub fn overridden_by(self, over: Self) -> Self {
        Self {
            networks: over.networks.or(self.networks),
            batch: over.batch.or(self.batch),
            precision: over.precision.or(self.precision),
            device: over.device.or(self.device),
            size: over.size.or(self.size),
            threads: over.threads.or(self.threads),
            cores: over.cores.or(self.cores),
            windows: over.windows.or(self.windows),
            window_s_min: over.window_s_min.or(self.window_s_min),
            seed: over.seed.or(self.seed),
            weights: over.weights.or(self.weights),
            power_mode: over.power_mode.or(self.power_mode),
        }
    }

    /// Fills in the defaults and checks every value; power modes are the run's, not
    /// the campaign's ([`crate::power_modes`]).
    ///
    /// # Errors
    /// [`SpecError`] naming the key and what is allowed.
    pub fn resolve(self, mode: Mode) -> Result<CampaignSpec, SpecError> {
        let quick = mode == Mode::Quick;
        let batches = if quick { QUICK_BATCHES.to_vec() } else { vec![1, 2, 4, 8, 16, 32, 64] };
        let spec = CampaignSpec {
            networks: self.networks.unwrap_or_else(|| NETWORKS_DEFAULT.map(str::to_owned).to_vec()),
            batch: self.batch.unwrap_or(batches),
            precision: self
                .precision
                .unwrap_or_else(|| vec!["f32".into()])
                .iter()
                .map(|text| Precision::parse(text))
                .collect::<Result<_, _>>()?,
            device: self.device.unwrap_or_else(|| vec!["cpu".into()]),
            size: self.size.unwrap_or_default(),
            threads: self.threads.unwrap_or_else(|| vec![0]),
            cores: self.cores.unwrap_or_else(|| vec![String::new()]),
            windows: self.windows.unwrap_or(if quick { QUICK_WINDOWS } else { WINDOWS_DEFAULT }),
            window_s_min: self.window_s_min.unwrap_or(if quick {
                QUICK_WINDOW_S_MIN
            } else {
                WINDOW_S_MIN_DEFAULT
            }),
            sweeps_min: if quick { 0 } else { SWEEPS_MIN },
            inferences_min: if quick { QUICK_INFERENCES_MIN } else { INFERENCES_MIN },
            idle_s: if quick { QUICK_IDLE_S } else { IDLE_S_DEFAULT },
            seed: self.seed.unwrap_or(1),
            weights: self.weights.unwrap_or_else(|| "hashed:1".into()),
            mode,
        };
        spec.check()?;
        Ok(spec)
    }
}

/// How thoroughly a campaign measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// By the whole method.
    Full,
    /// A first look: short windows, flagged at best.
    Quick,
}

/// A campaign with every default filled in; what the agent is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CampaignSpec {
    /// Network ids.
    pub networks: Vec<String>,
    /// Images at once.
    pub batch: Vec<u32>,
    /// Arithmetic.
    pub precision: Vec<Precision>,
    /// `cpu`, `cuda`, `cuda:N`.
    pub device: Vec<String>,
    /// Image sides in pixels; empty: each network's own.
    pub size: Vec<u32>,
    /// Thread counts; 0: one for each core allowed.
    pub threads: Vec<u16>,
    /// Core sets; an empty text: all cores.
    pub cores: Vec<String>,
    /// Windows a cell.
    pub windows: u16,
    /// Shortest window, in seconds.
    pub window_s_min: f64,
    /// Sweeps a window must hold.
    pub sweeps_min: u32,
    /// Inferences a window must hold.
    pub inferences_min: u32,
    /// Idle time before and after, in seconds.
    pub idle_s: f64,
    /// Seed of the order of the trials.
    pub seed: u64,
    /// `hashed:SEED`, or a file or folder of safetensors on the board.
    pub weights: String,
    /// Full or quick.
    pub mode: Mode,
}

impl CampaignSpec {
    /// Checks every value; both sides do so before anything starts.
    ///
    /// # Errors
    /// [`SpecError`] naming the key and what is allowed.
    pub fn check(&self) -> Result<(), SpecError> {
        axis("networks", &self.networks, false)?;
        axis("batch", &self.batch, false)?;
        axis("precision", &self.precision.iter().map(|p| p.name()).collect::<Vec<_>>(), false)?;
        axis("device", &self.device, false)?;
        axis("size", &self.size, true)?;
        axis("threads", &self.threads, false)?;
        axis("cores", &self.cores, false)?;
        self.check_values()?;
        let cells = [
            self.networks.len(),
            self.batch.len(),
            self.precision.len(),
            self.device.len(),
            self.size.len().max(1),
            self.threads.len(),
            self.cores.len(),
        ]
        .into_iter()
        .fold(1_usize, usize::saturating_mul);
        if cells > CELLS_MAX {
            return Err(SpecError::TooManyCells { cells });
        }
        Ok(())
    }

    /// The campaign as a file that starts it again: defaults filled in.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let file = CampaignFile {
            networks: Some(self.networks.clone()),
            batch: Some(self.batch.clone()),
            precision: Some(self.precision.iter().map(|p| p.name().to_owned()).collect()),
            device: Some(self.device.clone()),
            size: (!self.size.is_empty()).then(|| self.size.clone()),
            threads: Some(self.threads.clone()),
            cores: Some(self.cores.clone()),
            windows: Some(self.windows),
            window_s_min: Some(self.window_s_min),
            seed: Some(self.seed),
            weights: Some(self.weights.clone()),
            power_mode: None,
        };
        let head = match self.mode {
            Mode::Quick => "# Started with --quick.\n",
            Mode::Full => "",
        };
        // These types have no value that TOML cannot hold.
        format!("{head}{}", toml::to_string(&file).unwrap_or_default())
    }

    fn check_values(&self) -> Result<(), SpecError> {
        for batch in &self.batch {
            within("batch", *batch, 1, BATCH_MAX, "1 to 4096")?;
        }
        for size in &self.size {
            within("size", *size, SIZE_RANGE.0, SIZE_RANGE.1, "16 to 2048 (pixels)")?;
        }
        for threads in &self.threads {
            within("threads", *threads, 0, 1024, "0 to 1024 (0: one for each core)")?;
        }
        within("windows", self.windows, 1, 1000, "1 to 1000")?;
        within("window_s_min", self.window_s_min, 0.1, 3600.0, "0.1 to 3600 (seconds)")?;
        within("idle_s", self.idle_s, 0.1, 3600.0, "0.1 to 3600 (seconds)")?;
        within("inferences_min", self.inferences_min, 1, 100_000, "1 to 100000")?;
        within("sweeps_min", self.sweeps_min, 0, 1_000_000, "0 to 1000000")?;
        for device in &self.device {
            check_device(device)?;
        }
        for cores in &self.cores {
            parse_cores(cores)?;
        }
        check_weights(&self.weights)
    }
}

/// The core numbers of a set such as `0-3` or `0+2+4-5`; empty for all cores.
///
/// # Errors
/// [`SpecError::Cores`] where it is not one, or names a core above 1023.
pub fn parse_cores(text: &str) -> Result<Vec<u16>, SpecError> {
    let bad = || SpecError::Cores { value: text.chars().take(80).collect() };
    let mut cores = Vec::new();
    for part in text.split(['+', ',']).filter(|_| !text.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: u16 = first.trim().parse().map_err(|_| bad())?;
        let last: u16 = last.trim().parse().map_err(|_| bad())?;
        if first > last || last > 1023 {
            return Err(bad());
        }
        cores.extend(first..=last);
    }
    cores.sort_unstable();
    cores.dedup();
    Ok(cores)
}

fn check_device(device: &str) -> Result<(), SpecError> {
    let number = device.strip_prefix("cuda:").map(str::parse::<u8>);
    if device == "cpu" || device == "cuda" || matches!(number, Some(Ok(_))) {
        Ok(())
    } else {
        Err(SpecError::Device { value: device.chars().take(80).collect() })
    }
}

fn check_weights(weights: &str) -> Result<(), SpecError> {
    let bad = || SpecError::Weights { value: weights.chars().take(80).collect() };
    match weights.strip_prefix("hashed:") {
        Some(seed) => seed.parse::<u64>().map(|_| ()).map_err(|_| bad()),
        None if weights.is_empty() || weights.contains('\0') => Err(bad()),
        None => Ok(()),
    }
}

fn axis<T: PartialEq + core::fmt::Display>(
    key: &'static str,
    values: &[T],
    may_be_empty: bool,
) -> Result<(), SpecError> {
    if values.is_empty() && !may_be_empty {
        return Err(SpecError::Empty { key });
    }
    if values.len() > AXIS_VALUES_MAX {
        return Err(SpecError::TooMany { key, count: values.len() });
    }
    for (index, value) in values.iter().enumerate() {
        if values.iter().skip(index + 1).any(|other| other == value) {
            return Err(SpecError::Twice { key, value: value.to_string() });
        }
    }
    Ok(())
}

fn within<T: PartialOrd + core::fmt::Display + Copy>(
    key: &'static str,
    value: T,
    low: T,
    high: T,
    allowed: &'static str,
) -> Result<(), SpecError> {
    // Written so that NaN, which is neither, is refused.
    if value >= low && value <= high {
        Ok(())
    } else {
        Err(SpecError::Range { key, value: value.to_string(), allowed })
    }
}

fn nearest(key: &str) -> Option<String> {
    nearest_of(key, &KEYS).map(str::to_owned)
}

/// The name of `known` that begins with `key` or else differs least from it, a
/// hyphen being as good as an underscore; `None` where there is no name.
#[must_use]
pub fn nearest_of<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let key = key.replace('-', "_");
    let distance =
        |known: &&str| (!known.starts_with(&key), strsim::damerau_levenshtein(known, &key));
    known.iter().copied().min_by_key(distance)
}

fn syntax(text: &str, error: &toml::de::Error) -> SpecError {
    let line = error
        .span()
        .and_then(|span| text.get(..span.start))
        .map_or(0, |before| before.matches('\n').count() + 1);
    // The parser says what it expected, not of which key.
    let row = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let key = row.split('=').next().unwrap_or_default().trim();
    let message = match KEYS.into_iter().find(|known| *known == key) {
        Some(key) => format!("`{key}`: {}", error.message()),
        None => error.message().to_owned(),
    };
    SpecError::Syntax { line, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(text: &str) -> Result<CampaignSpec, SpecError> {
        CampaignFile::parse(text)?.resolve(Mode::Full)
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_one() {
        let error = full("networks = ['alexnet']\nbatches = [1]").unwrap_err();
        assert_eq!(error.to_string(), "unknown key `batches`, did you mean `batch`?");
    }

    #[test]
    fn a_key_written_as_a_flag_is_named_with_its_underscore() {
        let error = full("window-s-min = 3").unwrap_err();
        assert_eq!(error.to_string(), "unknown key `window-s-min`, did you mean `window_s_min`?");
    }

    #[test]
    fn batch_zero_is_refused_with_what_is_allowed() {
        let error = full("networks = ['alexnet']\nbatch = [0]").unwrap_err();
        assert_eq!(error.to_string(), "`batch` is 0, allowed is 1 to 4096");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_placed_on_its_line() {
        let error = full("networks = ['alexnet']\n\nwindows = 'many'").unwrap_err();
        assert!(matches!(error, SpecError::Syntax { line: 3, .. }), "{error}");
    }

    #[test]
    fn a_window_that_is_not_a_number_is_refused() {
        let error = full("networks = ['alexnet']\nwindow_s_min = nan").unwrap_err();
        assert!(matches!(error, SpecError::Range { key: "window_s_min", .. }));
    }

    #[test]
    fn flags_win_over_the_file() {
        let file = CampaignFile { windows: Some(7), seed: Some(3), ..CampaignFile::default() };
        let flags = CampaignFile { windows: Some(9), ..CampaignFile::default() };
        let both = file.overridden_by(flags);
        assert_eq!((both.windows, both.seed), (Some(9), Some(3)));
    }

    #[test]
    fn the_same_batch_twice_is_refused() {
        let error = full("networks = ['alexnet']\nbatch = [1, 4, 1]").unwrap_err();
        assert_eq!(error, SpecError::Twice { key: "batch", value: "1".into() });
    }

    #[test]
    fn core_sets_are_numbers_and_ranges() {
        assert_eq!(parse_cores("4+0-2").unwrap(), [0, 1, 2, 4]);
        assert_eq!(parse_cores("").unwrap(), [] as [u16; 0]);
        for bad in ["3-1", "a", "0-", "2000", "+"] {
            assert!(parse_cores(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_campaign_written_out_starts_the_same_one_again() {
        let spec = full("networks = ['enet']\nbatch = [2]\nsize = [64]\ncores = ['0-1']").unwrap();
        assert_eq!(full(&spec.to_toml()).unwrap(), spec);
    }

    #[test]
    fn quick_has_its_own_defaults() {
        let spec =
            CampaignFile::parse("networks = ['enet']").unwrap().resolve(Mode::Quick).unwrap();
        assert_eq!((spec.batch, spec.windows), (vec![1, 4], 3));
    }
}
