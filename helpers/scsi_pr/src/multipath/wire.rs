//! The messages between the server and the process with the library; both are this program.

use crate::protocol::{CDB_SIZE, Command, DATA_MAX, SENSE_SIZE};

/// Most bytes of a request.
pub const REQUEST_MAX: usize = CDB_SIZE + DATA_MAX;
/// Most bytes of an answer.
pub const ANSWER_MAX: usize = 3 + SENSE_SIZE + DATA_MAX;

/// A request: the command as it came, then the parameters. The device's descriptor rides on it.
#[must_use]
pub fn request(command: &Command, parameters: &[u8]) -> Vec<u8> {
    [&command.cdb[..], parameters].concat()
}

/// Takes a request apart; `None` unless it holds a whole command, with the parameters that belong to it.
#[must_use]
pub fn decode_request(bytes: &[u8]) -> Option<(Command, &[u8])> {
    let (cdb, parameters) = bytes.split_first_chunk::<CDB_SIZE>()?;
    let command = Command::decode(*cdb).ok()?;
    let wanted = if command.is_out() { command.length } else { 0 };
    (parameters.len() == wanted).then_some((command, parameters))
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The device is none of multipath: the command was not carried out.
    NotMultipath,
    /// There is no library to do it with, or the device mapper cannot be asked.
    Unable,
    /// As many commands as can be are in progress.
    Busy,
    /// Nobody is there to tell.
    Lost,
    /// Carried out, or refused.
    Done {
        /// SCSI status.
        status: u8,
        /// Sense data, at most [`SENSE_SIZE`] bytes.
        sense: Vec<u8>,
        /// Data for the client, at most [`DATA_MAX`] bytes.
        payload: Vec<u8>,
    },
}

impl Answer {
    /// The message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::NotMultipath => vec![0],
            Self::Unable => vec![1],
            Self::Busy => vec![2],
            Self::Lost => vec![3],
            Self::Done { status, sense, payload } => {
                let sense = &sense[..sense.len().min(SENSE_SIZE)];
                let payload = &payload[..payload.len().min(DATA_MAX)];
                [&[4, *status, sense.len() as u8][..], sense, payload].concat()
            }
        }
    }

    /// Takes a message in; `None` when it is none of ours.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0] => Some(Self::NotMultipath),
            [1] => Some(Self::Unable),
            [2] => Some(Self::Busy),
            [3] => Some(Self::Lost),
            [4, status, len, rest @ ..] => {
                let (sense, payload) = rest.split_at_checked(usize::from(*len))?;
                (sense.len() <= SENSE_SIZE && payload.len() <= DATA_MAX).then(|| Self::Done {
                    status: *status,
                    sense: sense.to_vec(),
                    payload: payload.to_vec(),
                })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for answer in [
            Answer::NotMultipath,
            Answer::Unable,
            Answer::Busy,
            Answer::Lost,
            Answer::Done { status: 2, sense: vec![0x70, 1], payload: vec![] },
            Answer::Done { status: 0, sense: vec![], payload: vec![7; DATA_MAX] },
        ] {
            assert_eq!(Answer::decode(&answer.encode()), Some(answer));
        }
        for bad in [&[][..], &[5], &[0, 0], &[4, 0], &[4, 0, 2, 1]] {
            assert_eq!(Answer::decode(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn requests_are_whole() {
        let mut cdb = [0; CDB_SIZE];
        (cdb[0], cdb[8]) = (0x5f, 24);
        let command = Command::decode(cdb).unwrap();
        let bytes = request(&command, &[1; 24]);
        assert_eq!(decode_request(&bytes), Some((command, &[1; 24][..])));
        assert_eq!(decode_request(&bytes[..39]), None);
        assert_eq!(decode_request(&bytes[..15]), None);
        cdb[0] = 0x5e;
        assert!(decode_request(&cdb).is_some());
        cdb[0] = 0;
        assert_eq!(decode_request(&cdb), None);
    }
}
