//! What a character device is to be: the declaration that `-chardev`, `-serial` and their like come down to.

use std::fmt;

/// Why a character device cannot be made; the text is what the user sees.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SpecError(pub String);

/// A socket's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket by path; `abstract_name` puts it into Linux's abstract name space.
    Unix {
        /// The path or abstract name.
        path: String,
        /// Whether `path` is an abstract name.
        abstract_name: bool,
    },
    /// TCP.
    Inet {
        /// Host name or address; empty for any.
        host: String,
        /// Port number or service name.
        port: String,
    },
    /// A descriptor inherited from the caller.
    Fd(i32),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { path, .. } => write!(f, "unix:{path}"),
            Self::Inet { host, port } if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Self::Inet { host, port } => {
                write!(f, "tcp:{}:{port}", if host.is_empty() { "0.0.0.0" } else { host })
            }
            Self::Fd(fd) => write!(f, "fd:{fd}"),
        }
    }
}

/// A socket back end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketSpec {
    /// Where.
    pub address: Address,
    /// Listen instead of connecting.
    pub server: bool,
    /// A server waits for its first peer before the machine starts.
    pub wait: bool,
    /// TCP without Nagle's delay.
    pub nodelay: bool,
    /// A client tries again this many milliseconds after a connection ended; 0: never.
    pub reconnect_ms: u64,
}

/// The kinds of back end with their settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Takes everything, sends nothing.
    Null,
    /// The terminal.
    Stdio {
        /// Ctrl-C and its like stay signals.
        signal: bool,
    },
    /// Files.
    File {
        /// Output.
        path: String,
        /// Input.
        input: Option<String>,
        /// Keep what the output file holds.
        append: bool,
    },
    /// A new pseudo-terminal.
    Pty,
    /// A socket.
    Socket(SocketSpec),
    /// Named pipes.
    Pipe {
        /// `PATH.in` and `PATH.out`, or one pipe.
        path: String,
    },
    /// A buffer in memory of so many bytes (a power of two).
    RingBuf {
        /// Size in bytes.
        size: usize,
    },
    /// The display's virtual console; without a display it has no reader, and takes everything.
    VirtualConsole,
}

/// One character device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Its id.
    pub id: String,
    /// Its kind.
    pub kind: Kind,
    /// A multiplexer stands in front.
    pub mux: bool,
    /// Everything written also goes to this file.
    pub logfile: Option<String>,
    /// Keep what the log file holds.
    pub logappend: bool,
}

/// The short forms of `-serial`, `-monitor`, `-debugcon`: `stdio`, `mon:stdio`, `file:PATH`, `unix:PATH,server=on`...
///
/// # Errors
/// The kind is unknown or not built.
pub fn parse_legacy(id: &str, text: &str) -> Result<Spec, SpecError> {
    let (mux, text) = match text.strip_prefix("mon:") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let plain = |kind| Spec { id: id.to_owned(), kind, mux, logfile: None, logappend: false };
    let not_valid = || SpecError(format!("'{text}' is not a valid char driver"));
    let (head, rest) = match text.split_once(':') {
        Some((head, rest)) => (head, Some(rest)),
        None => (text.split(',').next().unwrap_or(text), None),
    };
    let kind = match (head, rest) {
        ("null", None) => Kind::Null,
        ("pty", None) => Kind::Pty,
        // On the monitor's multiplexer Ctrl-C belongs to the guest.
        ("stdio", None) => Kind::Stdio { signal: !mux },
        ("vc", _) => Kind::VirtualConsole,
        ("ringbuf" | "memory", None) => Kind::RingBuf { size: 65536 },
        ("file", Some(path)) => Kind::File { path: path.to_owned(), input: None, append: false },
        ("pipe", Some(path)) => Kind::Pipe { path: path.to_owned() },
        ("unix" | "tcp", Some(rest)) => Kind::Socket(legacy_socket(head, rest)?),
        ("telnet" | "websocket" | "udp", Some(_))
        | ("msmouse" | "wctablet" | "braille" | "testdev", None) => {
            return Err(SpecError(format!("character device kind '{head}' is not built into this binary")));
        }
        _ if text.starts_with("/dev/") => {
            return Err(SpecError(
                "character device kind 'serial' (a host device) is not built into this binary".to_owned(),
            ));
        }
        _ => return Err(not_valid()),
    };
    Ok(plain(kind))
}

