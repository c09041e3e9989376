//! `hello`: asks the agent that serves who it is.
//!
//! The health check of an installed agent: it connects as a host does, and
//! needs an answer of this protocol in time. Prints one JSON object.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use wattline_protocol::command::{Hello, PROTOCOL_MAX, PROTOCOL_MIN, Side};
use wattline_protocol::digest::protocol_digest;
use wattline_protocol::session::host::{Event, Session};
use wattline_protocol::units::BoardTime;

use super::serve::socket;
use super::{EX_SOFTWARE, Failure, line};
use crate::args::HelloArgs;
use crate::clock::{Clock, SystemClock};

/// An agent that is busy with a large spool answers within this.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const MEND: &str = "see `journalctl -u wattline-agent`, or start `wattline-agent serve`";

pub(super) fn run(args: &HelloArgs) -> Result<(), Failure> {
    let path = socket(args.socket.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::of(EX_SOFTWARE, "this program cannot start", &error, ""))?;
    let hello = runtime.block_on(async {
        tokio::time::timeout(ANSWER_WITHIN, ask(&path)).await.map_err(|_| {
            silent(&path, format!("nothing was heard within {} s", ANSWER_WITHIN.as_secs()))
        })?
    })?;
    let Side::Agent { board_id, epoch, simulated } = &hello.side else {
        return Err(silent(&path, "what answers is a host".into()));
    };
    line(
        &json!({
            "build": hello.build,
            "board_id": board_id,
            "epoch": epoch,
            "simulated": simulated.is_some(),
            "socket": path.display().to_string(),
        })
        .to_string(),
    )
}

async fn ask(path: &Path) -> Result<Hello, Failure> {
    let failed = |error: &std::io::Error| {
        Failure::of(1, format!("no agent answers at {}", path.display()), error, MEND)
    };
    let mut stream = UnixStream::connect(path).await.map_err(|error| failed(&error))?;
    let own = Hello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        build: env!("CARGO_PKG_VERSION").into(),
        digest: protocol_digest(),
        side: Side::Host,
    };
    let now = || SystemClock.now() - BoardTime(0);
    let (mut session, first) = Session::begin(own, 0, now());
    stream.write_all(&first).await.map_err(|error| failed(&error))?;
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).await.map_err(|error| failed(&error))?;
        if read == 0 {
            return Err(silent(path, "it closed the connection without a word".into()));
        }
        for event in session.on_bytes(buffer.get(..read).unwrap_or_default(), now()) {
            match event {
                Event::Ready(hello) => return Ok(hello),
                Event::Failed(error) => return Err(silent(path, error.to_string())),
                Event::Farewell(_) => return Err(silent(path, "it ended the session".into())),
                // Nothing else was asked for.
                Event::Send(_)
                | Event::Reply(..)
                | Event::Frame(_)
                | Event::Live(_)
                | Event::LiveDropped(_)
                | Event::Hole(_)
                | Event::FetchEnd(_) => {}
            }
        }
    }
}

fn silent(path: &Path, because: String) -> Failure {
    Failure {
        status: 1,
        what: format!("no agent of this protocol answers at {}", path.display()),
        because: vec![because],
        mend: MEND,
    }
}
