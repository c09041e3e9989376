//! `wattline-agent rails` on the trees of real boards, one file a board.
//!
//! A file of `boards/` is a tree in short and what must come out of it. Each
//! line is relative to the last `@` folder (none: the root):
//!
//! ```text
//! @ FOLDER                  begins a folder
//! NAME = TEXT               a file of that text and a line end; \r as written
//! NAME = <EMPTY>            a file of nothing
//! NAME = <FOLDER>           a folder in the place of a file
//! NAME = <CELL 400000>      a device-tree cell
//! NAME = <TEXTS a b>        texts of a device tree, each ended by a NUL
//! NAME -> TARGET            a relative link
//! > rail | source | chip | bus | address | shunt | role | skipped
//! > warning: TEXT           on standard error
//! > exit STATUS
//! ```
//!
//! Sources of the layouts: the kernel's drivers and device trees named in each
//! file; board facts in the project's notes on power hardware.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

fn lay(text: &str, root: &Path) -> Vec<String> {
    let mut folder = root.to_owned();
    let mut expected = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if let Some(path) = line.strip_prefix("@ ") {
            folder = root.join(path.trim_start_matches('/'));
            fs::create_dir_all(&folder).unwrap();
        } else if let Some(rail) = line.strip_prefix("> ") {
            expected.push(rail.to_owned());
        } else if let Some((name, target)) = line.split_once(" -> ") {
            let link = folder.join(name);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(target, link).unwrap();
        } else if let Some((name, text)) = line.split_once(" = ") {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match text {
                "<EMPTY>" => fs::write(path, "").unwrap(),
                "<FOLDER>" => fs::create_dir(path).unwrap(),
                _ if text.starts_with("<TEXTS ") => {
                    let texts = text.trim_start_matches("<TEXTS ").trim_end_matches('>');
                    fs::write(path, texts.replace(' ', "\0") + "\0").unwrap();
                }
                _ => match text.strip_prefix("<CELL ").and_then(|c| c.strip_suffix('>')) {
                    Some(cell) => {
                        fs::write(path, cell.parse::<u32>().unwrap().to_be_bytes()).unwrap();
                    }
                    None => fs::write(path, text.replace("\\r", "\r") + "\n").unwrap(),
                },
            }
        } else {
            assert!(line.is_empty(), "no such line: {line}");
        }
    }
    expected
}

fn listed(root: &Path) -> Vec<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_wattline-agent"))
        .args(["rails", "--json", "--sysfs-root"])
        .arg(root)
        .output()
        .unwrap();
    let mut lines: Vec<String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            let rail: serde_json::Value = serde_json::from_str(line).unwrap();
            let field = |name: &str| match &rail[name] {
                serde_json::Value::String(text) => text.clone(),
                serde_json::Value::Null => "-".to_owned(),
                other => other.to_string(),
            };
            let sampled = rail["skipped"].is_null() && rail["source"] != "i2c";
            assert_eq!(sampled, rail["rate_hz"].as_f64().is_some_and(|rate| rate > 0.0), "{line}");
            let fields =
                ["rail", "source", "chip", "bus", "address", "shunt_ohm", "role", "skipped"];
            fields.map(field).join(" | ")
        })
        .collect();
    let said = String::from_utf8(output.stderr).unwrap();
    lines.extend(said.lines().filter(|line| line.starts_with("warning: ")).map(str::to_owned));
    lines.push(format!("exit {}", output.status.code().unwrap()));
    lines
}

#[test]
fn every_board_has_the_rails_of_its_tree() {
    let boards = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boards");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for entry in fs::read_dir(boards).unwrap() {
        let path = entry.unwrap().path();
        let root = tempfile::tempdir().unwrap();
        let expected = lay(&fs::read_to_string(&path).unwrap(), root.path());
        let found = listed(root.path());
        seen += 1;
        if found != expected {
            let (found, expected) = (found.join("\n  "), expected.join("\n  "));
            wrong.push(format!("{}:\n  {found}\nexpected\n  {expected}", path.display()));
        }
    }
    assert!(seen >= 15, "{seen} boards");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn the_doctor_of_a_boards_tree_tells_differences_driver_and_settings() {
    let boards = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boards");
    let root = tempfile::tempdir().unwrap();
    let tree = fs::read_to_string(boards.join("orin-nx-other-carrier.tree")).unwrap();
    lay(&tree.replace("samples = 1", "samples = 16"), root.path());
    let output = Command::new(env!("CARGO_BIN_EXE_wattline-agent"))
        .args(["doctor", "--json", "--sysfs-root"])
        .arg(root.path())
        .env("XDG_STATE_HOME", root.path())
        .output()
        .unwrap();
    let checks: Vec<serde_json::Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let check = |name: &str| checks.iter().find(|check| check["check"] == name).unwrap();
    let found = |name: &str| check(name)["found"].as_str().unwrap().to_owned();
    assert_eq!((&check("board")["good"], &check("board")["warning"]), (&true.into(), &true.into()));
    assert!(found("board").starts_with("jetson-orin-nx; rail VDD_IN is measured over 0.01"));
    assert_eq!(found("total"), "VDD_IN");
    assert_eq!(found("rails"), "VDD_IN, VDD_5V_USB");
    assert!(found("driver 1-0040").contains("held by the driver ina3221"));
    assert!(found("settings").starts_with("1-0040 by ina3221: samples 16, update_interval 7"));
    for check in &checks {
        let is_plain = check["good"] == true && check["warning"] == false;
        assert_eq!(is_plain, check["cure"] == "", "{check}");
    }
}

#[test]
fn a_rail_of_the_configuration_joins_those_of_the_tree() {
    let boards = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/boards");
    let root = tempfile::tempdir().unwrap();
    lay(&fs::read_to_string(boards.join("orin-nx-as-expected.tree")).unwrap(), root.path());
    let config = root.path().join("agent.toml");
    let rail = |chip: &str, address: u8, keys: &str| {
        format!(
            "[[rail]]\nlabel = \"MINE {address}\"\nchip = \"{chip}\"\nbus = 1\naddress = {address}\n{keys}\n"
        )
    };
    let run = |text: &str| {
        fs::write(&config, text).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_wattline-agent"))
            .args(["rails", "--json", "--sysfs-root"])
            .arg(root.path())
            .arg("--config")
            .arg(&config)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let rails = [
        rail("ina226", 68, "shunt_ohm = 0.01\nrole = \"total\""),
        rail("ina219", 64, "shunt_ohm = 1"),
    ];
    let (status, stdout, stderr) = run(&rails.concat());
    assert_eq!(status, 0, "{stderr}");
    let lines: Vec<serde_json::Value> =
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let field = |name: &str, key: &str| {
        lines.iter().find(|line| line["rail"] == name).unwrap()[key].clone()
    };
    assert_eq!(
        (field("MINE 68", "role"), field("MINE 68", "source")),
        ("total".into(), "i2c".into())
    );
    assert_eq!(field("MINE 68", "shunt_ohm"), 0.01);
    assert_eq!(field("MINE 64", "skipped"), "another driver holds its address");
    assert_eq!(field("VDD_IN", "role"), "part");
    assert!(stderr.contains("warning: rail VDD_IN is used as part, expected total"), "{stderr}");
    let (status, stdout, stderr) = run(&rail("ina226", 68, "shunt_ohms = 0.01"));
    assert_eq!((status, stdout.as_str()), (2, ""));
    let said = "rail 1 (MINE 68): unknown key `shunt_ohms`, did you mean `shunt_ohm`?";
    assert!(stderr.contains(said), "{stderr}");
}
