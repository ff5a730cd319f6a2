//! Messages of libvirt's protocol, and what they carry.

use rpc::protocol::{ADMIN_PROGRAM, QEMU_PROGRAM, REMOTE_PROGRAM, recode};
use rpc::server::input::Input;

/// The input: bytes as they come from a client.
pub fn run(data: &[u8]) {
    let mut input = Input::<()>::default();
    // In pieces, whose borders must not matter.
    for piece in data.chunks(37) {
        if input.push(piece, []).is_err() {
            return;
        }
        loop {
            match input.next_message() {
                Ok(Some(message)) => {
                    payload(message.header.program, message.header.procedure, &message.payload)
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

fn payload(program: u32, procedure: u32, bytes: &[u8]) {
    // The number decides whatever it is: a changed input shall reach many procedures.
    let program = match program % 4 {
        0 | 2 => REMOTE_PROGRAM,
        1 => QEMU_PROGRAM,
        _ => ADMIN_PROGRAM,
    };
    for results in [false, true] {
        if let Some(Ok(written)) = recode(program, procedure % 512, results, bytes) {
            // What was read is written within the limits, and read again as the same.
            assert_eq!(recode(program, procedure % 512, results, &written), Some(Ok(written)));
        }
    }
}
