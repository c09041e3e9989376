//! Colours of the figures: one hue a family of networks, one shape a member.
//!
//! Owns which network looks how, and the colours' values in light and dark.
//! The hues are Okabe and Ito's set for all kinds of colour vision
//! ("Color Universal Design", 2008), darkened on white to a contrast of 3 : 1;
//! shapes tell members apart, so that nothing rests on colour alone.

use std::collections::BTreeMap;

use super::svg::Marker;

/// Names of the colours with their values on a light and on a dark page.
pub(in super::super) const COLOURS: [(&str, &str, &str); 17] = [
    ("paper", "#ffffff", "#14171a"),
    ("ink", "#1d2126", "#e4e7ea"),
    ("soft", "#59616b", "#a3abb5"),
    ("rule", "#d5dadf", "#363c43"),
    ("tint", "#f3f5f7", "#1c2024"),
    ("link", "#0b5cad", "#7db8f0"),
    ("good", "#1a7f4b", "#4cc38a"),
    ("warn", "#a66300", "#e5a83b"),
    ("bad", "#c0271d", "#ff7a6b"),
    ("warntint", "#fdf1d8", "#3a2c0d"),
    ("c0", "#1d2126", "#e4e7ea"),
    ("c1", "#0f6cb0", "#4d9de0"),
    ("c2", "#c2480a", "#f0743a"),
    ("c3", "#00835f", "#2fc79b"),
    ("c4", "#b4518c", "#df8fbf"),
    ("c5", "#b07a00", "#e8b338"),
    ("c6", "#2b90cf", "#86d0fa"),
];

/// Hues that networks take.
const HUES: u8 = 7;

/// The networks of the 2016 paper: name without marks, hue, shape.
const KNOWN: [(&str, u8, Marker); 16] = [
    ("alexnet", 5, Marker::Circle),
    ("alexnetbn", 5, Marker::Square),
    ("ninbn", 2, Marker::Circle),
    ("enet", 0, Marker::Circle),
    ("googlenet", 1, Marker::Circle),
    ("resnet18", 4, Marker::Circle),
    ("resnet34", 4, Marker::Square),
    ("resnet50", 4, Marker::Up),
    ("resnet101", 4, Marker::Diamond),
    ("resnet152", 4, Marker::Down),
    ("vgg16", 3, Marker::Circle),
    ("vgg19", 3, Marker::Square),
    ("vgg16bn", 3, Marker::Up),
    ("vgg19bn", 3, Marker::Diamond),
    ("inceptionv3", 6, Marker::Circle),
    ("inceptionv4", 6, Marker::Square),
];

/// How a network looks in every figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// Number of its hue.
    pub(super) hue: u8,
    /// Its shape.
    pub(super) marker: Marker,
}

impl Look {
    /// Class of a filled shape or a line in this hue.
    pub(super) fn class(self) -> String {
        format!("c{}", self.hue)
    }
}

/// Looks of the networks of one run, by id.
#[derive(Debug)]
pub(super) struct Looks(BTreeMap<String, Look>);

impl Looks {
    /// Known networks have their fixed look; another one takes that of its
    /// name's hash, or the next that is free in this run.
    pub(super) fn of<'a>(networks: impl Iterator<Item = &'a str>) -> Self {
        let sorted: std::collections::BTreeSet<&str> = networks.collect();
        let mut looks = BTreeMap::new();
        let (known, other): (Vec<&str>, Vec<&str>) =
            sorted.into_iter().partition(|name| known(name).is_some());
        for name in known {
            if let Some(look) = self::known(name) {
                looks.insert(name.to_owned(), look);
            }
        }
        for name in other {
            let free = hashed(name).find(|look| !looks.values().any(|taken| taken == look));
            let look = free.or_else(|| hashed(name).next());
            looks.extend(look.map(|look| (name.to_owned(), look)));
        }
        Self(looks)
    }

    /// The look of `network`.
    pub(super) fn get(&self, network: &str) -> Look {
        self.0.get(network).copied().unwrap_or(Look { hue: 0, marker: Marker::Circle })
    }
}

fn known(network: &str) -> Option<Look> {
    let bare: String = network.chars().filter(char::is_ascii_alphanumeric).collect();
    let found = KNOWN.iter().find(|(name, ..)| *name == bare)?;
    Some(Look { hue: found.1, marker: found.2 })
}

/// All looks, beginning with the one that FNV-1a gives the name.
fn hashed(name: &str) -> impl Iterator<Item = Look> {
    let hash = name
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let shapes = u32::try_from(Marker::ALL.len()).unwrap_or(1);
    let all = u32::from(HUES) * shapes;
    (0..all).map(move |step| {
        let index = (hash % all + step) % all;
        let shape = usize::try_from(index / u32::from(HUES)).unwrap_or(0);
        Look {
            hue: u8::try_from(index % u32::from(HUES)).unwrap_or(0),
            marker: Marker::ALL.get(shape).copied().unwrap_or(Marker::Circle),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_looks_the_same_whatever_runs_beside_it() {
        let alone = Looks::of(["resnet-50"].into_iter()).get("resnet-50");
        let among = Looks::of(["vgg-16", "resnet-50", "mine"].into_iter()).get("resnet-50");
        assert_eq!(alone, among);
        assert_eq!(Looks::of(["resnet50"].into_iter()).get("resnet50"), alone);
    }

    #[test]
    fn no_two_networks_of_a_run_look_alike() {
        let names: Vec<String> = (0..20)
            .map(|index| format!("net-{index}"))
            .chain(KNOWN.iter().map(|(name, ..)| (*name).to_owned()))
            .collect();
        let looks = Looks::of(names.iter().map(String::as_str));
        for (index, name) in names.iter().enumerate() {
            for other in names.iter().skip(index + 1) {
                assert_ne!(looks.get(name), looks.get(other), "{name} {other}");
            }
        }
    }
}
