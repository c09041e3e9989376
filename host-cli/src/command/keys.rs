//! `wattline keys`: this machine's key for TLS, and the boards' keys that it takes.
//!
//! What the verbs do is [`wattline_pinned::KeyVerb`]'s, here as on a board; with
//! `--on ssh://…` they are done there, as root, over the user's own OpenSSH.

use wattline_pinned::{KeyFolderError, KeyVerb};

use super::deploy::Deployment;
use super::{board, line};
use crate::args::{KeysArgs, KeysVerb};
use crate::connect::keys::folder;
use crate::failure::{Exit, Failure};

pub(super) async fn run(args: KeysArgs) -> Result<Exit, Failure> {
    let lines = match &args.on {
        None => verb(args.verb).perform(&folder().map_err(|e| failure(&e))?),
        Some(on) => {
            let board = Deployment::at(&board(Some(on), None)?).await?;
            return on_board(&board, &args.verb).await;
        }
    };
    for text in lines.map_err(|error| failure(&error))? {
        line(&text)?;
    }
    Ok(Exit::Done)
}

async fn on_board(board: &Deployment, verb: &KeysVerb) -> Result<Exit, Failure> {
    board.stage(None).await?;
    for text in board.as_root(&format!("keys {}", words(verb))).await?.lines() {
        line(text)?;
    }
    Ok(Exit::Done)
}

fn verb(verb: KeysVerb) -> KeyVerb {
    match verb {
        KeysVerb::Show => KeyVerb::Show,
        KeysVerb::List => KeyVerb::List,
        KeysVerb::Add { name, pin } => KeyVerb::Add { name, pin },
        KeysVerb::Revoke { who } => KeyVerb::Revoke { who },
        KeysVerb::Rotate => KeyVerb::Rotate,
        KeysVerb::Settle => KeyVerb::Settle,
    }
}

/// The verb for the board's shell: names and pins have no quote in them, and what
/// is none becomes no word of the shell.
fn words(verb: &KeysVerb) -> String {
    match verb {
        KeysVerb::Show => "show".into(),
        KeysVerb::List => "list".into(),
        KeysVerb::Add { name, pin } => format!("add '{name}' '{pin}'"),
        KeysVerb::Revoke { who } => format!("revoke '{}'", who.replace('\'', "")),
        KeysVerb::Rotate => "rotate".into(),
        KeysVerb::Settle => "settle".into(),
    }
}

pub(super) fn failure(error: &KeyFolderError) -> Failure {
    Failure::of(Exit::Failed, "the keys are not as they must be", error, error.mend())
}
