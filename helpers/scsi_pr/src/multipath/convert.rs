//! Commands and results in the structures of libmpathpersist (mpath_persist.h): numbers in host byte order, all offsets
//! those of a 64-bit C compiler.

use crate::protocol::{Command, DATA_MAX};
use crate::sense::{self, Sense};
use crate::transport::{self, Malformed, TransportId};

/// Bytes of the library's buffers (`MPATH_MAX_PARAM_LEN`).
const PARAM_MAX: usize = 8192;
/// Bytes of `struct transportid`.
pub const TRANSPORT_ID: usize = 258;
/// Bytes of `struct prin_fulldescr`.
const FULL_DESCRIPTOR: usize = 270;
/// Most descriptors of a full status that the library can hold without writing over its own list.
const FULL_DESCRIPTORS: usize = PARAM_MAX / FULL_DESCRIPTOR;
/// Bytes for any result: `struct prin_resp`, and room behind it for whatever list the library makes of 8 KiB of data.
pub const RESULT_SIZE: usize = 128 << 10;
/// Offset of `num_transportid` in `struct prout_param_descriptor`; the list of pointers follows, aligned.
pub const ID_COUNT_AT: usize = 24 + PARAM_MAX;
/// Offset of `trnptid_list`.
pub const ID_LIST_AT: usize = ID_COUNT_AT + 8;
/// Bytes of `struct prout_param_descriptor` with a full list.
pub const PARAMETERS_SIZE: usize = ID_LIST_AT + 8 * transport::MAX_IDS;

/// A command that the library is to carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// PERSISTENT RESERVE IN with this service action.
    In(u8),
    /// PERSISTENT RESERVE OUT.
    Out {
        /// Service action.
        action: u8,
        /// Scope.
        scope: u8,
        /// Type.
        kind: u8,
        /// The parameter list before its TransportIDs.
        fixed: [u8; transport::FIXED],
        /// Each TransportID as a `struct transportid`.
        ids: Vec<[u8; TRANSPORT_ID]>,
    },
}

/// READ KEYS.
pub const READ_KEYS: u8 = 0;
/// READ RESERVATION.
pub const READ_RESERVATION: u8 = 1;
/// REPORT CAPABILITIES.
pub const REPORT_CAPABILITIES: u8 = 2;
/// READ FULL STATUS.
pub const READ_FULL_STATUS: u8 = 3;
/// REGISTER AND IGNORE EXISTING KEY, the highest service action that may go out.
const REGISTER_AND_IGNORE: u8 = 6;

/// What a command is for the library.
///
/// # Errors
/// The sense to answer with when the command or its parameter list cannot be right.
pub fn task(command: &Command, list: &[u8]) -> Result<Task, Sense> {
    // With the reserved bits: one that is set makes another service action of it.
    let action = command.cdb[1];
    if !command.is_out() {
        return if action <= READ_FULL_STATUS { Ok(Task::In(action)) } else { Err(sense::INVALID_FIELD) };
    }
    if action > REGISTER_AND_IGNORE {
        return Err(sense::INVALID_FIELD);
    }
    let ids = transport::parse(list).map_err(|malformed| match malformed {
        Malformed::Length => sense::PARAMETER_LENGTH,
        Malformed::Field => sense::INVALID_PARAMETER,
    })?;
    let fixed = list.first_chunk().ok_or(sense::PARAMETER_LENGTH)?;
    Ok(Task::Out {
        action,
        scope: command.cdb[2] >> 4,
        kind: command.cdb[2] & 0xf,
        fixed: *fixed,
        ids: ids.iter().map(transport_id).collect(),
    })
}

/// A `struct transportid`: format code, protocol identifier, then the name (for iSCSI with its length before it).
fn transport_id(id: &TransportId<'_>) -> [u8; TRANSPORT_ID] {
    let mut bytes = [0; TRANSPORT_ID];
    let (format, protocol, name) = match *id {
        TransportId::FibreChannel(name) => (0, 0, name),
        TransportId::Sas(address) => (0, 6, address),
        TransportId::Iscsi { format, tail } => (format, 5, tail),
    };
    (bytes[0], bytes[1]) = (format, protocol);
    bytes[2..2 + name.len()].copy_from_slice(name);
    bytes
}

