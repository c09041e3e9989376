//! `wattline deploy`: the agent on a board, over the user's own OpenSSH.
//!
//! Asks the board what it is, says what will change, uploads what it lacks, and
//! lets one script on the board do the rest: unpack, check, switch, start, wait
//! for its hello, and put back what was where that fails.

use std::io::{IsTerminal, stdin};

use super::{board, line, say, unreachable};
use crate::args::DeployArgs;
use crate::board::BoardAddress;
use crate::client::Client;
use crate::deploy::bundle::{BOARD_SCRIPT, Bundle, BundleError, Program};
use crate::deploy::plan::{self, PlanRefusal};
use crate::deploy::probe::{self, BoardFacts, RootBy};
use crate::deploy::remote::{Outcome, Remote, RemoteError};
use crate::failure::{Exit, Failure};

/// Where uploads go, below the user's home on the board.
const STAGE: &str = ".cache/wattline";

pub(super) async fn run(args: DeployArgs) -> Result<Exit, Failure> {
    let address = board(Some(&args.board), None)?;
    let BoardAddress::Ssh { target, port } = &address else {
        return Err(Failure::new(
            Exit::Usage,
            format!("{address} is not a board that is reached by ssh"),
            "name one: wattline deploy ssh://user@host; simulated and local need no deploying",
        ));
    };
    let deployment = Deployment {
        remote: Remote { target: target.clone(), port: *port },
        facts: ask(&Remote { target: target.clone(), port: *port }).await?,
        terminal: stdin().is_terminal(),
    };
    say(&format!("{address}: {}", deployment.facts.summary()));
    if args.remove || args.rollback {
        deployment.change_back(&args).await?;
    } else {
        deployment.install(&args).await?;
    }
    if args.dry_run {
        say("nothing was changed (--dry-run)");
    } else if !args.remove {
        verify(&address).await?;
    }
    Ok(Exit::Done)
}

struct Deployment {
    remote: Remote,
    facts: BoardFacts,
    terminal: bool,
}

async fn ask(remote: &Remote) -> Result<BoardFacts, Failure> {
    let answer = remote.run("sh -s", probe::SCRIPT.as_bytes()).await.map_err(|e| cut(&e))?;
    BoardFacts::parse(&answer.output).map_err(|error| {
        Failure::of(
            Exit::Failed,
            format!("{} cannot be asked what it is", remote.target),
            &error,
            "see that the user's login shell on the board runs commands",
        )
    })
}

impl Deployment {
    async fn install(&self, args: &DeployArgs) -> Result<(), Failure> {
        plan::check_access(&self.facts, self.terminal).map_err(|r| refused(&r))?;
        let machine = plan::machine(&self.facts).map_err(|r| refused(&r))?;
        let agent = match &args.agent {
            Some(path) => Program::read("wattline-agent", path),
            None => Program::agent_for(machine),
        };
        let mut programs = vec![agent.map_err(|error| no_bundle(&error))?];
        if let Some(path) = &args.cuda_runner {
            let runner = Program::read("wattline-runner-cuda", path);
            programs.push(runner.map_err(|error| no_bundle(&error))?);
        }
        let bundle = Bundle::of(programs).map_err(|error| no_bundle(&error))?;
        plan::check(&self.facts, &bundle, self.terminal).map_err(|r| refused(&r))?;
        for step in plan::describe_install(&self.facts, &bundle) {
            line(&step)?;
        }
        if args.dry_run {
            return Ok(());
        }
        self.upload(&bundle).await?;
        let (sha, user) = (bundle.sha256(), &self.facts.user);
        self.as_root(&format!("install \"$HOME/{STAGE}/bundle.tar\" {sha} {user}")).await
    }

    async fn change_back(&self, args: &DeployArgs) -> Result<(), Failure> {
        plan::check_access(&self.facts, self.terminal).map_err(|r| refused(&r))?;
        let (verb, missing) = if args.remove {
            ("remove", self.facts.current.is_none().then_some(PlanRefusal::NotDeployed))
        } else {
            ("rollback", self.facts.previous.is_none().then_some(PlanRefusal::NoPrevious))
        };
        if let Some(refusal) = missing {
            return Err(refused(&refusal));
        }
        let steps = match (&self.facts.previous, args.remove) {
            (_, true) => plan::describe_removal(),
            (previous, false) => {
                let previous = previous.as_deref().unwrap_or_default();
                vec![format!("make {previous} the current version again, restart the service")]
            }
        };
        for step in steps {
            line(&step)?;
        }
        if args.dry_run {
            return Ok(());
        }
        self.stage(None).await?;
        self.as_root(verb).await
    }

