//! The Debian packages and the tarball, made of this build's own programs.
//!
//! dpkg, where the test runs as root, and the tarball's script install below a
//! folder; systemd's tools are stubs there that write down what they are asked.
//! Packages of the old glibcs are built by `make packages`, which refuses a
//! program that asks for a later one.
#![allow(
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what it misses by failing"
)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use tempfile::TempDir;
use wattline_tests::{is_root, needed_glibc, program};

/// What stands for systemd's and udev's tools.
const STUB: &str = "#!/bin/sh\n[ \"$1\" != --version ] || { echo \"systemd $SYSTEMD (test)\"; exit; }\n\
                    echo \"${0##*/} $*\" >>\"$STUB_LOG\"\n";
const TOOLS: [&str; 5] =
    ["systemctl", "systemd-sysusers", "systemd-tmpfiles", "udevadm", "modprobe"];

/// The packages; made once for all tests of this file.
fn packages() -> &'static Path {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    MADE.get_or_init(make).path()
}

fn make() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let programs = folder.path().join("programs").join(architecture());
    fs::create_dir_all(&programs).unwrap();
    for name in ["wattline", "wattline-agent"] {
        fs::copy(program(name), programs.join(name)).unwrap();
    }
    let pages = folder.path().join("pages");
    ran(Command::new(program("wattline-pages")).arg(&pages));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/packages.sh");
    ran(Command::new(script)
        .args(["--arch", architecture(), "--pages"])
        .arg(&pages)
        .arg("--programs")
        .arg(folder.path().join("programs"))
        .arg("--out")
        .arg(folder.path()));
    folder
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}

fn ran(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?}: {said}");
    String::from_utf8(stdout).unwrap()
}

fn package(name: &str) -> PathBuf {
    let file = format!("{name}_{}_{}", env!("CARGO_PKG_VERSION"), architecture());
    packages().join(format!("{file}.deb"))
}

/// Paths of a package's files.
fn listed(name: &str) -> Vec<String> {
    let text = ran(Command::new("dpkg-deb").arg("-c").arg(package(name)));
    let paths = text.lines().filter_map(|line| line.split(" ./").nth(1));
    paths.filter(|path| !path.ends_with('/') && !path.is_empty()).map(str::to_owned).collect()
}

/// A folder that stands for /, and what its tools were asked.
struct Root {
    folder: TempDir,
}

impl Root {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Self { folder };
        fs::create_dir_all(root.path("stubs")).unwrap();
        fs::create_dir_all(root.path("run/systemd/system")).unwrap();
        for tool in TOOLS {
            let path = root.path("stubs").join(tool);
            fs::write(&path, STUB).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        root
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>, systemd: &str) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{}:{path}:/usr/sbin:/sbin", self.path("stubs").display()))
            .env("DPKG_ROOT", self.folder.path())
            .env("SYSTEMD", systemd)
            .env("STUB_LOG", self.path("log"));
        command
    }

    /// What the tools were asked since the last time, one line each.
    fn asked(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("log")).unwrap_or_default();
        let _ = fs::remove_file(self.path("log"));
        let root = format!("--root={} ", self.folder.path().display());
        text.lines().map(|line| line.replace(&root, "")).collect()
    }

    fn dpkg(&self, args: &[&str], file: Option<&Path>) -> Output {
        let admin = self.path("var/lib/dpkg");
        for folder in ["info", "updates", "triggers"] {
            fs::create_dir_all(admin.join(folder)).unwrap();
        }
        fs::OpenOptions::new().create(true).append(true).open(admin.join("status")).unwrap();
        let mut command = self.command("dpkg", "252");
        command.arg("--root").arg(self.folder.path());
        command.args(["--force-script-chrootless", "--force-depends"]).args(args).args(file);
        command.output().unwrap()
    }
}

fn is_asked(asked: &[String], what: &str) -> bool {
    asked.iter().any(|line| line == what)
}

