//! Command lines in the manner of GNU `getopt_long`, from one table per program.
//!
//! A [`Program`] declares its options once; the parser ([`Parser`]), `--help` ([`Program::help`]), the manual page
//! ([`Program::manual`]) and shell completion ([`Program::bash_completion`], [`Program::zsh_completion`]) derive from it. Options are handed
//! out one at a time in the order given, so that an early `-h` wins over a later mistake, as with the original.
#![forbid(unsafe_code)]

mod generated;
mod parser;
mod render;

pub use parser::{Item, ParseError, Parser};

/// One option.
#[derive(Debug, Clone, Copy)]
pub struct Opt {
    /// The letter, which also identifies the option to the program.
    pub short: char,
    /// The long name, without dashes.
    pub long: &'static str,
    /// Name of the required argument in help, or `None` for a flag.
    pub arg: Option<&'static str>,
    /// Lines of help; an empty slice leaves the option out of `--help` (it stays in manual page and completion).
    pub help: &'static [&'static str],
    /// What the manual page says, in plain sentences.
    pub manual: &'static str,
    /// How shells complete the argument.
    pub complete: Complete,
}

/// What a shell offers for an option's argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Complete {
    /// Nothing: the option takes no argument or a free one.
    Nothing,
    /// Paths.
    Files,
    /// Login names.
    Users,
    /// Group names.
    Groups,
}

/// A section of the manual page beyond the generated ones.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Heading, in capitals as manual pages have it.
    pub title: &'static str,
    /// Paragraphs of plain text.
    pub paragraphs: &'static [&'static str],
}

/// A program and its options.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// File name of the program.
    pub name: &'static str,
    /// What follows `[OPTIONS]` in the usage line (empty for nothing).
    pub operands: &'static str,
    /// One line saying what the program is.
    pub summary: &'static str,
    /// Groups of options; help puts a blank line between groups.
    pub groups: &'static [&'static [Opt]],
    /// Lines after the options in `--help`.
    pub closing: &'static [&'static str],
    /// Manual section number.
    pub section: u8,
    /// DESCRIPTION paragraphs of the manual page.
    pub description: &'static [&'static str],
    /// Further sections of the manual page.
    pub sections: &'static [Section],
    /// SEE ALSO entries such as `qemu(1)`.
    pub see_also: &'static [&'static str],
}

impl Program {
    /// All options in table order.
    pub fn options(&self) -> impl Iterator<Item = &'static Opt> + use<> {
        self.groups.iter().flat_map(|group| group.iter())
    }

    /// The option whose letter is `short`.
    #[must_use]
    pub fn by_short(&self, short: char) -> Option<&'static Opt> {
        self.options().find(|o| o.short == short)
    }
}
