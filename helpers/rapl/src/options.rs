//! The option table, the manual page's texts and the trace events.

use daemon::app::{INFO_OPTIONS, Spec, VERBOSITY_OPTIONS};
use getopt::{Program, Section};

tracepoint::events! {
    /// All trace events of `qemu-vmsr-helper`.
    pub static EVENTS;
    /// A client connected and was let in.
    CONN_OPEN = "vmsr_conn_open";
    /// A client is gone.
    CONN_CLOSE = "vmsr_conn_close";
    /// A request arrived.
    REQUEST = "vmsr_request";
    /// A request was answered.
    REPLY = "vmsr_reply";
}

daemon::options_of_daemon!("qemu-vmsr-helper");

/// The program.
pub const PROGRAM: Program = Program {
    name: "qemu-vmsr-helper",
    operands: "FILE",
    summary: "Virtual RAPL MSR helper program for QEMU",
    groups: &[INFO_OPTIONS, PROCESS_OPTIONS, VERBOSITY_OPTIONS],
    closing: &["Part of Tinamou; messages, socket and protocol are those of QEMU's qemu-vmsr-helper."],
    section: 8,
    description: &[
        "Lets emulators read the host's package energy counters (RAPL), which Linux gives to privileged processes only. It reads four registers of Intel processors (0x606, 0x610, 0x611, 0x614) and two of AMD's (0xc0010299, 0xc001029b) and no others, each at most once a millisecond.",
        "The registers' devices are opened at start; then no capability is kept, and the helper runs in a sandbox: no new privileges, an allow-list of system calls, and no access to the file system. A CPU that is plugged later reads as 0.",
        "Whoever can connect to the socket can read the host's energy counters, from which secrets of other programs may be inferred: keep the socket to the emulators.",
        "A service manager may pass a listening Unix stream socket (socket activation); --socket cannot be given then.",
    ],
    sections: &[Section {
        title: "EXIT STATUS",
        paragraphs: &[
            "0 after SIGTERM, SIGINT or SIGHUP, and after --help or --version; 1 after an error, such as a host without RAPL.",
        ],
    }],
    see_also: &["qemu(1)", "systemd.socket(5)"],
};

/// What start-up needs to know.
pub const SPEC: Spec = Spec {
    program: &PROGRAM,
    events: EVENTS,
    default_socket: SOCKET,
    default_pidfile: PIDFILE,
    activation_and_socket: "Unix socket can't be set when using socket activation",
    activation_many: "does not support socket activation with LISTEN_FDS > 1",
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn packaged_files_are_current() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging"));
        PROGRAM.check_generated(folder, std::env::var_os("UPDATE").is_some()).unwrap();
    }
}
