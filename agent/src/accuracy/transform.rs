//! From a picture to what enters a network.
//!
//! Owns resize of the shorter side, central crop and normalisation, in the
//! order and with the roundings of torchvision's `Resize`, `CenterCrop`,
//! `ToTensor` and `Normalize`.

use super::picture::Picture;
use super::resample::resize;
use crate::network::Preprocess;

/// Pixels after the resize that are still made: a very long picture would
/// otherwise grow without bound.
const RESIZED_PIXELS_MAX: usize = 64 << 20;

/// The picture cropped for the network, in 8 bits; none where it is so long
/// and thin that its resize would be absurd.
#[must_use]
pub fn cropped(picture: &Picture, how: &Preprocess) -> Option<Picture> {
    let (short, long) = (picture.width.min(picture.height), picture.width.max(picture.height));
    let longer = how.resize.checked_mul(long)?.checked_div(short)?;
    if how.resize.checked_mul(longer)? > RESIZED_PIXELS_MAX {
        return None;
    }
    let (width, height) =
        if picture.width <= picture.height { (how.resize, longer) } else { (longer, how.resize) };
    let resized = resize(picture, width, height, how.interpolation);
    Some(center(&resized, how.crop))
}

/// The middle `side` × `side` pixels; black where the picture is smaller.
fn center(picture: &Picture, side: usize) -> Picture {
    let (left, pad_left) = margin(picture.width, side);
    let (top, pad_top) = margin(picture.height, side);
    let mut rgb = vec![0; side * side * 3];
    let columns = side.min(picture.width) * 3;
    for row in 0..side.min(picture.height) {
        let from = ((top + row) * picture.width + left) * 3;
        let to = ((pad_top + row) * side + pad_left) * 3;
        rgb[to..to + columns].copy_from_slice(&picture.rgb[from..from + columns]);
    }
    Picture { width: side, height: side, rgb }
}

/// Pixels left out before a crop, or put before a picture that is too small.
fn margin(length: usize, side: usize) -> (usize, usize) {
    match length.checked_sub(side) {
        Some(more) => (half_to_even(more), 0),
        None => (0, (side - length) / 2),
    }
}

/// Half of `count`, ties to even: Python's `round`.
fn half_to_even(count: usize) -> usize {
    let half = count / 2;
    if count % 2 == 1 && half % 2 == 1 { half + 1 } else { half }
}

/// Appends the picture as three planes, (value / 255 − mean) / deviation.
pub fn normalise(picture: &Picture, how: &Preprocess, planes: &mut Vec<f32>) {
    for channel in 0..3 {
        let (mean, std) = (how.mean[channel], how.std[channel]);
        let values = picture.rgb.iter().skip(channel).step_by(3);
        planes.extend(values.map(|value| (f32::from(*value) / 255.0 - mean) / std));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::USUAL;

    #[test]
    fn one_pixel_becomes_a_whole_image_and_a_thread_none() {
        let dot = Picture { width: 1, height: 1, rgb: vec![7, 8, 9] };
        let image = cropped(&dot, &USUAL).unwrap();
        assert_eq!((image.width, image.height), (224, 224));
        assert!(image.rgb.as_chunks().0.iter().all(|pixel| *pixel == [7, 8, 9]));
        let thread = Picture { width: 1, height: 60_000, rgb: vec![0; 180_000] };
        assert!(cropped(&thread, &Preprocess { resize: 2048, ..USUAL }).is_none());
    }

    #[test]
    fn halves_are_rounded_to_even_as_python_does() {
        assert_eq!([1, 3, 5, 7, 32].map(half_to_even), [0, 2, 2, 4, 16]);
    }
}
