//! The argument of `-T`: `[[enable=]PATTERN][,events=FILE][,file=FILE]`.

use crate::{Event, NoSuchEvent, enable, set_file};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::PathBuf;

/// An events file larger than this is refused rather than read into memory.
const MAX_EVENTS_FILE: u64 = 1 << 20;

/// One `-T` argument, taken apart.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Options {
    /// Pattern of `enable=` (or the bare first word).
    pub enable: Option<String>,
    /// File with one pattern a line.
    pub events: Option<PathBuf>,
    /// File that receives the trace.
    pub file: Option<PathBuf>,
}

/// What an option asked for, once [`Options::apply`] has run.
#[derive(Debug, PartialEq, Eq)]
pub enum Applied {
    /// `help` or `?`: the caller lists the events and exits.
    Help,
    /// Switched; each warning is a full message without program prefix, with its `FILE:LINE` place when it has one.
    Done(Vec<Warning>),
}

/// A pattern that matched nothing, and where it stood.
#[derive(Debug, PartialEq, Eq)]
pub struct Warning {
    /// `FILE:LINE` for a pattern out of an events file.
    pub place: Option<String>,
    /// What is wrong.
    pub what: NoSuchEvent,
}

/// Why a `-T` argument cannot be used.
#[derive(Debug)]
pub enum OptionsError {
    /// A key that is none of `enable`, `events`, `file`.
    InvalidParameter {
        /// The key.
        key: String,
        /// Whether it stood without `=value` after the first word.
        short_form: bool,
    },
    /// An events or trace file that cannot be opened or read.
    File(PathBuf, io::Error),
    /// An events file beyond the size limit.
    TooLarge(PathBuf),
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidParameter { key, .. } => write!(f, "Invalid parameter '{key}'"),
            Self::File(path, err) => write!(f, "{}: {}", path.display(), os_text(err)),
            Self::TooLarge(path) => write!(f, "{}: File too large", path.display()),
        }
    }
}

impl std::error::Error for OptionsError {}

/// The C library's text of an error, without Rust's `(os error N)`.
fn os_text(err: &io::Error) -> String {
    let text = err.to_string();
    match text.rfind(" (os error ") {
        Some(cut) => text[..cut].to_owned(),
        None => text,
    }
}

impl Options {
    /// Takes `argument` apart; a doubled comma stands for one comma in a value, as everywhere in QEMU's options.
    ///
    /// # Errors
    /// [`OptionsError::InvalidParameter`] for a key that does not exist.
    pub fn parse(argument: &str) -> Result<Self, OptionsError> {
        let mut options = Self::default();
        for (index, item) in split_commas(argument).into_iter().enumerate() {
            let (key, value) = match item.split_once('=') {
                Some((key, value)) => (key, value.to_owned()),
                None if index == 0 && item.is_empty() => continue,
                None if index == 0 => ("enable", item.clone()),
                None => return Err(OptionsError::InvalidParameter { key: item, short_form: true }),
            };
            match key {
                "enable" => options.enable = Some(value),
                "events" => options.events = Some(value.into()),
                "file" => options.file = Some(value.into()),
                _ => return Err(OptionsError::InvalidParameter { key: key.to_owned(), short_form: false }),
            }
        }
        Ok(options)
    }

    /// Switches `events` as asked; the trace file is for [`Options::open`].
    ///
    /// # Errors
    /// An events file that cannot be opened or read.
    pub fn apply(&self, events: &[&Event]) -> Result<Applied, OptionsError> {
        let mut warnings = Vec::new();
        if let Some(pattern) = &self.enable {
            if pattern == "help" || pattern == "?" {
                return Ok(Applied::Help);
            }
            if let Err(what) = enable(events, pattern) {
                warnings.push(Warning { place: None, what });
            }
        }
        if let Some(path) = &self.events {
            let text = read_limited(path)?;
            for (number, line) in text.lines().enumerate() {
                let line = line.trim();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                if let Err(what) = enable(events, line) {
                    warnings
                        .push(Warning { place: Some(format!("{}:{}", path.display(), number + 1)), what });
                }
            }
        }
        Ok(Applied::Done(warnings))
    }

