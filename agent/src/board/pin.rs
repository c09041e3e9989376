//! Clocks held at their most for a run, and put back.
//!
//! Owns which files are set, the journal of what was found in them, and the way
//! back: the journal is whole on disk before the first file is changed, so that
//! whatever ends this program, [`restore`] finds the way. Only files of the list
//! that the tree itself gives are ever written: a journal that somebody wrote into
//! reaches nothing else. Root alone may: [`super::verb`] says who asks.
//! Sources: Linux Documentation/admin-guide/pm/cpufreq.rst, "Policy Interface in
//! sysfs"; ABI/testing/sysfs-class-devfreq. `jetson_clocks` does the same.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::conditions::is_gpu;
use crate::power::discover::tree::{entries_named, name_of, text};

/// Name of the journal in its folder.
const JOURNAL: &str = "pinned.json";
/// Largest journal that is read: a few lines for each core and the GPU.
const JOURNAL_BYTES_MAX: u64 = 64 * 1024;
/// The governor that holds the most.
const PERFORMANCE: &str = "performance";

/// Why clocks are not as asked.
#[derive(Debug, Error)]
pub enum PinError {
    /// The board shows no clock that can be held.
    #[error("no clock of this board can be held: no cpufreq policy, no GPU in devfreq")]
    NoClock,
    /// A file cannot be set.
    #[error("{} cannot be set to {wanted}", path.display())]
    NotSet {
        /// The file.
        path: PathBuf,
        /// What was to be in it.
        wanted: String,
        /// The system's word.
        source: io::Error,
    },
    /// The journal cannot be written or read: nothing was changed by this call.
    #[error("journal {}", path.display())]
    Journal {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
}

/// What was found before the first change of this start of the board.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// The kernel's boot id: after a reboot clocks are as the system sets them.
    boot: String,
    /// Files below the tree, in the order in which they are set.
    files: Vec<KeptFile>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptFile {
    path: PathBuf,
    found: String,
}

/// A file and what holds its clock.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    /// Below the tree.
    path: PathBuf,
    /// `None` where the board cannot hold it; it may be restored all the same.
    wanted: Option<String>,
}

/// The folder of the journal and the boot that it belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The tree that stands for `/sys`.
    pub root: &'a Path,
    /// Root's own folder, gone with the power: what it would restore is gone as well.
    pub folder: &'a Path,
    /// The kernel's boot id.
    pub boot: &'a str,
}

impl Place<'_> {
    fn journal(&self) -> PathBuf {
        self.folder.join(JOURNAL)
    }

    fn failed(&self, source: io::Error) -> PinError {
        PinError::Journal { path: self.journal(), source }
    }

    fn kept(&self) -> Result<Option<Kept>, PinError> {
        use std::io::Read as _;
        let file = match File::open(self.journal()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed(error)),
        };
        let mut text = String::new();
        let read = file.take(JOURNAL_BYTES_MAX).read_to_string(&mut text);
        read.map_err(|error| self.failed(error))?;
        let kept: Kept = serde_json::from_str(&text).map_err(|error| self.failed(error.into()))?;
        Ok((kept.boot == self.boot).then_some(kept))
    }

    fn keep(&self, kept: &Kept) -> Result<(), PinError> {
        let fresh = self.folder.join(format!(".{JOURNAL}.new"));
        let written = || {
            fs::create_dir_all(self.folder)?;
            let mut file = File::create(&fresh)?;
            file.write_all(serde_json::to_string(kept)?.as_bytes())?;
            file.sync_all()?;
            fs::rename(&fresh, self.journal())
        };
        written().map_err(|error| self.failed(error))
    }
}

