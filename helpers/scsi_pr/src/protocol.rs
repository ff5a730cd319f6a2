//! The wire format. All integers are big-endian; see QEMU's docs/interop/pr-helper.rst.

/// Feature bits offered, in the hello.
pub const FEATURES: u32 = 0;
/// Bytes of a command descriptor block.
pub const CDB_SIZE: usize = 16;
/// Most bytes of parameters or payload.
pub const DATA_MAX: usize = 8192;
/// Bytes of sense data in a reply.
pub const SENSE_SIZE: usize = 96;
/// Bytes of a reply without its payload: status, payload length, sense.
pub const REPLY_SIZE: usize = 8 + SENSE_SIZE;

/// Operation code PERSISTENT RESERVE IN (SPC-4 6.15).
pub const PERSISTENT_RESERVE_IN: u8 = 0x5e;
/// Operation code PERSISTENT RESERVE OUT (SPC-4 6.16).
pub const PERSISTENT_RESERVE_OUT: u8 = 0x5f;

/// A command that may be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command {
    /// The block as it came; it reaches the device unchanged.
    pub cdb: [u8; CDB_SIZE],
    /// Allocation length (IN) or parameter list length (OUT), in bytes.
    pub length: usize,
}

/// Why a client is sent away without a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// Another operation than the two.
    Opcode(u8),
    /// More than [`DATA_MAX`] bytes.
    Length(usize),
}

impl Command {
    /// Takes a command in.
    ///
    /// # Errors
    /// See [`Invalid`].
    pub fn decode(cdb: [u8; CDB_SIZE]) -> Result<Self, Invalid> {
        if cdb[0] != PERSISTENT_RESERVE_IN && cdb[0] != PERSISTENT_RESERVE_OUT {
            return Err(Invalid::Opcode(cdb[0]));
        }
        let length = usize::from(u16::from_be_bytes([cdb[7], cdb[8]]));
        if length > DATA_MAX {
            return Err(Invalid::Length(length));
        }
        Ok(Self { cdb, length })
    }

    /// Whether this is PERSISTENT RESERVE OUT.
    #[must_use]
    pub fn is_out(&self) -> bool {
        self.cdb[0] == PERSISTENT_RESERVE_OUT
    }

    /// The service action (bits 4..0 of byte 1).
    #[must_use]
    pub fn service_action(&self) -> u8 {
        self.cdb[1] & 0x1f
    }
}

/// The reply and its payload in one buffer, ready to be sent by one call.
#[derive(Debug)]
pub struct Reply {
    bytes: [u8; REPLY_SIZE + DATA_MAX],
    payload: usize,
}

impl Default for Reply {
    fn default() -> Self {
        Self { bytes: [0; REPLY_SIZE + DATA_MAX], payload: 0 }
    }
}

impl Reply {
    /// The room for the payload. What it holds counts only as far as [`Self::set`] says.
    pub fn data(&mut self) -> &mut [u8] {
        &mut self.bytes[REPLY_SIZE..]
    }

    /// Fills in status, sense (zero-padded, cut to its field) and the payload's length.
    pub fn set(&mut self, status: u8, sense: &[u8], payload: usize) {
        self.payload = payload.min(DATA_MAX);
        self.bytes[..4].copy_from_slice(&u32::from(status).to_be_bytes());
        self.bytes[4..8].copy_from_slice(&(self.payload as u32).to_be_bytes());
        let used = sense.len().min(SENSE_SIZE);
        self.bytes[8..8 + used].copy_from_slice(&sense[..used]);
        self.bytes[8 + used..REPLY_SIZE].fill(0);
    }

    /// What goes over the wire.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        &self.bytes[..REPLY_SIZE + self.payload]
    }

    /// Bytes of payload.
    #[must_use]
    pub fn payload(&self) -> usize {
        self.payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        let mut cdb = [0; CDB_SIZE];
        cdb[0] = 0x5e;
        cdb[1] = 0xe3;
        // Bytes 5 and 6 are no part of the length.
        cdb[5..9].copy_from_slice(&[0xff, 0xff, 0x20, 0x00]);
        let command = Command::decode(cdb).unwrap();
        assert_eq!((command.length, command.service_action(), command.is_out()), (8192, 3, false));
        cdb[8] = 1;
        assert_eq!(Command::decode(cdb), Err(Invalid::Length(8193)));
        cdb[0] = 0;
        assert_eq!(Command::decode(cdb), Err(Invalid::Opcode(0)));
    }

    #[test]
    fn replies_are_big_endian_and_leak_nothing() {
        let mut reply = Reply::default();
        reply.data()[..3].copy_from_slice(b"abc");
        reply.set(2, &[0x70; 100], 0);
        assert_eq!(reply.wire().len(), REPLY_SIZE);
        reply.set(0, &[1], 3);
        assert_eq!(reply.wire()[..10], [0, 0, 0, 0, 0, 0, 0, 3, 1, 0]);
        assert!(reply.wire()[9..REPLY_SIZE].iter().all(|&b| b == 0));
        assert_eq!(&reply.wire()[REPLY_SIZE..], b"abc");
    }
}
