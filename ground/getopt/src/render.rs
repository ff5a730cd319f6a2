//! Help, manual page and completion out of a program's table.

use crate::{Complete, Opt, Program};
use std::fmt::Write as _;

/// Column at which help texts begin.
const HELP_COLUMN: usize = 28;

impl Program {
    /// The text of `--help`; `invoked_as` is the word the program was started by.
    #[must_use]
    pub fn help(&self, invoked_as: &str) -> String {
        let blank = if self.operands.is_empty() { "" } else { " " };
        let mut text = format!("Usage: {invoked_as} [OPTIONS]{blank}{}\n{}\n\n", self.operands, self.summary);
        for group in self.groups {
            let before = text.len();
            for option in group.iter().filter(|o| !o.help.is_empty()) {
                let (left, blank) = match option.arg {
                    // A long argument grammar stands after a blank, a name after `=`.
                    Some(arg) if arg.starts_with('[') => (format!("{} {arg}", option.long), true),
                    Some(arg) => (format!("{}={arg}", option.long), false),
                    None => (option.long.to_owned(), false),
                };
                let line = format!("  -{}, --{left}", option.short);
                let mut lines = option.help.iter();
                if blank || line.len() >= HELP_COLUMN {
                    let _ = writeln!(text, "{line}");
                } else if let Some(first) = lines.next() {
                    let _ = writeln!(text, "{line:HELP_COLUMN$}{first}");
                }
                for more in lines {
                    let _ = writeln!(text, "{:HELP_COLUMN$}{more}", "");
                }
            }
            if text.len() > before {
                text.push('\n');
            }
        }
        for line in self.closing {
            let _ = writeln!(text, "{line}");
        }
        text
    }

    /// The manual page in man(7) markup.
    #[must_use]
    pub fn manual(&self) -> String {
        let mut text = format!(
            ".\\\" Generated from the option table; edit that instead.\n.TH {} {} \"\" Tinamou \"System Administration\"\n",
            self.name.to_uppercase(),
            self.section
        );
        let _ = writeln!(text, ".SH NAME\n{} \\- {}", roff(self.name), roff(self.summary));
        let _ = writeln!(text, ".SH SYNOPSIS\n.B {}\n[OPTIONS]", roff(self.name));
        text.push_str(".SH DESCRIPTION\n");
        paragraphs(&mut text, self.description);
        text.push_str(".SH OPTIONS\n");
        for option in self.options() {
            let _ = writeln!(text, ".TP\n{}", roff_option(option));
            let _ = writeln!(text, "{}", roff(option.manual));
        }
        for section in self.sections {
            let _ = writeln!(text, ".SH {}", roff(section.title));
            paragraphs(&mut text, section.paragraphs);
        }
        if !self.see_also.is_empty() {
            let _ = writeln!(text, ".SH SEE ALSO");
            for (index, page) in self.see_also.iter().enumerate() {
                let (name, section) = page.split_once('(').unwrap_or((page, ""));
                let comma = if index + 1 < self.see_also.len() { "," } else { "" };
                let _ = writeln!(text, ".BR {} ({}{comma}", roff(name), section);
            }
        }
        text
    }

    /// A completion script for bash.
    #[must_use]
    pub fn bash_completion(&self) -> String {
        let function = format!("_{}", self.name.replace('-', "_"));
        let mut text = format!(
            "# bash completion for {}. Generated from the option table; edit that instead.\n{function}()\n{{\n",
            self.name
        );
        text.push_str("    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}\n");
        text.push_str("    [[ $current == = ]] && current=\n");
        text.push_str(
            "    [[ $previous == = ]] && COMP_CWORD=$((COMP_CWORD-1)) previous=${COMP_WORDS[COMP_CWORD-1]}\n",
        );
        text.push_str("    case $previous in\n");
        for option in self.options().filter(|o| o.arg.is_some()) {
            let action = match option.complete {
                Complete::Nothing => "COMPREPLY=()",
                Complete::Files => "COMPREPLY=($(compgen -f -- \"$current\"))",
                Complete::Users => "COMPREPLY=($(compgen -u -- \"$current\"))",
                Complete::Groups => "COMPREPLY=($(compgen -g -- \"$current\"))",
            };
            let _ = writeln!(text, "        -{}|--{}) {action}; return ;;", option.short, option.long);
        }
        text.push_str("    esac\n");
        let words: Vec<_> =
            self.options().flat_map(|o| [format!("-{}", o.short), format!("--{}", o.long)]).collect();
        let _ = writeln!(text, "    COMPREPLY=($(compgen -W '{}' -- \"$current\"))", words.join(" "));
        let _ = writeln!(text, "}}\ncomplete -o filenames -F {function} {}", self.name);
        text
    }

    /// A completion script for zsh.
    #[must_use]
    pub fn zsh_completion(&self) -> String {
        let mut text = format!(
            "#compdef {}\n# Generated from the option table; edit that instead.\n_arguments -s \\\n",
            self.name
        );
        for option in self.options() {
            let summary = option.manual.split(". ").next().unwrap_or_default().trim_end_matches('.');
            let summary = summary.replace('\'', "").replace('[', "(").replace(']', ")").replace(':', " -");
            let argument = match (option.arg, option.complete) {
                (None, _) => String::new(),
                (Some(_), Complete::Nothing) => ":value: ".to_owned(),
                (Some(_), Complete::Files) => ":path:_files".to_owned(),
                (Some(_), Complete::Users) => ":user:_users".to_owned(),
                (Some(_), Complete::Groups) => ":group:_groups".to_owned(),
            };
            let (s, l) = (option.short, option.long);
            let equals = if option.arg.is_some() { "=" } else { "" };
            let _ = writeln!(text, "  '(-{s} --{l})'{{-{s},--{l}{equals}}}'[{summary}]{argument}' \\");
        }
        text.push_str("  '*: :'\n");
        text
    }
}

fn paragraphs(text: &mut String, paragraphs: &[&str]) {
    for (index, paragraph) in paragraphs.iter().enumerate() {
        if index > 0 {
            text.push_str(".PP\n");
        }
        let _ = writeln!(text, "{}", roff(paragraph));
    }
}

fn roff_option(option: &Opt) -> String {
    let mut line = format!(".BR \\-{} \", \" \\-\\-{}", option.short, roff(option.long));
    if let Some(arg) = option.arg {
        let glue = if arg.starts_with('[') { " " } else { "=" };
        let _ = write!(line, " \"{glue}{}\"", roff(arg));
    }
    line
}

/// Escapes what roff would interpret: backslashes, dashes, and dots or quotes at the start of a line.
fn roff(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    if escaped.starts_with(['.', '\'']) { format!("\\&{escaped}") } else { escaped }
}