#[test]
fn the_agents_package_holds_all_that_a_board_needs() {
    let files = listed("wattline-agent");
    for file in [
        "usr/bin/wattline-agent",
        "usr/lib/systemd/system/wattline-agent.service",
        "usr/lib/systemd/system/wattline-runner.socket",
        "usr/lib/systemd/system/wattline-runner@.service",
        "usr/lib/sysusers.d/wattline.conf",
        "usr/lib/tmpfiles.d/wattline.conf",
        "usr/lib/udev/rules.d/70-wattline.rules",
        "usr/lib/modules-load.d/wattline.conf",
        "usr/share/man/man1/wattline-agent.1.gz",
        "usr/share/man/man1/wattline-agent-serve.1.gz",
        "usr/share/bash-completion/completions/wattline-agent",
        "usr/share/zsh/vendor-completions/_wattline-agent",
        "usr/share/fish/vendor_completions.d/wattline-agent.fish",
    ] {
        assert!(files.iter().any(|one| one == file), "{file} is missing in {files:#?}");
    }
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/boards");
    let profiles = fs::read_dir(sources).unwrap().count();
    let packed = files.iter().filter(|file| file.starts_with("usr/share/wattline/boards/")).count();
    assert!(profiles > 10 && packed == profiles, "{packed} of {profiles} board profiles");
}

#[test]
fn the_hosts_package_starts_nothing_and_brings_an_agent_for_boards() {
    let files = listed("wattline");
    let agent = format!("usr/lib/wattline/boards/{}/wattline-agent", std::env::consts::ARCH);
    for file in ["usr/bin/wattline", &agent, "usr/share/man/man1/wattline-run.1.gz"] {
        assert!(files.iter().any(|one| one == file), "{file} is missing in {files:#?}");
    }
    assert!(!files.iter().any(|file| file.contains("systemd") || file.contains("udev")));
    let scripts = ran(Command::new("dpkg-deb").arg("--info").arg(package("wattline")));
    assert!(!scripts.contains("postinst"), "{scripts}");
}

#[test]
fn a_package_asks_for_the_glibc_that_its_program_needs() {
    for (name, file) in [("wattline", "wattline"), ("wattline-agent", "wattline-agent")] {
        let (major, minor) = needed_glibc(&fs::read(program(file)).unwrap()).unwrap();
        let control =
            ran(Command::new("dpkg-deb").arg("--field").arg(package(name)).arg("Depends"));
        assert!(control.contains(&format!("libc6 (>= {major}.{minor})")), "{control}");
    }
}

#[test]
fn no_file_of_a_package_names_the_machine_that_made_it() {
    let unpacked = tempfile::tempdir().unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().display().to_string();
    for name in ["wattline", "wattline-agent"] {
        ran(Command::new("dpkg-deb").arg("-R").arg(package(name)).arg(unpacked.path()));
        let found =
            Command::new("grep").args(["-rIl", &here]).arg(unpacked.path()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "");
        fs::remove_dir_all(unpacked.path().join("DEBIAN")).unwrap();
    }
}

#[test]
fn dpkg_installs_upgrades_and_removes_the_agent_and_keeps_its_records() {
    if !is_root() {
        println!("dpkg installs as root alone; the tarball's test covers the scripts");
        return;
    }
    let root = Root::new();
    let agent = package("wattline-agent");
    let installed = root.dpkg(&["--install"], Some(&agent));
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    let asked = root.asked();
    assert!(is_asked(&asked, "systemctl --quiet enable wattline-agent.service"), "{asked:#?}");
    assert!(is_asked(&asked, "systemctl restart wattline-agent.service"), "{asked:#?}");
    fs::create_dir_all(root.path("var/lib/wattline")).unwrap();
    fs::write(root.path("var/lib/wattline/record"), "a night").unwrap();
    let again = root.dpkg(&["--install"], Some(&agent));
    assert!(again.status.success());
    let asked = root.asked();
    assert!(!asked.iter().any(|line| line.contains(" enable ")), "{asked:#?}");
    assert!(!asked.iter().any(|line| line.contains(" stop ")), "{asked:#?}");
    assert!(is_asked(&asked, "systemctl restart wattline-agent.service"), "{asked:#?}");
    for how in ["--remove", "--purge"] {
        let gone = root.dpkg(&[how, "wattline-agent"], None);
        assert!(gone.status.success(), "{}", String::from_utf8_lossy(&gone.stderr));
    }
    let asked = root.asked();
    assert!(is_asked(&asked, "systemctl stop wattline-agent.service"), "{asked:#?}");
    assert!(!root.path("usr/bin/wattline-agent").exists());
    assert_eq!(fs::read_to_string(root.path("var/lib/wattline/record")).unwrap(), "a night");
}

