//! Messages: a length, a header, a payload.

use crate::xdr::{Decoder, Encoder, Invalid, Xdr};

/// Bytes of the length.
pub const LENGTH_SIZE: usize = 4;
/// Bytes of the header.
pub const HEADER_SIZE: usize = 24;
/// Most bytes of a message without its length word.
pub const MESSAGE_MAX: usize = 33_554_432;
/// Most bytes of a piece of stream data for peers that know nothing of large messages.
pub const STREAM_CHUNK: usize = 262_120;
/// Most descriptors with a message.
pub const DESCRIPTORS_MAX: usize = 32;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// A call.
    Call = 0,
    /// The answer to one.
    Reply = 1,
    /// An event.
    Message = 2,
    /// Data of a stream, or its end.
    Stream = 3,
    /// A call with descriptors.
    CallWithFds = 4,
    /// An answer with descriptors.
    ReplyWithFds = 5,
    /// A hole in a stream.
    StreamHole = 6,
}

impl Kind {
    /// The kind of a number.
    pub fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Call,
            1 => Self::Reply,
            2 => Self::Message,
            3 => Self::Stream,
            4 => Self::CallWithFds,
            5 => Self::ReplyWithFds,
            6 => Self::StreamHole,
            _ => return None,
        })
    }
}

/// All is well.
pub const STATUS_OK: u32 = 0;
/// The payload is an error.
pub const STATUS_ERROR: u32 = 1;
/// More of a stream follows.
pub const STATUS_CONTINUE: u32 = 2;

/// A message's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The program.
    pub program: u32,
    /// Its version.
    pub version: u32,
    /// The procedure.
    pub procedure: u32,
    /// A [`Kind`], or anything else that a peer sends.
    pub kind: u32,
    /// The caller's number of the call.
    pub serial: u32,
    /// [`STATUS_OK`], [`STATUS_ERROR`] or [`STATUS_CONTINUE`].
    pub status: u32,
}

impl Header {
    /// The header of an answer.
    pub fn reply(&self, kind: Kind, status: u32) -> Self {
        Self { kind: kind as u32, status, ..*self }
    }
}

impl Xdr for Header {
    fn encode(&self, encoder: &mut Encoder) {
        for word in [self.program, self.version, self.procedure, self.kind, self.serial, self.status] {
            word.encode(encoder);
        }
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, Invalid> {
        Ok(Self {
            program: Xdr::decode(decoder)?,
            version: Xdr::decode(decoder)?,
            procedure: Xdr::decode(decoder)?,
            kind: Xdr::decode(decoder)?,
            serial: Xdr::decode(decoder)?,
            status: Xdr::decode(decoder)?,
        })
    }
}

/// A whole message; `descriptors` counts those that go with it, in a message whose kind says so.
///
/// # Errors
/// The payload is longer than the protocol allows.
pub fn encode(header: &Header, descriptors: Option<usize>, payload: &impl Xdr) -> Result<Vec<u8>, Invalid> {
    let mut bytes = Vec::with_capacity(128);
    bytes.extend_from_slice(&[0; LENGTH_SIZE]);
    let mut encoder = Encoder::new(bytes);
    header.encode(&mut encoder);
    if let Some(count) = descriptors {
        if count > DESCRIPTORS_MAX {
            return Err(Invalid);
        }
        (count as u32).encode(&mut encoder);
    }
    payload.encode(&mut encoder);
    let mut bytes = encoder.finish()?;
    seal(&mut bytes)?;
    Ok(bytes)
}

/// A whole message with bytes as they are.
///
/// # Errors
/// They are more than the protocol allows.
pub fn encode_raw(header: &Header, payload: &[u8]) -> Result<Vec<u8>, Invalid> {
    let mut bytes = Vec::with_capacity(LENGTH_SIZE + HEADER_SIZE + payload.len());
    bytes.extend_from_slice(&[0; LENGTH_SIZE]);
    let mut encoder = Encoder::new(bytes);
    header.encode(&mut encoder);
    encoder.put_raw(payload);
    let mut bytes = encoder.finish()?;
    seal(&mut bytes)?;
    Ok(bytes)
}

/// Writes the length of a message into its first word.
fn seal(bytes: &mut [u8]) -> Result<(), Invalid> {
    let length = bytes.len();
    if length > MESSAGE_MAX + LENGTH_SIZE {
        return Err(Invalid);
    }
    let (word, _) = bytes.split_first_chunk_mut().ok_or(Invalid)?;
    *word = (length as u32).to_be_bytes();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdr::from_bytes;

    #[test]
    fn a_message_begins_with_its_length() {
        let header = Header { program: 1, version: 2, procedure: 3, kind: 0, serial: 5, status: 0 };
        let bytes = encode(&header, None, &7u32).expect("bytes");
        assert_eq!(bytes.len(), 32);
        assert_eq!(bytes[..4], [0, 0, 0, 32]);
        assert_eq!(from_bytes::<Header>(&bytes[4..]), Ok(header));
        assert_eq!(encode_raw(&header, &[0, 0, 0, 7]).expect("bytes"), bytes);
        let with = encode(&header, Some(2), &7u32).expect("bytes");
        assert_eq!(with[28..], [0, 0, 0, 2, 0, 0, 0, 7]);
        assert_eq!(encode(&header, Some(33), &()), Err(Invalid));
    }
}
