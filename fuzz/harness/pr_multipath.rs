//! What goes to libmpathpersist and what comes back from it.

use scsi_pr::multipath::convert::{self, Task};
use scsi_pr::multipath::wire::{self, Answer};

/// The input is a request, an answer, and a result of the library by turns.
pub fn run(data: &[u8]) {
    if let Some((command, list)) = wire::decode_request(data) {
        assert_eq!(wire::request(&command, list), data);
        if let Ok(Task::Out { fixed, ids, .. }) = convert::task(&command, list) {
            assert_eq!(convert::parameters(&fixed, ids.len()).len(), convert::PARAMETERS_SIZE);
        }
    }
    if let Some(answer) = Answer::decode(data) {
        assert_eq!(answer.encode(), data);
    }
    if let Some((&action, result)) = data.split_first() {
        let mut whole = result.to_vec();
        whole.resize(convert::RESULT_SIZE, 0);
        let length = usize::from(action) * 32;
        if let Ok(payload) = convert::payload(action & 3, &whole, length) {
            assert!(payload.len() <= length.min(8192));
        }
    }
}
