//! What the black-box tests share: they start the built programs as a user would and look at them from outside.

#![forbid(unsafe_code)]

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
