//! Residuals: small unsigned numbers as bits.
//!
//! Owns the Rice code with its parameter for each 64 values, and the bit-pack
//! with its width for each 32. Knows nothing of what is foretold from what.
//! Theory: R. F. Rice, JPL 79-22 (1979); A. Kiely, IPN 42-159 (2004), for k.

use super::bits::{BITS_MAX, BitReader, BitWriter, low_mask, low_u32};
use super::{BlockCodec, BlockError};

/// Values that share one Rice parameter; residuals are handed over in chunks
/// of at most so many.
pub(super) const CHUNK: usize = 64;
/// Zeros that announce 32 plain bits: a code then costs 49 bits at most.
pub(super) const ESCAPE: u32 = 16;
/// Values that share one bit-pack width.
const PACK: usize = 32;
/// Largest parameter whose codes come two to a refill.
const PAIR_K_MAX: u32 = BITS_MAX / 2 - ESCAPE - 1;

/// Writes at most [`CHUNK`] values.
pub(super) fn write(values: &[u32], codec: BlockCodec, writer: &mut BitWriter<'_>) {
    match codec {
        _ if values.is_empty() => {}
        BlockCodec::Rice => write_rice(values, writer),
        BlockCodec::BitPack => values.chunks(PACK).for_each(|pack| write_pack(pack, writer)),
    }
}

/// Reads as many residuals as there are slots; each slot gets what `restored`
/// makes of its residual, in order. Reading and restoring are both chains of
/// one value after the other; in one loop they run beside each other.
#[inline(always)]
pub(super) fn read<T>(
    slots: &mut [T],
    codec: BlockCodec,
    reader: &mut BitReader<'_>,
    mut restored: impl FnMut(u32) -> T,
) -> Result<(), BlockError> {
    for chunk in slots.chunks_mut(CHUNK) {
        match codec {
            BlockCodec::Rice => read_rice(chunk, reader, &mut restored)?,
            BlockCodec::BitPack => {
                for pack in chunk.chunks_mut(PACK) {
                    read_pack(pack, reader, &mut restored)?;
                }
            }
        }
        // Checked once a chunk: past the end the reader gives zeros, which
        // costs no more than reading a valid chunk does.
        reader.check()?;
    }
    Ok(())
}

fn write_rice(values: &[u32], writer: &mut BitWriter<'_>) {
    let largest = values.iter().fold(0, |all, &value| all | value);
    let k = parameter(values, largest);
    let mask = low_u32(low_mask(k));
    let length = k.wrapping_add(1);
    writer.put(u64::from(k), 5);
    if largest.wrapping_shr(k) < ESCAPE && k <= PAIR_K_MAX {
        // No escapes, and two codes fit one put: no branch on a value.
        let code = |value: u32| {
            let zeros = value.wrapping_shr(k);
            let rest = u64::from(value & mask).wrapping_shl(1) | 1;
            (rest.wrapping_shl(zeros), zeros.wrapping_add(length))
        };
        let pairs = values.chunks(2).filter_map(|pair| {
            let (&one, two) = pair.split_first()?;
            let (low, low_bits) = code(one);
            let (high, high_bits) = two.first().map_or((0, 0), |&two| code(two));
            let both = low | high.wrapping_shl(low_bits);
            Some((both, low_bits.wrapping_add(high_bits)))
        });
        writer.put_all(pairs);
        return;
    }
    // Either code fits one put, and which of them it is is a choice between two
    // numbers: where a load steps, a branch would be guessed wrong.
    let escape = (1_u64.wrapping_shl(ESCAPE), ESCAPE.wrapping_add(1));
    let codes = values.iter().map(|&value| {
        let zeros = value.wrapping_shr(k);
        let rest = u64::from(value & mask).wrapping_shl(1) | 1;
        let code = (rest.wrapping_shl(zeros), zeros.wrapping_add(length));
        let wide = u64::from(value).wrapping_shl(escape.1) | escape.0;
        if zeros < ESCAPE { code } else { (wide, escape.1.wrapping_add(u32::BITS)) }
    });
    writer.put_all(codes);
}

/// The Rice parameter that costs fewest bits, sought from the mean's downward:
/// one large value lifts the mean far above the rest and is better escaped.
fn parameter(values: &[u32], largest: u32) -> u32 {
    let sum = values.iter().fold(0_u64, |sum, &value| sum.wrapping_add(u64::from(value)));
    let count = u64::try_from(values.len()).unwrap_or(u64::MAX);
    let mean = sum.checked_div(count).unwrap_or(0);
    let mut k = mean.checked_ilog2().unwrap_or(0).saturating_add(1).min(31);
    let mut bits = rice_bits(values, largest, k);
    while let Some(lower) = k.checked_sub(1) {
        let lower_bits = rice_bits(values, largest, lower);
        if lower_bits > bits {
            break;
        }
        (k, bits) = (lower, lower_bits);
    }
    k
}

