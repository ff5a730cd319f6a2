//! The `-d` log: a mask of items, one output (standard error or the `-D` file).

use parking_lot::Mutex;
use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::OnceLock;
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
    /// `out_asm`: host instructions that a block of guest code became.
    OutAsm,
    /// `exec`: blocks of guest code that are entered.
    Exec,
    /// `cpu`: registers before they are.
    Cpu,
    /// `fpu`: with the registers of the x87 unit.
    Fpu,
    /// `mmu`: changes of CR0 and CR3.
    Mmu,
    /// `nochain`: blocks do not lead straight to others, so that `exec` and `cpu` show all.
    NoChain,
}

/// Every item with its name on the command line and its description (`-d help`).
pub const ITEMS: &[(Item, &str, &str)] = &[
    (Item::OutAsm, "out_asm", "show generated host assembly code for each compiled TB"),
    (Item::InAsm, "in_asm", "show target assembly code for each compiled TB"),
    (Item::Int, "int", "show interrupts/exceptions in short format"),
    (Item::Exec, "exec", "show trace before each executed TB (lots of logs)"),
    (Item::Cpu, "cpu", "show CPU registers before entering a TB (lots of logs)"),
    (Item::Fpu, "fpu", "include FPU registers in the 'cpu' logging"),
    (Item::Mmu, "mmu", "log MMU-related activities"),
    (Item::CpuReset, "cpu_reset", "show CPU state before CPU resets"),
    (
        Item::GuestErrors,
        "guest_errors",
        "log when the guest OS does something invalid (eg accessing a\nnon-existent register)",
    ),
    (
        Item::NoChain,
        "nochain",
        "do not chain compiled TBs so that \"exec\" and \"cpu\" show\ncomplete traces",
    ),
];

/// Items that QEMU knows and this build does not.
const UNBUILT_ITEMS: &[&str] = &[
    "op",
    "op_opt",
    "op_ind",
    "pcall",
    "unimp",
    "page",
    "plugin",
    "strace",
    "tid",
    "vpu",
    "all",
    "invalid_mem",
];

/// Why a list of items cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemsError {
    /// There is no such item: the user is to see the list.
    #[error("unknown log item '{0}'")]
    Unknown(String),
    /// QEMU has it and this build does not.
    #[error("log item '{0}' is not supported by this build")]
    Unbuilt(String),
}

/// The mask of a list of items: `int,guest_errors`; `none` stands for no item.
///
/// # Errors
/// One of them is not there.
pub fn items(list: &str) -> Result<u32, ItemsError> {
    let mut mask = 0;
    for word in list.split(',').filter(|word| *word != "none") {
        match ITEMS.iter().find(|(_, name, _)| *name == word) {
            Some((item, ..)) => mask |= bit(*item),
            None if UNBUILT_ITEMS.contains(&word) || word.starts_with("trace:") => {
                return Err(ItemsError::Unbuilt(word.to_owned()));
            }
            None => return Err(ItemsError::Unknown(word.to_owned())),
        }
    }
    Ok(mask)
}

/// The list of items as the user is shown it.
pub fn help() -> String {
    let lines = ITEMS.iter().map(|(_, name, text)| format!("{name:<15} {text}\n"));
    format!("Log items (comma separated):\n{}", lines.collect::<String>())
}

/// Guest addresses, the first and the last, that code is logged of.
pub type Range = (u64, u64);

/// Why a list of ranges is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangesError {
    /// It names no range.
    #[error("Bad range specifier")]
    Bad,
    /// There is no number before the operator.
    #[error("Invalid number to the left of {0}")]
    Left(String),
    /// There is no number behind the operator.
    #[error("Invalid number to the right of {0}")]
    Right(String),
    /// It ends before it begins.
    #[error("Invalid range")]
    Empty,
}

/// `-dfilter`: `START+SIZE`, `LAST-SIZE` or `FIRST..LAST`, separated by commas.
///
/// # Errors
/// The first that is none of these.
pub fn ranges(list: &str) -> Result<Vec<Range>, RangesError> {
    list.split(',').map(range).collect()
}

fn range(text: &str) -> Result<Range, RangesError> {
    let (at, operator) = ["-", "+", ".."]
        .into_iter()
        .find_map(|operator| Some((text.find(operator)?, operator)))
        .ok_or(RangesError::Bad)?;
    let (left, right) = (&text[..at], &text[at + operator.len()..]);
    let left = number(left).ok_or_else(|| RangesError::Left(operator.to_owned()))?;
    let right = number(right).ok_or_else(|| RangesError::Right(operator.to_owned()))?;
    let (first, last) = match operator {
        "+" => (left, left.wrapping_add(right.wrapping_sub(1))),
        "-" => (left.wrapping_sub(right.wrapping_sub(1)), left),
        _ => (left, right),
    };
    if first > last { Err(RangesError::Empty) } else { Ok((first, last)) }
}

/// A number as C writes them: decimal, hexadecimal after 0x, octal after 0.
fn number(text: &str) -> Option<u64> {
    let text = text.trim_start();
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u64::from_str_radix(digits, 16).ok();
    }
    match text.strip_prefix('0') {
        Some(digits) if !digits.is_empty() => u64::from_str_radix(digits, 8).ok(),
        _ => text.parse().ok(),
    }
}

static RANGES: OnceLock<Vec<Range>> = OnceLock::new();

/// Logs code in these ranges alone; once, before anything is logged.
pub fn set_ranges(ranges: &[Range]) {
    let _ = RANGES.set(ranges.to_vec());
}

/// Whether code at guest address `address` is logged.
pub fn in_range(address: u64) -> bool {
    RANGES.get().is_none_or(|ranges| ranges.iter().any(|&(first, last)| (first..=last).contains(&address)))
}

