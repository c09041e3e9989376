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
