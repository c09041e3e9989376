//! Board profiles: what is known of a board's rails before it is looked at.
//!
//! Owns the files of `deploy/boards/` (compiled in), their keys, and how a board
//! is recognised from its device tree. An expectation only: labels and shunts
//! come from the running system, and what a profile marks as believed is held
//! against nobody. Finds no rail.
//! Sources: each file names its own.

use wattline_protocol::record::{ChipKind, RailRole};

use crate::keyed::{KeyError, Keyed};
use crate::power::bus::Address7;

macro_rules! profile {
    ($name:literal) => {
        (
            concat!("deploy/boards/", $name, ".toml"),
            include_str!(concat!("../../../deploy/boards/", $name, ".toml")),
        )
    };
}

/// The profiles with their files' names; the more special before the general.
pub const FILES: [(&str, &str); 17] = [
    profile!("jetson-nano-2gb"),
    profile!("jetson-nano"),
    profile!("jetson-tx1"),
    profile!("jetson-tx2i"),
    profile!("jetson-tx2-nx"),
    profile!("jetson-tx2"),
    profile!("jetson-xavier-nx"),
    profile!("jetson-agx-xavier"),
    profile!("jetson-orin-nano"),
    profile!("jetson-orin-nx"),
    profile!("igx-orin"),
    profile!("jetson-agx-orin"),
    profile!("jetson-agx-thor"),
    profile!("raspberry-pi-4"),
    profile!("raspberry-pi-5"),
    profile!("kria-kv260"),
    profile!("kria-kr260"),
];

const KEYS: [&str; 7] = ["name", "title", "compatible", "model", "sources", "notes", "rail"];
const RAIL_KEYS: [&str; 12] = [
    "label",
    "aliases",
    "chip",
    "controller",
    "address",
    "channel",
    "shunt_ohm",
    "role",
    "inside",
    "optional",
    "believed",
    "note",
];

/// What is known of a board.
#[derive(Debug, Clone, PartialEq)]
pub struct BoardProfile {
    /// Its name, that of its file.
    pub name: String,
    /// The board as its maker calls it.
    pub title: String,
    /// What a user of its rails must know.
    pub notes: Vec<String>,
    /// Where the file's contents were read.
    pub sources: Vec<String>,
    /// Rails that are expected.
    pub rails: Vec<ExpectedRail>,
    compatible: Vec<Pattern>,
    model: Vec<Pattern>,
}

/// A rail that is expected.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpectedRail {
    /// Its label; `None` where the system tells none.
    pub label: Option<String>,
    /// Labels that other releases give it.
    pub aliases: Vec<String>,
    /// The chip.
    pub kind: ChipKind,
    /// The bus's controller, where a board has the same address on two.
    pub controller: Option<String>,
    /// The chip's 7-bit address.
    pub address: Address7,
    /// Channel, from 1.
    pub channel: u8,
    /// Shunt, in ohms, where it is published.
    pub shunt_ohm: Option<f64>,
    /// Total or part.
    pub role: RailRole,
    /// The rail that holds it as well, by its label.
    pub inside: Option<String>,
    /// Whether boards without it are as good.
    pub optional: bool,
    /// Keys whose values nobody published.
    pub believed: Vec<String>,
}

/// A text in which one `*` stands for any letters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern(String);

impl Pattern {
    fn matches(&self, text: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = text.strip_prefix(first) else { return false };
        let mut parts: Vec<&str> = parts.collect();
        let Some(last) = parts.pop() else { return rest.is_empty() };
        for part in parts {
            let Some(at) = rest.find(part) else { return false };
            rest = rest.get(at + part.len()..).unwrap_or_default();
        }
        rest.ends_with(last)
    }
}

impl BoardProfile {
    /// The profile in `text`, which is the file `file`.
    ///
    /// # Errors
    /// [`KeyError`] naming file, rail and key.
    pub fn parse(file: &str, text: &str) -> Result<Self, KeyError> {
        let top = Keyed::parse(file, text)?;
        top.only(&KEYS)?;
        let patterns = |texts: Vec<String>| texts.into_iter().map(Pattern).collect();
        let profile = Self {
            name: top.there("name", top.text("name")?)?,
            title: top.there("title", top.text("title")?)?,
            notes: top.texts("notes")?,
            sources: top.texts("sources")?,
            compatible: patterns(top.texts("compatible")?),
            model: patterns(top.texts("model")?),
            rails: Self::rails(&top)?,
        };
        if profile.compatible.is_empty() && profile.model.is_empty() {
            return Err(top.refused("compatible", "one text or more, or some at `model`"));
        }
        if profile.sources.is_empty() {
            return Err(top.refused("sources", "one text or more: where this was read"));
        }
        Ok(profile)
    }