#[test]
fn a_package_and_a_deployment_are_not_installed_over_each_other() {
    if !is_root() {
        return;
    }
    let root = Root::new();
    fs::create_dir_all(root.path("opt/wattline/versions/1")).unwrap();
    symlink("versions/1", root.path("opt/wattline/current")).unwrap();
    fs::create_dir_all(root.path("opt/wattline/current/bin")).unwrap();
    let refused = root.dpkg(&["--install"], Some(&package("wattline-agent")));
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("wattline deploy BOARD --remove"));
    assert!(!root.path("usr/bin/wattline-agent").exists());
}

#[test]
fn the_tarball_installs_upgrades_and_removes_without_dpkg() {
    let root = Root::new();
    let script = unpacked(&root);
    let installed = root.command(&script, "252").output().unwrap();
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    assert!(root.path("usr/bin/wattline-agent").is_file());
    let asked = root.asked();
    assert!(is_asked(&asked, "systemctl --quiet enable wattline-agent.service"), "{asked:#?}");
    // An upgrade takes away what only the version before had.
    let list = root.path("usr/lib/wattline/installed");
    let old = root.path("usr/share/wattline/of-old");
    fs::write(&old, "").unwrap();
    let text = fs::read_to_string(&list).unwrap() + "usr/share/wattline/of-old\n";
    fs::write(&list, text).unwrap();
    assert!(root.command(&script, "252").status().unwrap().success());
    assert!(!old.exists());
    assert!(!root.asked().iter().any(|line| line.contains(" enable ")));
    // A list that was written into reaches nothing outside.
    let kept = root.path("etc/kept");
    fs::create_dir_all(root.path("etc")).unwrap();
    fs::write(&kept, "").unwrap();
    let text = fs::read_to_string(&list).unwrap() + "etc/kept\nusr/../etc/kept\n";
    fs::write(&list, text).unwrap();
    let removed = root.command(&script, "252").arg("--remove").output().unwrap();
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    assert!(kept.exists() && !root.path("usr/bin/wattline-agent").exists());
    assert!(!root.path("usr/lib/wattline").exists());
    let again = root.command(&script, "252").arg("--remove").output().unwrap();
    assert_eq!(again.status.code(), Some(1));
}

#[test]
fn a_systemd_that_does_not_know_the_sandbox_gets_a_drop_in() {
    let drop_in = "etc/systemd/system/wattline-agent.service.d/20-systemd-237.conf";
    let rules = "etc/udev/rules.d/70-wattline.rules";
    for (systemd, is_old) in [("237", true), ("245", false), ("252", false)] {
        let root = Root::new();
        // JetPack 4's /lib is no link into /usr.
        if is_old {
            fs::create_dir_all(root.path("lib/udev")).unwrap();
        }
        let script = unpacked(&root);
        assert!(root.command(&script, systemd).status().unwrap().success());
        let is_linked = |path: &str| fs::symlink_metadata(root.path(path)).is_ok();
        assert_eq!((is_linked(drop_in), is_linked(rules)), (is_old, is_old), "systemd {systemd}");
        if is_old {
            let to = fs::read_link(root.path(drop_in)).unwrap();
            let to = root.path(to.strip_prefix("/").unwrap().to_str().unwrap());
            assert!(fs::read_to_string(to).unwrap().contains("SystemCallFilter="));
        }
        assert!(root.command(&script, systemd).arg("--remove").status().unwrap().success());
        assert!(!is_linked(drop_in) && !is_linked(rules));
    }
}

/// The tarball's script, unpacked beside the root.
fn unpacked(root: &Root) -> PathBuf {
    let tarball = package("wattline-agent").with_extension("tar.gz");
    fs::create_dir_all(root.path("unpacked")).unwrap();
    ran(Command::new("tar").arg("-xzf").arg(tarball).arg("-C").arg(root.path("unpacked")));
    let folder = fs::read_dir(root.path("unpacked")).unwrap().next().unwrap().unwrap().path();
    folder.join("install.sh")
}
