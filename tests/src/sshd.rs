//! A real sshd on loopback, as a board has it.
//!
//! Owns keys, configuration and the ssh that reaches it. sshd is started for
//! each connection (`sshd -i`), as inetd would: so the port is held by the test
//! from its first moment on, and no daemon is left behind.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use crate::sandbox::{Sandbox, is_root};

const SSHD: &str = "/usr/sbin/sshd";

/// An sshd and what reaches it.
#[derive(Debug)]
pub struct Sshd {
    /// What `WATTLINE_SSH` is to name: the user's ssh with this board's key.
    pub ssh: PathBuf,
    /// Process ids of the ssh that were started, a line each.
    pub pids: PathBuf,
    folder: PathBuf,
    port: u16,
    user: String,
}

impl Sshd {
    /// Serves until the test ends; `variables` are the environment of what a
    /// login runs.
    ///
    /// # Panics
    /// Where openssh-server is not installed.
    pub fn new(sandbox: &Sandbox, variables: &[(&str, String)]) -> Self {
        assert!(
            Path::new(SSHD).is_file(),
            "{SSHD} is not there: apt-get install openssh-server (`make test` does so)"
        );
        let folder = sandbox.path("ssh");
        fs::create_dir(&folder).unwrap();
        for name in ["host", "user"] {
            make_key(&folder.join(name));
        }
        fs::copy(folder.join("user.pub"), folder.join("authorized_keys")).unwrap();
        let config = write_config(&folder, variables);
        let pids = folder.join("pids");
        let ssh = write_ssh(&folder, &pids);
        Self { ssh, pids, port: serve(config), user: user(), folder }
    }

    /// The board's address.
    #[must_use]
    pub fn address(&self) -> String {
        format!("ssh://{}@127.0.0.1:{}", self.user, self.port)
    }

    /// The board forgets the user's key.
    ///
    /// # Panics
    /// Where the folder is gone.
    pub fn forget_user(&self) {
        fs::write(self.folder.join("authorized_keys"), "").unwrap();
    }

    /// The board is another one, or somebody stands in between.
    ///
    /// # Panics
    /// Where the folder is gone.
    pub fn change_host_key(&self) {
        for name in ["host", "host.pub"] {
            fs::remove_file(self.folder.join(name)).unwrap();
        }
        make_key(&self.folder.join("host"));
    }
}

fn make_key(path: &Path) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(path)
        .status()
        .unwrap();
    assert!(made.success());
}

fn write_config(folder: &Path, variables: &[(&str, String)]) -> PathBuf {
    let config = folder.join("sshd_config");
    let set: Vec<String> =
        variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let folder = folder.display();
    let text = format!(
        "HostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\n\
         PermitRootLogin yes\nUsePAM no\nPasswordAuthentication no\nPidFile none\n\
         SetEnv {}\n",
        set.join(" ")
    );
    fs::write(&config, text).unwrap();
    config
}

/// The user's ssh with this board's key, noting its process id. The first host
/// key is taken, another later is refused.
fn write_ssh(folder: &Path, pids: &Path) -> PathBuf {
    let wrapper = folder.join("ssh");
    let text = format!(
        "#!/bin/sh\necho $$ >> '{}'\nexec ssh -F none -i '{}/user' -o IdentitiesOnly=yes \
         -o BatchMode=yes -o StrictHostKeyChecking=accept-new \
         -o UserKnownHostsFile='{1}/known_hosts' -o LogLevel=ERROR \"$@\"\n",
        pids.display(),
        folder.display()
    );
    fs::write(&wrapper, text).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    wrapper
}

/// Serves on a free port of loopback as long as the test process lives.
fn serve(config: PathBuf) -> u16 {
    if is_root() {
        // The service's own start makes it; without that sshd refuses.
        fs::create_dir_all("/run/sshd").unwrap();
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            serve_one(&config, stream.unwrap());
        }
    });
    port
}

fn serve_one(config: &Path, stream: TcpStream) {
    let output = OwnedFd::from(stream.try_clone().unwrap());
    let mut child = Command::new(SSHD)
        .args(["-i", "-e", "-f"])
        .arg(config)
        .stdin(OwnedFd::from(stream))
        .stdout(output)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    thread::spawn(move || child.wait());
}

fn user() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
