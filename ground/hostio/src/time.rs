//! The host's time zone.

/// How many seconds local time is ahead of UTC at `seconds` since 1970-01-01 UTC, by the host's zone files and `TZ`;
/// 0 when the C library cannot tell.
pub fn local_offset(seconds: i64) -> i64 {
    let mut broken_down = std::mem::MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are to live values of the right type; localtime_r keeps neither.
    let result = unsafe { libc::localtime_r(&raw const seconds, broken_down.as_mut_ptr()) };
    if result.is_null() {
        return 0;
    }
    // SAFETY: zeroed at first, and filled in by localtime_r, which succeeded.
    unsafe { broken_down.assume_init() }.tm_gmtoff
}

#[cfg(test)]
mod tests {
    #[test]
    fn zones_are_less_than_a_day_apart() {
        assert!(super::local_offset(1_700_000_000).abs() < 86_400);
    }
}
