//! TransportIDs (SPC-4 7.6.4) in the parameter list of PERSISTENT RESERVE OUT: REGISTER with SPEC_I_PT.

/// Most TransportIDs of a list.
pub const MAX_IDS: usize = 32;
/// Bytes of a parameter list before its TransportIDs.
pub const FIXED: usize = 24;

/// One initiator port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransportId<'a> {
    /// Fibre Channel: N_Port name.
    FibreChannel(&'a [u8]),
    /// Serial Attached SCSI: address.
    Sas(&'a [u8]),
    /// iSCSI: name, with `,i,0x` and a session id when the format code (bits 7..6) is 01b.
    Iscsi {
        /// The format code in place (0 or 0x40).
        format: u8,
        /// Bytes 2 and on: the length of the name, and the name with its end and padding.
        tail: &'a [u8],
    },
}

/// Why a list is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Too short, or longer than its parts: PARAMETER LIST LENGTH ERROR (5/1a/00).
    Length,
    /// An identifier that is none: INVALID FIELD IN PARAMETER LIST (5/26/00).
    Field,
}

/// The TransportIDs of a parameter list of a command (the whole list, its fixed part included); empty when the list
/// carries none.
///
/// # Errors
/// See [`Malformed`]; more than [`MAX_IDS`] are [`Malformed::Field`].
pub fn parse(list: &[u8]) -> Result<Vec<TransportId<'_>>, Malformed> {
    let rest = list.get(FIXED..).ok_or(Malformed::Length)?;
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    let (head, rest) = rest.split_at_checked(4).ok_or(Malformed::Length)?;
    let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    let mut rest = usize::try_from(length).ok().and_then(|n| rest.get(..n)).ok_or(Malformed::Field)?;
    let mut ids = Vec::new();
    while !rest.is_empty() {
        if ids.len() == MAX_IDS {
            return Err(Malformed::Field);
        }
        let (id, used) = parse_one(rest).ok_or(Malformed::Field)?;
        ids.push(id);
        rest = &rest[used..];
    }
    Ok(ids)
}

fn parse_one(bytes: &[u8]) -> Option<(TransportId<'_>, usize)> {
    // Bits 5 and 4 are reserved; the original passes over them.
    match *bytes.first()? & 0xcf {
        0x00 => bytes.get(..24).map(|id| (TransportId::FibreChannel(&id[8..16]), 24)),
        0x06 => bytes.get(..24).map(|id| (TransportId::Sas(&id[4..12]), 24)),
        protocol @ (0x05 | 0x45) => {
            let length = usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]));
            if length > 252 || !length.is_multiple_of(4) {
                return None;
            }
            let tail = bytes.get(2..4 + length)?;
            tail[2..]
                .contains(&0)
                .then_some((TransportId::Iscsi { format: protocol & 0xc0, tail }, 4 + length))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(ids: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; FIXED];
        bytes.extend((ids.len() as u32).to_be_bytes());
        bytes.extend(ids);
        bytes
    }

    #[test]
    fn good_lists() {
        assert_eq!(parse(&[0; 24]), Ok(vec![]));
        assert_eq!(parse(&list(&[])), Ok(vec![]));
        let mut ids = vec![0; 24];
        ids[8..16].copy_from_slice(b"nportnam");
        let mut sas = vec![0; 24];
        sas[0] = 6;
        sas[4..12].copy_from_slice(b"sasaddrs");
        ids.extend(sas);
        ids.extend([0x45, 0, 0, 8]);
        ids.extend(b"iqn.a\0\0\0");
        assert_eq!(
            parse(&list(&ids)),
            Ok(vec![
                TransportId::FibreChannel(b"nportnam"),
                TransportId::Sas(b"sasaddrs"),
                TransportId::Iscsi { format: 0x40, tail: b"\0\x08iqn.a\0\0\0" },
            ])
        );
    }

    #[test]
    fn bad_lists() {
        assert_eq!(parse(&[0; 23]), Err(Malformed::Length));
        assert_eq!(parse(&[0; 26]), Err(Malformed::Length));
        assert_eq!(parse(&list(&[0; 23])), Err(Malformed::Field));
        assert_eq!(parse(&list(&[0; 24 * 33])), Err(Malformed::Field));
        assert_eq!(parse(&list(&[1; 24])), Err(Malformed::Field));
        assert_eq!(parse(&list(&[5, 0, 0, 3, 0, 0, 0])), Err(Malformed::Field));
        assert_eq!(parse(&list(&[5, 0, 0, 4, 1, 1, 1, 1])), Err(Malformed::Field));
        let mut beyond = list(&[0; 24]);
        beyond[FIXED] = 0xff;
        assert_eq!(parse(&beyond), Err(Malformed::Field));
    }
}
