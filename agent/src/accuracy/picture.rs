//! An image file as 8-bit RGB.
//!
//! Owns the decoders' settings and what becomes of other kinds of pixels, so
//! that a picture equals what Pillow's `Image.open(f).convert("RGB")` gives:
//! alpha is dropped, grey is copied to all channels, 16 bits of colour keep
//! their upper byte, and 16-bit grey is clipped at 255, as Pillow does.
//! The format is told by the first bytes, not by the name. JPEG is decoded by
//! `zune-jpeg`: within 4 LSB of libjpeg-turbo, not equal to it.

use std::io::Cursor;

use png::{BitDepth, ColorType, Limits, Transformations};
use thiserror::Error;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// Bytes of one decoded picture: 100 megapixels of RGB.
const PICTURE_BYTES_MAX: usize = 300_000_000;
/// Pixels of one side, the most that a JPEG can have.
const SIDE_MAX: usize = 65_535;

/// Rows of RGB, 8 bits each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Width × height × 3 values.
    pub rgb: Vec<u8>,
}

/// Why a file is no picture.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PictureError {
    /// Neither a JPEG nor a PNG.
    #[error("neither JPEG nor PNG")]
    Format,
    /// A JPEG without its end.
    #[error("a JPEG that was cut off")]
    Cut,
    /// More pixels than are decoded.
    #[error("{width} x {height} pixels, too many")]
    TooLarge {
        /// Pixels of a row.
        width: usize,
        /// Rows.
        height: usize,
    },
    /// The JPEG decoder's word.
    #[error("JPEG: {0}")]
    Jpeg(String),
    /// The PNG decoder's word.
    #[error("PNG")]
    Png(#[from] png::DecodingError),
}

impl Picture {
    /// Decodes a JPEG or PNG.
    ///
    /// # Errors
    /// [`PictureError`] with the decoder's word.
    pub fn decode(bytes: &[u8]) -> Result<Picture, PictureError> {
        if bytes.starts_with(&[0xFF, 0xD8]) {
            jpeg(bytes)
        } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            png(bytes)
        } else {
            Err(PictureError::Format)
        }
    }
}

fn jpeg(bytes: &[u8]) -> Result<Picture, PictureError> {
    // The decoder fills what is missing with grey; Pillow refuses it.
    if !bytes.windows(2).skip(2).any(|pair| pair == [0xFF, 0xD9]) {
        return Err(PictureError::Cut);
    }
    let refuse = |error: &dyn std::fmt::Debug| PictureError::Jpeg(format!("{error:?}"));
    let options = DecoderOptions::default()
        .set_max_width(SIDE_MAX)
        .set_max_height(SIDE_MAX)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| refuse(&error))?;
    let (width, height) = decoder
        .info()
        .map(|info| (usize::from(info.width), usize::from(info.height)))
        .ok_or_else(|| PictureError::Jpeg("no header".into()))?;
    fits(width, height)?;
    let rgb = decoder.decode().map_err(|error| refuse(&error))?;
    whole(width, height, rgb)
}

fn png(bytes: &[u8]) -> Result<Picture, PictureError> {
    let limits = Limits { bytes: PICTURE_BYTES_MAX };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    let header = decoder.read_header_info()?;
    let is_grey_16 =
        header.color_type == ColorType::Grayscale && header.bit_depth == BitDepth::Sixteen;
    let deep =
        if is_grey_16 { Transformations::EXPAND } else { Transformations::normalize_to_color8() };
    decoder.set_transformations(deep);
    let mut reader = decoder.read_info()?;
    let (width, height) = (side(reader.info().width), side(reader.info().height));
    fits(width, height)?;
    let mut samples = vec![0; reader.output_buffer_size().unwrap_or(0)];
    let frame = reader.next_frame(&mut samples)?;
    samples.truncate(frame.buffer_size());
    let rgb = match (frame.color_type, frame.bit_depth) {
        (ColorType::Rgb, _) => samples,
        (ColorType::Rgba, _) => {
            samples.as_chunks::<4>().0.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect()
        }
        // A grey of 16 bits with a transparent value comes with its alpha.
        (ColorType::GrayscaleAlpha, BitDepth::Sixteen) => samples
            .as_chunks::<4>()
            .0
            .iter()
            .flat_map(|&[high, low, ..]| [clipped(high, low); 3])
            .collect(),
        (ColorType::Grayscale, BitDepth::Sixteen) => samples
            .as_chunks::<2>()
            .0
            .iter()
            .flat_map(|&[high, low]| [clipped(high, low); 3])
            .collect(),
        (ColorType::GrayscaleAlpha, _) => {
            samples.as_chunks::<2>().0.iter().flat_map(|&[grey, _]| [grey; 3]).collect()
        }
        (ColorType::Grayscale, _) => samples.iter().flat_map(|&grey| [grey; 3]).collect(),
        (ColorType::Indexed, _) => return Err(PictureError::Format),
    };
    whole(width, height, rgb)
}

fn clipped(high: u8, low: u8) -> u8 {
    if high > 0 { u8::MAX } else { low }
}

fn side(pixels: u32) -> usize {
    usize::try_from(pixels).unwrap_or(usize::MAX)
}

fn fits(width: usize, height: usize) -> Result<(), PictureError> {
    let bytes = width.saturating_mul(height).saturating_mul(3);
    if bytes == 0 || bytes > PICTURE_BYTES_MAX {
        return Err(PictureError::TooLarge { width, height });
    }
    Ok(())
}

fn whole(width: usize, height: usize, rgb: Vec<u8>) -> Result<Picture, PictureError> {
    if rgb.len() == width * height * 3 {
        Ok(Picture { width, height, rgb })
    } else {
        Err(PictureError::Jpeg(format!("{} values for {width} x {height} pixels", rgb.len())))
    }
}
