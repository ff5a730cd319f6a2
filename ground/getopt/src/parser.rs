//! The parser: short clusters, long names with unique prefixes, operands anywhere, `--`.

use crate::{Opt, Program};
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// What a command line gives, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// An option by its letter, with its argument when it takes one.
    Option(char, Option<OsString>),
    /// A word that is no option.
    Operand(OsString),
}

/// A mistake in the use of options; the text is what the C library's `getopt_long` prints, without program name.
#[derive(Debug, PartialEq, Eq)]
pub enum ParseError {
    /// A long option that does not exist (the whole word, with its dashes).
    Unrecognized(String),
    /// A letter that is no option.
    Invalid(String),
    /// A prefix that fits several long options.
    Ambiguous(String, Vec<&'static str>),
    /// A long option without its argument.
    LongNeedsArgument(&'static str),
    /// A short option without its argument.
    ShortNeedsArgument(char),
    /// `--flag=value`.
    TakesNoArgument(&'static str),
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unrecognized(word) => write!(f, "unrecognized option '{word}'"),
            Self::Invalid(letter) => write!(f, "invalid option -- '{letter}'"),
            Self::Ambiguous(word, names) => {
                write!(f, "option '{word}' is ambiguous; possibilities:")?;
                names.iter().try_for_each(|name| write!(f, " '--{name}'"))
            }
            Self::LongNeedsArgument(name) => write!(f, "option '--{name}' requires an argument"),
            Self::ShortNeedsArgument(letter) => write!(f, "option requires an argument -- '{letter}'"),
            Self::TakesNoArgument(name) => write!(f, "option '--{name}' doesn't allow an argument"),
        }
    }
}

impl std::error::Error for ParseError {}

/// Iterator over a command line (without the program name).
#[derive(Debug)]
pub struct Parser<'p> {
    program: &'p Program,
    words: VecDeque<OsString>,
    /// Rest of a cluster of short options.
    cluster: VecDeque<u8>,
    only_operands: bool,
}

impl<'p> Parser<'p> {
    /// A parser for `program`'s options over `words`.
    pub fn new(program: &'p Program, words: impl IntoIterator<Item = OsString>) -> Self {
        Self { program, words: words.into_iter().collect(), cluster: VecDeque::new(), only_operands: false }
    }

    fn next_short(&mut self, letter: u8) -> Result<Item, ParseError> {
        let known = self.program.by_short(char::from(letter)).filter(|_| letter.is_ascii() && letter != b':');
        let Some(option) = known else {
            return Err(ParseError::Invalid(String::from_utf8_lossy(&[letter]).into_owned()));
        };
        if option.arg.is_none() {
            return Ok(Item::Option(option.short, None));
        }
        let argument = if self.cluster.is_empty() {
            self.words.pop_front().ok_or(ParseError::ShortNeedsArgument(option.short))?
        } else {
            OsString::from_vec(self.cluster.drain(..).collect())
        };
        Ok(Item::Option(option.short, Some(argument)))
    }

    fn next_long(&mut self, word: &OsStr) -> Result<Item, ParseError> {
        let bytes = &word.as_bytes()[2..];
        let cut = bytes.iter().position(|&b| b == b'=');
        let name = &bytes[..cut.unwrap_or(bytes.len())];
        let value = cut.map(|at| OsString::from_vec(bytes[at + 1..].to_vec()));
        let option = self.find_long(name, word)?;
        let argument = match (option.arg, value) {
            (None, Some(_)) => return Err(ParseError::TakesNoArgument(option.long)),
            (None, None) => None,
            (Some(_), Some(value)) => Some(value),
            (Some(_), None) => {
                Some(self.words.pop_front().ok_or(ParseError::LongNeedsArgument(option.long))?)
            }
        };
        Ok(Item::Option(option.short, argument))
    }

    fn find_long(&self, name: &[u8], word: &OsStr) -> Result<&'static Opt, ParseError> {
        if let Some(exact) = self.program.options().find(|o| o.long.as_bytes() == name) {
            return Ok(exact);
        }
        let fits: Vec<_> = self.program.options().filter(|o| o.long.as_bytes().starts_with(name)).collect();
        match fits[..] {
            [only] => Ok(only),
            [] => Err(ParseError::Unrecognized(format!("--{}", String::from_utf8_lossy(name)))),
            _ => Err(ParseError::Ambiguous(
                word.to_string_lossy().into_owned(),
                fits.iter().map(|o| o.long).collect(),
            )),
        }
    }
}

impl Iterator for Parser<'_> {
    type Item = Result<Item, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(letter) = self.cluster.pop_front() {
            return Some(self.next_short(letter));
        }
        let word = self.words.pop_front()?;
        let bytes = word.as_bytes();
        if self.only_operands || bytes.len() < 2 || bytes[0] != b'-' {
            return Some(Ok(Item::Operand(word)));
        }
        if bytes == b"--" {
            self.only_operands = true;
            return self.next();
        }
        if bytes.starts_with(b"--") {
            return Some(self.next_long(&word));
        }
        self.cluster = bytes[1..].iter().copied().collect();
        let letter = self.cluster.pop_front()?;
        Some(self.next_short(letter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Complete;

    const fn flag(short: char, long: &'static str) -> Opt {
        Opt { short, long, arg: None, help: &["x"], manual: "x", complete: Complete::Nothing }
    }
    const PROGRAM: Program = Program {
        name: "demo",
        operands: "",
        summary: "a demo",
        groups: &[
            &[flag('v', "verbose"), flag('V', "version")],
            &[Opt { arg: Some("PATH"), ..flag('k', "socket") }],
        ],
        closing: &[],
        section: 8,
        description: &[],
        sections: &[],
        see_also: &[],
    };

    fn parse(words: &[&str]) -> Vec<Result<Item, String>> {
        Parser::new(&PROGRAM, words.iter().map(OsString::from))
            .map(|r| r.map_err(|e| e.to_string()))
            .collect()
    }
    fn option(c: char, arg: Option<&str>) -> Result<Item, String> {
        Ok(Item::Option(c, arg.map(OsString::from)))
    }

    #[test]
    fn short_and_long() {
        assert_eq!(
            parse(&["-vk/a", "--sock", "/b", "--socket=", "-k", "-v", "x", "--", "-v"]),
            [
                option('v', None),
                option('k', Some("/a")),
                option('k', Some("/b")),
                option('k', Some("")),
                option('k', Some("-v")),
                Ok(Item::Operand("x".into())),
                Ok(Item::Operand("-v".into())),
            ]
        );
    }

    #[test]
    fn mistakes_in_the_c_librarys_words() {
        for (words, text) in [
            (&["--foo=1"][..], "unrecognized option '--foo'"),
            (&["-z"], "invalid option -- 'z'"),
            (&["-k"], "option requires an argument -- 'k'"),
            (&["--sock"], "option '--socket' requires an argument"),
            (&["--verb=3"], "option '--verbose' doesn't allow an argument"),
            (&["--ver"], "option '--ver' is ambiguous; possibilities: '--verbose' '--version'"),
            (&["-:"], "invalid option -- ':'"),
        ] {
            assert_eq!(parse(words), [Err(text.to_owned())], "{words:?}");
        }
    }

    #[test]
    fn a_lone_dash_and_empty_words_are_operands() {
        assert_eq!(parse(&["-", ""]), [Ok(Item::Operand("-".into())), Ok(Item::Operand("".into()))]);
    }
}
