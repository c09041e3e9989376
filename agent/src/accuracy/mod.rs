//! Accuracy over a folder of labelled images, on this board.
//!
//! Owns the evaluation: which images are left, decoding beside inference, the
//! rank of the true class, the summary. Measures no power and no time but the
//! time left. Preprocessing that belongs to a weight set is data in `network`.

mod folder;
mod interval;
mod journal;
mod picture;
mod resample;
mod transform;

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use rayon::prelude::*;
use serde::Serialize;
use sha2::{Digest, Sha256};
use thiserror::Error;

pub use folder::{FolderError, Labelled, labelled};
pub use interval::Share;
pub use journal::{Answer, Head, Journal, JournalError};
pub use picture::{Picture, PictureError};
pub use resample::resize;
pub use transform::{cropped, normalise};

use crate::engine::{CandleExecutor, EngineError, Options, Spans};
use crate::network::{Graph, Op, Preprocess};

/// Answers in a top-5 count as right.
const TOP: usize = 5;

/// Why an evaluation ends early.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AccuracyError {
    /// The images or their classes.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The network cannot be loaded or run.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A batch does not become a tensor, or its output no numbers.
    #[error("a batch of images is not usable as a tensor")]
    Tensor(#[from] candle_core::Error),
    /// The summary cannot be written.
    #[error("{path}: cannot be written")]
    Summary {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// A network that answers something else than one number a class.
    #[error("network {network}: its output is no list of classes")]
    NoClasses {
        /// The network.
        network: String,
    },
    /// A head that cannot be given another number of classes.
    #[error("network {network}: it has no last layer with weights to give {classes} classes")]
    NoHead {
        /// The network.
        network: String,
        /// What was asked for.
        classes: usize,
    },
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// What was evaluated.
    #[serde(flatten)]
    pub head: Head,
    /// Images that were answered.
    pub images: u64,
    /// Share of images whose class was the first answer.
    pub top1: Option<Share>,
    /// Share of images whose class was among the first five.
    pub top5: Option<Share>,
    /// How the interval is made.
    pub interval: &'static str,
    /// Images that could not be read, by name, with why.
    pub corrupt: Vec<Answer>,
}

/// How far an evaluation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Images done, those of earlier starts included.
    pub done: usize,
    /// Of these, done in this start.
    pub now: usize,
    /// All.
    pub all: usize,
    /// First answers that were right so far.
    pub right: usize,
}

/// The number of classes a network tells at its own image size.
///
/// # Errors
/// [`AccuracyError::Engine`] for a wrong graph, [`AccuracyError::NoClasses`].
pub fn classes_of(graph: &Graph) -> Result<usize, AccuracyError> {
    let shapes = graph.shapes(graph.input.size).map_err(EngineError::from)?;
    match shapes.last() {
        Some(shape) if shape.pixels() == 1 => Ok(shape.channels()),
        Some(_) | None => Err(AccuracyError::NoClasses { network: graph.id.clone() }),
    }
}

/// The graph with another number of classes: its last layer with weights is
/// made wider or narrower.
///
/// # Errors
/// [`AccuracyError::NoHead`] where that layer does not decide the classes.
pub fn with_classes(mut graph: Graph, classes: usize) -> Result<Graph, AccuracyError> {
    let head = graph.nodes.iter_mut().rev().find_map(|node| match &mut node.op {
        Op::Linear(linear) => Some(&mut linear.out_features),
        Op::Conv2d(conv) => Some(&mut conv.out_channels),
        _ => None,
    });
    if let Some(outputs) = head {
        *outputs = classes;
        if classes_of(&graph)? == classes {
            return Ok(graph);
        }
    }
    Err(AccuracyError::NoHead { network: graph.id, classes })
}