    fn rails(top: &Keyed<'_>) -> Result<Vec<ExpectedRail>, KeyError> {
        let mut rails: Vec<(String, ExpectedRail)> = Vec::new();
        let tables = top.tables("rail", "label")?;
        for table in &tables {
            let rail = ExpectedRail::of(table)?;
            for (other, before) in &rails {
                let place = |rail: &ExpectedRail| {
                    (rail.kind, rail.controller.clone(), rail.address, rail.channel)
                };
                if place(before) == place(&rail) {
                    return Err(table.twice("channel", &rail.channel.to_string(), other));
                }
                if rail.label.is_some() && before.label == rail.label {
                    let label = rail.label.as_deref().unwrap_or_default();
                    return Err(table.twice("label", label, other));
                }
                if (before.role, rail.role) == (RailRole::Total, RailRole::Total) {
                    return Err(table.twice("role", "total", other));
                }
            }
            rails.push((table.place().to_owned(), rail));
        }
        let is_label = |label: &str| rails.iter().any(|(_, rail)| rail.is_called(label));
        for (table, (_, rail)) in tables.iter().zip(&rails) {
            if rail.inside.as_deref().is_some_and(|around| !is_label(around)) {
                return Err(table.refused("inside", "the label of another rail of the file"));
            }
        }
        Ok(rails.into_iter().map(|(_, rail)| rail).collect())
    }

    /// Whether the board's device tree names it: a text of `compatible`, the
    /// most special of which comes first, or its model.
    fn names(&self, compatible: &str) -> bool {
        self.compatible.iter().any(|pattern| pattern.matches(compatible))
    }
}

impl ExpectedRail {
    fn of(table: &Keyed<'_>) -> Result<Self, KeyError> {
        table.only(&RAIL_KEYS)?;
        let kind = table.parsed("chip", "the name of a chip, as ina3221", ChipKind::chip_named)?;
        let allowed = "0x08 to 0x77, a 7-bit address";
        let address = table.there("address", table.whole("address", 0..=0x7f, allowed)?)?;
        let role = |text: &str| {
            [RailRole::Total, RailRole::Part].into_iter().find(|role| role.name() == text)
        };
        let believed = table.texts("believed")?;
        if believed.iter().any(|key| !RAIL_KEYS.contains(&key.as_str())) {
            return Err(table.refused("believed", "a list of keys of the rail"));
        }
        // Read and checked, for people.
        let _ = table.text("note")?;
        Ok(Self {
            label: table.text("label")?,
            aliases: table.texts("aliases")?,
            kind: table.there("chip", kind)?,
            address: Address7::new(address).map_err(|_| table.refused("address", allowed))?,
            controller: table.text("controller")?,
            channel: table.there("channel", table.whole("channel", 1..=3, "1 to 3")?)?,
            shunt_ohm: table.number("shunt_ohm", (0.0, 1_000.0), "above 0 and up to 1000")?,
            role: table.there("role", table.parsed("role", "total or part", role)?)?,
            inside: table.text("inside")?,
            optional: table.is("optional")?,
            believed,
        })
    }

    /// Whether a label is this rail's.
    #[must_use]
    pub fn is_called(&self, label: &str) -> bool {
        self.label.as_deref() == Some(label) || self.aliases.iter().any(|alias| alias == label)
    }

    /// Whether the value at `key` was read in a source, not only believed.
    #[must_use]
    pub fn is_read(&self, key: &str) -> bool {
        !self.believed.iter().any(|believed| believed == key)
    }
}

/// All profiles, in the order in which a board is held against them.
#[must_use]
pub fn all() -> Vec<BoardProfile> {
    // A test loads each: none is left out here.
    FILES.iter().filter_map(|(file, text)| BoardProfile::parse(file, text).ok()).collect()
}

