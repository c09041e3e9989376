//! Reading a tree of sysfs: attributes, folders, device-tree cells.
//!
//! Owns what a file's text is worth and why it cannot be read. Knows neither
//! chips nor rails. Links are followed as they are, so that a copy of `/sys`
//! reads as `/sys` does.
//! Source: Linux Documentation/admin-guide/sysfs-rules.rst.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use wattline_protocol::record::SkipReason;

/// ENODATA of Linux: what a channel that is switched off answers.
const ENODATA: i32 = 61;
/// Longest attribute that is read: the kernel gives one page at most.
const ATTRIBUTE_BYTES_MAX: u64 = 4_096;

/// The text of an attribute without what surrounds it (line ends of either
/// kind, blanks, the NUL of a device tree); `None` where it is empty, absent
/// or cannot be read.
pub(crate) fn text(path: &Path) -> Option<String> {
    let bytes = bytes(path).ok()?;
    let text = trimmed(&bytes);
    (!text.is_empty()).then_some(text)
}

/// The texts of a device-tree property, each ended by a NUL; none where it is
/// absent or cannot be read.
pub(super) fn texts(path: &Path) -> Vec<String> {
    let bytes = bytes(path).unwrap_or_default();
    bytes.split(|&byte| byte == 0).map(trimmed).filter(|text| !text.is_empty()).collect()
}

/// A number that must be there.
///
/// # Errors
/// Why it cannot be had.
pub(super) fn value(path: &Path) -> Result<f64, SkipReason> {
    let bytes = bytes(path).map_err(|error| skip_reason(&error))?;
    let number = trimmed(&bytes).parse().ok().filter(|number: &f64| number.is_finite());
    number.ok_or(SkipReason::NotANumber)
}

/// A number that may be there.
pub(crate) fn number(path: &Path) -> Option<f64> {
    value(path).ok()
}

/// A device-tree cell: 32 bit, big-endian on every architecture.
pub(super) fn cell(path: &Path) -> Option<u32> {
    let bytes = bytes(path).ok()?;
    Some(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?))
}

/// Entries of a folder in the order of their names, numbers in them by value;
/// none where it is absent.
pub(super) fn entries(folder: &Path) -> Vec<PathBuf> {
    let read = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = read.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort_by_key(|path| name_of(path).len());
    paths.sort_by_key(|path| natural(name_of(path)));
    paths
}

/// Entries whose names begin with `prefix`.
pub(crate) fn entries_named(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    entries(folder).into_iter().filter(|path| name_of(path).starts_with(prefix)).collect()
}

/// Whether an attribute is in its folder, readable or not: a link that leads
/// nowhere is one, and its rail is told with the reason.
pub(super) fn is_shown(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

pub(crate) fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or("")
}

/// What an error of a read means for a rail.
pub(super) fn skip_reason(error: &io::Error) -> SkipReason {
    match error.kind() {
        _ if error.raw_os_error() == Some(ENODATA) => SkipReason::NotConnected,
        io::ErrorKind::PermissionDenied => SkipReason::NoPermission,
        _ => SkipReason::Unreadable,
    }
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe in the place of an attribute would be waited on for ever.
    if !fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(ATTRIBUTE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn trimmed(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned()
}

/// A name cut where digits begin, so that `hwmon10` stands behind `hwmon9`.
fn natural(name: &str) -> (String, u64, String) {
    let head = name.find(|c: char| c.is_ascii_digit()).unwrap_or(name.len());
    let (head, rest) = name.split_at(head);
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, tail) = rest.split_at(digits);
    (head.to_owned(), digits.parse().unwrap_or(0), tail.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_free_of_line_ends_blanks_and_nul() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in1_label");
        for (bytes, read) in [
            (&b"VDD_IN\r\n"[..], Some("VDD_IN")),
            (b" VDD_IN \0", Some("VDD_IN")),
            (b"\r\n", None),
            (b"", None),
        ] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(text(&path).as_deref(), read);
        }
    }

    #[test]
    fn what_is_no_number_is_told_from_what_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in1_input");
        assert_eq!(value(&path), Err(SkipReason::Unreadable));
        assert_eq!(value(folder.path()), Err(SkipReason::Unreadable));
        for bytes in ["", "N/A\n", "nan\n"] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(value(&path), Err(SkipReason::NotANumber), "{bytes:?}");
        }
        fs::write(&path, "5008 \r\n").unwrap();
        assert_eq!(value(&path), Ok(5008.0));
        assert_eq!(skip_reason(&io::Error::from_raw_os_error(61)), SkipReason::NotConnected);
        assert_eq!(skip_reason(&io::Error::from_raw_os_error(13)), SkipReason::NoPermission);
    }

    #[test]
    fn numbers_in_names_sort_by_value() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["hwmon10", "hwmon9", "hwmon0"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let sorted = entries_named(folder.path(), "hwmon");
        let names: Vec<&str> = sorted.iter().map(|path| name_of(path)).collect();
        assert_eq!(names, ["hwmon0", "hwmon9", "hwmon10"]);
    }
}
