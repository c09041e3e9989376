//! The power mode of a Jetson, as its own daemon keeps it.
//!
//! Owns the reading of nvpmodel's table and status. Starts no nvpmodel: it takes
//! a lock and asks the firmware, which a measurement must not.
//! Source: Jetson Linux Developer Guide, "nvpmodel".

use std::path::Path;

use wattline_protocol::record::PowerMode;

use super::conditions::text_beside;

/// The table of modes, and which of them holds; a link on each Jetson.
const TABLE: &str = "etc/nvpmodel.conf";
const STATUS: &str = "var/lib/nvpmodel/status";

/// The mode that holds on the board whose `/sys` is `root`; `None` where the
/// board has none.
#[must_use]
pub fn of(root: &Path) -> Option<PowerMode> {
    let status = text_beside(root, STATUS)?;
    let digits = status.split("pmode:").nth(1)?;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let id = digits.get(..end)?.parse().ok()?;
    let name = modes(root).into_iter().find(|mode| mode.id == id);
    Some(name.unwrap_or(PowerMode { id, name: String::new() }))
}

/// Modes that the board's table has, in its order.
#[must_use]
pub fn modes(root: &Path) -> Vec<PowerMode> {
    let table = text_beside(root, TABLE).unwrap_or_default();
    // `< POWER_MODEL ID=2 NAME=MODE_15W >`; blocks of another kind have other heads.
    let heads = table.lines().filter_map(|line| line.trim().strip_prefix('<'));
    let models = heads.filter(|head| head.split_whitespace().next() == Some("POWER_MODEL"));
    let value = |head: &str, key: &str| {
        let mut words = head.trim_end_matches('>').split_whitespace();
        words.find_map(|word| Some(word.strip_prefix(key)?.strip_prefix('=')?.to_owned()))
    };
    models
        .filter_map(|head| {
            Some(PowerMode { id: value(head, "ID")?.parse().ok()?, name: value(head, "NAME")? })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The head of an Orin Nano's table.
    const CONF: &str = "# comment: < POWER_MODEL ID=9 NAME=NO >\n\
        < PARAM TYPE=FILE NAME=CPU_ONLINE >\nCORE_0 /sys/devices/system/cpu/cpu0/online\n\
        < POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n\
        < POWER_MODEL ID=1 NAME=7W >\n< PM_CONFIG DEFAULT=0 >\n";

    fn tree(status: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in [(TABLE, CONF), (STATUS, status)] {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn the_mode_is_named_by_the_boards_own_table() {
        let mode = |id, name: &str| PowerMode { id, name: name.into() };
        let root = tree("pmode:0001\n");
        assert_eq!(modes(root.path()), [mode(0, "15W"), mode(1, "7W")]);
        assert_eq!(of(root.path()), Some(mode(1, "7W")));
        assert_eq!(of(tree("pmode:0008").path()), Some(mode(8, "")));
        for broken in ["", "pmode:", "pmode:x", "pmode:99999999", "\u{fffd}"] {
            assert_eq!(of(tree(broken).path()), None, "{broken:?}");
        }
    }

    #[test]
    fn a_board_without_nvpmodel_has_no_mode() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!((of(root.path()), modes(root.path())), (None, Vec::new()));
    }
}