/// A `struct prout_param_descriptor` but for the pointers of its list.
#[must_use]
pub fn parameters(fixed: &[u8; transport::FIXED], ids: usize) -> Vec<u8> {
    let mut bytes = vec![0; PARAMETERS_SIZE];
    // Both keys; the flags of byte 20. The rest is obsolete or reserved.
    bytes[..16].copy_from_slice(&fixed[..16]);
    bytes[20] = fixed[20];
    bytes[ID_COUNT_AT..ID_COUNT_AT + 4].copy_from_slice(&(ids as u32).to_ne_bytes());
    bytes
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

/// The data of PERSISTENT RESERVE IN as the device would send them, out of the library's result, cut to `length` bytes.
///
/// # Errors
/// INVALID FIELD IN CDB for a full status that the library cannot tell.
pub fn payload(action: u8, result: &[u8], length: usize) -> Result<Vec<u8>, Sense> {
    let mut data = Vec::new();
    match action {
        READ_KEYS | READ_RESERVATION => {
            let additional = word(result, 4);
            data.extend(word(result, 0).to_be_bytes());
            data.extend(additional.to_be_bytes());
            let room = if action == READ_KEYS { PARAM_MAX } else { 16 };
            let used = usize::try_from(additional).unwrap_or(usize::MAX).min(room);
            data.extend(result.get(8..8 + used).unwrap_or_default());
        }
        REPORT_CAPABILITIES => {
            let half = |at| u16::from_ne_bytes([result[at], result[at + 1]]);
            let total = half(0);
            data.extend(total.to_be_bytes());
            data.extend(&result[2..4]);
            data.extend(half(4).to_be_bytes());
            data.extend(&result[6..8]);
            data.truncate(usize::from(total));
        }
        _ => full_status(result, &mut data).ok_or(sense::INVALID_FIELD)?,
    }
    data.truncate(length.min(DATA_MAX));
    Ok(data)
}

/// READ FULL STATUS parameter data (SPC-4 6.15.5) out of `struct print_fulldescr_list`. `None` when the list holds
/// more than the library has room for, or names of a transport that it does not keep.
fn full_status(result: &[u8], data: &mut Vec<u8>) -> Option<()> {
    let count = usize::try_from(word(result, 4)).ok().filter(|&n| n <= FULL_DESCRIPTORS)?;
    let mut descriptors = Vec::new();
    for descriptor in result.get(8..8 + count * FULL_DESCRIPTOR)?.chunks_exact(FULL_DESCRIPTOR) {
        let id = full_transport_id(&descriptor[12..])?;
        descriptors.extend(&descriptor[..8]);
        descriptors.extend([0; 4]);
        descriptors.extend(&descriptor[8..10]);
        descriptors.extend([0; 4]);
        descriptors.extend(u16::from_ne_bytes([descriptor[10], descriptor[11]]).to_be_bytes());
        descriptors.extend((id.len() as u32).to_be_bytes());
        descriptors.extend(id);
    }
    data.extend(word(result, 0).to_be_bytes());
    data.extend((descriptors.len() as u32).to_be_bytes());
    data.extend(descriptors);
    Some(())
}

/// A TransportID (SPC-4 7.6.4) out of a `struct transportid` of a result, whose format code is a plain number.
fn full_transport_id(id: &[u8]) -> Option<Vec<u8>> {
    let (format, protocol, name) = (id[0], id[1], &id[2..]);
    let mut bytes = vec![0; 24];
    bytes[0] = (format & 3) << 6 | protocol;
    match protocol {
        0 => bytes[8..16].copy_from_slice(&name[..8]),
        6 => bytes[4..12].copy_from_slice(&name[..8]),
        5 => {
            // The name with its end, in full words; 20 bytes at least.
            let end = name.iter().position(|&b| b == 0)?;
            let length = (end + 1).next_multiple_of(4).max(20);
            bytes[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            bytes.resize(4 + length, 0);
            bytes[4..4 + end].copy_from_slice(&name[..end]);
        }
        _ => return None,
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(opcode: u8, action: u8, length: u16) -> Command {
        let mut cdb = [0; 16];
        (cdb[0], cdb[1], cdb[2]) = (opcode, action, 0x15);
        cdb[7..9].copy_from_slice(&length.to_be_bytes());
        Command::decode(cdb).unwrap()
    }

    #[test]
    fn allowed_service_actions() {
        for action in 0..=0xff {
            let read = task(&command(0x5e, action, 8), &[]);
            assert_eq!(read, if action <= 3 { Ok(Task::In(action)) } else { Err(Sense(5, 0x24, 0)) });
            let write = task(&command(0x5f, action, 24), &[0; 24]);
            assert_eq!(write.is_ok(), action <= 6, "{action}");
            assert!(write.is_ok() || write == Err(Sense(5, 0x24, 0)));
        }
        assert_eq!(task(&command(0x5f, 0, 23), &[0; 23]), Err(Sense(5, 0x1a, 0)));
        assert_eq!(task(&command(0x5f, 0, 26), &[0; 26]), Err(Sense(5, 0x1a, 0)));
        let mut list = [0; 52];
        (list[27], list[28]) = (24, 1);
        assert_eq!(task(&command(0x5f, 0, 52), &list), Err(Sense(5, 0x26, 0)));
    }

    #[test]
    fn registration_with_transport_ids() {
        let mut list = vec![0; 24];
        list[..8].copy_from_slice(b"oldkey__");
        list[8..16].copy_from_slice(b"newkey__");
        list[20] = 0x09;
        let ids = [&[0x45, 0, 0, 8][..], b"iqn.a\0\0\0"].concat();
        list.extend((ids.len() as u32).to_be_bytes());
        list.extend(ids);
        let Ok(Task::Out { action: 0, scope: 1, kind: 5, fixed, ids }) = task(&command(0x5f, 0, 40), &list)
        else {
            panic!("a registration");
        };
        assert_eq!(ids[0][..12], *b"\x40\x05\0\x08iqn.a\0\0\0");
        let bytes = parameters(&fixed, ids.len());
        assert_eq!(bytes[..24], *b"oldkey__newkey__\0\0\0\0\x09\0\0\0");
        assert_eq!((word(&bytes, ID_COUNT_AT), bytes.len()), (1, 8224 + 256));
    }

    #[test]
    fn keys_reservation_and_capabilities() {
        let mut result = vec![0; RESULT_SIZE];
        result[..4].copy_from_slice(&0x0102_0304u32.to_ne_bytes());
        result[4..8].copy_from_slice(&16u32.to_ne_bytes());
        result[8..24].copy_from_slice(b"key1____key2____");
        let full = b"\x01\x02\x03\x04\0\0\0\x10key1____key2____";
        assert_eq!(payload(0, &result, 8192).unwrap(), full);
        assert_eq!(payload(0, &result, 8).unwrap(), full[..8]);
        assert_eq!(payload(0, &result, 3).unwrap(), full[..3]);
        assert_eq!(payload(1, &result, 24).unwrap(), full);
        result[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(payload(0, &result, 8192).unwrap().len(), 8192);
        assert_eq!(payload(1, &result, 8192).unwrap().len(), 24);
        let mut capabilities = vec![0; RESULT_SIZE];
        capabilities[..2].copy_from_slice(&8u16.to_ne_bytes());
        capabilities[2..4].copy_from_slice(&[0x11, 0x80]);
        capabilities[4..6].copy_from_slice(&0xea01u16.to_ne_bytes());
        assert_eq!(payload(2, &capabilities, 8192).unwrap(), [0, 8, 0x11, 0x80, 0xea, 1, 0, 0]);
    }

    fn full(descriptors: &[(u8, u8, &[u8])]) -> Vec<u8> {
        let mut result = vec![0; RESULT_SIZE];
        result[..4].copy_from_slice(&9u32.to_ne_bytes());
        result[4..8].copy_from_slice(&(descriptors.len() as u32).to_ne_bytes());
        for (i, (format, protocol, name)) in descriptors.iter().enumerate() {
            let at = 8 + i * FULL_DESCRIPTOR;
            result[at..at + 8].copy_from_slice(b"key_____");
            result[at + 8..at + 10].copy_from_slice(&[3, 5]);
            result[at + 10..at + 12].copy_from_slice(&0x1234u16.to_ne_bytes());
            (result[at + 12], result[at + 13]) = (*format, *protocol);
            result[at + 14..at + 14 + name.len()].copy_from_slice(name);
        }
        result
    }

    #[test]
    fn full_statuses() {
        let result =
            full(&[(0, 6, b"sasaddrs"), (1, 5, b"iqn.1991-05.com.example:a,i,0x1\0"), (0, 0, b"nportnam")]);
        let data = payload(3, &result, 8192).unwrap();
        assert_eq!(data[..8], [0, 0, 0, 9, 0, 0, 0, (48 + 24 + 36 + 48) as u8]);
        assert_eq!(data[8..32], *b"key_____\0\0\0\0\x03\x05\0\0\0\0\x12\x34\0\0\0\x18");
        assert_eq!(data[32..44], *b"\x06\0\0\0sasaddrs");
        let iscsi = &data[8 + 48 + 24..];
        assert_eq!(iscsi[..36], *b"\x45\0\0\x20iqn.1991-05.com.example:a,i,0x1\0");
        assert_eq!(payload(3, &full(&[]), 8192).unwrap(), [0, 0, 0, 9, 0, 0, 0, 0]);
        assert_eq!(payload(3, &result, 10).unwrap().len(), 10);
    }

    #[test]
    fn full_statuses_that_cannot_be_told() {
        // A transport whose names the library drops; more than it has room for; the raw length that it leaves there then.
        assert_eq!(payload(3, &full(&[(0, 4, b"srp")]), 8192), Err(Sense(5, 0x24, 0)));
        assert_eq!(payload(3, &full(&[(0, 6, &b""[..]); 31]), 8192), Err(Sense(5, 0x24, 0)));
        let mut result = full(&[]);
        result[4..8].copy_from_slice(&8448u32.to_ne_bytes());
        assert_eq!(payload(3, &result, 8192), Err(Sense(5, 0x24, 0)));
        assert!(payload(3, &full(&[(0, 6, &b"sasaddrs"[..]); 30]), 8192).is_ok());
    }
}
