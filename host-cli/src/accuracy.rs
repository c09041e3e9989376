//! Accuracies that joined a run: files in its folder `accuracy/`.
//!
//! Owns the folder's name, reading what is in it and adding a summary that
//! `wattline-agent accuracy` printed. The form is the agent's `accuracy.json`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::analysis::model::MeasuredAccuracy;

/// Folder of summaries within a run's directory.
pub const ACCURACY_DIR: &str = "accuracy";
/// Version of the summary's form that is read.
const VERSION: u32 = 1;
/// Summaries of one run that are read: 20 networks × 4 precisions, thrice.
const SUMMARIES_MAX: usize = 256;
/// Bytes of one: a summary names at most some thousand corrupt images.
const BYTES_MAX: u64 = 64 << 20;

/// Why a summary does not join a run, or is not drawn.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AccuracyFileError {
    /// A file or folder cannot be read or written.
    #[error("{path}: cannot be read or written")]
    File {
        /// Which.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// Not a summary.
    #[error("{path}: is no summary of `wattline accuracy`")]
    Form {
        /// The file.
        path: PathBuf,
        /// The parser's word.
        source: serde_json::Error,
    },
    /// Of another version.
    #[error("{path}: is a summary of version {found}, {VERSION} is known")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// No image was answered.
    #[error("{path}: holds no answered image")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// More than can be meant.
    #[error("{path}: more than {SUMMARIES_MAX} files, or one of more than {BYTES_MAX} bytes")]
    TooMuch {
        /// The file or folder.
        path: PathBuf,
    },
}

#[derive(Debug, Deserialize)]
struct Summary {
    version: u32,
    network: String,
    weights_sha256: String,
    classes: u64,
    preprocess: Preprocess,
    precision: String,
    device: String,
    images_sha256: String,
    images: u64,
    top1: Option<Share>,
    top5: Option<Share>,
    #[serde(default)]
    corrupt: Vec<Value>,
}

#[derive(Debug, Deserialize)]
struct Preprocess {
    crop: u32,
}

#[derive(Debug, Deserialize)]
struct Share {
    percent: f64,
    low_percent: f64,
    high_percent: f64,
}

impl Share {
    fn numbers(&self) -> [f64; 3] {
        [self.percent, self.low_percent, self.high_percent]
    }
}

