//! The configuration of virtqemud.
//!
//! [`syntax`] is the language; [`Daemon`] and [`Qemu`] declare each key once, with type, default and description, from
//! which [`document`] makes the commented files.
#![forbid(unsafe_code)]

pub mod daemon;
pub mod qemu;
pub mod setting;
pub mod syntax;

pub use daemon::Daemon;
pub use qemu::Qemu;
pub use setting::Size;

use rpc::{Code, Error, Origin};
use setting::Key;
use std::path::Path;

/// Longest file: no configuration comes near it.
const LONGEST: u64 = 10 << 20;

/// The settings of one file.
pub trait Settings: Default {
    /// All keys, in the order of the file.
    fn keys() -> &'static [Key];

    /// Sets one key; `None`: there is none of the name. The error is what follows `FILE: `.
    fn set(&mut self, name: &str, value: &syntax::Value) -> Option<Result<(), String>>;

    /// What stands in a file for each key, in the order of the keys.
    fn written(&self) -> Vec<Option<String>>;
}

macro_rules! files {
    ($($name:ident),*) => {
        $(impl Settings for $name {
            fn keys() -> &'static [Key] {
                Self::KEYS
            }

            fn set(&mut self, name: &str, value: &syntax::Value) -> Option<Result<(), String>> {
                self.assign(name, value)
            }

            fn written(&self) -> Vec<Option<String>> {
                self.values()
            }
        })*
    };
}
files!(Daemon, Qemu);

/// What was read: the settings, and what is to be said about them.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded<T> {
    /// The settings.
    pub settings: T,
    /// Keys that do not exist.
    pub warnings: Vec<String>,
}

/// Reads settings from `text`, which came from `file`.
///
/// # Errors
/// The text is not of the language, a value not of its key's type, or what it asks for is not built.
pub fn read<T: Settings>(text: &str, file: &str) -> Result<Loaded<T>, Error> {
    let entries = syntax::parse(text).map_err(|error| {
        let detail = format!("{file}:{}: {}", error.line, error.expected);
        Error::new(Origin::Conf, Code::ConfSyntax, detail)
    })?;
    let mut loaded = Loaded { settings: T::default(), warnings: Vec::new() };
    for entry in &entries {
        let unbuilt = T::keys().iter().any(|key| key.name == entry.name && key.unbuilt);
        match loaded.settings.set(&entry.name, &entry.value) {
            None => loaded.warnings.push(format!("{file}: unknown setting '{}' is ignored", entry.name)),
            Some(Ok(())) => {}
            Some(Err(text)) => {
                let code = if unbuilt && text.ends_with("daemon") {
                    Code::ConfigUnsupported
                } else {
                    Code::InternalError
                };
                return Err(Error::new(Origin::Conf, code, format!("{file}: {text}")));
            }
        }
    }
    Ok(loaded)
}

/// Reads settings from a file; with `optional` a file that does not exist is an empty one.
///
/// # Errors
/// As [`read`]; or the file cannot be read.
pub fn load<T: Settings>(file: &Path, optional: bool) -> Result<Loaded<T>, Error> {
    let shown = file.display().to_string();
    let failed = |error: &std::io::Error| {
        Error::system(Origin::None, error, &format!("Failed to open file '{shown}'"))
    };
    match std::fs::metadata(file) {
        Err(error) if optional && error.kind() == std::io::ErrorKind::NotFound => return read("", &shown),
        Err(error) => return Err(failed(&error)),
        Ok(data) if data.len() > LONGEST => {
            return Err(failed(&std::io::Error::from_raw_os_error(75 /* EOVERFLOW */)));
        }
        Ok(_) => {}
    }
    let bytes = std::fs::read(file).map_err(|error| failed(&error))?;
    read(&String::from_utf8_lossy(&bytes), &shown)
}

