//! The guest: QEMU with a disk of its own, and what reaches it.
//!
//! Owns the disk's overlay, which outlives a cut of the power, QEMU, the process
//! that serves the I²C bus, keys and the ssh that uses them. QEMU emulates (TCG):
//! where KVM's node can be opened, it may still not run a guest.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use wattline_tests::{Outcome, Process, Sandbox, free_port, program, until, until_within};

use crate::control;
use crate::log::{self, Transfer};

/// Names the folder that `image.sh` prints; `make virtual-board` sets it.
pub const IMAGE: &str = "WATTLINE_VIRTUAL_BOARD";
/// Looks of a quarter of an hour and more: emulation, on a machine however busy.
pub const PATIENCE: u32 = 45_000;
/// Looks at a guest that starts; each is an attempt to log in, which takes 3 s
/// at most.
const LOGINS_MAX: u32 = 400;

/// A virtual board.
pub struct Guest {
    /// Where host programs run, and all files of this board lie.
    pub sandbox: Sandbox,
    image: PathBuf,
    port: u16,
    ssh: PathBuf,
    starts: u32,
    qemu: Option<Process>,
    /// Ends with its owner.
    _bus: Process,
}

impl Guest {
    /// A fresh board, started and reached.
    ///
    /// # Panics
    /// Where QEMU or the image is not there, or the guest does not start.
    #[must_use]
    pub fn boot() -> Self {
        let image = std::env::var_os(IMAGE).map(PathBuf::from);
        let image =
            image.unwrap_or_else(|| panic!("{IMAGE} is not set: `make virtual-board` does"));
        let sandbox = Sandbox::new();
        make_key(&sandbox.path("key"));
        let disk = image.join("disk.img");
        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
            .arg(&disk)
            .arg(sandbox.path("disk.qcow2"))
            .status();
        assert!(made.unwrap().success(), "{} has no overlay", disk.display());
        let mut bus = Command::new(program("virtual-i2c"));
        bus.args(["i2c", "control", "transfers.log"].map(|name| sandbox.path(name)));
        let bus = sandbox.start(bus);
        let both = ["i2c", "control"].map(|name| sandbox.path(name));
        until("the bus is served", || both.iter().all(|path| path.exists()).then_some(()));
        let port = free_port();
        let ssh = write_ssh(&sandbox, &image, port);
        let mut guest = Self { sandbox, image, port, ssh, starts: 0, qemu: None, _bus: bus };
        guest.power_on();
        guest
    }

    /// What `wattline` calls the board; the user may become root.
    #[must_use]
    pub fn address(&self) -> String {
        format!("ssh://board@127.0.0.1:{}", self.port)
    }

    /// The same board for a user that may not.
    #[must_use]
    pub fn visitor(&self) -> String {
        format!("ssh://visitor@127.0.0.1:{}", self.port)
    }

    /// Starts `wattline` with what it needs to reach the board.
    #[must_use]
    pub fn wattline_started(&self, args: &[&str]) -> Process {
        let mut command = self.sandbox.command(program("wattline"));
        command.env("WATTLINE_SSH", &self.ssh).args(args);
        self.sandbox.start(command)
    }

    /// Runs `wattline` to its end.
    ///
    /// # Panics
    /// Where it does not end.
    #[must_use]
    pub fn wattline(&self, args: &[&str]) -> Outcome {
        self.wattline_started(args).finish_within(PATIENCE)
    }

    /// Runs a script on the board as the user.
    ///
    /// # Panics
    /// Where the script cannot be given to ssh.
    #[must_use]
    pub fn sh(&self, script: &str) -> Outcome {
        self.say("sh -s", script)
    }

    /// Runs a script on the board as root and gives what it prints.
    ///
    /// # Panics
    /// Where it fails.
    #[must_use]
    pub fn root(&self, script: &str) -> String {
        let outcome = self.say("sudo -n sh -es", script);
        assert_eq!(outcome.code, Some(0), "{script}: {outcome:#?}\n{}", self.console());
        outcome.stdout
    }

    fn say(&self, shell: &str, script: &str) -> Outcome {
        let path = self.sandbox.file("script.sh", script);
        let mut command = self.sandbox.command(&self.ssh);
        let port = self.port.to_string();
        command.args(["-p", &port, "board@127.0.0.1", shell]);
        command.stdin(File::open(path).unwrap());
        self.sandbox.start(command).finish_within(PATIENCE)
    }

    /// Pulls the plug: what the guest has not written to its disk is gone. The
    /// chips lose their supply as well.
    pub fn cut_power(&mut self) {
        let socket = self.sandbox.path("i2c");
        // Numbers of files come again, times of their making do not.
        let made = || fs::metadata(&socket).ok().map(|made| (made.ctime(), made.ctime_nsec()));
        let before = made();
        // Dropped is killed.
        self.qemu = None;
        // The bus hears of it and waits for the next guest at a socket of its own.
        until("the bus is served anew", || made().filter(|_| made() != before).map(drop));
    }