/// The accuracies of the run in `folder`, by file name, and what of them could
/// not be read. A run without any has none.
///
/// # Errors
/// [`AccuracyFileError::File`] where the folder itself cannot be read.
pub fn of_run(
    folder: &Path,
) -> Result<(Vec<MeasuredAccuracy>, Vec<AccuracyFileError>), AccuracyFileError> {
    let path = folder.join(ACCURACY_DIR);
    let unread = |source| AccuracyFileError::File { path: path.clone(), source };
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
        Err(error) => return Err(unread(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.map_err(unread)?.path();
        if file.extension().is_some_and(|ending| ending == "json") {
            files.push(file);
        }
    }
    files.sort_unstable();
    if files.len() > SUMMARIES_MAX {
        return Err(AccuracyFileError::TooMuch { path });
    }
    let (mut read, mut unread) = (Vec::new(), Vec::new());
    for file in files {
        match one(&file) {
            Ok(summary) => read.push(summary),
            Err(error) => unread.push(error),
        }
    }
    Ok((read, unread))
}

fn one(path: &Path) -> Result<MeasuredAccuracy, AccuracyFileError> {
    let failed = |source| AccuracyFileError::File { path: path.to_owned(), source };
    if fs::metadata(path).map_err(failed)?.len() > BYTES_MAX {
        return Err(AccuracyFileError::TooMuch { path: path.to_owned() });
    }
    parse(path, &fs::read(path).map_err(failed)?)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<MeasuredAccuracy, AccuracyFileError> {
    let form = |source| AccuracyFileError::Form { path: path.to_owned(), source };
    let summary: Summary = serde_json::from_slice(bytes).map_err(form)?;
    if summary.version != VERSION {
        return Err(AccuracyFileError::Version { path: path.to_owned(), found: summary.version });
    }
    let Some(top1) = &summary.top1 else {
        return Err(AccuracyFileError::Empty { path: path.to_owned() });
    };
    Ok(MeasuredAccuracy {
        network: summary.network,
        weights_sha256: summary.weights_sha256,
        precision: summary.precision,
        device: summary.device,
        classes: summary.classes,
        size: summary.preprocess.crop,
        images_sha256: summary.images_sha256,
        images: summary.images,
        corrupt: summary.corrupt.len() as u64,
        top1: top1.numbers(),
        top5: summary.top5.as_ref().map(Share::numbers),
    })
}

/// Puts the summary in `text` into the run in `folder`; a later one of the
/// same network, weights, precision and images replaces it. Returns its file.
///
/// # Errors
/// [`AccuracyFileError`] where it is none, or cannot be written.
pub fn join(folder: &Path, text: &[u8]) -> Result<PathBuf, AccuracyFileError> {
    let path = folder.join(ACCURACY_DIR);
    let summary = parse(&path, text)?;
    let digits =
        |hex: &str| hex.chars().filter(char::is_ascii_hexdigit).take(8).collect::<String>();
    let name = format!(
        "{}-{}-{}-{}.json",
        slug(&summary.network),
        digits(&summary.weights_sha256),
        slug(&summary.precision),
        digits(&summary.images_sha256)
    );
    let file = path.join(&name);
    let part = path.join(format!("{name}.part"));
    fs::create_dir_all(&path)
        .and_then(|()| fs::write(&part, text))
        .and_then(|()| fs::rename(&part, &file))
        .map_err(|source| AccuracyFileError::File { path: file.clone(), source })?;
    Ok(file)
}

/// What of a network's name is fit for a file's name.
fn slug(name: &str) -> String {
    let name = name.rsplit('/').next().unwrap_or(name);
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(network: &str, images: u64) -> String {
        let share = r#"{"percent":70.0,"low_percent":60.4,"high_percent":78.1}"#;
        let top1 = if images > 0 { share } else { "null" };
        format!(
            r#"{{"version":1,"network":"{network}","weights_sha256":"{}","classes":1000,
            "preprocess":{{"crop":224}},"precision":"f32","device":"cpu","images_sha256":"{}",
            "images":{images},"top1":{top1},"top5":null,"interval":"Wilson 95 %","corrupt":[{{}}]}}"#,
            "ab".repeat(32),
            "cd".repeat(32)
        )
    }

    #[test]
    fn a_summary_that_joined_a_run_is_read_again_once() {
        let folder = tempfile::tempdir().unwrap();
        assert!(of_run(folder.path()).unwrap().0.is_empty());
        let file = join(folder.path(), summary("../my/net.toml#0123", 100).as_bytes()).unwrap();
        assert_eq!(
            join(folder.path(), summary("../my/net.toml#0123", 90).as_bytes()).unwrap(),
            file
        );
        assert_eq!(file.parent(), Some(folder.path().join(ACCURACY_DIR).as_path()));
        let (read, unread) = of_run(folder.path()).unwrap();
        assert!(unread.is_empty());
        assert_eq!(read.len(), 1);
        assert_eq!((read[0].images, read[0].corrupt, read[0].classes), (90, 1, 1000));
    }

    #[test]
    fn what_is_no_summary_is_named_and_the_others_are_read() {
        let folder = tempfile::tempdir().unwrap();
        join(folder.path(), summary("alexnet", 10).as_bytes()).unwrap();
        let path = folder.path().join(ACCURACY_DIR);
        fs::write(path.join("torn.json"), "{\"version\":1").unwrap();
        fs::write(path.join("none.json"), summary("alexnet", 0)).unwrap();
        let newer = summary("alexnet", 9).replace("\"version\":1", "\"version\":2");
        fs::write(path.join("newer.json"), newer).unwrap();
        let (read, unread) = of_run(folder.path()).unwrap();
        assert_eq!(read.len(), 1);
        assert!(matches!(
            unread.as_slice(),
            [
                AccuracyFileError::Version { found: 2, .. },
                AccuracyFileError::Empty { .. },
                AccuracyFileError::Form { .. }
            ]
        ));
    }
}
