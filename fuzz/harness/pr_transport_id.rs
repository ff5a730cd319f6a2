//! The parameter list of PERSISTENT RESERVE OUT with its TransportIDs.

use scsi_pr::transport::{self, Malformed, TransportId};

/// The input is the list.
pub fn run(data: &[u8]) {
    match transport::parse(data) {
        Ok(ids) => {
            assert!(data.len() >= transport::FIXED && ids.len() <= transport::MAX_IDS);
            for id in ids {
                match id {
                    TransportId::FibreChannel(name) | TransportId::Sas(name) => assert_eq!(name.len(), 8),
                    TransportId::Iscsi { format, tail } => {
                        assert!(format & 0x3f == 0 && tail.len() >= 6 && tail.len() <= 254);
                        assert_eq!(usize::from(tail[0]) << 8 | usize::from(tail[1]), tail.len() - 2);
                    }
                }
            }
        }
        Err(Malformed::Length) => assert!(data.len() < transport::FIXED + 4),
        Err(Malformed::Field) => assert!(data.len() >= transport::FIXED + 4),
    }
}