    /// Brings the script, and says whether the board holds the bundle already.
    async fn stage(&self, bundle: Option<&Bundle>) -> Result<bool, Failure> {
        let sha = bundle.map_or("none", Bundle::sha256);
        let command = format!(
            "umask 077 && mkdir -p \"$HOME/{STAGE}\" && cd \"$HOME/{STAGE}\" && cat >board.sh && \
             if echo \"{sha}  bundle.tar\" | sha256sum -c >/dev/null 2>&1; then echo have; \
             else rm -f bundle.tar; echo need; fi"
        );
        let outcome = self.remote.run(&command, BOARD_SCRIPT.as_bytes()).await;
        let outcome = outcome.map_err(|e| cut(&e))?;
        succeeded(&outcome, "the board takes no upload")?;
        Ok(outcome.output.lines().any(|line| line.trim() == "have"))
    }

    async fn upload(&self, bundle: &Bundle) -> Result<(), Failure> {
        if self.stage(Some(bundle)).await? {
            say("the board holds these files already");
            return Ok(());
        }
        let command = format!(
            "umask 077 && cd \"$HOME/{STAGE}\" && cat >bundle.part && mv bundle.part bundle.tar"
        );
        let outcome = self.remote.run(&command, bundle.bytes()).await.map_err(|e| cut(&e))?;
        succeeded(&outcome, "the board takes no upload")
    }

    /// Runs the script as root, in a unit of its own: a cut link does not stop it.
    async fn as_root(&self, words: &str) -> Result<(), Failure> {
        let sudo = match self.facts.root {
            RootBy::Direct | RootBy::None => "",
            RootBy::Sudo => "sudo -n ",
            RootBy::Password => "sudo ",
        };
        let command = format!(
            "{sudo}systemd-run --quiet --collect --wait --pipe --unit=wattline-deploy \
             /bin/sh \"$HOME/{STAGE}/board.sh\" {words}"
        );
        let outcome = if self.facts.root == RootBy::Password {
            let status = self.remote.run_on_terminal(&command).await.map_err(|e| cut(&e))?;
            Outcome { status, output: String::new(), errors: String::new() }
        } else {
            self.remote.run(&command, &[]).await.map_err(|e| cut(&e))?
        };
        for said in outcome.output.lines() {
            if let Some(text) = said.strip_prefix("done ").or_else(|| said.strip_prefix("kept ")) {
                line(text)?;
            }
        }
        succeeded(&outcome, "the board was not changed as planned")
    }
}

/// The new agent as a host meets it.
async fn verify(address: &BoardAddress) -> Result<(), Failure> {
    let client = Client::connect(address).await.map_err(|error| unreachable(address, &error))?;
    let build = client.hello().build.clone();
    client.close().await;
    line(&format!("{address}: agent {build} answers; `wattline doctor {address}` checks its rails"))
}

fn succeeded(outcome: &Outcome, what: &str) -> Result<(), Failure> {
    if outcome.status == 0 {
        return Ok(());
    }
    let told = |prefix: &str| -> Vec<String> {
        let lines = outcome.output.lines().filter_map(|line| line.strip_prefix(prefix));
        lines.map(str::to_owned).collect()
    };
    let mut because = told("error ");
    because.extend(told("because "));
    if because.is_empty() {
        because.extend(outcome.errors.lines().rev().take(3).map(str::to_owned));
        because.reverse();
    }
    // 10: refused before anything was changed (board.sh).
    let (exit, mend) = match outcome.status {
        10 => (Exit::Refused, "see to what the board says, and deploy again"),
        11 => (Exit::Failed, "nothing that runs was touched; see to what the board says"),
        12 => (Exit::Failed, "the version before runs; see why the new one did not"),
        _ => (Exit::Failed, "see `journalctl -u wattline-agent -u wattline-deploy` on the board"),
    };
    Err(Failure { exit, what: what.to_owned(), because, mend: mend.to_owned() })
}

fn refused(refusal: &PlanRefusal) -> Failure {
    Failure::of(Exit::Refused, "nothing is deployed", refusal, refusal.mend())
}

fn cut(error: &RemoteError) -> Failure {
    Failure::of(Exit::Failed, "the board cannot be reached", error, error.mend())
}

fn no_bundle(error: &BundleError) -> Failure {
    let mend = match error {
        BundleError::NoAgent { .. } => {
            "build one for the board (docs/deploy.md), and name it with --agent"
        }
        _ => "name a program built for the board with --agent or --cuda-runner",
    };
    Failure::of(Exit::Failed, "there is nothing to deploy", error, mend)
}
