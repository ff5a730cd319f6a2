//! The controlling terminal in raw mode, and back.
//!
//! A program that puts the terminal into raw mode must put it back however it ends. The state from before the first
//! change is kept for the whole process, and an exit handler of the C library restores it, so that every ordinary
//! way to leave (return from main, [`std::process::exit`]) leaves a usable shell behind.

use parking_lot::Mutex;
use rustix::fs::OFlags;
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, isatty,
    tcgetattr, tcsetattr,
};
use std::io;
use std::sync::Once;

/// What standard input looked like before the first change.
struct Saved {
    termios: Option<Termios>,
    flags: OFlags,
    out_flags: OFlags,
}

static SAVED: Mutex<Option<Saved>> = Mutex::new(None);
static AT_EXIT: Once = Once::new();

extern "C" fn restore_at_exit() {
    restore();
}

/// Whether standard input is a terminal.
pub fn stdin_is_terminal() -> bool {
    isatty(rustix::stdio::stdin())
}

/// Makes standard input and output non-blocking and remembers what they were, for [`restore`].
///
/// # Errors
/// One of the descriptors is closed.
pub fn take_stdio() -> io::Result<()> {
    let (stdin, stdout) = (rustix::stdio::stdin(), rustix::stdio::stdout());
    let mut saved = SAVED.lock();
    if saved.is_none() {
        *saved = Some(Saved {
            termios: tcgetattr(stdin).ok(),
            flags: rustix::fs::fcntl_getfl(stdin)?,
            out_flags: rustix::fs::fcntl_getfl(stdout)?,
        });
        AT_EXIT.call_once(|| {
            // SAFETY: the handler is a plain function without arguments that neither unwinds nor calls exit().
            unsafe {
                libc::atexit(restore_at_exit);
            }
        });
    }
    for fd in [stdin, stdout] {
        rustix::fs::fcntl_setfl(fd, rustix::fs::fcntl_getfl(fd)? | OFlags::NONBLOCK)?;
    }
    Ok(())
}

/// Puts the terminal on standard input into raw mode: no echo, no line editing, 8 bits. Does nothing when standard
/// input is not a terminal. `signals` keeps Ctrl-C, Ctrl-Z and Ctrl-\ as signals.
///
/// Output processing stays on, so that a line feed still moves to the first column.
///
/// # Errors
/// The terminal refuses the mode.
pub fn set_raw(echo: bool, signals: bool) -> io::Result<()> {
    let stdin = rustix::stdio::stdin();
    let Ok(mut mode) = tcgetattr(stdin) else { return Ok(()) };
    if let Some(before) = SAVED.lock().as_ref().and_then(|saved| saved.termios.clone()) {
        mode = before;
    }
    if !echo {
        mode.input_modes -= InputModes::IGNBRK
            | InputModes::BRKINT
            | InputModes::PARMRK
            | InputModes::ISTRIP
            | InputModes::INLCR
            | InputModes::IGNCR
            | InputModes::ICRNL
            | InputModes::IXON;
        mode.output_modes |= OutputModes::OPOST;
        mode.local_modes -= LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::IEXTEN;
        mode.control_modes -= ControlModes::CSIZE | ControlModes::PARENB;
        mode.control_modes |= ControlModes::CS8;
        mode.special_codes[SpecialCodeIndex::VMIN] = 1;
        mode.special_codes[SpecialCodeIndex::VTIME] = 0;
    }
    if !signals {
        mode.local_modes -= LocalModes::ISIG;
    }
    tcsetattr(stdin, OptionalActions::Now, &mode)?;
    Ok(())
}

/// Gives the terminal and the descriptors' flags back as they were before [`take_stdio`].
pub fn restore() {
    // An exit handler must not wait for a lock that a dying thread may hold.
    let Some(mut saved) = SAVED.try_lock() else { return };
    if let Some(saved) = saved.take() {
        let stdin = rustix::stdio::stdin();
        if let Some(termios) = &saved.termios {
            let _ = tcsetattr(stdin, OptionalActions::Now, termios);
        }
        let _ = rustix::fs::fcntl_setfl(stdin, saved.flags);
        let _ = rustix::fs::fcntl_setfl(rustix::stdio::stdout(), saved.out_flags);
    }
}
