//! The fuzz targets on the inputs that they have found worth keeping, and for a short while on changed ones.

#![forbid(unsafe_code)]

use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

#[path = "../../fuzz/harness/board.rs"]
mod board;
#[path = "../../fuzz/harness/daemon_config.rs"]
mod daemon_config_files;
#[path = "../../fuzz/harness/domain_xml.rs"]
mod domain_xml_input;
#[path = "../../fuzz/harness/engine_code.rs"]
mod engine_code;
#[path = "../../fuzz/harness/json_keyval.rs"]
mod json_keyval;
#[path = "../../fuzz/harness/kernel_image.rs"]
mod kernel_image;
#[path = "../../fuzz/harness/monitor.rs"]
mod monitor;
#[path = "../../fuzz/harness/options.rs"]
mod options;
#[path = "../../fuzz/harness/qmp_messages.rs"]
mod qmp_messages;
#[path = "../../fuzz/harness/rpc_message.rs"]
mod rpc_message;
#[path = "../../fuzz/harness/status_xml.rs"]
mod status_xml;

/// How long each target runs on changed inputs.
const WHILE: Duration = Duration::from_secs(2);

/// A generator that is the same everywhere (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end.max(1)
    }

    /// Changes some bytes, cuts a piece out, doubles one, or joins two inputs.
    fn change(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        for _ in 0..=self.below(4) {
            let (at, length) = (self.below(input.len()), self.below(16));
            let piece = at..(at + length).min(input.len());
            match self.below(5) {
                0 => drop(input.drain(piece)),
                1 => {
                    let copy = input[piece].to_vec();
                    input.splice(at..at, copy);
                }
                2 => {
                    let from = self.below(other.len());
                    input.truncate(at);
                    input.extend_from_slice(&other[from..]);
                }
                _ => {
                    for byte in &mut input[piece] {
                        *byte = self.next() as u8;
                    }
                }
            }
        }
        input.truncate(1 << 16);
    }
}

fn replay(target: &str, run: fn(&[u8])) {
    let folder = blackbox::paths::repository().join("fuzz/corpus").join(target);
    let mut files: Vec<_> = folder.read_dir().expect("a corpus").map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let inputs: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert!(!inputs.is_empty());
    let check = |input: &[u8], what: &str| {
        if panic::catch_unwind(AssertUnwindSafe(|| run(input))).is_err() {
            let kept = blackbox::paths::scratch(&blackbox::current_test()).join("input");
            std::fs::write(&kept, input).unwrap();
            panic!("{what}; the input is in {}", kept.display());
        }
    };
    for (file, input) in files.iter().zip(&inputs) {
        check(input, &file.display().to_string());
    }
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let end = Instant::now() + WHILE;
    while Instant::now() < end {
        let mut input = inputs[random.below(inputs.len())].clone();
        let other = &inputs[random.below(inputs.len())];
        random.change(&mut input, other);
        check(&input, "a changed input");
    }
}

#[test]
fn board() {
    replay("board", board::run);
}

#[test]
fn domain_xml() {
    replay("domain_xml", domain_xml_input::run);
}

#[test]
fn engine_code() {
    replay("engine_code", engine_code::run);
}

#[test]
fn json_keyval() {
    replay("json_keyval", json_keyval::run);
}

#[test]
fn kernel_image() {
    replay("kernel_image", kernel_image::run);
}

#[test]
fn monitor() {
    replay("monitor", monitor::run);
}

#[test]
fn options() {
    replay("options", options::run);
}

#[test]
fn qmp_messages() {
    replay("qmp_messages", qmp_messages::run);
}

#[test]
fn rpc_message() {
    replay("rpc_message", rpc_message::run);
}

#[test]
fn daemon_config() {
    replay("daemon_config", daemon_config_files::run);
}

#[test]
fn status_xml() {
    replay("status_xml", status_xml::run);
}
