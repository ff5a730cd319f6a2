//! What the black-box tests share: they start the built programs as a user would and look at them from outside.
//!
//! * [`paths`], [`guests`]: where the programs and the guest systems are (`cargo xtask guests` fetches the latter);
//! * [`cpio`], [`modules`], [`initramfs`]: small initial file systems for those guests;
//! * [`emulator`], [`console`], [`monitor`]: an emulator process, its serial console and its monitor;
//! * [`compare`]: one run on the reference emulator and one on ours, their texts made comparable.

#![forbid(unsafe_code)]

pub mod compare;
pub mod console;
pub mod cpio;
pub mod emulator;
pub mod guests;
pub mod initramfs;
pub mod modules;
pub mod monitor;
pub mod paths;

/// Ends the calling test early and says so on standard output, as `SKIPPED <test>: <reason>`.
///
/// The runner counts these lines; a test may skip only when the machine lacks something the test needs
/// (a package, a device node, a privilege), never because the program under test lacks it.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        println!("SKIPPED {}: {}", $crate::current_test(), format_args!($($reason)*));
        return;
    }};
}

/// The name of the running test: the test harness names each test's thread after it.
pub fn current_test() -> String {
    std::thread::current().name().unwrap_or("unnamed").to_owned()
}
