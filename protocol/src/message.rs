//! A message in a frame of its own: what the session and the runner's pipe say.
//!
//! Owns the wrapping of a value that is never stored, there and back: no
//! identity, no sequence number. What the kinds mean is their owners'.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::frame::{self, Codec, Header, Identity};

/// A value as a frame of `kind`. Empty where it does not fit a frame: every
/// message is far below that limit by the bounds of its fields.
#[must_use]
pub fn framed<T: Serialize>(kind: u8, value: &T) -> Vec<u8> {
    // postcard fails only for lengths that are not known in advance; no message has one.
    framed_bytes(kind, &postcard::to_stdvec(value).unwrap_or_default())
}

/// Bytes that are a payload already, as a frame of `kind`; empty as [`framed`].
#[must_use]
pub fn framed_bytes(kind: u8, payload: &[u8]) -> Vec<u8> {
    let header = Header {
        kind,
        length: 0,
        codec: Codec::Postcard.id(),
        flags: 0,
        count: 0,
        identity: Identity::default(),
    };
    let mut bytes = Vec::new();
    if frame::encode(header, payload, &mut bytes).is_err() {
        bytes.clear();
    }
    bytes
}

/// The value of a message's payload; `None` where the bytes are not exactly one.
#[must_use]
pub fn value_of<T: DeserializeOwned>(payload: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(payload) {
        Ok((value, [])) => Some(value),
        Ok(_) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::PAYLOAD_BYTES_MAX;

    #[test]
    fn a_value_comes_back_and_a_byte_more_is_refused() {
        let bytes = framed(0x90, &(7_u32, "seven"));
        let frame = frame::decode(&bytes).unwrap();
        assert_eq!((frame.header.kind, frame.header.count), (0x90, 0));
        assert_eq!(value_of(frame.payload), Some((7_u32, "seven".to_owned())));
        let longer = [frame.payload, &[0]].concat();
        assert_eq!(value_of::<(u32, String)>(&longer), None);
    }

    #[test]
    fn what_does_not_fit_a_frame_is_left_out() {
        assert!(framed_bytes(0x85, &vec![0; PAYLOAD_BYTES_MAX + 1]).is_empty());
    }
}
