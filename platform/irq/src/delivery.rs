//! Whether a device's interrupt arrived.
//!
//! A device that must not lose interrupts drives its line through [`arrives`]. Controllers report every request that
//! they take and did not hold already. What a line leads to happens on the thread that drives it, so that a count of
//! the thread's own is enough.

use std::cell::Cell;

thread_local! {
    static TAKEN: Cell<u64> = const { Cell::new(0) };
}

/// A controller takes a request that it was not holding already.
pub fn taken() {
    TAKEN.set(TAKEN.get().wrapping_add(1));
}

/// Whether a controller takes a request because of `drive`.
pub fn arrives(drive: impl FnOnce()) -> bool {
    let before = TAKEN.get();
    drive();
    TAKEN.get() != before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_noticed_where_they_are_made() {
        assert!(!arrives(|| {}));
        assert!(arrives(taken));
        assert!(!arrives(|| std::thread::spawn(taken).join().expect("the thread")));
    }
}
