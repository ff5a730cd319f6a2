//! Texts of two emulators made comparable.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use crate::emulator::Emulator;

/// What a run that ends by itself shows a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The exit status, or the negated number of the signal.
    pub status: i32,
    /// Standard error, the program's own name masked.
    pub errors: String,
    /// Standard output.
    pub output: String,
}

impl Outcome {
    /// Runs the emulator with the arguments.
    pub fn of<S: AsRef<str>>(emulator: &Emulator, arguments: &[S], within: Duration) -> Result<Self, String> {
        let output = emulator.run(arguments, within)?;
        Ok(Self::from_output(&emulator.program, &output))
    }

    fn from_output(program: &Path, output: &Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let status = output.status.code().or_else(|| output.status.signal().map(|s| -s)).unwrap_or(i32::MIN);
        Self {
            status,
            errors: mask_program(program, &String::from_utf8_lossy(&output.stderr)),
            output: mask_program(program, &String::from_utf8_lossy(&output.stdout)),
        }
    }
}

/// Puts `PROGRAM` in the place of the executable's path at the start of lines.
pub fn mask_program(program: &Path, text: &str) -> String {
    let path = program.display().to_string();
    let name = program.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    text.split_inclusive('\n')
        .map(|line| {
            [&path, &name]
                .iter()
                .find_map(|prefix| {
                    Some(format!("PROGRAM:{}", line.strip_prefix(prefix.as_str())?.strip_prefix(':')?))
                })
                .unwrap_or_else(|| line.to_owned())
        })
        .collect()
}

/// The two texts line by line where they differ: `-` what only the reference has, `+` what only ours has.
/// Empty if they are equal.
pub fn difference(reference: &str, ours: &str) -> String {
    let a: Vec<&str> = reference.lines().collect();
    let b: Vec<&str> = ours.lines().collect();
    // The longest common subsequence, by the usual table.
    let mut table = vec![vec![0u32; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            table[i][j] =
                if a[i] == b[j] { table[i + 1][j + 1] + 1 } else { table[i + 1][j].max(table[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut text) = (0, 0, String::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && table[i + 1][j] >= table[i][j + 1]) {
            text.push_str(&format!("-{}\n", a[i]));
            i += 1;
        } else {
            text.push_str(&format!("+{}\n", b[j]));
            j += 1;
        }
    }
    text
}

/// What is compared with whose outcome: what the reference and what ours made of it.
pub type Outcomes = [(String, (String, String))];

/// The outcomes that differ and are not `known` to, and those that are known to differ and do not. Empty if there are none.
pub fn unexpected(outcomes: &Outcomes, known: &[String]) -> String {
    let mut text = String::new();
    let differs = |name: &String| outcomes.iter().any(|(of, (theirs, ours))| of == name && theirs != ours);
    for (name, (theirs, ours)) in outcomes {
        if theirs != ours && !known.contains(name) {
            text.push_str(&format!("== {name}\n{}", difference(theirs, ours)));
        }
    }
    for name in known.iter().filter(|name| !differs(name)) {
        text.push_str(&format!("== {name}\nis equal, but listed as different\n"));
    }
    println!("{} outcomes compared, {} known to differ", outcomes.len(), known.len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_programs_name_is_masked() {
        let program = Path::new("/usr/bin/qemu-system-x86_64");
        let text = "qemu-system-x86_64: -foo: invalid option\n/usr/bin/qemu-system-x86_64: x\nUse qemu-system-x86_64\n";
        assert_eq!(
            mask_program(program, text),
            "PROGRAM: -foo: invalid option\nPROGRAM: x\nUse qemu-system-x86_64\n"
        );
    }

    #[test]
    fn differences_are_shown_by_line() {
        assert_eq!(difference("a\nb\nc\n", "a\nb\nc\n"), "");
        assert_eq!(difference("a\nb\nc\n", "a\nx\nc\nd\n"), "-b\n+x\n+d\n");
        assert_eq!(difference("", "a\n"), "+a\n");
    }

    #[test]
    fn what_is_known_to_differ_must() {
        let outcome =
            |name: &str, theirs: &str, ours: &str| (name.to_owned(), (theirs.to_owned(), ours.to_owned()));
        let outcomes = [outcome("x", "a\n", "a\n"), outcome("y", "a\n", "b\n")];
        assert_eq!(unexpected(&outcomes, &["y".to_owned()]), "");
        assert_eq!(unexpected(&outcomes, &[]), "== y\n-a\n+b\n");
        let idle = "== x\nis equal, but listed as different\n";
        assert_eq!(unexpected(&outcomes, &["x".to_owned(), "y".to_owned()]), idle);
    }
}