/// Bits that the values cost with parameter k, but for one a value; no value
/// has a bit that `largest` lacks.
fn rice_bits(values: &[u32], largest: u32, k: u32) -> u32 {
    const ESCAPED: u32 = ESCAPE + u32::BITS;
    let zeros = values.iter().map(|value| value.wrapping_shr(k));
    let zeros = if largest.wrapping_shr(k) < ESCAPE {
        zeros.fold(0_u32, u32::wrapping_add)
    } else {
        let bits = zeros.map(|zeros| if zeros < ESCAPE { zeros } else { ESCAPED });
        bits.fold(0_u32, u32::wrapping_add)
    };
    let count = u32::try_from(values.len()).unwrap_or(u32::MAX);
    zeros.wrapping_add(count.wrapping_mul(k))
}

#[inline(always)]
fn read_rice<T>(
    slots: &mut [T],
    reader: &mut BitReader<'_>,
    restored: &mut impl FnMut(u32) -> T,
) -> Result<(), BlockError> {
    let k = reader.take_u32(5);
    // A copy lives in registers for the length of the chunk.
    let mut bits = reader.clone();
    let mask = low_mask(k);
    let refilled_for = if k <= PAIR_K_MAX { 2 } else { 1 };
    for few in slots.chunks_mut(refilled_for) {
        bits.refill();
        for slot in few {
            *slot = restored(match take_rice(k, mask, &mut bits) {
                Some(value) => value,
                None => take_escape(&mut bits)?,
            });
        }
    }
    *reader = bits;
    Ok(())
}

/// One code out of the bits held; `None`, and nothing taken, where it has too
/// many zeros.
#[inline(always)]
fn take_rice(k: u32, mask: u64, bits: &mut BitReader<'_>) -> Option<u32> {
    let word = bits.peek();
    let zeros = word.trailing_zeros();
    if zeros >= ESCAPE {
        return None;
    }
    let rest = word.wrapping_shr(zeros.wrapping_add(1)) & mask;
    bits.skip(zeros.wrapping_add(1).wrapping_add(k));
    Some(low_u32(u64::from(zeros).wrapping_shl(k) | rest))
}

#[cold]
fn take_escape(bits: &mut BitReader<'_>) -> Result<u32, BlockError> {
    let zeros = bits.peek().trailing_zeros();
    if zeros > ESCAPE {
        // Past the end there are nothing but zeros: that is the plainer news.
        bits.skip(ESCAPE.wrapping_add(1));
        bits.check()?;
        return Err(BlockError::Zeros { zeros });
    }
    bits.skip(ESCAPE.wrapping_add(1));
    let value = bits.take_u32(u32::BITS);
    bits.refill();
    Ok(value)
}

fn write_pack(values: &[u32], writer: &mut BitWriter<'_>) {
    let largest = values.iter().fold(0, |all, &value| all | value);
    let width = u32::BITS.wrapping_sub(largest.leading_zeros());
    writer.put(u64::from(width), 6);
    writer.put_all(values.iter().map(|&value| (u64::from(value), width)));
}

#[inline(always)]
fn read_pack<T>(
    slots: &mut [T],
    reader: &mut BitReader<'_>,
    restored: &mut impl FnMut(u32) -> T,
) -> Result<(), BlockError> {
    let width = reader.take_u32(6);
    if width > u32::BITS {
        return Err(BlockError::Width { width });
    }
    let mut bits = reader.clone();
    for slot in slots {
        *slot = restored(bits.take_u32(width));
    }
    *reader = bits;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(values: &[u32], codec: BlockCodec) -> usize {
        let mut bytes = Vec::new();
        let mut writer = BitWriter::new(&mut bytes);
        write(values, codec, &mut writer);
        writer.finish();
        let mut back = vec![0; values.len()];
        let mut reader = BitReader::new(&bytes);
        assert_eq!(read(&mut back, codec, &mut reader, |value| value), Ok(()));
        assert_eq!(reader.finish(), Ok(()));
        assert_eq!(back, values);
        bytes.len()
    }

    #[test]
    fn corners_come_back_in_both_codecs() {
        for codec in [BlockCodec::Rice, BlockCodec::BitPack] {
            for values in [
                &[][..],
                &[0],
                &[u32::MAX],
                &[0, 0, u32::MAX, 1],
                &[15, 16, 17, 0, 0, 0, 0, 0],
                &[u32::MAX; CHUNK],
                &[1 << 31; CHUNK],
            ] {
                there_and_back(values, codec);
            }
        }
    }

    #[test]
    fn no_chunk_costs_more_than_an_escape_for_each_value() {
        let mut values = [0; CHUNK];
        values[7] = u32::MAX;
        assert!(there_and_back(&values, BlockCodec::Rice) < 25);
        assert!(there_and_back(&[u32::MAX; CHUNK], BlockCodec::Rice) <= 64 * 49 / 8 + 1);
    }

    #[test]
    fn seventeen_zeros_are_no_rice_code() {
        let bytes = [0, 0, 0, 0xff, 0, 0, 0, 0];
        let read = read(&mut [0], BlockCodec::Rice, &mut BitReader::new(&bytes), |value| value);
        assert_eq!(read, Err(BlockError::Zeros { zeros: 19 }));
    }

    #[test]
    fn thirty_three_bits_are_no_width() {
        let read = read(&mut [0], BlockCodec::BitPack, &mut BitReader::new(&[33]), |value| value);
        assert_eq!(read, Err(BlockError::Width { width: 33 }));
    }
}
