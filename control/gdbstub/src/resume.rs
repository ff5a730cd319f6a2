//! `vCont`: what each vCPU does when the machine goes on.

use crate::session::Action;

/// A thread as a packet names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thread {
    /// All of a process, or any.
    All,
    /// This vCPU.
    One(usize),
}

/// From `p1.2`, `2`, `-1`, `p1.-1` or `0`; `None`: that is none, or none of `count`.
pub(crate) fn thread(text: &str, count: usize) -> Option<Thread> {
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let thread = match text.strip_prefix('p') {
        Some(rest) => {
            let (process, thread) = rest.split_once('.').unwrap_or((rest, "-1"));
            if process != "-1" && !matches!(hex(process)?, 0 | 1) {
                return None;
            }
            thread
        }
        None => text,
    };
    if thread == "-1" {
        return Some(Thread::All);
    }
    match usize::try_from(hex(thread)?).ok()? {
        0 => Some(Thread::All),
        n if n <= count => Some(Thread::One(n - 1)),
        _ => None,
    }
}

/// Why a `vCont` is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It names an action that is not offered.
    Unsupported,
    /// It is none.
    Invalid,
}

/// From what follows `vCont;`: for each of `count` vCPUs the first action that is for it.
pub(crate) fn actions(text: &str, count: usize) -> Result<Vec<Option<Action>>, Refusal> {
    let mut actions = vec![None; count];
    for part in text.split(';') {
        let (what, whom) = match part.split_once(':') {
            Some((what, whom)) => (what, thread(whom, count).ok_or(Refusal::Invalid)?),
            None => (part, Thread::All),
        };
        let action = match what.as_bytes() {
            b"c" | [b'C', _, _] => Action::Continue,
            b"s" | [b'S', _, _] => Action::Step,
            b"" => return Err(Refusal::Invalid),
            _ => return Err(Refusal::Unsupported),
        };
        for (cpu, slot) in actions.iter_mut().enumerate() {
            if slot.is_none() && (whom == Thread::All || whom == Thread::One(cpu)) {
                *slot = Some(action);
            }
        }
    }
    Ok(actions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_action_for_a_thread_counts() {
        use Action::{Continue, Step};
        assert_eq!(actions("s:p1.2;c:p1.-1", 3), Ok(vec![Some(Continue), Some(Step), Some(Continue)]));
        assert_eq!(actions("S05:1", 2), Ok(vec![Some(Step), None]));
        assert_eq!(actions("c", 1), Ok(vec![Some(Continue)]));
        assert_eq!(actions("t:1", 1), Err(Refusal::Unsupported));
        assert_eq!(actions("c:4", 2), Err(Refusal::Invalid));
        assert_eq!(actions("", 2), Err(Refusal::Invalid));
    }

    #[test]
    fn threads_have_several_spellings() {
        assert_eq!(thread("p1.2", 2), Some(Thread::One(1)));
        assert_eq!(thread("p2.1", 2), None);
        assert_eq!(thread("p1", 2), Some(Thread::All));
        assert_eq!(thread("0", 2), Some(Thread::All));
        assert_eq!((thread("3", 2), thread("x", 2), thread("", 2)), (None, None, None));
    }
}
