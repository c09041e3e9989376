//! `wattline-pages DIR`: man pages and shell completions of both programs.
//!
//! Owns which files a package holds of them, by the names that shells and man
//! look for. The words are those of the flags' own help; nothing is written
//! twice. A program of the build alone, so that neither program carries it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_complete::Shell;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: wattline-pages DIR");
        return ExitCode::from(2);
    };
    match write(&folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: pages cannot be written below {}: {error}", folder.display());
            ExitCode::from(1)
        }
    }
}

/// Both programs by the names of their files.
fn programs() -> [(&'static str, Command); 2] {
    [
        ("wattline", wattline::args::Cli::command()),
        ("wattline-agent", wattline_agent::args::Cli::command()),
    ]
}

/// Writes `PROGRAM/man1/*.1` and `PROGRAM/completions/*` below `folder`.
fn write(folder: &Path) -> io::Result<()> {
    for (name, program) in programs() {
        let folder = folder.join(name);
        completions(name, &program, &folder.join("completions"))?;
        pages(program, &folder.join("man1"))?;
    }
    Ok(())
}

/// A page for the program and one for each of its sub-commands.
fn pages(program: Command, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    // A `help` that repeats every page is no page of its own.
    clap_mangen::generate_to(program.disable_help_subcommand(true), folder)
}

/// Completions by the names that the shells look for, without the commands that
/// only the agent itself types.
fn completions(name: &'static str, program: &Command, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let shown = program.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let mut program = Command::new(name).version(env!("CARGO_PKG_VERSION")).subcommands(shown);
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut program, name, folder)?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it misses by failing")]
mod tests {
    use super::*;

    #[test]
    fn every_command_that_people_type_has_a_page_and_is_completed() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        for (name, program) in programs() {
            let below = folder.path().join(name);
            let bash = fs::read_to_string(below.join(format!("completions/{name}.bash"))).unwrap();
            let top = fs::read_to_string(below.join(format!("man1/{name}.1"))).unwrap();
            assert!(top.contains(".TH ") && top.contains(name), "{top}");
            for command in program.get_subcommands() {
                let verb = command.get_name();
                let page = below.join(format!("man1/{name}-{verb}.1"));
                assert_eq!(page.is_file(), !command.is_hide_set(), "{name} {verb}");
                assert_eq!(bash.contains(&format!(",{verb})")), !command.is_hide_set(), "{verb}");
            }
        }
    }
}
