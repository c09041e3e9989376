//! Decoding, resize and crop against Pillow and torchvision.
//!
//! Goldens: Pillow 13.0, torchvision 0.29.2 (libjpeg-turbo), made by
//! `tests/tools/make_pictures.py` from a photograph in the public domain.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::path::PathBuf;

use proptest::prelude::*;
use wattline_agent::accuracy::{Picture, PictureError, cropped};
use wattline_agent::network::{Interpolation, Preprocess, USUAL};

fn bytes(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/pictures");
    std::fs::read(folder.join(name)).unwrap()
}

fn picture(name: &str) -> Picture {
    Picture::decode(&bytes(name)).unwrap()
}

/// Mean and largest difference in LSB of 8 bits.
fn difference(ours: &Picture, theirs: &Picture) -> (f64, u8) {
    assert_eq!((ours.width, ours.height), (theirs.width, theirs.height));
    let pairs = ours.rgb.iter().zip(&theirs.rgb);
    let differences: Vec<u8> = pairs.map(|(a, b)| a.abs_diff(*b)).collect();
    let sum: u64 = differences.iter().map(|d| u64::from(*d)).sum();
    #[expect(clippy::cast_precision_loss)]
    let mean = sum as f64 / differences.len() as f64;
    (mean, differences.into_iter().max().unwrap())
}

#[test]
fn every_kind_of_png_is_decoded_as_pillow_does() {
    for kind in
        ["photo", "grey", "grey-alpha", "alpha", "palette", "one-bit", "grey-16", "dot", "tall"]
    {
        let golden = if kind == "tall" { "tall.png".into() } else { format!("{kind}-png.rgb.png") };
        assert_eq!(picture(&format!("{kind}.png")), picture(&golden), "{kind}");
    }
}

#[test]
fn every_kind_of_jpeg_is_within_four_lsb_of_libjpeg_turbo() {
    for kind in ["usual", "full-chroma", "half-chroma", "progressive", "grey", "cmyk"] {
        let ours = picture(&format!("{kind}.jpg"));
        let (mean, max) = difference(&ours, &picture(&format!("{kind}-jpg.rgb.png")));
        println!("{kind}.jpg: mean {mean:.3}, max {max}");
        assert!(mean <= 0.5 && max <= 4, "{kind}: mean {mean}, max {max}");
    }
}

#[test]
fn resize_and_crop_equal_torchvisions_to_the_bit() {
    for name in ["photo", "tall"] {
        for (filter, interpolation) in
            [("bilinear", Interpolation::Bilinear), ("bicubic", Interpolation::Bicubic)]
        {
            for (resize, crop) in [(64, 56), (97, 85), (256, 224), (40, 47)] {
                if name == "tall" && crop > 100 {
                    continue;
                }
                let how = Preprocess { resize, crop, interpolation, ..USUAL };
                let ours = cropped(&picture(&format!("{name}.png")), &how).unwrap();
                let theirs = picture(&format!("{name}.{resize}-{crop}-{filter}.png"));
                assert_eq!(ours, theirs, "{name} {resize} {crop} {filter}");
            }
        }
    }
}

#[test]
fn what_is_no_picture_is_refused() {
    assert!(matches!(Picture::decode(b""), Err(PictureError::Format)));
    assert!(matches!(Picture::decode(b"GIF89a"), Err(PictureError::Format)));
    for name in ["usual.jpg", "progressive.jpg", "photo.png"] {
        let whole = bytes(name);
        assert!(Picture::decode(&whole[..whole.len() / 2]).is_err(), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_damaged_picture_is_a_picture_or_an_error(
        which in 0_usize..4, places in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..8)
    ) {
        let mut bytes = bytes(["usual.jpg", "progressive.jpg", "palette.png", "cmyk.jpg"][which]);
        let length = bytes.len();
        for (place, byte) in places {
            bytes[place % length] = byte;
        }
        let _ = Picture::decode(&bytes);
    }
}
