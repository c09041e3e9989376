//! systemd's watchdog, as the agent feeds it.
//!
//! The test stands for systemd: a datagram socket in NOTIFY_SOCKET. A sampler is
//! stuck as in a call that does not return: its thread alone is held (ptrace).
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test says what it misses by failing"
)]

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use wattline_protocol::record::Record;
use wattline_tests::{Agent, AgentFlags, SMALLEST, Sandbox, program};

/// The agent looks once a second; a feed that stays away this long will not come.
const SILENCE: Duration = Duration::from_secs(8);

struct Systemd {
    socket: UnixDatagram,
}

impl Systemd {
    fn starts(sandbox: &Sandbox) -> (Self, Agent) {
        let path = sandbox.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(SILENCE)).unwrap();
        let mut command = sandbox.command(program("wattline-agent"));
        // Without WATCHDOG_PID the watchdog is of whoever reads it.
        command.env("NOTIFY_SOCKET", path).env("WATCHDOG_USEC", "30000000");
        let agent = Agent::start_by(sandbox, command, AgentFlags::named(sandbox, "board"));
        (Self { socket }, agent)
    }

    /// What comes next, or nothing for long.
    fn hears(&self) -> Option<String> {
        let mut bytes = [0; 256];
        let len = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..len]).trim().to_owned())
    }

    /// Feeds until none comes for long; gives up after as many as make a minute.
    fn falls_silent(&self) -> bool {
        (0..60).any(|_| self.hears().is_none())
    }
}

/// The thread of that name.
fn thread_named(pid: i32, name: &str) -> Pid {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let found = threads.map(|thread| thread.path()).find(|thread| {
        fs::read_to_string(thread.join("comm")).is_ok_and(|comm| comm.trim() == name)
    });
    let id = found.unwrap().file_name().unwrap().to_str().unwrap().parse().unwrap();
    Pid::from_raw(id)
}

#[test]
fn an_agent_that_waits_for_work_is_ready_and_fed() {
    let sandbox = Sandbox::new();
    let (systemd, _agent) = Systemd::starts(&sandbox);
    assert_eq!(systemd.hears().unwrap(), "READY=1");
    for _ in 0..3 {
        assert_eq!(systemd.hears().unwrap(), "WATCHDOG=1");
    }
}

#[test]
fn a_stuck_sampler_starves_the_watchdog_while_the_agent_still_answers() {
    let sandbox = Sandbox::new();
    let (systemd, agent) = Systemd::starts(&sandbox);
    let address = agent.address();
    let on = ["run", "--on", &address, "--detach", "--out", "run"];
    sandbox.wattline(&[&on[..], &SMALLEST[..]].concat()).ends_with(0);
    agent.wait_for("the run begins", |record| matches!(record, Record::RunStart(_)));
    let sampler = thread_named(agent.pid(), "sampler");
    ptrace::attach(sampler).unwrap();
    waitpid(sampler, Some(WaitPidFlag::__WALL)).unwrap();
    assert!(systemd.falls_silent(), "the watchdog is fed without a sample");
    sandbox.wattline(&["status", "--on", &address]).ends_with(0);
    ptrace::detach(sampler, None).unwrap();
    assert_eq!(systemd.hears().unwrap(), "WATCHDOG=1");
}
