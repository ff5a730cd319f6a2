//! The log of a guest's emulator: what we say about it, and what it says itself.

use crate::core::Core;
use crate::process::Taint;
use rustix::fd::OwnedFd;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// How much of an emulator's last words a client is told.
const MAX_WORDS: u64 = 4096;

/// The moment as logs write it: `2026-11-21 18:47:13.852+0000`.
pub fn timestamp(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = ((since.as_secs() / 86_400) as i64, since.as_secs() % 86_400);
    // Days to a date of the proleptic Gregorian calendar, with years that begin in March.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let milliseconds = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{milliseconds:03}+0000")
}

/// A guest's log, open for its emulator.
pub struct GuestLog {
    file: File,
    /// Where this run begins.
    begin: u64,
}

impl GuestLog {
    /// Opens the log and writes the head of a new run: versions, and the command with its environment.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn begin(core: &Core, name: &str, qemu: &str, command: &str) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(core.paths.log_file(name))?;
        let uname = rustix::system::uname();
        let head = format!(
            "{}: starting up libvirt version: 10.0.0, qemu version: {qemu}, kernel: {}, hostname: {}\n{command}\n",
            timestamp(SystemTime::now()),
            uname.release().to_string_lossy(),
            uname.nodename().to_string_lossy(),
        );
        file.write_all(head.as_bytes())?;
        let begin = file.metadata()?.len();
        Ok(Self { file, begin })
    }

    /// Opens the log for a program that runs beside the emulator, called `what`, and writes down its command.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn go_on(core: &Core, name: &str, command: &[String], what: &str) -> io::Result<Self> {
        let path = core.paths.log_file(name);
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let moment = timestamp(SystemTime::now());
        let (program, arguments) = command.split_first().map_or(("", &[][..]), |(a, b)| (a.as_str(), b));
        let text = command_text(&[], program, arguments);
        file.write_all(format!("{moment}: Starting external device: {what}\n{text}\n").as_bytes())?;
        let begin = file.metadata()?.len();
        Ok(Self { file, begin })
    }

    /// The log for the emulator's standard output and error.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub fn output(&self) -> io::Result<OwnedFd> {
        Ok(self.file.try_clone()?.into())
    }

    /// What the emulator has said in this run, the end of it if it is long.
    pub fn words(&self) -> String {
        let read = || {
            let mut file = self.file.try_clone()?;
            let end = file.metadata()?.len();
            file.seek(SeekFrom::Start(self.begin.max(end.saturating_sub(MAX_WORDS))))?;
            let mut bytes = Vec::new();
            file.take(MAX_WORDS).read_to_end(&mut bytes)?;
            Ok::<_, io::Error>(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = read().unwrap_or_default();
        let own =
            |line: &&str| !line.contains(" is tainted: ") && !line.contains("char device redirected to ");
        text.lines().filter(own).collect::<Vec<_>>().join("\n")
    }
}

impl Core {
    /// Adds a line of ours to a guest's log.
    pub fn guest_log(&self, name: &str, line: &str) {
        let text = format!("{}: {line}\n", timestamp(SystemTime::now()));
        // A log that cannot be written is no reason to leave a guest alone.
        let _ = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(self.paths.log_file(name))
            .and_then(|mut file| file.write_all(text.as_bytes()));
    }

    /// Notes in the guest's log why its behaviour is nobody's promise.
    pub fn log_taint(&self, name: &str, id: i32, taint: Taint) {
        self.guest_log(name, &format!("Domain id={id} is tainted: {}", taint.word()));
    }
}

/// The local time as a part of a file's name.
pub fn local_moment() -> String {
    let now = SystemTime::now();
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let ahead = hostio::time::local_offset(since.cast_signed());
    let local = UNIX_EPOCH + std::time::Duration::from_secs(since.saturating_add_signed(ahead));
    timestamp(local).chars().take(19).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The command as a shell would take it: the environment and the binary, then one option a line.
pub fn command_text(environment: &[(String, String)], binary: &str, arguments: &[String]) -> String {
    let mut lines: Vec<String> = environment.iter().map(assignment).collect();
    lines.push(quoted(binary));
    for argument in arguments {
        match lines.last_mut() {
            Some(line) if line.starts_with('-') && !line.contains(' ') && !argument.starts_with('-') => {
                line.push(' ');
                line.push_str(&quoted(argument));
            }
            _ => lines.push(quoted(argument)),
        }
    }
    lines.join(" \\\n")
}

/// The command in one line.
pub fn command_line(environment: &[(String, String)], binary: &str, arguments: &[String]) -> String {
    let words = std::iter::once(binary).chain(arguments.iter().map(String::as_str)).map(quoted);
    environment.iter().map(assignment).chain(words).collect::<Vec<_>>().join(" ")
}

fn assignment((name, value): &(String, String)) -> String {
    let value = if value.is_empty() { String::new() } else { quoted(value) };
    format!("{name}={value}")
}

fn quoted(word: &str) -> String {
    let special = |c: char| "\r\t\n !\"#$&'()*;<>?[\\]^`{|}~".contains(c);
    if !word.is_empty() && !word.contains(special) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn moments() {
        let at = |seconds| timestamp(UNIX_EPOCH + Duration::from_millis(seconds));
        assert_eq!(at(0), "1970-01-01 00:00:00.000+0000");
        assert_eq!(at(1_795_286_833_852), "2026-11-21 18:47:13.852+0000");
        assert_eq!(at(951_782_400_000), "2000-02-29 00:00:00.000+0000");
    }

    #[test]
    fn commands() {
        let environment = [("HOME".to_owned(), "/a b".to_owned())];
        let arguments = ["-S", "-name", "guest=x", "-object", "{\"a\":'b'}"].map(str::to_owned);
        assert_eq!(
            command_text(&environment, "/bin/q", &arguments),
            "HOME='/a b' \\\n/bin/q \\\n-S \\\n-name guest=x \\\n-object '{\"a\":'\\''b'\\''}'"
        );
    }
}