    /// Opens the trace file, if there is to be one (created with mode 0666 less the umask, emptied). To be called when
    /// the whole command line is known to be sound: one that is refused leaves no files behind.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn open(&self) -> Result<(), OptionsError> {
        if let Some(path) = self.file.as_ref().filter(|p| !p.as_os_str().is_empty()) {
            let file = OpenOptions::new().write(true).create(true).truncate(true).open(path);
            set_file(file.map_err(|err| OptionsError::File(path.clone(), err))?);
        }
        Ok(())
    }
}

fn read_limited(path: &PathBuf) -> Result<String, OptionsError> {
    let failed = |err| OptionsError::File(path.clone(), err);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_EVENTS_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_EVENTS_FILE {
        return Err(OptionsError::TooLarge(path.clone()));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Splits at single commas and turns doubled ones into one.
fn split_commas(text: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let last = items.len() - 1;
        if c != ',' {
            items[last].push(c);
        } else if chars.peek() == Some(&',') {
            chars.next();
            items[last].push(',');
        } else {
            items.push(String::new());
        }
    }
    // A trailing comma ends the list rather than beginning an empty item.
    if items.len() > 1 && items[items.len() - 1].is_empty() {
        items.pop();
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_implied_key() {
        let o = Options::parse("pr_*,events=/e,,v,file=f").unwrap();
        assert_eq!(o.enable.as_deref(), Some("pr_*"));
        assert_eq!(o.events, Some("/e,v".into()));
        assert_eq!(o.file, Some("f".into()));
        assert_eq!(Options::parse("").unwrap(), Options::default());
        assert_eq!(Options::parse("enable=x,").unwrap().enable.as_deref(), Some("x"));
    }

    #[test]
    fn bad_keys_are_named() {
        assert_eq!(Options::parse("enable=foo,bla=1").unwrap_err().to_string(), "Invalid parameter 'bla'");
        assert!(matches!(
            Options::parse("a,b"),
            Err(OptionsError::InvalidParameter { key, short_form: true }) if key == "b"
        ));
        assert_eq!(Options::parse("=,x=1").unwrap_err().to_string(), "Invalid parameter ''");
    }

    #[test]
    fn help_and_missing_file() {
        let none: [&Event; 0] = [];
        assert_eq!(Options::parse("help").unwrap().apply(&none).unwrap(), Applied::Help);
        assert_eq!(Options::parse("?").unwrap().apply(&none).unwrap(), Applied::Help);
        let err = Options::parse("events=/nope").unwrap().apply(&none).unwrap_err();
        assert_eq!(err.to_string(), "/nope: No such file or directory");
    }

    #[test]
    fn the_trace_file_waits_for_the_whole_line() {
        let none: [&Event; 0] = [];
        let path = std::env::temp_dir().join(format!("tracepoint-file-{}", std::process::id()));
        let options = Options::parse(&format!("file={}", path.display())).unwrap();
        options.apply(&none).unwrap();
        assert!(!path.exists());
        options.open().unwrap();
        assert!(path.exists());
        std::fs::remove_file(&path).unwrap();
        let err = Options::parse("file=/nope/x").unwrap().open().unwrap_err();
        assert_eq!(err.to_string(), "/nope/x: No such file or directory");
    }

    #[test]
    fn events_file_with_globs() {
        let (a, b) = (Event::new("one"), Event::new("two"));
        let dir = std::env::temp_dir().join(format!("tracepoint-{}", std::process::id()));
        std::fs::write(&dir, "# all but one\n*\n-one\n\nthree\n").unwrap();
        let options = Options { events: Some(dir.clone()), ..Options::default() };
        let applied = options.apply(&[&a, &b]).unwrap();
        std::fs::remove_file(&dir).unwrap();
        assert!(!a.enabled() && b.enabled());
        let Applied::Done(warnings) = applied else { panic!("not help") };
        assert_eq!(warnings.len(), 1);
        assert_eq!(warnings[0].place, Some(format!("{}:5", dir.display())));
    }
}
