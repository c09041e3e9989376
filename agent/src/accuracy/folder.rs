//! Which images there are, and which class each shows.
//!
//! Owns the two layouts, class sub-folders as torchvision's `ImageFolder` and
//! one flat folder with a labels file, and how a class name becomes its index.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Endings of the files that are taken for images.
const ENDINGS: [&str; 3] = ["jpeg", "jpg", "png"];
/// Images of one evaluation: twenty times ImageNet's validation set.
const IMAGES_MAX: usize = 1_000_000;
/// Bytes of a labels file: 100 for each image.
const LABELS_BYTES_MAX: u64 = 100_000_000;

/// An image and its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// Path below the folder, with slashes.
    pub image: String,
    /// Index of its class.
    pub class: usize,
}

/// Why a folder cannot be evaluated.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FolderError {
    /// A folder or file cannot be read.
    #[error("{path}: cannot be read")]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// No image at all.
    #[error("{path}: no image in it or in its sub-folders ({})", ENDINGS.join(", "))]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// More images than are evaluated at once.
    #[error("{path}: more than {limit} images")]
    TooMany {
        /// The folder.
        path: PathBuf,
        /// The bound.
        limit: usize,
    },
    /// A labels file with a line that is none.
    #[error("{path}: line {line} is not NAME CLASS")]
    Line {
        /// The file.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
    },
    /// An image of a flat folder, or a class folder, without its class.
    #[error("{name}: no class; a labels file has lines NAME CLASS, NAME an image or its folder")]
    NoClass {
        /// The image or folder.
        name: String,
    },
    /// Sub-folders whose order does not give the class.
    #[error("{folders} class folders, the network tells {classes} classes")]
    OtherCount {
        /// Folders with images.
        folders: usize,
        /// Outputs of the network.
        classes: usize,
    },
    /// A class that the network has not.
    #[error("{name}: class {class}, the network tells 0 to {}", .classes.saturating_sub(1))]
    ClassTooLarge {
        /// The image.
        name: String,
        /// Its class.
        class: usize,
        /// Outputs of the network.
        classes: usize,
    },
}

/// All images below `root` in the order of their names. A class is, in this
/// order: what `labels` says of the image or of its folder; the folder's name
/// where all are numbers; the place of the folder among all, where there are
/// as many as classes.
///
/// # Errors
/// [`FolderError`] naming the file, folder or line.
pub fn labelled(
    root: &Path,
    labels: Option<&Path>,
    classes: usize,
) -> Result<Vec<Labelled>, FolderError> {
    let labels = labels.map(read_labels).transpose()?.unwrap_or_default();
    let mut images = files(root, "")?;
    let mut folders = Vec::new();
    for folder in list(root)?.into_iter().filter(|name| root.join(name).is_dir()) {
        let inside = files(&root.join(&folder), &format!("{folder}/"))?;
        if !inside.is_empty() {
            folders.push(folder);
            images.extend(inside);
        }
        if images.len() > IMAGES_MAX {
            return Err(FolderError::TooMany { path: root.to_owned(), limit: IMAGES_MAX });
        }
    }
    if images.is_empty() {
        return Err(FolderError::Empty { path: root.to_owned() });
    }
    let by_folder = classes_of(&folders, &labels, classes)?;
    images
        .into_iter()
        .map(|image| {
            let class = class_of(&image, &labels, &by_folder)?;
            if class >= classes {
                return Err(FolderError::ClassTooLarge { name: image, class, classes });
            }
            Ok(Labelled { image, class })
        })
        .collect()
}

type Classes = BTreeMap<String, usize>;

fn classes_of(
    folders: &[String],
    labels: &Classes,
    classes: usize,
) -> Result<Classes, FolderError> {
    if !labels.is_empty() {
        return Ok(labels.clone());
    }
    let numbers: Option<Vec<usize>> = folders.iter().map(|name| name.parse().ok()).collect();
    let places = match numbers {
        Some(numbers) => numbers,
        None if folders.len() == classes => (0..classes).collect(),
        None => return Err(FolderError::OtherCount { folders: folders.len(), classes }),
    };
    Ok(folders.iter().cloned().zip(places).collect())
}

fn class_of(image: &str, labels: &Classes, by_folder: &Classes) -> Result<usize, FolderError> {
    let (folder, file) = image.split_once('/').unwrap_or(("", image));
    let stem = Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or(file);
    let named = [image, file, stem].into_iter().find_map(|name| labels.get(name));
    named.or_else(|| by_folder.get(folder)).copied().ok_or_else(|| {
        let name = if folder.is_empty() { image } else { folder };
        FolderError::NoClass { name: name.to_owned() }
    })
}

fn read_labels(path: &Path) -> Result<Classes, FolderError> {
    let unread = |source| FolderError::Read { path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(unread)?.len();
    if length > LABELS_BYTES_MAX {
        return Err(FolderError::TooMany { path: path.to_owned(), limit: IMAGES_MAX });
    }
    let text = std::fs::read_to_string(path).map_err(unread)?;
    let mut labels = Classes::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let parts = line.rsplit_once(|c: char| c == ',' || c.is_whitespace());
        let entry = parts.and_then(|(name, class)| Some((name.trim(), class.parse().ok()?)));
        let Some((name, class)) = entry else {
            return Err(FolderError::Line { path: path.to_owned(), line: index + 1 });
        };
        labels.insert(name.trim_end_matches(',').to_owned(), class);
    }
    Ok(labels)
}

fn files(folder: &Path, prefix: &str) -> Result<Vec<String>, FolderError> {
    let is_image = |name: &String| {
        let ending = Path::new(name).extension().and_then(|ending| ending.to_str());
        ending.is_some_and(|ending| ENDINGS.contains(&ending.to_ascii_lowercase().as_str()))
    };
    let names = list(folder)?.into_iter().filter(is_image);
    Ok(names
        .filter(|name| folder.join(name).is_file())
        .map(|name| format!("{prefix}{name}"))
        .collect())
}

/// Names in a folder, sorted; those that are not UTF-8 are no names of ours.
fn list(folder: &Path) -> Result<Vec<String>, FolderError> {
    let unread = |source| FolderError::Read { path: folder.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unread)? {
        names.extend(entry.map_err(unread)?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}
