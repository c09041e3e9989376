//! One command for several boards: `--on a,b`, or a group of the configuration.
//!
//! Owns the directory of such a run (`boards.json` and a run's directory for each
//! board) and the processes: each board has a `wattline` of its own, so that one that
//! fails, hangs or is killed costs the others nothing. What they say comes out line by
//! line with the board's name before it; Ctrl-C here is Ctrl-C for each.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::{line, say};
use crate::board::NamedBoard;
use crate::failure::{Exit, Failure};
use crate::run_folder::RUNS;

/// What a run of several boards is known by.
const LIST: &str = "boards.json";
/// Lines that wait to be printed.
const LINES_MAX: usize = 256;

/// A run of several boards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FleetFolder {
    path: PathBuf,
    /// In the order that they were named.
    pub(super) boards: Vec<FleetBoard>,
}

/// One board of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FleetBoard {
    /// As it was named.
    pub(super) name: String,
    /// Its address.
    pub(super) address: String,
    /// Its run's directory below this one.
    pub(super) directory: String,
}

impl FleetFolder {
    /// Makes the directory for boards, each called by its short name below it.
    ///
    /// # Errors
    /// [`Failure`] naming it.
    pub(super) fn create(path: &Path, boards: &[NamedBoard]) -> Result<Self, Failure> {
        let mut listed: Vec<FleetBoard> = Vec::new();
        for board in boards {
            let short = board.address.short_name();
            let mut directory = short.clone();
            let mut number = 2;
            while listed.iter().any(|one| one.directory == directory) {
                directory = format!("{short}-{number}");
                number += 1;
            }
            let (name, address) = (board.name.clone(), board.address.to_string());
            listed.push(FleetBoard { name, address, directory });
        }
        Self::create_listed(path, listed)
    }

    /// Makes the directory: absent or empty, as any run's.
    ///
    /// # Errors
    /// [`Failure`] naming it.
    pub(super) fn create_listed(path: &Path, listed: Vec<FleetBoard>) -> Result<Self, Failure> {
        let cannot = |error: &std::io::Error| {
            let what = format!("directory {} cannot be used", path.display());
            Failure::of(Exit::Failed, what, error, "choose another with --out, or make room")
        };
        if fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(Failure::new(
                Exit::Usage,
                format!("directory {} is not empty", path.display()),
                "choose an absent or empty one with --out",
            ));
        }
        fs::create_dir_all(path).map_err(|error| cannot(&error))?;
        let text = serde_json::to_string_pretty(&listed).unwrap_or_default();
        fs::write(path.join(LIST), text + "\n").map_err(|error| cannot(&error))?;
        Ok(Self { path: path.to_owned(), boards: listed })
    }

    /// The run of several boards that RUN means; `None` where it is none.
    ///
    /// # Errors
    /// [`Failure`] where its list cannot be read.
    pub(super) fn find(run: &str) -> Result<Option<Self>, Failure> {
        let places = [PathBuf::from(run), Path::new(RUNS).join(run)];
        let Some(path) = places.into_iter().find(|path| path.join(LIST).is_file()) else {
            return Ok(None);
        };
        let list = path.join(LIST);
        let read = fs::read_to_string(&list)
            .and_then(|text| serde_json::from_str(&text).map_err(std::io::Error::from));
        let boards = read.map_err(|error| {
            let what = format!("{} cannot be read", list.display());
            Failure::of(Exit::Failed, what, &error, "name a board's own directory below it")
        })?;
        Ok(Some(Self { path, boards }))
    }

    /// Takes back the directory of a run that did not begin; what else lies there stays.
    pub(super) fn discard(&self) {
        let _ = fs::remove_file(self.path.join(LIST));
        let _ = fs::remove_dir(&self.path);
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A board's own run.
    pub(super) fn run_of(&self, board: &FleetBoard) -> PathBuf {
        // A list that somebody wrote into reaches no further than its own directory.
        let name = Path::new(&board.directory).file_name().unwrap_or_default();
        self.path.join(name)
    }

    /// The boards that are named, or all.
    ///
    /// # Errors
    /// [`Failure`] for one that is none of them.
    pub(super) fn chosen(&self, on: Option<&[NamedBoard]>) -> Result<Vec<FleetBoard>, Failure> {
        let Some(on) = on else { return Ok(self.boards.clone()) };
        let mut chosen = Vec::new();
        for board in on {
            let address = board.address.to_string();
            let of_board = self.boards.iter().filter(|one| one.address == address);
            let before = chosen.len();
            chosen.extend(of_board.cloned());
            if chosen.len() == before {
                let names: Vec<&str> = self.boards.iter().map(|one| one.name.as_str()).collect();
                return Err(Failure::new(
                    Exit::Usage,
                    format!("board {} is none of this run's", board.name),
                    format!("name one or more of: {}", names.join(",")),
                ));
            }
        }
        Ok(chosen)
    }
}

/// A `wattline` for one board.
pub(super) struct Task {
    /// The board's name, before each of its lines.
    pub(super) name: String,
    /// Its arguments.
    pub(super) args: Vec<String>,
}

/// What of the boards' output goes to standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    /// Each line with its board's name.
    Named,
    /// Objects, each with its board's name as `board_name`.
    Json,
}

