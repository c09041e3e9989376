//! `accuracy`: top-1 and top-5 over a folder of labelled images.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Failure, line};
use crate::accuracy::{
    AccuracyError, FolderError, Head, Journal, JournalError, Progress, Share, Summary, classes_of,
    evaluate, images_digest, labelled, summary, with_classes, write_summary,
};
use crate::args::AccuracyArgs;
use crate::clock::{Clock, SystemClock};
use crate::engine::{CandleExecutor, Options};
use crate::infer::{TensorSource, load_weights};
use crate::network::{self, Graph, Interpolation, Preprocess, USUAL};

/// Version of journal and summary.
const VERSION: u32 = 1;

pub(super) fn run(args: &AccuracyArgs) -> Result<(), Failure> {
    let graph = open_graph(args)?;
    let classes = classes_of(&graph).map_err(|error| failed(&error))?;
    let images = labelled(&args.images, args.labels.as_deref(), classes)
        .map_err(|error| failed(&error.into()))?;
    let how = preprocess(args, &graph);
    let options = options(args, how.crop)?;
    let source = TensorSource::parse(&args.weights).map_err(|error| {
        Failure::of(2, "the weights cannot be used", &error, "name a file, or hashed:1")
    })?;
    let source = match source {
        TensorSource::File(path) => TensorSource::File(network::weights_file(&path, &graph)),
        TensorSource::Hashed(seed) => TensorSource::Hashed(seed),
    };
    let weights = load_weights(&graph, &source).map_err(|error| {
        let mend = "use a safetensors or zip .pth file with the network's PyTorch names; \
                    --classes N for another head";
        Failure::of(1, format!("weights {source} do not fill {}", graph.id), &error, mend)
    })?;
    let head = Head {
        version: VERSION,
        network: network::identity(&args.network, &graph),
        weights_sha256: weights.digest(),
        classes,
        preprocess: how,
        precision: args.precision.clone(),
        device: args.device.clone(),
        images_sha256: images_digest(&images),
    };
    let out = out_folder(args, &graph, &head);
    let mut journal = Journal::open(&out, &head).map_err(|error| failed(&error.into()))?;
    let mut executor =
        CandleExecutor::load(&graph, weights, options).map_err(|error| failed(&error.into()))?;
    let mut meter = Meter::new();
    evaluate(&mut executor, &options, &args.images, &images, &how, &mut journal, |progress| {
        meter.show(progress);
    })
    .map_err(|error| failed(&error))?;
    meter.clear();
    let summary = summary(head, &journal);
    let path = write_summary(&out, &summary).map_err(|error| failed(&error))?;
    print(args, &graph, &summary, &path)
}

fn open_graph(args: &AccuracyArgs) -> Result<Graph, Failure> {
    let graph = network::open(&args.network).map_err(|error| {
        let mend = "name one of `wattline networks`, or a graph file that ends in .toml or .json";
        Failure::of(2, format!("no network {}", args.network), &error, mend)
    })?;
    match args.classes {
        None => Ok(graph),
        Some(classes) => {
            let classes = usize::try_from(classes).unwrap_or(usize::MAX);
            with_classes(graph, classes).map_err(|error| failed(&error))
        }
    }
}

/// The weight set's preprocessing, by its file's name; what is typed wins.
fn preprocess(args: &AccuracyArgs, graph: &Graph) -> Preprocess {
    let stem = Path::new(&args.weights).file_stem().and_then(|stem| stem.to_str());
    let mut how = match network::published(&graph.id) {
        Some(entry) => entry.preprocess_for(stem.unwrap_or_default()),
        // The usual share of the crop, 224 of 256.
        None => Preprocess { resize: graph.input.size * 8 / 7, crop: graph.input.size, ..USUAL },
    };
    if let Some(resize) = args.resize {
        how.resize = usize::try_from(resize).unwrap_or(usize::MAX).max(1);
    }
    match args.interpolation.as_deref() {
        Some("bicubic") => how.interpolation = Interpolation::Bicubic,
        Some(_) => how.interpolation = Interpolation::Bilinear,
        None => {}
    }
    how
}

