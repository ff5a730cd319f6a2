//! Messages out of a byte stream.

use crate::message::{DESCRIPTORS_MAX, HEADER_SIZE, Header, Kind, LENGTH_SIZE, MESSAGE_MAX};
use crate::xdr::{Decoder, Xdr};
use std::collections::VecDeque;

/// A message as it was received.
#[derive(Debug)]
pub struct Incoming<D> {
    /// Its header.
    pub header: Header,
    /// What follows the header, without the count of descriptors.
    pub payload: Vec<u8>,
    /// The descriptors that came with it.
    pub descriptors: Vec<D>,
}

/// The peer does not keep to the framing: there is nothing to be said to it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// What has been received and not been made a message yet. `D` is a descriptor.
#[derive(Debug)]
pub struct Input<D> {
    bytes: Vec<u8>,
    /// Where the next message begins.
    start: usize,
    descriptors: VecDeque<D>,
}

impl<D> Default for Input<D> {
    fn default() -> Self {
        Self { bytes: Vec::new(), start: 0, descriptors: VecDeque::new() }
    }
}

/// More memory than this is given back when a message has been dealt with.
const KEPT: usize = 64 << 10;

impl<D> Input<D> {
    /// Takes what was received.
    ///
    /// # Errors
    /// More descriptors wait than any message may have.
    pub fn push(&mut self, bytes: &[u8], descriptors: impl IntoIterator<Item = D>) -> Result<(), Malformed> {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
        self.descriptors.extend(descriptors);
        if self.descriptors.len() > DESCRIPTORS_MAX { Err(Malformed) } else { Ok(()) }
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether no byte waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next whole message; `None`: more has to be received first.
    ///
    /// # Errors
    /// The length or the number of descriptors is none.
    pub fn next_message(&mut self) -> Result<Option<Incoming<D>>, Malformed> {
        let rest = &self.bytes[self.start..];
        let Some((word, _)) = rest.split_first_chunk::<LENGTH_SIZE>() else { return Ok(None) };
        let length = u32::from_be_bytes(*word) as usize;
        if !(LENGTH_SIZE + HEADER_SIZE..=MESSAGE_MAX + LENGTH_SIZE).contains(&length) {
            return Err(Malformed);
        }
        let Some(message) = rest.get(LENGTH_SIZE..length) else { return Ok(None) };
        let mut decoder = Decoder::new(message);
        let header = Header::decode(&mut decoder).map_err(|_| Malformed)?;
        let with = matches!(Kind::from_number(header.kind), Some(Kind::CallWithFds | Kind::ReplyWithFds));
        let mut count = 0;
        if with {
            count = u32::decode(&mut decoder).map_err(|_| Malformed)? as usize;
            if count > DESCRIPTORS_MAX {
                return Err(Malformed);
            }
        }
        // One byte each carries the descriptors.
        if rest.len() < length + count {
            return Ok(None);
        }
        if self.descriptors.len() < count {
            return Err(Malformed);
        }
        let payload = decoder.rest().to_vec();
        let descriptors = self.descriptors.drain(..count).collect();
        self.start += length + count;
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
            self.bytes.shrink_to(KEPT);
        }
        Ok(Some(Incoming { header, payload, descriptors }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::encode;

    fn call(kind: Kind, descriptors: Option<usize>) -> Vec<u8> {
        let header = Header { program: 1, version: 1, procedure: 1, kind: kind as u32, serial: 9, status: 0 };
        encode(&header, descriptors, &7u32).expect("bytes")
    }

    #[test]
    fn messages_arrive_in_pieces() {
        let mut input = Input::<()>::default();
        let bytes = [call(Kind::Call, None), call(Kind::Call, None)].concat();
        for byte in &bytes[..31] {
            input.push(&[*byte], []).expect("push");
            assert!(input.next_message().expect("next").is_none());
        }
        input.push(&bytes[31..], []).expect("push");
        for _ in 0..2 {
            let message = input.next_message().expect("next").expect("a message");
            assert_eq!((message.header.serial, message.payload.as_slice()), (9, &[0, 0, 0, 7][..]));
        }
        assert!(input.next_message().expect("next").is_none());
    }

    #[test]
    fn descriptors_follow_their_message() {
        let mut input = Input::default();
        input.push(&call(Kind::CallWithFds, Some(2)), []).expect("push");
        assert!(input.next_message().expect("next").is_none());
        input.push(&[0], [3]).expect("push");
        assert!(input.next_message().expect("next").is_none());
        input.push(&[0], [4]).expect("push");
        let message = input.next_message().expect("next").expect("a message");
        assert_eq!((message.descriptors, message.payload.len()), (vec![3, 4], 4));
    }

    #[test]
    fn what_is_no_message_is_noticed() {
        for bytes in [
            &[0, 0, 0, 27][..],
            &[2, 0, 0, 5],
            &[0xff, 0xff, 0xff, 0xff],
            &[call(Kind::CallWithFds, Some(1)).as_slice(), &[0]].concat(),
        ] {
            let mut input = Input::<u8>::default();
            input.push(bytes, []).expect("push");
            assert_eq!(input.next_message().err(), Some(Malformed));
        }
        let mut input = Input::default();
        assert_eq!(input.push(&[], 0..33), Err(Malformed));
    }
}
