//! What the agent may ask of root, and the answer: a closed list.
//!
//! Owns the verbs, the check of their one argument, and one exchange on a
//! connection: a line of JSON each way. No path, no command and no text of the
//! asker's ever reaches a file or a program. Who may connect is decided by the
//! socket (`wattline-board.socket`), what a verb may touch by the unit.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::warn;

use super::mode;
use super::pin::{self, Place};

/// Longest question and answer, in bytes: a verb with a number, a short list.
const LINE_BYTES_MAX: u64 = 4 * 1024;
/// An answer is waited for this long: nvpmodel takes some seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// The maker's program that sets a power mode, on every Jetson.
const NVPMODEL: &str = "usr/sbin/nvpmodel";

/// What may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verb", deny_unknown_fields)]
pub enum Verb {
    /// Hold clocks at their most.
    Pin {},
    /// Put back what was found before.
    Restore {},
    /// Set a power mode of the board's own table.
    Mode {
        /// Its number there.
        id: u16,
    },
    /// Set a power mode that holds after a reboot only, and reboot.
    Reboot {
        /// Its number there.
        id: u16,
    },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum Answer {
    /// It is done.
    Done {
        /// Files that differ from what was found, or were put back.
        files: usize,
    },
    /// It cannot be.
    Refused {
        /// Why.
        why: Refused,
        /// What the system said of it, for the log.
        said: String,
    },
}

/// Why a verb is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refused {
    /// The question is none of the list.
    NoVerb,
    /// The board has no such power mode.
    NoSuchMode,
    /// The board has no clock that can be held.
    NoClock,
    /// The system refused.
    Failed,
    /// The mode holds after a reboot only.
    NeedsReboot,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum AskError {
    /// Nobody listens, or not to us.
    #[error("socket {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The connection broke, or what came is no answer.
    #[error("no answer from {}", path.display())]
    NoAnswer {
        /// The socket.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
}

/// Asks root's service behind `socket`.
///
/// # Errors
/// [`AskError`].
pub fn ask(socket: &Path, verb: Verb) -> Result<Answer, AskError> {
    let path = || socket.to_owned();
    let stream =
        UnixStream::connect(socket).map_err(|source| AskError::Connect { path: path(), source })?;
    let answer = || {
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.set_write_timeout(Some(ANSWER_WITHIN))?;
        writeln!(&stream, "{}", serde_json::to_string(&verb)?)?;
        Ok(serde_json::from_str(&line_of(&stream)?)?)
    };
    answer().map_err(|source| AskError::NoAnswer { path: path(), source })
}

/// Reads one question from `input`, performs it, and writes the answer.
///
/// # Errors
/// The connection's.
pub fn answer(place: Place<'_>, input: impl Read, mut output: impl Write) -> io::Result<()> {
    let line = line_of(input)?;
    let answer = match serde_json::from_str(&line) {
        Ok(verb) => perform(place, verb),
        Err(error) => refused(Refused::NoVerb, &error),
    };
    writeln!(output, "{}", serde_json::to_string(&answer)?)
}

/// Performs a verb, as root.
#[must_use]
pub fn perform(place: Place<'_>, verb: Verb) -> Answer {
    let done = match verb {
        Verb::Pin {} => pin::pin(place),
        Verb::Restore {} => pin::restore(place),
        Verb::Mode { id } => return set_mode(place.root, id, Reboot::Refused),
        Verb::Reboot { id } => return set_mode(place.root, id, Reboot::Allowed),
    };
    match done {
        Ok(files) => Answer::Done { files },
        Err(error @ pin::PinError::NoClock) => refused(Refused::NoClock, &error),
        Err(error) => {
            warn!(error = &error as &dyn std::error::Error, "Clocks could not be set.");
            refused(Refused::Failed, &error)
        }
    }
}

/// What nvpmodel's question whether to reboot is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reboot {
    /// It finds nobody who answers.
    Refused,
    /// Yes.
    Allowed,
}

/// Runs the maker's program, and returns what it said.
fn run_nvpmodel(program: &Path, id: u16, reboot: Reboot) -> io::Result<String> {
    let mut command = Command::new(program);
    command.arg("-m").arg(id.to_string()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(match reboot {
        Reboot::Refused => Stdio::null(),
        Reboot::Allowed => Stdio::piped(),
    });
    let mut child = command.spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // "enter YES/yes to confirm" (nvpmodel); one that does not ask has ended by then.
        let _ = input.write_all(b"YES\n");
    }
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&said).chars().take(400).collect())
}

/// By the maker's own program: a mode is more than files, and it keeps the mode
/// for the next start.
fn set_mode(root: &Path, id: u16, reboot: Reboot) -> Answer {
    let is_there = mode::modes(root).iter().any(|mode| mode.id == id);
    let program = [root.join(NVPMODEL), root.join("..").join(NVPMODEL)];
    let Some(program) = program.into_iter().find(|path| is_there && path.is_file()) else {
        return Answer::Refused { why: Refused::NoSuchMode, said: String::new() };
    };
    if mode::of(root).is_some_and(|now| now.id == id) {
        return Answer::Done { files: 0 };
    }
    let said = match run_nvpmodel(&program, id, reboot) {
        Ok(said) => said,
        Err(error) => return refused(Refused::Failed, &error),
    };
    if mode::of(root).is_some_and(|now| now.id == id) {
        return Answer::Done { files: 1 };
    }
    // "Reboot required for changing to this power mode" (nvpmodel).
    let needs = said.to_ascii_lowercase().contains("reboot");
    if needs && reboot == Reboot::Allowed {
        return Answer::Done { files: 1 };
    }
    Answer::Refused { why: if needs { Refused::NeedsReboot } else { Refused::Failed }, said }
}