/// SHA-256 in hexadecimal over the images' names and classes.
#[must_use]
pub fn images_digest(images: &[Labelled]) -> String {
    let mut hash = Sha256::new();
    for Labelled { image, class } in images {
        hash.update(format!("{class} {image}\n"));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Evaluates what the journal lacks, batch by batch; `told` hears after each.
///
/// # Errors
/// [`AccuracyError`]; what was answered before is in the journal.
pub fn evaluate(
    executor: &mut CandleExecutor,
    options: &Options,
    root: &Path,
    images: &[Labelled],
    how: &Preprocess,
    journal: &mut Journal,
    mut told: impl FnMut(Progress),
) -> Result<(), AccuracyError> {
    let left: Vec<&Labelled> =
        images.iter().filter(|image| !journal.answers.contains_key(&image.image)).collect();
    let mut right = journal.answers.values().filter(|answer| answer.rank == Some(0)).count();
    let before = images.len() - left.len();
    let mut now = 0;
    for batch in left.chunks(options.batch) {
        let read: Vec<Result<Vec<f32>, String>> =
            batch.par_iter().map(|image| load(&root.join(&image.image), how)).collect();
        let answers = answer(executor, options, batch, read)?;
        right += answers.iter().filter(|answer| answer.rank == Some(0)).count();
        now += answers.len();
        journal.add(answers)?;
        told(Progress { done: before + now, now, all: images.len(), right });
    }
    Ok(())
}

/// The summary of all answers.
#[must_use]
pub fn summary(head: Head, journal: &Journal) -> Summary {
    let ranks: Vec<usize> = journal.answers.values().filter_map(|answer| answer.rank).collect();
    let within = |top: usize| ranks.iter().filter(|rank| **rank < top).count() as u64;
    let all = ranks.len() as u64;
    Summary {
        head,
        images: all,
        top1: Share::of(within(1), all),
        top5: Share::of(within(TOP), all),
        interval: "Wilson 95 %",
        corrupt: journal.answers.values().filter(|a| a.corrupt.is_some()).cloned().collect(),
    }
}

/// Writes `folder/accuracy.json`, whole or not at all.
///
/// # Errors
/// [`AccuracyError::Summary`].
pub fn write_summary(folder: &Path, summary: &Summary) -> Result<PathBuf, AccuracyError> {
    let path = folder.join("accuracy.json");
    let partial = folder.join("accuracy.json.part");
    let text = serde_json::to_string_pretty(summary).unwrap_or_default() + "\n";
    std::fs::write(&partial, text)
        .and_then(|()| std::fs::rename(&partial, &path))
        .map_err(|source| AccuracyError::Summary { path: path.clone(), source })?;
    Ok(path)
}

fn load(path: &Path, how: &Preprocess) -> Result<Vec<f32>, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let picture =
        Picture::decode(&bytes).map_err(|error| match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        })?;
    let image = cropped(&picture, how).ok_or("far too long and thin")?;
    let mut planes = Vec::with_capacity(image.rgb.len());
    normalise(&image, how, &mut planes);
    Ok(planes)
}

fn answer(
    executor: &mut CandleExecutor,
    options: &Options,
    batch: &[&Labelled],
    read: Vec<Result<Vec<f32>, String>>,
) -> Result<Vec<Answer>, AccuracyError> {
    let elements = 3 * options.size * options.size;
    let mut values = Vec::with_capacity(options.batch * elements);
    for image in read.iter().flatten() {
        values.extend_from_slice(image);
    }
    // The executor's batch is fixed; places without an image stay black.
    values.resize(options.batch * elements, 0.0);
    let shape = (options.batch, 3, options.size, options.size);
    let output = executor.run(&Tensor::from_vec(values, shape, &Device::Cpu)?, Spans::Off)?;
    let logits: Vec<f32> = output.flatten_all()?.to_vec1()?;
    let mut rows = logits.chunks_exact(logits.len() / options.batch);
    let answers = batch.iter().zip(read).map(|(image, read)| {
        let (image, class) = (image.image.clone(), image.class);
        match read {
            Ok(_) => {
                let rank = rows.next().and_then(|row| rank(row, class));
                let corrupt = rank.is_none().then(|| "the network's answer is no number".into());
                Answer { image, class, rank, corrupt }
            }
            Err(why) => Answer { image, class, rank: None, corrupt: Some(why) },
        }
    });
    Ok(answers.collect())
}

/// How many classes come before `class`; of equal ones, those of lower index.
fn rank(logits: &[f32], class: usize) -> Option<usize> {
    let own = logits.get(class).filter(|_| logits.iter().all(|logit| logit.is_finite()))?;
    let before = |(index, logit): &(usize, &f32)| *logit > own || (*logit == own && *index < class);
    Some(logits.iter().enumerate().filter(before).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_count_what_comes_before() {
        let logits = [0.5, 2.0, 2.0, -1.0];
        assert_eq!(
            [0, 1, 2, 3].map(|class| rank(&logits, class)),
            [Some(2), Some(0), Some(1), Some(3)]
        );
        assert_eq!(rank(&[f32::NAN, 1.0], 1), None);
        assert_eq!(rank(&logits, 4), None);
    }

    #[test]
    fn another_head_has_other_classes_also_where_it_is_a_convolution() {
        for id in ["resnet18", "squeezenet1-1"] {
            let graph = with_classes(crate::network::by_id(id).unwrap(), 10).unwrap();
            assert_eq!(classes_of(&graph).unwrap(), 10, "{id}");
        }
    }
}
