//! A user's own network: the graph of a TOML or JSON file.
//!
//! Owns how such a file is read and in which words it is refused; the checks
//! of the graph itself are those of `graph` and `shape`. The form is that of
//! `wattline networks NAME --graph`, which reads back as the network it is of.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::catalog::{UnknownNetwork, by_id};
use super::graph::{Graph, GraphError, Input, Node};

/// Bytes of a graph file: twenty times the largest of the catalogue.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Weights of all layers of a file's graph: 8 GiB in f32, more than boards hold.
const PARAMETERS_MAX: u64 = 1 << 31;
/// Characters of an id: it names files and stands in tables.
const ID_CHARS_MAX: usize = 64;
/// Characters of a layer's name: each stands in records and keys.
const NAME_CHARS_MAX: usize = 200;
/// Between a file's name and its graph's digest in a cell's identity.
const DIGEST_MARK: char = '#';
/// Hexadecimal digits of a digest in a cell's identity.
const DIGEST_CHARS: usize = 16;

/// Why there is no graph.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// Neither an id of the catalogue nor a file's name.
    #[error(transparent)]
    Unknown(#[from] UnknownNetwork),
    /// The file cannot be read.
    #[error("graph {path}: cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// More bytes than a graph file may have.
    #[error("graph {path}: {bytes} bytes, at most {limit} are allowed")]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// The bound.
        limit: u64,
    },
    /// Not TOML, or not JSON.
    #[error("graph {path}: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's words, with the place.
        message: String,
    },
    /// Text around the layers that is not a graph's.
    #[error("graph {path}: {message}")]
    Head {
        /// The file.
        path: PathBuf,
        /// What is missing or unknown.
        message: String,
    },
    /// A layer that is none: an unknown operation, a missing or unknown field.
    #[error("graph {path}: layer {layer}: {message}")]
    Layer {
        /// The file.
        path: PathBuf,
        /// Its name, or its number where it has none.
        layer: String,
        /// What is wrong with it.
        message: String,
    },
    /// Layers that do not make a network.
    #[error("graph {path}")]
    Graph {
        /// The file.
        path: PathBuf,
        /// The layer and why.
        source: GraphError,
    },
    /// More weights than a board can hold.
    #[error("graph {path}: {parameters} parameters, at most {limit} are allowed")]
    TooManyParameters {
        /// The file.
        path: PathBuf,
        /// Of all layers.
        parameters: u64,
        /// The bound.
        limit: u64,
    },
    /// The file is not the one that the campaign was planned with.
    #[error("graph {path}: changed since the run was planned ({planned}, now {found})")]
    Changed {
        /// The file.
        path: PathBuf,
        /// Digest in the plan.
        planned: String,
        /// Digest of what is there.
        found: String,
    },
}

/// Whether `name` is a graph file's rather than an id: it ends in `.toml` or
/// `.json`, before a digest where one follows.
#[must_use]
pub fn is_graph_file(name: &str) -> bool {
    let (path, _) = split(name);
    let ending = Path::new(path).extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|e| e.eq_ignore_ascii_case("toml") || e.eq_ignore_ascii_case("json"))
}

/// The graph of an id (underscores stand for hyphens) or of a file, checked
/// at its own image size. A digest behind a file's name must be its graph's.
///
/// # Errors
/// [`NetworkError`] with the list of ids, or the file and the layer.
pub fn open(name: &str) -> Result<Graph, NetworkError> {
    if !is_graph_file(name) {
        return Ok(by_id(name)?);
    }
    let (path, planned) = split(name);
    let graph = read(Path::new(path))?;
    let found = digest(&graph);
    match planned {
        Some(planned) if planned != found => {
            let path = PathBuf::from(path);
            Err(NetworkError::Changed { path, planned: planned.to_owned(), found })
        }
        Some(_) | None => Ok(graph),
    }
}

/// What names a network in a cell: its id, or its file with the digest of the
/// graph, so that two states of one file are never taken for one network.
#[must_use]
pub fn identity(name: &str, graph: &Graph) -> String {
    if is_graph_file(name) {
        format!("{}{DIGEST_MARK}{}", split(name).0, digest(graph))
    } else {
        graph.id.clone()
    }
}