fn legacy_socket(head: &str, rest: &str) -> Result<SocketSpec, SpecError> {
    let mut parts = rest.split(',');
    let place = parts.next().unwrap_or_default();
    let address = if head == "unix" {
        Address::Unix { path: place.strip_prefix("path=").unwrap_or(place).to_owned(), abstract_name: false }
    } else {
        let (host, port) = place
            .rsplit_once(':')
            // QEMU has no text of its own for this.
            .ok_or_else(|| SpecError(String::new()))?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Address::Inet { host: host.to_owned(), port: port.to_owned() }
    };
    let mut socket = SocketSpec { address, server: false, wait: true, nodelay: false, reconnect_ms: 0 };
    for part in parts {
        let (key, value) = match part.split_once('=') {
            Some((key, value)) => (key, value),
            None => part
                .strip_prefix("no")
                .filter(|key| matches!(*key, "wait" | "server" | "delay"))
                .map_or((part, "on"), |key| if key == "delay" { ("nodelay", "on") } else { (key, "off") }),
        };
        socket.set(key, value)?;
    }
    Ok(socket)
}

impl SocketSpec {
    /// Sets one option of a socket by name.
    ///
    /// # Errors
    /// Unknown or not built, or a wrong value.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), SpecError> {
        let flag = || match value {
            "on" | "yes" | "true" | "y" => Ok(true),
            "off" | "no" | "false" | "n" => Ok(false),
            _ => Err(SpecError(format!("Parameter '{key}' expects 'on' or 'off'"))),
        };
        match key {
            "server" => self.server = flag()?,
            "wait" => self.wait = flag()?,
            "nodelay" => self.nodelay = flag()?,
            "delay" => self.nodelay = !flag()?,
            "reconnect" | "reconnect-ms" => {
                let number: u64 =
                    value.parse().map_err(|_| SpecError(format!("Parameter '{key}' expects a number")))?;
                self.reconnect_ms = if key == "reconnect" { number.saturating_mul(1000) } else { number };
            }
            "abstract" => {
                if let Address::Unix { abstract_name, .. } = &mut self.address {
                    *abstract_name = flag()?;
                }
            }
            "telnet" | "websocket" | "tn3270" if !flag()? => {}
            "telnet" | "websocket" | "tn3270" | "tls-creds" | "tls-authz" | "ipv4" | "ipv6" | "to"
            | "tight" => {
                return Err(SpecError(format!("socket option '{key}' is not built into this binary")));
            }
            _ => return Err(SpecError(format!("Invalid parameter '{key}'"))),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms() {
        let spec = parse_legacy("serial0", "mon:stdio").expect("valid");
        assert!(spec.mux);
        assert_eq!(spec.kind, Kind::Stdio { signal: false });
        let Kind::Socket(socket) = parse_legacy("a", "unix:/tmp/x,server,nowait").expect("valid").kind else {
            panic!("not a socket")
        };
        assert!(socket.server && !socket.wait);
        let Kind::Socket(socket) =
            parse_legacy("a", "tcp:[::1]:4444,server=on,wait=off,nodelay").expect("valid").kind
        else {
            panic!("not a socket")
        };
        assert!(socket.server && !socket.wait && socket.nodelay);
        assert_eq!(socket.address, Address::Inet { host: "::1".to_owned(), port: "4444".to_owned() });
        assert_eq!(
            parse_legacy("a", "foo").expect_err("invalid").to_string(),
            "'foo' is not a valid char driver"
        );
    }
}
