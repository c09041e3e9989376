//! A run on the host: a directory with the recording and what is made of it.
//!
//! Owns the names within it and how RUN on a command line becomes one.

use std::fs;
use std::path::{Path, PathBuf};

use wattline_protocol::campaign_spec::CampaignSpec;
use wattline_protocol::record::RunId;

use crate::failure::{Exit, Failure};
use crate::store::Store;

/// Runs lie here unless `--out` says otherwise.
pub const RUNS: &str = "wattline-runs";
/// The truth.
pub const RECORDING: &str = "recording.sqlite";
/// The campaign as it was started.
pub const CAMPAIGN: &str = "campaign.toml";
/// Key of the store's notes: the run's id.
pub const META_RUN: &str = "run";
/// Key of the store's notes: the board's address.
pub const META_BOARD: &str = "board";

/// A run's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
    origin: Origin,
}

/// How a command came by the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Origin {
    /// A run was there before.
    Found,
    /// For a new run; `made` are the folders that were absent, innermost first.
    Created { made: Vec<PathBuf> },
}

impl RunFolder {
    /// The directory that RUN means: a directory, or a run id below
    /// `wattline-runs`.
    ///
    /// # Errors
    /// [`Failure`] naming both places that were looked at.
    pub fn find(run: &str) -> Result<Self, Failure> {
        let direct = PathBuf::from(run);
        let below = Path::new(RUNS).join(run);
        for path in [&direct, &below] {
            if path.join(RECORDING).exists() {
                return Ok(Self::found(path.clone()));
            }
        }
        // The recording itself, named directly, is understood too.
        if direct.is_file() && direct.file_name().is_some_and(|name| name == RECORDING) {
            let parent = direct.parent().filter(|parent| !parent.as_os_str().is_empty());
            return Ok(Self::found(parent.unwrap_or(Path::new(".")).to_owned()));
        }
        let what = if direct.is_file() {
            format!("{run} is a file, not the directory of a run")
        } else if direct.is_dir() {
            format!("{run} holds no {RECORDING}")
        } else {
            format!("no such recording: {run}")
        };
        Err(Failure {
            exit: Exit::Failed,
            what,
            because: vec![format!(
                "looked for {} and {}",
                direct.join(RECORDING).display(),
                below.join(RECORDING).display()
            )],
            mend: "name the directory of a run, or a run id below wattline-runs; \
                   `wattline fetch RUN --on BOARD` brings a run that only the board has"
                .into(),
        })
    }

    /// A directory for a new run: `out` itself, absent or empty, or
    /// `wattline-runs/ID`.
    ///
    /// # Errors
    /// [`Failure`] where it holds something or cannot be made.
    pub fn create(out: Option<&Path>, run: &RunId) -> Result<Self, Failure> {
        let path = out.map_or_else(|| Path::new(RUNS).join(run.as_str()), Path::to_owned);
        let taken = match fs::read_dir(&path) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => {
                return Err(Failure::of(
                    Exit::Failed,
                    format!("directory {} cannot be used", path.display()),
                    &error,
                    "choose another with --out",
                ));
            }
        };
        if taken {
            return Err(Failure::new(
                Exit::Usage,
                format!("directory {} is not empty", path.display()),
                "choose an absent or empty one with --out",
            ));
        }
        let absent = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let made: Vec<PathBuf> = path.ancestors().take_while(absent).map(Path::to_owned).collect();
        fs::create_dir_all(&path).and_then(|()| sync_parents(&made)).map_err(|error| {
            Failure::of(
                Exit::Failed,
                format!("directory {} cannot be made", path.display()),
                &error,
                "choose another with --out, or make room",
            )
        })?;
        Ok(Self { path, origin: Origin::Created { made } })
    }

    fn found(path: PathBuf) -> Self {
        Self { path, origin: Origin::Found }
    }

    /// Takes back what [`Self::create`] and [`Self::begin`] made, for a run of
    /// which nothing came; a run that was there before is not touched, nor a
    /// directory of the user's own.
    pub fn discard(&self) {
        let Origin::Created { made } = &self.origin else { return };
        for name in [RECORDING, "recording.sqlite-wal", "recording.sqlite-shm", CAMPAIGN] {
            let _ = fs::remove_file(self.path.join(name));
        }
        for folder in made {
            // One that meanwhile holds something else stays.
            let _ = fs::remove_dir(folder);
        }
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The recording's file.
    #[must_use]
    pub fn recording(&self) -> PathBuf {
        self.path.join(RECORDING)
    }

    /// Makes the recording and writes the campaign beside it.
    ///
    /// # Errors
    /// [`Failure`] where the disk refuses.
    pub fn begin(
        &self,
        run: &RunId,
        board: &str,
        campaign: Option<&CampaignSpec>,
    ) -> Result<Store, Failure> {
        let store = Store::create(&self.recording()).and_then(|mut store| {
            store.set_meta(META_RUN, run.as_str())?;
            store.set_meta(META_BOARD, board)?;
            Ok(store)
        });
        let store = store.map_err(|error| store_failure(&error))?;
        if let Some(campaign) = campaign {
            self.write_campaign(campaign)?;
        }
        Ok(store)
    }

    /// Writes `campaign.toml`.
    ///
    /// # Errors
    /// [`Failure`] where the disk refuses.
    pub fn write_campaign(&self, campaign: &CampaignSpec) -> Result<(), Failure> {
        let path = self.path.join(CAMPAIGN);
        fs::write(&path, campaign.to_toml()).map_err(|error| {
            Failure::of(
                Exit::Failed,
                format!("{} cannot be written", path.display()),
                &error,
                "make room on the disk, or choose another directory with --out",
            )
        })
    }
}

/// Makes the names of new folders durable: what is acknowledged to a board must
/// not lie in a folder that a power cut takes away again.
fn sync_parents(made: &[PathBuf]) -> std::io::Result<()> {
    made.iter().try_for_each(|folder| {
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
        fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    })
}

/// What a store's error means to a user.
#[must_use]
pub fn store_failure(error: &crate::store::StoreError) -> Failure {
    use crate::store::StoreError as E;
    let mend = match error {
        E::DiskFull { .. } => {
            "make room on this machine's disk; the board goes on and keeps its records: \
             then `wattline fetch RUN --on BOARD`"
        }
        E::NotARecording { .. } => {
            "name the directory of a run; a recording is made by `wattline run`"
        }
        E::Damaged { .. } => {
            "fetch the run again from its board into another directory: \
             `wattline fetch RUN --on BOARD --out DIR`"
        }
        E::NewerVersion { .. } => "use the version of wattline that made it, or a later one",
        E::Locked { .. } => "another wattline writes this run; end it, or wait for it",
        E::Missing { .. } => "name the directory of a run",
        E::AlreadyThere { .. } => "choose another directory with --out",
        _ => "",
    };
    Failure::of(Exit::Failed, "the recording cannot be used", error, mend)
}