fn refused(why: Refused, error: &dyn std::error::Error) -> Answer {
    Answer::Refused { why, said: error.to_string() }
}

fn line_of(input: impl Read) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(input.take(LINE_BYTES_MAX)).read_line(&mut line)?;
    if line.ends_with('\n') { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn jetson() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let status = root.path().join("var/lib/nvpmodel/status");
        let nvpmodel = format!(
            "#!/bin/sh\n[ \"$2\" != 2 ] || {{ echo 'NVPM WARN: Reboot required'; read -r yes; \
             [ \"$yes\" = YES ] || exit 1; }}\n\
             echo \"pmode:000$2\" >{}\n",
            status.display()
        );
        for (name, text) in [
            (
                "etc/nvpmodel.conf",
                "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=7W >\n< POWER_MODEL ID=2 NAME=15W >\n",
            ),
            ("var/lib/nvpmodel/status", "pmode:0000\n"),
            (NVPMODEL, &nvpmodel),
            ("devices/system/cpu/cpufreq/policy0/scaling_min_freq", "100\n"),
            ("devices/system/cpu/cpufreq/policy0/scaling_max_freq", "900\n"),
        ] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(root.path().join(NVPMODEL), executable).unwrap();
        root
    }

    fn said(root: &Path, question: &str) -> Answer {
        let folder = root.join("folder");
        let place = Place { root, folder: &folder, boot: "a" };
        let mut output = Vec::new();
        answer(place, question.as_bytes(), &mut output).unwrap();
        serde_json::from_slice(&output).unwrap()
    }

    fn why(answer: &Answer) -> Option<Refused> {
        match answer {
            Answer::Done { .. } => None,
            Answer::Refused { why, .. } => Some(*why),
        }
    }

    #[test]
    fn the_verbs_do_what_they_say() {
        let root = jetson();
        let min = root.path().join("devices/system/cpu/cpufreq/policy0/scaling_min_freq");
        assert_eq!(said(root.path(), "{\"verb\":\"pin\"}\n"), Answer::Done { files: 1 });
        assert_eq!(fs::read_to_string(&min).unwrap(), "900");
        assert_eq!(said(root.path(), "{\"verb\":\"restore\"}\n"), Answer::Done { files: 1 });
        assert_eq!(fs::read_to_string(&min).unwrap(), "100");
        assert_eq!(said(root.path(), "{\"verb\":\"mode\",\"id\":1}\n"), Answer::Done { files: 1 });
        assert_eq!(mode::of(root.path()).unwrap().name, "7W");
        let again = said(root.path(), "{\"verb\":\"mode\",\"id\":1}\n");
        assert_eq!(again, Answer::Done { files: 0 });
        let rebooting = said(root.path(), "{\"verb\":\"mode\",\"id\":2}\n");
        assert_eq!(why(&rebooting), Some(Refused::NeedsReboot));
        assert_eq!(mode::of(root.path()).unwrap().id, 1);
        let reboots = said(root.path(), "{\"verb\":\"reboot\",\"id\":2}\n");
        assert_eq!((why(&reboots), mode::of(root.path()).unwrap().id), (None, 2));
        let unknown = said(root.path(), "{\"verb\":\"reboot\",\"id\":9}\n");
        assert_eq!(why(&unknown), Some(Refused::NoSuchMode));
    }

    #[test]
    fn what_is_not_on_the_list_is_refused_and_changes_nothing() {
        let root = jetson();
        for question in [
            "{\"verb\":\"write\",\"path\":\"/etc/passwd\"}",
            "{\"verb\":\"pin\",\"path\":\"/etc/passwd\"}",
            "{\"verb\":\"mode\",\"id\":\"1; reboot\"}",
            "{\"verb\":\"mode\",\"id\":-1}",
            "{\"verb\":\"mode\"}",
            "pin",
            "",
        ] {
            let answer = said(root.path(), &format!("{question}\n"));
            assert_eq!(why(&answer), Some(Refused::NoVerb), "{question}");
        }
        let unknown = said(root.path(), "{\"verb\":\"mode\",\"id\":7}\n");
        assert_eq!(why(&unknown), Some(Refused::NoSuchMode));
        assert_eq!(mode::of(root.path()).unwrap().id, 0);
    }

    #[test]
    fn a_question_that_never_ends_is_cut() {
        let root = jetson();
        let place = Place { root: root.path(), folder: root.path(), boot: "a" };
        assert!(answer(place, io::repeat(b'x'), io::sink()).is_err());
        assert!(answer(place, io::empty(), io::sink()).is_err());
    }

    #[test]
    fn a_question_over_a_socket_is_answered() {
        let root = jetson();
        let path = root.path().join("s");
        assert!(matches!(ask(&path, Verb::Pin {}), Err(AskError::Connect { .. })));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let served = root.path().to_owned();
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let folder = served.join("folder");
            let place = Place { root: &served, folder: &folder, boot: "a" };
            answer(place, &stream, &stream).unwrap();
        });
        assert_eq!(ask(&path, Verb::Pin {}).unwrap(), Answer::Done { files: 1 });
        server.join().unwrap();
    }
}
