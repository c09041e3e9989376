//! What has been answered so far, on disk, so that a kill costs one batch.
//!
//! Owns `journal.jsonl`: a head that says what is evaluated, then one line an
//! image. A last line that a kill cut is dropped; any other damage is an error.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::network::Preprocess;

/// What an evaluation is of; two with equal heads give equal answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// Version of the file's form.
    pub version: u32,
    /// Network id, or graph file with digest.
    pub network: String,
    /// SHA-256 of the weight set.
    pub weights_sha256: String,
    /// Classes that the network tells.
    pub classes: usize,
    /// What images go through.
    pub preprocess: Preprocess,
    /// Arithmetic and processor, as typed.
    pub precision: String,
    /// `cpu`, `cuda:N`.
    pub device: String,
    /// SHA-256 over the images' names and classes.
    pub images_sha256: String,
}

/// One image's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Path below the folder.
    pub image: String,
    /// Its class.
    pub class: usize,
    /// How many classes were thought likelier than its own; absent where the
    /// image could not be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rank: Option<usize>,
    /// Why it could not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub corrupt: Option<String>,
}

/// Why a journal cannot be kept.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JournalError {
    /// It cannot be read or written.
    #[error("{path}: cannot be read or written")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// It is of something else.
    #[error(
        "{path}: holds an evaluation of another network, weight set, set of images or precision"
    )]
    Other {
        /// The file.
        path: PathBuf,
    },
    /// A line that is none.
    #[error("{path}: line {line} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
    },
}

/// The journal of one evaluation.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Answers so far, by image.
    pub answers: BTreeMap<String, Answer>,
}

impl Journal {
    /// Opens `folder/journal.jsonl` for `head`, or begins it.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(folder: &Path, head: &Head) -> Result<Journal, JournalError> {
        let path = folder.join("journal.jsonl");
        let failed = |source| JournalError::File { path: path.clone(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let text = match std::fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(failed(error)),
        };
        // What stands behind the last line's end was cut by a kill.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut lines = text[..whole].lines();
        let mut answers = BTreeMap::new();
        if let Some(first) = lines.next() {
            let found: Option<Head> = serde_json::from_str(first).ok();
            if found.as_ref() != Some(head) {
                return Err(JournalError::Other { path });
            }
            for (index, line) in lines.enumerate() {
                let answer: Answer = serde_json::from_str(line)
                    .map_err(|_| JournalError::Damaged { path: path.clone(), line: index + 2 })?;
                answers.insert(answer.image.clone(), answer);
            }
        }
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        file.set_len(whole as u64).map_err(failed)?;
        let mut journal = Journal { path, file, answers };
        if whole == 0 {
            journal.write(head)?;
        }
        Ok(journal)
    }

    /// Adds answers, all of one batch in one write.
    ///
    /// # Errors
    /// [`JournalError::File`].
    pub fn add(&mut self, answers: Vec<Answer>) -> Result<(), JournalError> {
        let mut text = Vec::new();
        for answer in &answers {
            // Answers are plain structures: they always have a JSON form.
            let _ = serde_json::to_writer(&mut text, answer);
            text.push(b'\n');
        }
        self.append(&text)?;
        self.answers.extend(answers.into_iter().map(|answer| (answer.image.clone(), answer)));
        Ok(())
    }

    fn write(&mut self, value: &impl Serialize) -> Result<(), JournalError> {
        let mut text = serde_json::to_vec(value).unwrap_or_default();
        text.push(b'\n');
        self.append(&text)
    }

    fn append(&mut self, text: &[u8]) -> Result<(), JournalError> {
        let failed = |source| JournalError::File { path: self.path.clone(), source };
        self.file.write_all(text).and_then(|()| self.file.flush()).map_err(failed)
    }
}