    /// Starts the machine and waits until it lets the user in.
    ///
    /// # Panics
    /// Where it does not.
    pub fn power_on(&mut self) {
        self.starts += 1;
        let mut qemu = self.sandbox.start(self.qemu_command());
        let port = self.port.to_string();
        until_within(LOGINS_MAX, "the board lets its user in", || {
            assert!(!qemu.is_over(), "QEMU ended: {}\n{}", qemu.stderr(), self.console());
            let mut login = Command::new(&self.ssh);
            login.args(["-o", "ConnectTimeout=3", "-p", &port, "board@127.0.0.1", "true"]);
            login.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            login.status().unwrap().success().then_some(())
        });
        self.qemu = Some(qemu);
    }

    /// Plugs the network cable in or out.
    ///
    /// # Panics
    /// Where QEMU's monitor does not take it.
    pub fn set_link(&self, is_up: bool) {
        let mut monitor = UnixStream::connect(self.sandbox.path("monitor")).unwrap();
        let word = if is_up { "on" } else { "off" };
        writeln!(monitor, "set_link wire {word}\nquit_monitor").unwrap();
        // The prompt after the second line, which is none of QEMU's, says that
        // the first was carried out.
        let mut said = Vec::new();
        let mut part = [0; 256];
        while !String::from_utf8_lossy(&said).contains("unknown command") {
            let count = monitor.read(&mut part).unwrap();
            assert!(count > 0, "QEMU's monitor ended");
            said.extend_from_slice(&part[..count]);
        }
    }

    /// Gives the bus a command of [`crate::control`].
    ///
    /// # Panics
    /// Where it refuses.
    pub fn bus(&self, command: &str) -> String {
        control::ask(&self.sandbox.path("control"), command).unwrap()
    }

    /// Every transfer on the bus so far.
    ///
    /// # Panics
    /// Where there is no log.
    #[must_use]
    pub fn transfers(&self) -> Vec<Transfer> {
        log::read(&self.sandbox.path("transfers.log")).unwrap()
    }

    /// The end of what the kernel and systemd said on the console.
    #[must_use]
    pub fn console(&self) -> String {
        let path = self.sandbox.path(&format!("console-{}", self.starts));
        let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn qemu_command(&self) -> Command {
        let path = |name: &str| self.sandbox.path(name).display().to_string();
        let image = |name: &str| self.image.join(name).display().to_string();
        let public = fs::read_to_string(self.sandbox.path("key.pub")).unwrap();
        let key = public.split(' ').nth(1).unwrap();
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-machine", "q35,smbus=off", "-accel", "tcg,thread=multi", "-cpu", "max"])
            .args(["-smp", "2", "-m", "1024", "-display", "none", "-vga", "none"])
            .args(["-serial", &format!("file:{}", path(&format!("console-{}", self.starts)))])
            .args(["-monitor", &format!("unix:{},server=on,wait=off", path("monitor"))])
            .args(["-kernel", &image("vmlinuz"), "-initrd", &image("initrd"), "-append"])
            .arg(format!("root=/dev/vda rw console=ttyS0 quiet board.key={key}"))
            .args(["-drive", &format!("file={},if=virtio,format=qcow2", path("disk.qcow2"))])
            .args(["-netdev", &format!("user,id=wire,hostfwd=tcp:127.0.0.1:{}-:22", self.port)])
            .args(["-device", "virtio-net-pci,netdev=wire,romfile="])
            // The bus's process reads the guest's memory: it must be shared.
            .args(["-object", "memory-backend-memfd,id=memory,size=1024M,share=on"])
            .args(["-numa", "node,memdev=memory"])
            .args(["-chardev", &format!("socket,id=i2c,path={}", path("i2c"))])
            .args(["-device", "vhost-user-i2c-pci,chardev=i2c"]);
        qemu
    }
}

fn make_key(path: &Path) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "board", "-f"])
        .arg(path)
        .status();
    assert!(made.unwrap().success());
}

/// The user's ssh, with this board's key and the host key of its image.
fn write_ssh(sandbox: &Sandbox, image: &Path, port: u16) -> PathBuf {
    let public = fs::read_to_string(image.join("host_key.pub")).unwrap();
    let words: Vec<&str> = public.split(' ').take(2).collect();
    let known = format!("[127.0.0.1]:{port} {}\n", words.join(" "));
    fs::write(sandbox.path("known_hosts"), known).unwrap();
    let wrapper = sandbox.path("ssh");
    let (key, known) = (sandbox.path("key"), sandbox.path("known_hosts"));
    let text = format!(
        "#!/bin/sh\nexec ssh -F none -i '{}' -o IdentitiesOnly=yes -o BatchMode=yes \
         -o StrictHostKeyChecking=yes -o UserKnownHostsFile='{}' -o LogLevel=ERROR \"$@\"\n",
        key.display(),
        known.display()
    );
    fs::write(&wrapper, text).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    wrapper
}