fn options(args: &AccuracyArgs, size: usize) -> Result<Options, Failure> {
    let wrong = |error: &dyn std::error::Error| {
        Failure::of(2, "the target cannot be used", error, "see `wattline accuracy --help`")
    };
    Ok(Options {
        batch: usize::try_from(args.batch).unwrap_or(usize::MAX).max(1),
        size,
        processor: args.device.parse().map_err(|error| wrong(&error))?,
        precision: args.precision.parse().map_err(|error| wrong(&error))?,
        fold: true,
        fused: true,
    })
}

/// `--out`, or a folder of its own for each network, weight set and folder.
fn out_folder(args: &AccuracyArgs, graph: &Graph, head: &Head) -> PathBuf {
    args.out.clone().unwrap_or_else(|| {
        let digit = |text: &str| text.chars().take(8).collect::<String>();
        let (weights, images) = (digit(&head.weights_sha256), digit(&head.images_sha256));
        PathBuf::from("wattline-accuracy").join(format!("{}-{weights}-{images}", graph.id))
    })
}

fn failed(error: &AccuracyError) -> Failure {
    let (status, mend) = match error {
        AccuracyError::Folder(FolderError::Read { .. }) => (1, "see to the folder"),
        AccuracyError::Folder(FolderError::Empty { .. }) => {
            (2, "name a folder of JPEG or PNG images, or of class folders with them")
        }
        AccuracyError::Folder(_) => {
            (2, "give --labels FILE with lines NAME CLASS, or --classes N for another head")
        }
        AccuracyError::Journal(JournalError::Other { .. }) => (2, "choose another --out"),
        AccuracyError::NoClasses { .. } | AccuracyError::NoHead { .. } => {
            (2, "choose another network")
        }
        _ => (1, ""),
    };
    Failure::of(status, "the accuracy cannot be evaluated", error, mend)
}

fn print(args: &AccuracyArgs, graph: &Graph, done: &Summary, path: &Path) -> Result<(), Failure> {
    for answer in &done.corrupt {
        let why = answer.corrupt.as_deref().unwrap_or_default();
        // A closed standard error leaves nobody to tell.
        let _ = writeln!(io::stderr(), "corrupt image {}: {why}", answer.image);
    }
    if args.json {
        let mut row = json!(done);
        row["summary"] = json!(path);
        return line(&row.to_string());
    }
    let share = |share: Option<Share>| match share {
        Some(Share { percent, low_percent, high_percent }) => {
            format!("{percent:.2} % ({low_percent:.2} to {high_percent:.2})")
        }
        None => "-".into(),
    };
    line(&format!("{}: {} images, {} corrupt", graph.id, done.images, done.corrupt.len()))?;
    line(&format!("top-1 {}", share(done.top1)))?;
    line(&format!("top-5 {}", share(done.top5)))?;
    line(&format!("interval: {}; summary: {}", done.interval, path.display()))
}

/// One line on a terminal, nothing on a pipe.
struct Meter {
    start: wattline_protocol::units::BoardTime,
    shown: bool,
}

impl Meter {
    fn new() -> Self {
        Self { start: SystemClock.now(), shown: false }
    }

    #[expect(clippy::cast_precision_loss, reason = "for a text")]
    fn show(&mut self, progress: Progress) {
        if !io::stderr().is_terminal() {
            return;
        }
        self.shown = true;
        let spent_s = (SystemClock.now() - self.start).0 as f64 / 1e9;
        let left_s = spent_s / progress.now as f64 * (progress.all - progress.done) as f64;
        let percent = 100.0 * progress.right as f64 / progress.done as f64;
        let text = format!(
            "{} of {} images, top-1 {percent:.1} %, {:.0} min {:02.0} s left",
            progress.done,
            progress.all,
            (left_s / 60.0).floor(),
            left_s % 60.0
        );
        let _ = write!(io::stderr(), "\r{text}\x1b[K");
    }

    fn clear(&self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
