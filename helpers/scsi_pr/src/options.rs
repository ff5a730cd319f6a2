//! The option table, the manual page's texts and the trace events.

use daemon::app::{INFO_OPTIONS, Spec, VERBOSITY_OPTIONS};
use getopt::{Program, Section};

tracepoint::events! {
    /// All trace events of `qemu-pr-helper`.
    pub static EVENTS;
    /// A client connected and was let in.
    CONN_OPEN = "pr_conn_open";
    /// A client is gone.
    CONN_CLOSE = "pr_conn_close";
    /// A request arrived whole.
    REQUEST = "pr_request";
    /// A PERSISTENT RESERVE IN is being carried out.
    PR_IN = "pr_in";
    /// A PERSISTENT RESERVE OUT is being carried out.
    PR_OUT = "pr_out";
    /// A request was answered.
    OUTCOME = "pr_outcome";
}

daemon::options_of_daemon!("qemu-pr-helper");

/// The program.
pub const PROGRAM: Program = Program {
    name: "qemu-pr-helper",
    operands: "FILE",
    summary: "Persistent Reservation helper program for QEMU",
    groups: &[INFO_OPTIONS, PROCESS_OPTIONS, VERBOSITY_OPTIONS],
    closing: &["Part of Tinamou; messages, socket and protocol are those of QEMU's qemu-pr-helper."],
    section: 8,
    description: &[
        "Linux lets only privileged processes send SCSI persistent reservation commands. This helper sends them for virtual machines: an emulator connects to its socket and passes a command together with the descriptor of the device. The right to a device is the open descriptor, so whoever can connect can reserve only what they can open.",
        "After start the helper keeps no capability but CAP_SYS_RAWIO and runs in a sandbox: no new privileges, an allow-list of system calls with SG_IO as the only ioctl, and no access to the file system.",
        "Commands to device-mapper multipath devices go to all paths, by libmpathpersist.so.0 if that is installed. A second process of the helper loads it when the first such device turns up; that process keeps CAP_SYS_ADMIN too, and can open files and devices. Persistence over the loss of paths needs reservation_key in multipath.conf, and multipathd. With --user that user must be able to open the paths and to talk to multipathd.",
        "A service manager may pass a listening Unix stream socket (socket activation); --socket cannot be given then.",
    ],
    sections: &[
        Section {
            title: "EXIT STATUS",
            paragraphs: &[
                "0 after SIGTERM, SIGINT or SIGHUP, and after --help or --version; 1 after an error.",
            ],
        },
        Section {
            title: "LIMITS",
            paragraphs: &[
                "A client has 10 seconds to say hello and to complete a request that it began. The number of clients is limited in total (to 1024 or half the open files allowed), to three quarters of that for one user and to half of it for one process.",
            ],
        },
    ],
    see_also: &["qemu(1)", "sg_persist(8)", "multipath.conf(5)", "mpathpersist(8)", "systemd.socket(5)"],
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
