//! JetPack 4's table of shunt offsets in the device tree.
//!
//! Owns the way from a channel's property to the node that it points to, and the
//! node's layout. Applies nothing: registers' codes travel raw, and the driver's
//! own files have the table applied already.
//! Source: NVIDIA L4T `drivers/staging/iio/meter/ina3221.c`
//! (`shunt-volt-offset-uv`: a phandle; `offset` as a signed cell of µV; children
//! with `shunt_volt_start`, `shunt_volt_end` and `offset`).

use std::path::{Path, PathBuf};

use wattline_protocol::record::OffsetRange;

use super::place::Place;
use super::tree::{cell, entries};

/// Property of a channel's node, or of the chip's.
const PROPERTY: &str = "shunt-volt-offset-uv";
/// Where the tree stands below the root; `/proc/device-tree` is a link to it.
const BASE: &str = "firmware/devicetree/base";
/// Nodes that are looked through for a phandle: a Jetson's tree has some 4,000.
const NODES_MAX: usize = 20_000;
/// Ranges of a table that are used.
const RANGES_MAX: usize = 8;

/// Offsets of one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetTable {
    /// The offset where no range holds the voltage, in µV.
    pub general_uv: i32,
    /// Ranges with an offset of their own, in the order of their nodes.
    pub ranges: Vec<OffsetRange>,
}

/// The table of a channel's node, else of the chip's; `None` where neither names
/// one, or where it is not in the tree.
pub(super) fn table(root: &Path, place: &Place, channel: u8) -> Option<OffsetTable> {
    let index = channel.saturating_sub(1);
    let chip = place.node();
    let nodes = [format!("channel@{index}"), format!("input@{index}")];
    let mut nodes = nodes.iter().map(|name| chip.join(name)).chain([chip.clone()]);
    let phandle = nodes.find_map(|node| cell(&node.join(PROPERTY)))?;
    let node = node_of(&root.join(BASE), phandle)?;
    let signed = |path: PathBuf| cell(&path).map(u32::cast_signed);
    let range = |child: PathBuf| {
        Some(OffsetRange {
            from_uv: signed(child.join("shunt_volt_start"))?,
            to_uv: signed(child.join("shunt_volt_end"))?,
            offset_uv: signed(child.join("offset"))?,
        })
    };
    let children = entries(&node).into_iter().filter(|path| path.is_dir());
    let ranges: Vec<OffsetRange> = children.filter_map(range).take(RANGES_MAX).collect();
    let general_uv = signed(node.join("offset"));
    (general_uv.is_some() || !ranges.is_empty())
        .then(|| OffsetTable { general_uv: general_uv.unwrap_or(0), ranges })
}

/// The node with this phandle below `base`.
fn node_of(base: &Path, phandle: u32) -> Option<PathBuf> {
    let mut waiting = vec![base.to_owned()];
    for _ in 0..NODES_MAX {
        let node = waiting.pop()?;
        let names = ["phandle", "linux,phandle"];
        if names.iter().any(|name| cell(&node.join(name)) == Some(phandle)) {
            return Some(node);
        }
        // Links lead elsewhere in the tree: a node is a folder of its own.
        let is_node = |path: &PathBuf| path.symlink_metadata().is_ok_and(|entry| entry.is_dir());
        waiting.extend(entries(&node).into_iter().filter(is_node));
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::power::discover::sysfs::find;

    fn put(root: &Path, path: &str, bytes: impl AsRef<[u8]>) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_channels_table_is_found_by_its_phandle() {
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path();
        let chip = "devices/c240000.i2c/i2c-1/1-0040";
        put(root, &format!("{chip}/name"), "ina3221x");
        for (index, label) in [(0, "VDD_IN"), (1, "VDD_CPU")] {
            let node = format!("{chip}/of_node/channel@{index}");
            put(root, &format!("{node}/ti,rail-name"), label);
            put(root, &format!("{node}/ti,shunt-resistor-mohm"), 5_u32.to_be_bytes());
        }
        put(root, &format!("{chip}/of_node/channel@0/{PROPERTY}"), 0x9d_u32.to_be_bytes());
        let node = format!("{BASE}/soc/ina3221-offsets");
        put(root, &format!("{node}/phandle"), 0x9d_u32.to_be_bytes());
        put(root, &format!("{node}/offset"), (-40_i32).to_be_bytes());
        for (name, from, to, offset) in
            [("range@0", 0, 4_000, 80_i32), ("range@1", 4_001, 9_000, 120)]
        {
            put(root, &format!("{node}/{name}/shunt_volt_start"), i32::to_be_bytes(from));
            put(root, &format!("{node}/{name}/shunt_volt_end"), i32::to_be_bytes(to));
            put(root, &format!("{node}/{name}/offset"), offset.to_be_bytes());
        }
        fs::create_dir_all(root.join("bus/i2c/devices")).unwrap();
        let link = root.join("bus/i2c/devices/1-0040");
        std::os::unix::fs::symlink(format!("../../../{chip}"), link).unwrap();
        let found = find(root);
        let tables: Vec<_> =
            found.chips[0].rails.iter().take(2).map(|rail| rail.offsets.clone()).collect();
        let range = |from_uv, to_uv, offset_uv| OffsetRange { from_uv, to_uv, offset_uv };
        let ranges = vec![range(0, 4_000, 80), range(4_001, 9_000, 120)];
        assert_eq!(tables, [Some(OffsetTable { general_uv: -40, ranges }), None]);
    }
}
