//! The `-d` log: a mask of items, one output (standard error or the `-D` file).

use parking_lot::Mutex;
use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// One thing that `-d` can log; the bit in the mask is `1 << item`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Item {
    /// `in_asm`: guest instructions when they are decoded.
    InAsm,
    /// `int`: interrupts and exceptions.
    Int,
    /// `cpu_reset`: processor state before a reset.
    CpuReset,
    /// `guest_errors`: what the guest did that no hardware defines.
    GuestErrors,
}

/// Every item with its name on the command line and its description (`-d help`).
pub const ITEMS: &[(Item, &str, &str)] = &[
    (Item::InAsm, "in_asm", "show target assembly code for each compiled TB"),
    (Item::Int, "int", "show interrupts/exceptions in short format"),
    (Item::CpuReset, "cpu_reset", "show CPU state before CPU resets"),
    (
        Item::GuestErrors,
        "guest_errors",
        "log when the guest OS does something invalid (eg accessing a\nnon-existent register)",
    ),
];

static MASK: AtomicU32 = AtomicU32::new(0);
static OUTPUT: Mutex<Option<File>> = Mutex::new(None);

/// Turns the items in `mask` on and all others off.
pub fn set_mask(mask: u32) {
    MASK.store(mask, Ordering::Relaxed);
}

/// The items that are on.
pub fn mask() -> u32 {
    MASK.load(Ordering::Relaxed)
}

/// The bit of `item` in the mask.
pub const fn bit(item: Item) -> u32 {
    1 << item as u32
}

/// Whether `item` is logged; cheap enough for every block of guest code.
#[inline]
pub fn enabled(item: Item) -> bool {
    MASK.load(Ordering::Relaxed) & bit(item) != 0
}

/// `-D FILE`: the log goes there instead of standard error.
///
/// # Errors
/// The file cannot be created.
pub fn set_file(path: &Path) -> io::Result<()> {
    *OUTPUT.lock() = Some(File::create(path)?);
    Ok(())
}

/// Writes text to the log as it is; use [`crate::log_item!`], which checks the mask first.
pub fn write(text: fmt::Arguments<'_>) {
    let mut output = OUTPUT.lock();
    let _ = match output.as_mut() {
        Some(file) => file.write_fmt(text),
        None => io::stderr().write_fmt(text),
    };
}

/// `log_item!(GuestErrors, "pit: bad mode {mode}\n")`: writes to the log when the item is on.
#[macro_export]
macro_rules! log_item {
    ($item:ident, $($t:tt)*) => {
        if $crate::log::enabled($crate::log::Item::$item) {
            $crate::log::write(format_args!($($t)*));
        }
    };
}
