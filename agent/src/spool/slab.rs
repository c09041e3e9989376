//! A slab: memory that is had once and lent in chunks.
//!
//! Owns the chunks and the list of free ones. Knows no frame. What is lent is a
//! chain of chunks, so that frames of all lengths come and go in any order and
//! nothing is ever moved.

/// Bytes of a chunk: a record of a campaign takes one, a block of 64 rows two.
const CHUNK_BYTES: usize = 256;
/// The end of a chain.
const NONE: u32 = u32::MAX;
/// What fresh memory is filled with. Not zeros: for those the allocator leaves the
/// pages to the kernel until something else is written.
const FILL: u8 = 0xA5;

/// Memory in chunks.
#[derive(Debug)]
pub(super) struct Slab {
    bytes: Vec<u8>,
    /// The chunk behind each one in its chain.
    next: Vec<u32>,
    free: u32,
    free_chunks: usize,
}

/// A chain of chunks that is lent, and the bytes in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lent {
    first: u32,
    length: u32,
}

impl Default for Lent {
    fn default() -> Self {
        Self { first: NONE, length: 0 }
    }
}

impl Default for Slab {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Slab {
    /// A slab of whole chunks, `bytes` at most. All of it is touched.
    pub(super) fn new(bytes: usize) -> Self {
        let chunks = (bytes / CHUNK_BYTES).min(usize::try_from(NONE - 1).unwrap_or(0));
        let behind = |chunk: usize| {
            let next = u32::try_from(chunk + 1).unwrap_or(NONE);
            if chunk + 1 < chunks { next } else { NONE }
        };
        Self {
            bytes: vec![FILL; chunks * CHUNK_BYTES],
            next: (0..chunks).map(behind).collect(),
            free: if chunks > 0 { 0 } else { NONE },
            free_chunks: chunks,
        }
    }

    /// Chunks, lent and free.
    pub(super) fn chunks(&self) -> usize {
        self.next.len()
    }

    /// Bytes of all chunks that are lent.
    pub(super) fn lent_bytes(&self) -> usize {
        (self.chunks() - self.free_chunks) * CHUNK_BYTES
    }

    /// True where there is room for so many bytes.
    pub(super) fn fits(&self, bytes: usize) -> bool {
        bytes.div_ceil(CHUNK_BYTES) <= self.free_chunks
    }

    /// Takes a copy; `None` where there is no room.
    pub(super) fn lend(&mut self, bytes: &[u8]) -> Option<Lent> {
        if bytes.is_empty() || !self.fits(bytes.len()) {
            return None;
        }
        let length = u32::try_from(bytes.len()).ok()?;
        let first = self.free;
        for part in bytes.chunks(CHUNK_BYTES) {
            let chunk = self.free;
            let start = place(chunk) * CHUNK_BYTES;
            self.bytes.get_mut(start..start + part.len())?.copy_from_slice(part);
            self.free = self.behind(chunk);
            self.free_chunks -= 1;
        }
        Some(Lent { first, length })
    }

    /// What was lent.
    pub(super) fn read(&self, lent: Lent) -> Vec<u8> {
        let length = place(lent.length);
        let mut out = Vec::with_capacity(length);
        let mut chunk = lent.first;
        while out.len() < length {
            let start = place(chunk) * CHUNK_BYTES;
            let end = start + CHUNK_BYTES.min(length - out.len());
            let Some(part) = self.bytes.get(start..end) else { break };
            out.extend_from_slice(part);
            chunk = self.behind(chunk);
        }
        out
    }

    /// Takes a chain back.
    pub(super) fn give_back(&mut self, lent: Lent) {
        let chunks = place(lent.length).div_ceil(CHUNK_BYTES);
        let mut last = lent.first;
        for _ in 1..chunks {
            last = self.behind(last);
        }
        if let Some(next) = self.next.get_mut(place(last)) {
            *next = self.free;
            self.free = lent.first;
            self.free_chunks += chunks;
        }
    }

    fn behind(&self, chunk: u32) -> u32 {
        self.next.get(place(chunk)).copied().unwrap_or(NONE)
    }
}

fn place(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_lent_comes_back_as_it_went_in_whatever_order(
            steps in proptest::collection::vec((any::<bool>(), 1_usize..1_500, any::<u8>()), 0..200),
        ) {
            let mut slab = Slab::new(20 * CHUNK_BYTES + 17);
            let mut lent: Vec<(Lent, Vec<u8>)> = Vec::new();
            for (takes, length, byte) in steps {
                if takes {
                    let bytes = vec![byte; length];
                    let fits = slab.fits(length);
                    match slab.lend(&bytes) {
                        Some(chain) => {
                            prop_assert!(fits);
                            lent.push((chain, bytes));
                        }
                        None => prop_assert!(!fits),
                    }
                } else if !lent.is_empty() {
                    let (chain, bytes) = lent.swap_remove(length % lent.len());
                    prop_assert_eq!(slab.read(chain), bytes);
                    slab.give_back(chain);
                }
                let chunks: usize = lent.iter().map(|(_, it)| it.len().div_ceil(CHUNK_BYTES)).sum();
                prop_assert_eq!(slab.lent_bytes(), chunks * CHUNK_BYTES);
            }
            for (chain, bytes) in lent {
                prop_assert_eq!(slab.read(chain), bytes);
                slab.give_back(chain);
            }
            prop_assert_eq!(slab.lent_bytes(), 0);
            // All chunks are there again, each once.
            prop_assert!(slab.lend(&vec![1; 20 * CHUNK_BYTES]).is_some());
            prop_assert!(!slab.fits(1));
        }
    }

    #[test]
    fn a_slab_without_a_chunk_lends_nothing() {
        assert!(Slab::new(CHUNK_BYTES - 1).lend(b"x").is_none());
        assert!(Slab::default().lend(b"x").is_none());
    }
}
