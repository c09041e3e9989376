//! `wattline deploy`: the agent on a board, over the user's own OpenSSH.
//!
//! Asks the board what it is, says what will change, uploads what it lacks, and
//! lets one script on the board do the rest: unpack, check, switch, start, wait
//! for its hello, and put back what was where that fails.

use std::io::{IsTerminal, stdin};
use std::net::SocketAddr;

use super::{board, keys, line, say, unreachable};
use crate::args::{DeployArgs, GatePlace};
use crate::board::BoardAddress;
use crate::client::{Client, own_name};
use crate::connect::keys::{folder, name_of};
use crate::deploy::bundle::{BOARD_SCRIPT, Bundle, BundleError, Program};
use crate::deploy::plan::{self, PlanRefusal};
use crate::deploy::probe::{self, BoardFacts, RootBy};
use crate::deploy::remote::{Outcome, Remote, RemoteError};
use crate::failure::{Exit, Failure};

/// Where uploads go, below the user's home on the board.
const STAGE: &str = ".cache/wattline";

pub(super) async fn run(args: DeployArgs) -> Result<Exit, Failure> {
    let address = board(Some(&args.board), None)?;
    let deployment = Deployment::at(&address).await?;
    say(&format!("{address}: {}", deployment.facts.summary()));
    let gate = Gate::asked(&args, &deployment)?;
    if args.remove || args.rollback {
        deployment.change_back(&args).await?;
    } else {
        deployment.install(&args, gate.as_ref()).await?;
    }
    if args.dry_run {
        say("nothing was changed (--dry-run)");
    } else if !args.remove {
        verify(&address).await?;
        if let Some(gate) = gate {
            deployment.open(&gate).await?;
        }
    }
    Ok(Exit::Done)
}

/// A board that is reached by ssh, and what it said of itself.
pub(super) struct Deployment {
    remote: Remote,
    facts: BoardFacts,
    terminal: bool,
}

/// What is asked of the board's gate.
enum Gate {
    Listen { at: SocketAddr },
    Dial { host: String },
    Off,
}

impl Gate {
    fn asked(args: &DeployArgs, board: &Deployment) -> Result<Option<Self>, Failure> {
        match (args.tls, &args.tls_dial) {
            (Some(GatePlace::Off), _) => Ok(Some(Self::Off)),
            (Some(GatePlace::At(at)), _) => {
                plan::check_port(&board.facts, at.port()).map_err(|r| refused(&r))?;
                Ok(Some(Self::Listen { at }))
            }
            (None, Some(host)) => {
                let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
                let port = host.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
                if port.is_none_or(|port| port == 0) || !host.chars().all(plain) {
                    let mend = "write where this machine is reached, such as desk.local:7425";
                    let what = format!("--tls-dial {host} is not HOST:PORT");
                    return Err(Failure::new(Exit::Usage, what, mend));
                }
                Ok(Some(Self::Dial { host: host.clone() }))
            }
            (None, None) => Ok(None),
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Listen { at } => {
                format!(
                    "open the gate: TLS with pinned keys at {at}; exchange keys with this machine"
                )
            }
            Self::Dial { host } => {
                format!("have the gate dial {host}; exchange keys with this machine")
            }
            Self::Off => "close the gate".to_owned(),
        }
    }
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
    /// Asks the board at `address` what it is.
    pub(super) async fn at(address: &BoardAddress) -> Result<Self, Failure> {
        let BoardAddress::Ssh { target, port } = address else {
            return Err(Failure::new(
                Exit::Usage,
                format!("{address} is not a board that is reached by ssh"),
                "name one: ssh://user@host; simulated and local need no deploying",
            ));
        };
        let remote = Remote { target: target.clone(), port: *port };
        let facts = ask(&remote).await?;
        Ok(Self { remote, facts, terminal: stdin().is_terminal() })
    }

    async fn install(&self, args: &DeployArgs, gate: Option<&Gate>) -> Result<(), Failure> {
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
        let steps = plan::describe_install(&self.facts, &bundle);
        for step in steps.into_iter().chain(gate.map(Gate::describe)) {
            line(&step)?;
        }
        if args.dry_run {
            return Ok(());
        }
        self.upload(&bundle).await?;
        let (sha, user) = (bundle.sha256(), &self.facts.user);
        self.as_root(&format!("install \"$HOME/{STAGE}/bundle.tar\" {sha} {user}")).await?;
        Ok(())
    }

    /// Opens the board's gate or closes it. Both sides' keys travel over ssh, whose host
    /// key vouches for them.
    async fn open(&self, gate: &Gate) -> Result<(), Failure> {
        let (way, place) = match gate {
            Gate::Off => {
                self.as_root("gate off").await?;
                return Ok(());
            }
            Gate::Listen { at } => ("listen", at.to_string()),
            Gate::Dial { host } => ("dial", host.clone()),
        };
        let folder = folder().map_err(|error| keys::failure(&error))?;
        let own = folder.own_or_made().map_err(|error| keys::failure(&error))?;
        let Some((own, name)) = own.first().zip(name_of(&own_name())) else {
            return Err(Failure::new(
                Exit::Usage,
                "this machine has no name that a key can have",
                "set WATTLINE_NAME to one, such as ana@desk",
            ));
        };
        let words = format!("gate on {way} '{place}' '{name}' '{}'", own.pin());
        let mut said = self.as_root(&words).await?;
        if self.facts.root == RootBy::Password {
            // What it said went to the terminal.
            let read = self.remote.run(&format!("cat \"$HOME/{STAGE}/pins\""), &[]).await;
            said = read.map_err(|e| cut(&e))?.output;
        }
        let target = &self.remote.target;
        let host = target.rsplit_once('@').map_or(target.as_str(), |(_, host)| host);
        let called = match gate {
            Gate::Listen { at } => format!("{host}:{}", at.port()),
            Gate::Dial { .. } | Gate::Off => host.to_owned(),
        };
        let none = || {
            let mend = "see `journalctl -u wattline-deploy` on the board, and deploy again";
            Failure::new(Exit::Failed, format!("{host} did not say its key"), mend)
        };
        let board = name_of(&called).ok_or_else(none)?;
        let mut pins = said.lines().filter_map(|line| line.strip_prefix("pin "));
        let mut known = pins.clone().count();
        // The present one last: that one is asked for.
        while known > 0 {
            known -= 1;
            let pin = pins.clone().nth(known).and_then(|line| line.split(' ').next());
            let pin = pin.and_then(|pin| pin.parse().ok()).ok_or_else(none)?;
            folder.add(pin, &board).map_err(|error| keys::failure(&error))?;
        }
        pins.next().ok_or_else(none)?;
        line(&match gate {
            Gate::Listen { at } => format!("tls://{host}:{} reaches it as well", at.port()),
            Gate::Dial { host: at } => {
                let port = at.rsplit_once(':').map_or("7425", |(_, port)| port);
                format!("listen://0.0.0.0:{port}/{board} waits for it")
            }
            Gate::Off => String::new(),
        })
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
        self.as_root(verb).await?;
        Ok(())
    }

    /// Brings the script, and says whether the board holds the bundle already.
    pub(super) async fn stage(&self, bundle: Option<&Bundle>) -> Result<bool, Failure> {
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
    /// Returns what it said.
    pub(super) async fn as_root(&self, words: &str) -> Result<String, Failure> {
        plan::check_access(&self.facts, self.terminal).map_err(|r| refused(&r))?;
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
        succeeded(&outcome, "the board was not changed as planned")?;
        Ok(outcome.output)
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
