//! Which glibc a program needs, by the symbol versions that it asks for.
//!
//! Owns the reading of an ELF file's section of needed versions. A program
//! starts on a board only where the board's glibc has every version in it.
//! Source: System V gABI and "Linux Standard Base Core", symbol versioning
//! (`Elf64_Verneed`, `Elf64_Vernaux`).

/// Section type of needed versions (`SHT_GNU_verneed`).
const SHT_GNU_VERNEED: u32 = 0x6fff_fffe;
/// Bytes of an `Elf64_Shdr`.
const SECTION_BYTES: usize = 64;

/// A version of glibc: 2.27 is `(2, 27)`.
pub type Glibc = (u32, u32);

/// The newest glibc that the program asks for; `None` where the bytes are not
/// those of a 64-bit little-endian ELF file, or where it asks for none.
#[must_use]
pub fn needed_glibc(program: &[u8]) -> Option<Glibc> {
    if program.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let sections = at_u64(program, 40)?;
    let count = usize::from(at_u16(program, 60)?);
    let section = |index: usize| {
        let start = sections.checked_add(index.checked_mul(SECTION_BYTES)?)?;
        program.get(start..start.checked_add(SECTION_BYTES)?)
    };
    let needed = (0..count).filter_map(section).find(|header| {
        // The type follows the name.
        at_u32(header, 4) == Some(SHT_GNU_VERNEED)
    })?;
    let names = section(usize::try_from(at_u32(needed, 40)?).ok()?)?;
    versions(body(program, needed)?, body(program, names)?).into_iter().max()
}

/// Versions of glibc in the list of files, each with its list of versions.
fn versions(list: &[u8], names: &[u8]) -> Vec<Glibc> {
    let mut found = Vec::new();
    let mut file = Some(0);
    while let Some(at) = file {
        let mut version = next(list, at, 8);
        while let Some(at) = version {
            found.extend(at_u32(list, at + 8).and_then(|name| glibc(text(names, name)?)));
            version = next(list, at, 12);
        }
        file = next(list, at, 12);
    }
    found
}

/// Place of what the link at `at + field` points to; 0 ends a list. A link
/// points onward, so that a list ends.
fn next(list: &[u8], at: usize, field: usize) -> Option<usize> {
    let step = usize::try_from(at_u32(list, at.checked_add(field)?)?).ok()?;
    let to = at.checked_add(step)?;
    (step > 0 && to < list.len()).then_some(to)
}

fn glibc(name: &str) -> Option<Glibc> {
    // 2.2.5 is older than any floor: its last part does not matter.
    let mut parts = name.strip_prefix("GLIBC_")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn text(names: &[u8], at: u32) -> Option<&str> {
    let tail = names.get(usize::try_from(at).ok()?..)?;
    std::str::from_utf8(tail.split(|byte| *byte == 0).next()?).ok()
}

fn body<'a>(program: &'a [u8], header: &[u8]) -> Option<&'a [u8]> {
    let start = at_u64(header, 24)?;
    program.get(start..start.checked_add(at_u64(header, 32)?)?)
}

fn at_u64(bytes: &[u8], at: usize) -> Option<usize> {
    let field = bytes.get(at..at.checked_add(8)?)?.try_into().ok()?;
    usize::try_from(u64::from_le_bytes(field)).ok()
}

fn at_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn at_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it misses by failing")]
mod tests {
    use super::*;

    /// A file of two libraries: libc with `versions`, libgcc with one of its own.
    fn program(versions: &[&str]) -> Vec<u8> {
        let mut names = vec![0];
        let mut offset = |name: &str| {
            let at = u32::try_from(names.len()).unwrap();
            names.extend(name.bytes().chain([0]));
            at
        };
        let (libc, libgcc) = (offset("libc.so.6"), offset("libgcc_s.so.1"));
        let mut list = Vec::new();
        for (file, versions) in [(libc, versions), (libgcc, &["GCC_3.0"][..])] {
            let count = u16::try_from(versions.len()).unwrap();
            list.extend([1_u16, count].iter().flat_map(|part| part.to_le_bytes()));
            let onward = if file == libc { 16 + 16 * u32::from(count) } else { 0 };
            list.extend([file, 16, onward].iter().flat_map(|part| part.to_le_bytes()));
            for (index, version) in versions.iter().enumerate() {
                let more = if index + 1 == versions.len() { 0 } else { 16_u32 };
                // Hash, flags and ordinal are not read.
                list.extend([0; 8]);
                list.extend([offset(version), more].iter().flat_map(|part| part.to_le_bytes()));
            }
        }
        let header = |kind: u32, start: usize, len: usize, link: u32| {
            let mut header = vec![0; SECTION_BYTES];
            header[4..8].copy_from_slice(&kind.to_le_bytes());
            header[24..32].copy_from_slice(&start.to_le_bytes());
            header[32..40].copy_from_slice(&len.to_le_bytes());
            header[40..44].copy_from_slice(&link.to_le_bytes());
            header
        };
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[60..62].copy_from_slice(&2_u16.to_le_bytes());
        let (at_list, at_names) = (64, 64 + list.len());
        let sections = at_names + names.len();
        file[40..48].copy_from_slice(&sections.to_le_bytes());
        let headers =
            [header(SHT_GNU_VERNEED, at_list, list.len(), 1), header(3, at_names, names.len(), 0)];
        file.extend(list.into_iter().chain(names).chain(headers.concat()));
        file
    }

    #[test]
    fn the_newest_version_is_found_by_its_numbers_and_not_by_its_letters() {
        assert_eq!(
            needed_glibc(&program(&["GLIBC_2.2.5", "GLIBC_2.17", "GLIBC_2.9"])),
            Some((2, 17))
        );
        assert_eq!(needed_glibc(&program(&["GLIBC_2.34"])), Some((2, 34)));
        assert_eq!(needed_glibc(&program(&["GLIBC_PRIVATE"])), None);
    }

    #[test]
    fn bytes_that_are_no_program_need_nothing_and_break_nothing() {
        let whole = program(&["GLIBC_2.17"]);
        for len in 0..whole.len() {
            let _ = needed_glibc(&whole[..len]);
        }
        for at in 0..whole.len() {
            let mut bent = whole.clone();
            bent[at] ^= 0xff;
            let _ = needed_glibc(&bent);
        }
        assert_eq!(needed_glibc(b"#!/bin/sh"), None);
    }

    #[test]
    fn binutils_reads_the_same_from_this_very_program() {
        let this = std::env::current_exe().unwrap();
        let told = std::process::Command::new("readelf").arg("--version-info").arg(&this).output();
        let told = String::from_utf8(told.unwrap().stdout).unwrap();
        let names = told.split_whitespace().filter_map(glibc);
        let newest = names.max().unwrap();
        assert_eq!(needed_glibc(&std::fs::read(this).unwrap()), Some(newest));
    }
}