static MASK: AtomicU32 = AtomicU32::new(0);
static OUTPUT: Mutex<Output> = Mutex::new(Output { name: None, file: None });

struct Output {
    name: Option<String>,
    file: Option<File>,
}

impl Output {
    /// A file is open while there is something to log.
    fn follow(&mut self, mask: u32) -> Result<(), LogError> {
        if mask == 0 {
            self.file = None;
        } else if let (None, Some(name)) = (&self.file, &self.name) {
            let opened = File::create(name).map_err(|error| LogError::Open(name.clone(), error));
            self.file = Some(opened?);
        }
        Ok(())
    }
}

/// The log's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Its name has a `%` that is not the one `%d` for the process id.
    #[error("Bad logfile template: {0}")]
    BadTemplate(String),
    /// It cannot be created.
    #[error("Error opening logfile {0}: {reason}", reason = reason(.1))]
    Open(String, io::Error),
}

/// The C library's text of an error, without Rust's number.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.rfind(" (os error").map_or(text.clone(), |at| text[..at].to_owned())
}

/// Turns the items in `mask` on and all others off.
///
/// # Errors
/// The file of [`set_file`] cannot be created; nothing is logged then.
pub fn set_mask(mask: u32) -> Result<(), LogError> {
    let opened = OUTPUT.lock().follow(mask);
    MASK.store(if opened.is_ok() { mask } else { 0 }, Ordering::Relaxed);
    opened
}

/// The items that are on.
pub fn mask() -> u32 {
    MASK.load(Ordering::Relaxed)
}

/// The bit of `item` in the mask.
#[inline]
pub const fn bit(item: Item) -> u32 {
    1 << item as u32
}

/// Whether `item` is logged; cheap enough for every block of guest code.
#[inline]
pub fn enabled(item: Item) -> bool {
    MASK.load(Ordering::Relaxed) & bit(item) != 0
}

/// The name of a log file with the process id in place of `%d`.
///
/// # Errors
/// [`LogError::BadTemplate`]
pub fn file_name(template: &str) -> Result<String, LogError> {
    match template.split_once('%') {
        None => Ok(template.to_owned()),
        Some((before, after)) => match after.strip_prefix('d').filter(|after| !after.contains('%')) {
            Some(after) => Ok(format!("{before}{}{after}", std::process::id())),
            None => Err(LogError::BadTemplate(template.to_owned())),
        },
    }
}

/// `-D FILE`: the log goes to this file instead of standard error. It is created once there is something to log.
///
/// # Errors
/// The name cannot be used, or the log is on already and the file cannot be created: it goes on to standard error.
pub fn set_file(template: &str) -> Result<(), LogError> {
    let name = file_name(template)?;
    let mut output = OUTPUT.lock();
    *output = Output { name: Some(name), file: None };
    let followed = output.follow(mask());
    if followed.is_err() {
        output.name = None;
    }
    followed
}

/// Writes text to the log as it is; use [`crate::log_item!`], which checks the mask first.
pub fn write(text: fmt::Arguments<'_>) {
    let mut output = OUTPUT.lock();
    let _ = match output.file.as_mut() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_id_may_stand_in_the_name_once() {
        assert_eq!(file_name("/a/b").expect("plain"), "/a/b");
        assert_eq!(file_name("a%d.log").expect("id"), format!("a{}.log", std::process::id()));
        for bad in ["%x", "a%", "%d%d", "%%"] {
            assert_eq!(file_name(bad).expect_err(bad).to_string(), format!("Bad logfile template: {bad}"));
        }
    }

    #[test]
    fn ranges_are_read_as_the_original_reads_them() {
        let all = ranges("0x1000+0x10,0x2000..0x2fff,0x3fff-0x10,010+1");
        assert_eq!(all, Ok(vec![(0x1000, 0x100f), (0x2000, 0x2fff), (0x3ff0, 0x3fff), (8, 8)]));
        for (text, error) in [
            ("foo", "Bad range specifier"),
            ("", "Bad range specifier"),
            ("0x1000", "Bad range specifier"),
            ("x+1", "Invalid number to the left of +"),
            ("..5", "Invalid number to the left of .."),
            ("0x1000+", "Invalid number to the right of +"),
            ("1..2x", "Invalid number to the right of .."),
            ("0x10..0x5", "Invalid range"),
            ("5-10", "Invalid range"),
        ] {
            assert_eq!(ranges(text).expect_err(text).to_string(), error);
        }
    }

    #[test]
    fn items_have_names() {
        assert_eq!(items("int,none,guest_errors"), Ok(bit(Item::Int) | bit(Item::GuestErrors)));
        assert_eq!(items("none"), Ok(0));
        assert_eq!(items("int,op"), Err(ItemsError::Unbuilt("op".to_owned())));
        assert_eq!(items(""), Err(ItemsError::Unknown(String::new())));
    }

    #[test]
    fn a_file_is_there_while_something_is_logged() {
        let path = std::env::temp_dir().join(format!("report-log-{}", std::process::id()));
        let name = path.to_str().expect("text").to_owned();
        set_file(&name).expect("a name");
        assert!(!path.exists());
        set_mask(bit(Item::GuestErrors)).expect("a file");
        write(format_args!("one\n"));
        assert_eq!(std::fs::read_to_string(&path).expect("text"), "one\n");
        set_mask(0).expect("off");
        std::fs::remove_file(&path).expect("a file");
        assert!(set_file("/nonexistent/x").is_ok());
        assert_eq!(
            set_mask(1).expect_err("no folder").to_string(),
            "Error opening logfile /nonexistent/x: No such file or directory"
        );
        assert_eq!(mask(), 0);
    }
}
