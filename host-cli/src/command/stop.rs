//! `wattline stop`: end a run; what was measured stays.
//!
//! A run that is controlled from another terminal of the same user is stopped
//! all the same; one that somebody else controls, with `--take-over`.

use wattline_protocol::command::{Command, Reply};

use super::fleet::{FleetBoard, FleetFolder, Output, Task, together, worst};
use super::{board, boards, known_run, refusal, say, unreachable};
use crate::args::StopArgs;
use crate::client::Client;
use crate::failure::{Exit, Failure};

pub(super) async fn run(args: StopArgs) -> Result<Exit, Failure> {
    if let Some(fleet) = FleetFolder::find(&args.run)? {
        let on = args.on.as_deref().map(|on| boards(Some(on), None)).transpose()?;
        let task = |board: &FleetBoard| {
            let run = fleet.run_of(board).display().to_string();
            let mut words = vec!["stop".to_owned(), run, "--on".to_owned(), board.address.clone()];
            words.extend(args.take_over.then(|| "--take-over".to_owned()));
            Task { name: board.name.clone(), args: words }
        };
        let tasks = fleet.chosen(on.as_deref())?.iter().map(task).collect();
        return Ok(worst(&together(tasks, Output::Named).await?));
    }
    let (id, _, recorded_board) = known_run(&args.run)?;
    let address = board(args.on.as_deref(), recorded_board.as_deref())?;
    let mut client =
        Client::connect(&address).await.map_err(|error| unreachable(&address, &error))?;
    let lost = |error| unreachable(&address, &error);
    if args.take_over && client.knows_all() {
        let taken = client.ask(Command::TakeOver { run: id.clone() }).await.map_err(lost)?;
        if let Reply::Controls { before: Some(before) } = taken {
            say(&format!("taken over from {}", before.describe()));
        }
    }
    let reply = client.ask(Command::Stop { run: id.clone() }).await.map_err(lost)?;
    client.close().await;
    if let Reply::Refused(refused) = reply {
        return Err(refusal::failure(&refused, &address, Some(&id)));
    }
    say(&format!("run {id} ends; what was measured: wattline fetch {id} --on {address}"));
    Ok(Exit::Done)
}
