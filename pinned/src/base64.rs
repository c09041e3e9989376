//! The 43 characters of a key of 32 bytes.
//!
//! Owns base64 with the standard alphabet, without padding, for that one length.
//! Source: RFC 4648 §4.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const DIGIT_BITS: u32 = 6;
/// Characters of 32 bytes: 42 whole ones and four bits in the last.
const DIGITS: usize = 43;

/// The text of 32 bytes.
pub(crate) fn encode(bytes: &[u8; 32]) -> String {
    let mut text = String::with_capacity(DIGITS);
    let (mut held, mut held_bits) = (0_u32, 0_u32);
    let mut push = |digit: u32| {
        let digit = usize::try_from(digit & 0x3f).unwrap_or_default();
        text.push(ALPHABET.get(digit).copied().map_or('A', char::from));
    };
    for &byte in bytes {
        held = (held << 8) | u32::from(byte);
        held_bits += 8;
        while held_bits >= DIGIT_BITS {
            held_bits -= DIGIT_BITS;
            push(held >> held_bits);
        }
        held &= (1 << held_bits) - 1;
    }
    push(held << (DIGIT_BITS - held_bits));
    text
}

/// The 32 bytes of a text, with or without its one `=`; `None` for any other,
/// and where bits that mean nothing are set: one key has one text.
pub(crate) fn decode(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_suffix('=').unwrap_or(text);
    if digits.len() != DIGITS {
        return None;
    }
    let mut bytes = [0; 32];
    let mut places = bytes.iter_mut();
    let (mut held, mut held_bits) = (0_u32, 0_u32);
    for digit in digits.bytes() {
        let value = ALPHABET.iter().position(|&one| one == digit)?;
        held = (held << DIGIT_BITS) | u32::try_from(value).ok()?;
        held_bits += DIGIT_BITS;
        if held_bits >= 8 {
            held_bits -= 8;
            *places.next()? = u8::try_from(held >> held_bits).ok()?;
            held &= (1 << held_bits) - 1;
        }
    }
    (held == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_coreutils() {
        // printf '\0…\37' | base64, and head -c 32 of 0xff.
        let counting: [u8; 32] = std::array::from_fn(|place| u8::try_from(place).unwrap());
        assert_eq!(encode(&counting), "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8");
        assert_eq!(encode(&[0xff; 32]), "//////////////////////////////////////////8");
        for bytes in [counting, [0xff; 32], [0; 32], [0x5a; 32]] {
            assert_eq!(decode(&encode(&bytes)), Some(bytes));
            assert_eq!(decode(&(encode(&bytes) + "=")), Some(bytes));
        }
    }

    #[test]
    fn a_text_that_is_none_is_refused() {
        let good = encode(&[7; 32]);
        assert_eq!(decode(&good[1..]), None);
        assert_eq!(decode(&format!("{good}A")), None);
        assert_eq!(decode(&good.replace('B', "-")), None);
        // Bits behind the last byte.
        assert_eq!(decode("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9"), None);
    }
}
