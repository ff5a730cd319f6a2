//! What the black-box tests share: they start the built programs as a user would and look at them from outside.
//!
//! * [`paths`], [`guests`]: where the programs and the guest systems are (`cargo xtask guests` fetches the latter);
//! * [`cpio`], [`modules`], [`initramfs`]: small initial file systems for those guests;
//! * [`programs`]: dynamic programs for them; [`reservations`]: what those send to disks;
//! * [`emulator`], [`console`], [`monitor`]: an emulator process, its serial console and its monitor;
//! * [`virtqemud`], [`raw_client`]: our daemon and libvirt's own; a client that says what it likes;
//! * [`payload`]: small programs for a bare machine;
//! * [`compare`]: one run on the reference emulator and one on ours, their texts made comparable.

#![forbid(unsafe_code)]

pub mod compare;
pub mod console;
pub mod cpio;
pub mod emulator;
pub mod gdb;
pub mod guests;
pub mod initramfs;
pub mod modules;
pub mod monitor;
pub mod paths;
pub mod payload;
pub mod programs;
pub mod raw_client;
pub mod recorder;
pub mod reservations;
pub mod virtqemud;

/// Ends the calling test early and says so on standard output, as `SKIPPED <test>: <reason>`.
///
/// The runner counts these lines; a test may skip only when the machine lacks something the test needs
/// (a package, a device node, a privilege), never because the program under test lacks it.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        $crate::note_skip(format_args!($($reason)*));
        return;
    }};
}

/// Takes the value of a `Result<_, String>`, or ends the calling test with [`skip!`] and the error as reason.
#[macro_export]
macro_rules! or_skip {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(reason) => $crate::skip!("{reason}"),
        }
    };
}

/// Prints a skipped test's line, and appends it to the file `$TINAMOU_SKIPS`, because the test harness
/// shows only what failing tests print.
pub fn note_skip(reason: std::fmt::Arguments<'_>) {
    let reason = reason.to_string().replace('\n', " ");
    let line = format!("SKIPPED {}: {reason}\n", current_test());
    print!("{line}");
    if let Some(path) = std::env::var_os("TINAMOU_SKIPS")
        && let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(path)
    {
        let _ = std::io::Write::write_all(&mut file, line.as_bytes());
    }
}

/// The name of the running test: the test harness names each test's thread after it.
pub fn current_test() -> String {
    std::thread::current().name().unwrap_or("unnamed").to_owned()
}