/// Holds clocks at their most. Clocks that this call's like holds already stay.
/// Returns how many files differ from what was found.
///
/// # Errors
/// [`PinError`]; what was set until then is put back.
pub fn pin(place: Place<'_>) -> Result<usize, PinError> {
    if let Some(kept) = place.kept()? {
        return Ok(kept.files.len());
    }
    let targets = targets(place.root);
    if targets.iter().all(|target| target.wanted.is_none()) {
        return Err(PinError::NoClock);
    }
    let changes = targets.into_iter().filter_map(|target| {
        let found = text(&place.root.join(&target.path))?;
        let wanted = target.wanted.filter(|wanted| *wanted != found)?;
        Some((KeptFile { path: target.path, found }, wanted))
    });
    let (files, wanted): (Vec<KeptFile>, Vec<String>) = changes.unzip();
    let kept = Kept { boot: place.boot.to_owned(), files };
    place.keep(&kept)?;
    for (file, wanted) in kept.files.iter().zip(wanted) {
        if let Err(source) = fs::write(place.root.join(&file.path), &wanted) {
            let path = place.root.join(&file.path);
            // Its own failure is the lesser news, and the journal stays for the next try.
            let _ = restore(place);
            return Err(PinError::NotSet { path, wanted, source });
        }
    }
    Ok(kept.files.len())
}