/// Runs all at once, and returns how each ended.
///
/// # Errors
/// [`Failure`] where this program cannot be started again.
pub(super) async fn together(tasks: Vec<Task>, output: Output) -> Result<Vec<Exit>, Failure> {
    let started = |error: &std::io::Error| {
        Failure::of(Exit::Failed, "this program cannot be started again", error, "")
    };
    let program = std::env::current_exe().map_err(|error| started(&error))?;
    let mut interrupts = signal(SignalKind::interrupt()).map_err(|error| started(&error))?;
    let (lines, mut printed) = mpsc::channel(LINES_MAX);
    let mut children = Vec::new();
    for task in tasks {
        let mut child = Command::new(&program)
            .args(&task.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C reaches each of them once, through this one.
            .process_group(0)
            .spawn()
            .map_err(|error| started(&error))?;
        forward(child.stdout.take(), Stream::Result, &task.name, &lines);
        forward(child.stderr.take(), Stream::Talk, &task.name, &lines);
        children.push(child);
    }
    drop(lines);
    loop {
        tokio::select! {
            next = printed.recv() => match next {
                Some(said) => said.print(output)?,
                // All have closed their output: they have ended, or are about to.
                None => break,
            },
            _ = interrupts.recv() => interrupt(&children),
        }
    }
    let mut exits = Vec::new();
    for mut child in children {
        exits.push(child.wait().await.map_or(Exit::Failed, |status| exit_of(status.code())));
    }
    Ok(exits)
}

fn interrupt(children: &[Child]) {
    for child in children {
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid {
            // One that has just ended needs none.
            let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
        }
    }
}

fn exit_of(code: Option<i32>) -> Exit {
    let all = [
        Exit::Done,
        Exit::Usage,
        Exit::Refused,
        Exit::Incomplete,
        Exit::Regression,
        Exit::Interrupted,
    ];
    let found = all.into_iter().find(|exit| Some(i32::from(exit.code())) == code);
    found.unwrap_or(Exit::Failed)
}

/// The worst of several: what one has to see to first.
pub(super) fn worst(exits: &[Exit]) -> Exit {
    let rank = |exit: &Exit| match exit {
        Exit::Done => 0,
        Exit::Incomplete => 1,
        Exit::Regression => 2,
        Exit::Refused => 3,
        Exit::Usage => 4,
        Exit::Failed => 5,
        Exit::Interrupted => 6,
    };
    exits.iter().copied().max_by_key(rank).unwrap_or(Exit::Done)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Result,
    Talk,
}

struct Said {
    stream: Stream,
    name: String,
    text: String,
}

impl Said {
    fn print(&self, output: Output) -> Result<(), Failure> {
        let Self { stream, name, text } = self;
        match (stream, output) {
            (Stream::Talk, _) => say(&format!("{name}: {text}")),
            (Stream::Result, Output::Named) => return line(&format!("{name}: {text}")),
            (Stream::Result, Output::Json) => {
                let object = serde_json::from_str::<serde_json::Map<_, _>>(text);
                let Ok(mut object) = object else {
                    say(&format!("{name}: {text}"));
                    return Ok(());
                };
                object.insert("board_name".to_owned(), name.as_str().into());
                return line(&serde_json::Value::Object(object).to_string());
            }
        }
        Ok(())
    }
}

fn forward(
    stream: Option<impl AsyncRead + Unpin + Send + 'static>,
    kind: Stream,
    name: &str,
    lines: &mpsc::Sender<Said>,
) {
    let Some(stream) = stream else { return };
    let (name, lines) = (name.to_owned(), lines.clone());
    tokio::spawn(async move {
        let mut read = BufReader::new(stream).lines();
        while let Ok(Some(text)) = read.next_line().await {
            if lines.send(Said { stream: kind, name: name.clone(), text }).await.is_err() {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::BoardAddress;

    fn named(name: &str) -> NamedBoard {
        let path = PathBuf::from(format!("/run/{name}/agent.sock"));
        NamedBoard { name: name.into(), address: BoardAddress::Unix(path) }
    }

    #[test]
    fn the_worst_exit_is_the_one_to_see_to() {
        assert_eq!(worst(&[]), Exit::Done);
        assert_eq!(worst(&[Exit::Done, Exit::Incomplete]), Exit::Incomplete);
        assert_eq!(worst(&[Exit::Failed, Exit::Incomplete, Exit::Refused]), Exit::Failed);
        assert_eq!((exit_of(Some(4)), exit_of(None)), (Exit::Incomplete, Exit::Failed));
    }

    #[test]
    fn a_directory_of_several_boards_is_found_again_and_each_has_its_own_below() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("run");
        let made = FleetFolder::create(&path, &[named("a"), named("b")]).unwrap();
        let directories: Vec<_> = made.boards.iter().map(|board| made.run_of(board)).collect();
        assert_eq!(directories, [path.join("agent"), path.join("agent-2")]);
        let found = FleetFolder::find(&path.display().to_string()).unwrap();
        assert_eq!(found.as_ref(), Some(&made));
        assert_eq!(made.chosen(Some(&[named("b")])).unwrap(), made.boards[1..]);
        assert_eq!(made.chosen(None).unwrap().len(), 2);
        assert_eq!(made.chosen(Some(&[named("c")])).unwrap_err().exit, Exit::Usage);
        assert_eq!(FleetFolder::create(&path, &[]).unwrap_err().exit, Exit::Usage);
        assert_eq!(FleetFolder::find(&place.path().display().to_string()).unwrap(), None);
        fs::write(path.join(LIST), "nonsense").unwrap();
        assert!(FleetFolder::find(&path.display().to_string()).is_err());
    }
}