/// The commented file: every key with its description and default.
pub fn document<T: Settings>(title: &str) -> String {
    let mut text = format!(
        "# {title}\n#\n# Every setting stands here with its default; take the '#' away to change it.\n"
    );
    let defaults = T::default().written();
    let mut group = "";
    for (key, default) in T::keys().iter().zip(defaults) {
        if key.group != group {
            group = key.group;
            text.push_str(&format!("\n\n# --- {group} ---\n"));
        }
        text.push('\n');
        for line in key.help {
            text.push_str(&format!("# {}\n", line.trim()));
        }
        if !key.choices.is_empty() {
            text.push_str(&format!("# One of: {}.\n", key.choices.join(", ")));
        }
        if key.unbuilt {
            text.push_str("# Not supported yet: only the default is accepted.\n");
        }
        match default {
            Some(default) => text.push_str(&format!("#{} = {default}\n", key.name)),
            None => text.push_str(&format!("# Not set by default: {}\n", key.name)),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<T: Settings + std::fmt::Debug>(text: &str) -> String {
        read::<T>(text, "/x").expect_err("an error").to_string()
    }

    #[test]
    fn settings_are_read() {
        let text =
            "max_clients = 7\nkeepalive_interval = -1\nlog_outputs = \"1:stderr\"\naccess_drivers = []\n";
        let Loaded { settings, warnings } = read::<Daemon>(text, "/x").expect("settings");
        assert_eq!((settings.max_clients, settings.keepalive_interval), (7, -1));
        assert_eq!(settings.log_outputs.as_deref(), Some("1:stderr"));
        assert_eq!(warnings, Vec::<String>::new());
        let loaded = read::<Qemu>("user = \"root\"\nstdio_handler = \"file\"\nnonsense = 1\n", "/x");
        let Loaded { settings, warnings } = loaded.expect("settings");
        assert_eq!(settings.user.as_deref(), Some("root"));
        assert_eq!(warnings, ["/x: unknown setting 'nonsense' is ignored"]);
        assert_eq!(
            read::<Qemu>("security_driver = \"none\"", "/x").expect("settings").settings.security_driver.0,
            ["none"]
        );
    }

    #[test]
    fn errors_are_in_the_originals_words() {
        for (text, expected) in [
            ("max_clients = ", "configuration file syntax error: /x:1: expecting a value"),
            (
                "max_clients = \"a\"",
                "internal error: /x: expected an unsigned integer for 'max_clients' parameter",
            ),
            (
                "max_clients = -1",
                "internal error: /x: expected an unsigned integer for 'max_clients' parameter",
            ),
            (
                "max_clients = 4294967296",
                "internal error: /x: value for 'max_clients' parameter must be in range 0:4294967295",
            ),
            ("audit_logging = 2", "internal error: /x: value for 'audit_logging' parameter must be 0 or 1"),
            ("log_filters = 1", "internal error: /x: expected a string for 'log_filters' parameter"),
            (
                "access_drivers = \"a\"",
                "internal error: /x: expected a string list for 'access_drivers' parameter",
            ),
            (
                "access_drivers = [\"polkit\"]",
                "unsupported configuration: /x: 'access_drivers' is not supported by this daemon",
            ),
            ("auth_unix_rw = \"sasl\"", "internal error: /x: auth_unix_rw: unsupported value 'sasl'"),
        ] {
            assert_eq!(message::<Daemon>(text), expected, "{text}");
        }
        assert_eq!(
            message::<Qemu>("vnc_tls = 1"),
            "unsupported configuration: /x: 'vnc_tls' is not supported by this daemon"
        );
    }

    #[test]
    fn a_missing_file_is_an_empty_one_only_if_it_may_be() {
        let path = Path::new("/nonexist");
        assert_eq!(load::<Daemon>(path, true).expect("settings").settings, Daemon::default());
        assert_eq!(
            load::<Daemon>(path, false).expect_err("an error").to_string(),
            "Failed to open file '/nonexist': No such file or directory"
        );
    }

    #[test]
    fn packages_install_the_commented_files() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/libvirt");
        for (name, text) in [
            (
                "virtqemud.conf",
                document::<Daemon>("The daemon that runs QEMU's guests for libvirt's clients."),
            ),
            ("qemu.conf", document::<Qemu>("The QEMU driver.")),
        ] {
            let path = folder.join(name);
            if std::env::var_os("UPDATE").is_some() {
                std::fs::create_dir_all(&folder).expect("a folder");
                std::fs::write(&path, &text).expect("write");
            }
            let installed = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(installed, text, "{name} is not what the table says; run the test with UPDATE=1");
        }
    }

    #[test]
    fn the_commented_files_say_what_the_defaults_are() {
        for (text, keys) in
            [(document::<Daemon>("x"), Daemon::KEYS.len()), (document::<Qemu>("x"), Qemu::KEYS.len())]
        {
            let settings: Vec<&str> = text
                .lines()
                .filter_map(|line| line.strip_prefix('#'))
                .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))
                .collect();
            let unset = text.lines().filter(|line| line.starts_with("# Not set by default")).count();
            assert_eq!(settings.len() + unset, keys);
            // The comment sign taken away, the file asks for the defaults, which are always accepted.
            let text = settings.join("\n");
            assert!(read::<Daemon>(&text, "/x").is_ok() || read::<Qemu>(&text, "/x").is_ok());
        }
        assert_eq!(Daemon::KEYS.len(), 35);
    }
}