/// Puts back what [`pin`] found; returns how many files. Nothing is done where
/// nothing was held since the board started.
///
/// # Errors
/// [`PinError`]: the journal stays, for another try.
pub fn restore(place: Place<'_>) -> Result<usize, PinError> {
    let Some(kept) = place.kept()? else {
        // That of another boot restores nothing.
        let _ = fs::remove_file(place.journal());
        return Ok(0);
    };
    let known = targets(place.root);
    let mut restored = 0;
    let mut failed = None;
    // Backwards: limits before the governor that they are of.
    for file in kept.files.iter().rev() {
        if !known.iter().any(|target| target.path == file.path) {
            continue;
        }
        let path = place.root.join(&file.path);
        match fs::write(&path, &file.found) {
            Ok(()) => restored += 1,
            Err(source) => {
                failed = Some(PinError::NotSet { path, wanted: file.found.clone(), source });
            }
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    fs::remove_file(place.journal()).map_err(|error| place.failed(error))?;
    Ok(restored)
}

/// Whether clocks are held since the board started.
///
/// # Errors
/// [`PinError::Journal`].
pub fn is_pinned(place: Place<'_>) -> Result<bool, PinError> {
    Ok(place.kept()?.is_some())
}

/// Files of the tree that hold a clock, in the order in which they are set.
fn targets(root: &Path) -> Vec<Target> {
    let mut targets = Vec::new();
    for policy in entries_named(&root.join("devices/system/cpu/cpufreq"), "policy") {
        let governors = text(&policy.join("scaling_available_governors")).unwrap_or_default();
        let has = governors.split_whitespace().any(|governor| governor == PERFORMANCE);
        let wanted = has.then(|| PERFORMANCE.to_owned());
        targets.push(target(root, &policy, "scaling_governor", wanted));
        let most = text(&policy.join("scaling_max_freq"));
        targets.push(target(root, &policy, "scaling_min_freq", most));
    }
    for clock in entries_named(&root.join("class/devfreq"), "") {
        if is_gpu(name_of(&clock)) {
            let most = text(&clock.join("max_freq"));
            targets.push(target(root, &clock, "min_freq", most));
        }
    }
    targets.retain(|target| root.join(&target.path).is_file());
    targets
}

fn target(root: &Path, folder: &Path, name: &str, wanted: Option<String>) -> Target {
    let path = folder.join(name);
    Target { path: path.strip_prefix(root).unwrap_or(&path).to_owned(), wanted }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [(&str, &str); 10] = [
        ("devices/system/cpu/cpufreq/policy0/scaling_available_governors", "performance schedutil"),
        ("devices/system/cpu/cpufreq/policy0/scaling_governor", "schedutil"),
        ("devices/system/cpu/cpufreq/policy0/scaling_min_freq", "115200"),
        ("devices/system/cpu/cpufreq/policy0/scaling_max_freq", "1984000"),
        ("class/devfreq/17000000.gpu/min_freq", "306000000"),
        ("class/devfreq/17000000.gpu/max_freq", "918000000"),
        ("class/devfreq/17000000.gpu/governor", "nvhost_podgov"),
        ("class/devfreq/15340000.vic/min_freq", "115200000"),
        ("class/devfreq/15340000.vic/max_freq", "601600000"),
        ("kernel/other", "kept"),
    ];

    struct Board {
        root: tempfile::TempDir,
        folder: tempfile::TempDir,
    }

    impl Board {
        fn new() -> Self {
            let (root, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            for (name, text) in FILES {
                let path = root.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self { root, folder }
        }

        fn place<'a>(&'a self, boot: &'a str) -> Place<'a> {
            Place { root: self.root.path(), folder: self.folder.path(), boot }
        }

        fn all(&self) -> Vec<String> {
            FILES.map(|(name, _)| fs::read_to_string(self.root.path().join(name)).unwrap()).to_vec()
        }
    }

    fn found() -> Vec<String> {
        FILES.map(|(_, text)| text.to_owned()).to_vec()
    }

    #[test]
    fn clocks_are_held_and_put_back_and_nothing_else_is_touched() {
        let board = Board::new();
        let place = board.place("a");
        assert_eq!(pin(place).unwrap(), 3);
        let all = board.all();
        assert_eq!((all[1].as_str(), all[2].as_str()), ("performance", "1984000"));
        assert_eq!((all[4].as_str(), all[7].as_str()), ("918000000", "115200000"));
        // Asked for twice, what was found first is what is put back.
        assert_eq!((pin(place).unwrap(), is_pinned(place).unwrap()), (3, true));
        assert_eq!(restore(place).unwrap(), 3);
        assert_eq!((board.all(), is_pinned(place).unwrap()), (found(), false));
        assert_eq!(restore(place).unwrap(), 0);
    }

    #[test]
    fn a_journal_of_another_boot_restores_nothing_and_is_no_hindrance() {
        let board = Board::new();
        pin(board.place("a")).unwrap();
        let held = board.all();
        assert_eq!(restore(board.place("b")).unwrap(), 0);
        assert_eq!(board.all(), held);
        assert!(!is_pinned(board.place("a")).unwrap());
    }

    #[test]
    fn a_file_that_refuses_leaves_all_as_it_was() {
        let board = Board::new();
        // A folder in the place of a file refuses every write, root's too.
        let refuses = board.root.path().join("class/devfreq/17000000.gpu/min_freq");
        fs::set_permissions(&refuses, std::os::unix::fs::PermissionsExt::from_mode(0o444)).unwrap();
        if File::options().write(true).open(&refuses).is_ok() {
            // Root writes everything: the file goes between the look and the write.
            return;
        }
        assert!(matches!(pin(board.place("a")), Err(PinError::NotSet { .. })));
        assert_eq!(board.all(), found());
    }

    #[test]
    fn a_forged_journal_reaches_only_clocks() {
        let board = Board::new();
        let place = board.place("a");
        let file = |path: &str| KeptFile { path: path.into(), found: "forged".into() };
        let files = vec![
            file("kernel/other"),
            file("../outside"),
            file("class/devfreq/15340000.vic/min_freq"),
        ];
        place.keep(&Kept { boot: "a".into(), files }).unwrap();
        assert_eq!(restore(place).unwrap(), 0);
        assert_eq!(board.all(), found());
        for text in ["", "{", "[]", "{\"boot\":\"a\"}"] {
            fs::write(board.folder.path().join(JOURNAL), text).unwrap();
            assert!(matches!(restore(place), Err(PinError::Journal { .. })), "{text}");
        }
    }

    #[test]
    fn a_board_without_clocks_says_so_and_has_no_journal() {
        let (root, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let place = Place { root: root.path(), folder: folder.path(), boot: "a" };
        assert!(matches!(pin(place), Err(PinError::NoClock)));
        assert!(!is_pinned(place).unwrap());
    }
}
