//! Bits in bytes, least significant first.
//!
//! Owns the order of bits and the end of a payload: a reader past the end
//! sees zeros and says so when asked. Knows nothing of what the bits mean.
//! Source: F. Giesen, "Reading bits in far too many ways" (2018), variant 4.

use super::BlockError;

/// Most bits put or read at once: what a refilled reader holds at least.
pub(super) const BITS_MAX: u32 = 56;

/// Appends bits to bytes.
#[derive(Debug)]
pub(super) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    word: u64,
    used: u32,
}

impl<'a> BitWriter<'a> {
    pub(super) const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, word: 0, used: 0 }
    }

    /// Appends the low `bits` bits of a value that has no others.
    #[inline]
    pub(super) fn put(&mut self, value: u64, bits: u32) {
        self.put_all(core::iter::once((value, bits)));
    }

    /// Appends values with their bits, one after the other.
    #[inline(always)]
    pub(super) fn put_all(&mut self, values: impl Iterator<Item = (u64, u32)>) {
        // Copies live in registers for the length of the loop.
        let Self { word: mut all, mut used, .. } = *self;
        for (value, bits) in values {
            debug_assert!(bits <= BITS_MAX && value & !low_mask(bits) == 0);
            all |= value.wrapping_shl(used);
            let sum = used.wrapping_add(bits);
            if sum < u64::BITS {
                used = sum;
            } else {
                self.out.extend_from_slice(&all.to_le_bytes());
                all = value.wrapping_shr(u64::BITS.wrapping_sub(used));
                used = sum.wrapping_sub(u64::BITS);
            }
        }
        (self.word, self.used) = (all, used);
    }

    /// Appends a number as six bits of length and its bits but the first one.
    pub(super) fn put_number(&mut self, value: u64) {
        let length = value.checked_ilog2().map_or(0, |log| log.wrapping_add(1));
        self.put(u64::from(length.min(63)), 6);
        let bits = if length > 62 { 64 } else { length.saturating_sub(1) };
        self.put_wide(value & low_mask(bits), bits);
    }

    /// Appends up to 64 bits.
    pub(super) fn put_wide(&mut self, value: u64, bits: u32) {
        let low = bits.min(32);
        self.put(value & low_mask(low), low);
        self.put(value.checked_shr(low).unwrap_or(0), bits.wrapping_sub(low));
    }

    /// Fills the last byte with zeros.
    pub(super) fn finish(self) {
        let bytes = self.word.to_le_bytes();
        self.out.extend(bytes.iter().take(usize_of(self.used.div_ceil(8))));
    }
}

/// Takes bits from bytes.
#[derive(Clone, Debug)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// The byte that the next refill starts with.
    next: usize,
    /// The bits to come; those past `held` are true as well, or zero.
    word: u64,
    held: u32,
}

impl<'a> BitReader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, next: 0, word: 0, held: 0 }
    }

    /// Holds at least [`BITS_MAX`] bits after this.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        let rest = self.bytes.get(self.next..).unwrap_or(&[]);
        let word = match rest.first_chunk::<8>() {
            Some(bytes) => u64::from_le_bytes(*bytes),
            None => last_word(rest),
        };
        self.word |= word.wrapping_shl(self.held);
        self.next = self.next.wrapping_add(usize_of((63_u32.wrapping_sub(self.held)) >> 3));
        self.held |= BITS_MAX;
    }

    /// The bits to come, least significant first; at least as many as are held.
    #[inline(always)]
    pub(super) const fn peek(&self) -> u64 {
        self.word
    }

    /// Drops bits that are held.
    #[inline(always)]
    pub(super) const fn skip(&mut self, bits: u32) {
        self.word = self.word.wrapping_shr(bits);
        self.held = self.held.wrapping_sub(bits);
    }

    /// Takes up to [`BITS_MAX`] bits.
    #[inline]
    pub(super) fn take(&mut self, bits: u32) -> u64 {
        debug_assert!(bits <= BITS_MAX);
        self.refill();
        let value = self.word & low_mask(bits);
        self.skip(bits);
        value
    }

    /// Takes up to 32 bits.
    #[inline]
    pub(super) fn take_u32(&mut self, bits: u32) -> u32 {
        low_u32(self.take(bits.min(32)))
    }

    /// Takes up to 64 bits.
    pub(super) fn take_wide(&mut self, bits: u32) -> u64 {
        let low = bits.min(32);
        let value = self.take(low);
        value | self.take(bits.wrapping_sub(low)).wrapping_shl(32)
    }

    /// Takes what [`BitWriter::put_number`] put.
    pub(super) fn take_number(&mut self) -> u64 {
        match self.take_u32(6) {
            0 => 0,
            63 => self.take_wide(64),
            length => {
                let bits = length.wrapping_sub(1);
                self.take_wide(bits) | 1_u64.wrapping_shl(bits)
            }
        }
    }

    /// Refuses to have read past the end.
    pub(super) fn check(&self) -> Result<(), BlockError> {
        let (taken, there) = (self.taken(), self.there());
        if taken > there {
            return Err(BlockError::Truncated { bits: there });
        }
        Ok(())
    }

    /// Refuses bytes that were not read, and a last byte not filled with zeros.
    pub(super) fn finish(mut self) -> Result<(), BlockError> {
        self.check()?;
        self.refill();
        let left = self.there().wrapping_sub(self.taken());
        let padding = u32::try_from(left).unwrap_or(u32::MAX);
        if padding >= 8 || self.word & low_mask(padding) != 0 {
            return Err(BlockError::Trailing { bits: left });
        }
        Ok(())
    }

    fn taken(&self) -> usize {
        self.next.wrapping_mul(8).wrapping_sub(usize_of(self.held))
    }

    const fn there(&self) -> usize {
        self.bytes.len().wrapping_mul(8)
    }
}

/// The low `bits` bits set; all of them from 64 on.
#[inline(always)]
pub(super) fn low_mask(bits: u32) -> u64 {
    1_u64.checked_shl(bits).map_or(u64::MAX, |bit| bit.wrapping_sub(1))
}

/// The low 32 bits.
#[inline(always)]
pub(super) const fn low_u32(word: u64) -> u32 {
    let [a, b, c, d, ..] = word.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// A count of bits or bytes as an index; no board has 16-bit addresses.
#[inline(always)]
fn usize_of(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cold]
fn last_word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, &byte| word.wrapping_shl(8) | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_each_length_come_back() {
        let numbers: Vec<u64> =
            (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, u64::MAX >> bit]).collect();
        let mut bytes = Vec::new();
        let mut writer = BitWriter::new(&mut bytes);
        numbers.iter().for_each(|&number| writer.put_number(number));
        writer.finish();
        let mut reader = BitReader::new(&bytes);
        assert!(numbers.iter().all(|&number| reader.take_number() == number));
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn reading_past_the_end_gives_zeros_and_is_told() {
        let mut reader = BitReader::new(&[0xff]);
        assert_eq!(reader.take(12), 0xff);
        assert_eq!(reader.check(), Err(BlockError::Truncated { bits: 8 }));
    }

    #[test]
    fn what_is_left_over_is_refused() {
        let mut reader = BitReader::new(&[0x07, 0x00]);
        reader.take(3);
        assert_eq!(reader.clone().finish(), Err(BlockError::Trailing { bits: 13 }));
        reader.take(6);
        assert_eq!(reader.finish(), Ok(()));
        let mut reader = BitReader::new(&[0x0f]);
        reader.take(3);
        assert_eq!(reader.finish(), Err(BlockError::Trailing { bits: 5 }));
    }
}