/// The profile of the board whose device tree has these texts; `None` for a
/// board that no profile knows.
#[must_use]
pub fn recognise(compatible: &[String], model: Option<&str>) -> Option<BoardProfile> {
    let mut profiles = all();
    let by_compatible =
        compatible.iter().find_map(|text| profiles.iter().position(|profile| profile.names(text)));
    let by_model = || {
        let model = model?;
        let names = |profile: &BoardProfile| profile.model.iter().any(|p| p.matches(model));
        profiles.iter().position(names)
    };
    let place = by_compatible.or_else(by_model)?;
    Some(profiles.swap_remove(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_loaded_and_named_as_its_file() {
        for (file, text) in FILES {
            let profile = BoardProfile::parse(file, text).unwrap();
            assert_eq!(file, format!("deploy/boards/{}.toml", profile.name));
            assert!(!profile.title.is_empty() && !profile.notes.is_empty());
        }
        assert_eq!(all().len(), FILES.len());
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/boards");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), FILES.len());
    }

    #[test]
    fn a_board_is_recognised_by_the_most_special_text() {
        for (compatible, expected) in [
            (
                "nvidia,p3449-0000-b00+p3448-0000-b00 nvidia,jetson-nano nvidia,tegra210",
                "jetson-nano",
            ),
            (
                "nvidia,p3542-0000+p3448-0003 nvidia,jetson-nano-2gb nvidia,jetson-nano nvidia,tegra210",
                "jetson-nano-2gb",
            ),
            ("nvidia,p2371-2180 nvidia,tegra210", "jetson-tx1"),
            ("nvidia,p2597-0000+p3310-1000 nvidia,quill nvidia,tegra186", "jetson-tx2"),
            ("nvidia,p2597-0000+p3489-0000 nvidia,quill nvidia,tegra186", "jetson-tx2i"),
            ("nvidia,p2597-0000+p3489-0888 nvidia,quill nvidia,tegra186", "jetson-tx2"),
            ("nvidia,p3509-0000+p3636-0001 nvidia,p3636-0001 nvidia,tegra186", "jetson-tx2-nx"),
            ("nvidia,p3509-0000+p3668-0000 nvidia,p3668-0000 nvidia,tegra194", "jetson-xavier-nx"),
            ("nvidia,p2972-0000 nvidia,tegra194", "jetson-agx-xavier"),
            ("nvidia,p3768-0000+p3767-0005 nvidia,p3767-0005 nvidia,tegra234", "jetson-orin-nano"),
            (
                "nvidia,p3768-0000+p3767-0000-super nvidia,p3767-0000 nvidia,tegra234",
                "jetson-orin-nx",
            ),
            ("nvidia,p3737-0000+p3701-0005 nvidia,p3701-0005 nvidia,tegra234", "jetson-agx-orin"),
            ("nvidia,p3737-0000+p3701-0008 nvidia,p3701-0008 nvidia,tegra234", "jetson-agx-orin"),
            ("nvidia,p3740-0002+p3701-0008 nvidia,p3701-0008 nvidia,tegra234", "igx-orin"),
            ("nvidia,p4071-0000+p3834-0008 nvidia,p3834-0008 nvidia,tegra264", "jetson-agx-thor"),
            ("raspberrypi,4-model-b brcm,bcm2711", "raspberry-pi-4"),
            ("raspberrypi,5-model-b brcm,bcm2712", "raspberry-pi-5"),
            ("xlnx,zynqmp-sk-kv260-rev1 xlnx,zynqmp-sk-kv260-revB xlnx,zynqmp", "kria-kv260"),
            ("xlnx,zynqmp-sk-kr260-revB xlnx,zynqmp-sk-kr260 xlnx,zynqmp", "kria-kr260"),
        ] {
            let texts: Vec<String> = compatible.split(' ').map(str::to_owned).collect();
            let found = recognise(&texts, None).map(|profile| profile.name);
            assert_eq!(found.as_deref(), Some(expected), "{compatible}");
        }
        let model = recognise(&["acme,carrier".into()], Some("NVIDIA Jetson Orin NX 16GB"));
        assert_eq!(model.unwrap().name, "jetson-orin-nx");
        assert_eq!(recognise(&["acme,board".into()], Some("Acme")), None);
    }

    #[test]
    fn a_board_has_one_total_or_none_and_parts_inside_it() {
        let total = |name: &str| {
            let profiles = all();
            let profile = profiles.iter().find(|profile| profile.name == name).unwrap();
            let total = profile.rails.iter().find(|rail| rail.role == RailRole::Total);
            total.and_then(|rail| rail.label.clone())
        };
        assert_eq!(total("jetson-orin-nano").as_deref(), Some("VDD_IN"));
        assert_eq!(total("jetson-nano").as_deref(), Some("POM_5V_IN"));
        assert_eq!(total("jetson-agx-thor").as_deref(), Some("VIN"));
        for none in ["jetson-agx-orin", "jetson-agx-xavier", "igx-orin", "raspberry-pi-5"] {
            assert_eq!(total(none), None, "{none}");
        }
    }

    #[test]
    fn a_bad_profile_is_named_with_its_key() {
        let (_, text) = FILES[8];
        let error = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            BoardProfile::parse("mine.toml", &text.replacen(from, to, 1)).unwrap_err().to_string()
        };
        for (from, to, said) in [
            (
                "chip =",
                "chp =",
                "mine.toml rail 1 (VDD_IN): unknown key `chp`, did you mean `chip`?",
            ),
            ("title =", "tittle =", "mine.toml: unknown key `tittle`, did you mean `title`?"),
            (
                "channel = 1",
                "channel = 4",
                "mine.toml rail 1 (VDD_IN): `channel` is 4, allowed is 1 to 3",
            ),
            (
                "channel = 2",
                "channel = 1",
                "mine.toml rail 2 (VDD_CPU_GPU_CV): `channel` is 1, as in rail 1 (VDD_IN)",
            ),
            (
                "inside = \"VDD_IN\"",
                "inside = \"VIN\"",
                "mine.toml rail 2 (VDD_CPU_GPU_CV): `inside` is \"VIN\", allowed is the label of another rail of the file",
            ),
            (
                "role = \"part\"",
                "role = \"total\"",
                "mine.toml rail 2 (VDD_CPU_GPU_CV): `role` is total, as in rail 1 (VDD_IN)",
            ),
        ] {
            assert_eq!(error(from, to), said);
        }
    }
}