/// First 16 hexadecimal digits of the SHA-256 of the graph as compact JSON.
fn digest(graph: &Graph) -> String {
    // A graph holds no map and no number that JSON lacks: this cannot fail.
    let bytes = serde_json::to_vec(graph).unwrap_or_default();
    let hash = Sha256::digest(&bytes);
    hash.iter().take(DIGEST_CHARS / 2).map(|byte| format!("{byte:02x}")).collect()
}

fn split(name: &str) -> (&str, Option<&str>) {
    let Some((path, digest)) = name.rsplit_once(DIGEST_MARK) else {
        return (name, None);
    };
    let is_digest =
        digest.len() == DIGEST_CHARS && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_digest { (path, Some(digest)) } else { (name, None) }
}

fn read(path: &Path) -> Result<Graph, NetworkError> {
    let unread = |source| NetworkError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(unread)?;
    // One byte more than is allowed tells a file that is too long, also where
    // its length is not known before.
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(unread)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let (path, bytes) = (path.to_owned(), text.len() as u64);
        return Err(NetworkError::TooLong { path, bytes, limit: FILE_BYTES_MAX });
    }
    let is_json = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
    parse(&text, is_json, path)
}

/// Layers are taken one by one, so that an error can name its layer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGraph {
    id: String,
    input: Input,
    nodes: Vec<Value>,
}

/// The graph in `text`; `path` is for the errors' words.
fn parse(text: &str, is_json: bool, path: &Path) -> Result<Graph, NetworkError> {
    let head = |message: String| NetworkError::Head { path: path.to_owned(), message };
    let syntax = |message: String| NetworkError::Syntax { path: path.to_owned(), message };
    let value: Value = if is_json {
        serde_json::from_str(text).map_err(|error| syntax(error.to_string()))?
    } else {
        toml::from_str(text).map_err(|error| syntax(error.to_string().trim_end().to_owned()))?
    };
    let raw: RawGraph = serde_json::from_value(value).map_err(|error| head(error.to_string()))?;
    let mut nodes = Vec::with_capacity(raw.nodes.len());
    for (index, node) in raw.nodes.into_iter().enumerate() {
        let name = node.get("name").and_then(Value::as_str).map(str::to_owned);
        let layer = name.unwrap_or_else(|| format!("number {}", index + 1));
        let message = |error: serde_json::Error| error.to_string();
        let node: Node = serde_json::from_value(node).map_err(|error| NetworkError::Layer {
            path: path.to_owned(),
            layer: layer.chars().take(NAME_CHARS_MAX).collect(),
            message: message(error),
        })?;
        nodes.push(node);
    }
    let graph = Graph { id: raw.id, input: raw.input, nodes };
    check_names(&graph, path)?;
    check(&graph, path)?;
    Ok(graph)
}

fn check_names(graph: &Graph, path: &Path) -> Result<(), NetworkError> {
    let named = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let id = &graph.id;
    if id.is_empty() || id.len() > ID_CHARS_MAX || !id.chars().all(named) || id.starts_with('.') {
        let message = format!(
            "id {:?}: 1 to {ID_CHARS_MAX} letters, digits, dots, hyphens and underscores",
            id.chars().take(ID_CHARS_MAX).collect::<String>()
        );
        return Err(NetworkError::Head { path: path.to_owned(), message });
    }
    for (index, node) in graph.nodes.iter().enumerate() {
        let length = node.name.chars().count();
        if length == 0 || length > NAME_CHARS_MAX || node.name.chars().any(char::is_control) {
            return Err(NetworkError::Layer {
                path: path.to_owned(),
                layer: format!("number {}", index + 1),
                message: format!("a name has 1 to {NAME_CHARS_MAX} printable characters"),
            });
        }
    }
    Ok(())
}

fn check(graph: &Graph, path: &Path) -> Result<(), NetworkError> {
    let wrong = |source| NetworkError::Graph { path: path.to_owned(), source };
    let counts = graph.counts(graph.input.size).map_err(wrong)?;
    let stored = |sum: u64, parameters: u64| sum.saturating_add(parameters);
    let parameters = counts.iter().map(|layer| layer.parameters).fold(0, stored);
    if parameters > PARAMETERS_MAX {
        let (path, limit) = (path.to_owned(), PARAMETERS_MAX);
        return Err(NetworkError::TooManyParameters { path, parameters, limit });
    }
    Ok(())
}
