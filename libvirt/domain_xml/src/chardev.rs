//! Serial ports, consoles, channels and the like: what they are attached to on the host.

use std::borrow::Cow;

use xml::{Expected, Hex, Pack, Packer, Unpacker, Value, element, words};

use crate::address::{BootInfo, Info};
use crate::source::{Named, Reconnect, SourceLabel};
use crate::words::{OnOff, YesNo};

/// What is at the host's end.
#[words]
pub enum CharType {
    Null,
    Vc,
    Pty,
    Dev,
    File,
    Pipe,
    Stdio,
    Udp,
    Tcp,
    Unix,
    #[word("spicevmc")]
    SpiceVmc,
    #[word("spiceport")]
    SpicePort,
    Nmdm,
    #[word("qemu-vdagent")]
    QemuVdagent,
    Dbus,
}

/// Who connects to whom.
#[words]
pub enum CharMode {
    Bind,
    Connect,
}

/// Whether clipboards are shared.
#[element]
pub struct Clipboard {
    #[attr]
    pub copypaste: YesNo,
}

/// Who draws the mouse.
#[element]
pub struct Mouse {
    #[attr]
    pub mode: MouseMode,
}

/// Who draws the mouse.
#[words]
pub enum MouseMode {
    Client,
    Server,
}

/// One of the host's ends; UDP has two.
#[element]
pub struct CharEnd {
    #[attr]
    pub channel: Option<String>,
    #[attr]
    pub mode: Option<CharMode>,
    #[attr]
    pub host: Option<String>,
    #[attr]
    pub service: Option<String>,
    #[attr]
    pub path: Option<String>,
    #[attr]
    pub append: Option<OnOff>,
    #[attr]
    pub tls: Option<YesNo>,
    #[attr("tlsFromConfig")]
    pub tls_from_config: Option<u32>,
    #[child]
    pub clipboard: Option<Clipboard>,
    #[child]
    pub mouse: Option<Mouse>,
    #[child]
    pub reconnect: Option<Reconnect>,
    #[child]
    pub seclabel: Vec<SourceLabel>,
}

/// What is spoken over TCP.
#[words]
pub enum CharProtocol {
    Raw,
    Telnet,
    Telnets,
    Tls,
}

/// What is spoken over TCP.
#[element]
pub struct ProtocolType {
    #[attr("type")]
    pub kind: CharProtocol,
}

/// Where all output is written as well.
#[element]
pub struct CharLog {
    #[attr]
    pub file: String,
    #[attr]
    pub append: Option<OnOff>,
}

/// The host's end of a character device.
#[element]
pub struct CharSource {
    #[attr("type")]
    pub kind: Option<CharType>,
    #[attr]
    pub tty: Option<String>,
    #[child("source")]
    pub ends: Vec<CharEnd>,
    #[child]
    pub protocol: Option<ProtocolType>,
    #[child]
    pub log: Option<CharLog>,
}

impl CharSource {
    /// The kind, a pseudo terminal if none is given.
    pub fn kind(&self) -> CharType {
        self.kind.unwrap_or(CharType::Null)
    }

    /// The end with that mode, or the first.
    pub fn end(&self, mode: CharMode) -> Option<&CharEnd> {
        self.ends.iter().find(|end| end.mode == Some(mode))
    }

    /// The path of the first end.
    pub fn path(&self) -> Option<&str> {
        self.ends.first()?.path.as_deref()
    }
}

/// The guest's end of a serial or parallel port, console or channel.
#[element]
pub struct CharTarget {
    #[attr("type")]
    pub kind: Option<String>,
    #[attr]
    pub address: Option<String>,
    #[attr]
    pub name: Option<String>,
    #[attr]
    pub port: Option<u32>,
    #[attr]
    pub state: Option<String>,
    #[child]
    pub model: Option<Named>,
}

/// A serial or parallel port, console or channel.
#[element]
pub struct CharDevice {
    #[flatten]
    pub source: CharSource,
    #[child]
    pub target: Option<CharTarget>,
    #[flatten]
    pub info: Info,
}

/// A device of the host or the client that is redirected to the guest.
#[element]
pub struct RedirDevice {
    #[attr]
    pub bus: String,
    #[flatten]
    pub source: CharSource,
    #[flatten]
    pub info: BootInfo,
}

/// A number of USB in a filter: written with that many digits in capitals; -1 fits all devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FilterNumber<const DIGITS: usize>(pub i64);

impl<const DIGITS: usize> Value for FilterNumber<DIGITS> {
    fn parse(text: &str) -> Result<Self, Expected> {
        match text {
            "-1" => Ok(Self(-1)),
            text => Hex::<DIGITS>::parse(text)
                .ok()
                .and_then(|number| i64::try_from(number.0).ok())
                .map(Self)
                .ok_or(Expected::Signed),
        }
    }

    fn format(&self) -> Cow<'_, str> {
        if self.0 < 0 {
            return "-1".into();
        }
        format!("0x{:0width$X}", self.0, width = DIGITS).into()
    }
}

impl<const DIGITS: usize> Pack for FilterNumber<DIGITS> {
    fn pack(&self, to: &mut Packer) {
        self.0.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        Pack::unpack(from).map(Self)
    }
}

/// Which USB devices may be redirected.
#[element]
pub struct RedirFilterRow {
    #[attr]
    pub class: Option<FilterNumber<2>>,
    #[attr]
    pub vendor: Option<FilterNumber<4>>,
    #[attr]
    pub product: Option<FilterNumber<4>>,
    #[attr]
    pub version: Option<String>,
    #[attr]
    pub allow: YesNo,
}

/// Which USB devices may be redirected.
#[element]
pub struct RedirFilter {
    #[child]
    pub usbdev: Vec<RedirFilterRow>,
}

/// Where a smart card comes from.
#[words]
pub enum SmartcardMode {
    Host,
    HostCertificates,
    Passthrough,
}

/// A smart card.
#[element]
pub struct Smartcard {
    #[attr]
    pub mode: SmartcardMode,
    #[text]
    pub certificate: Vec<String>,
    #[text]
    pub database: Option<String>,
    #[flatten]
    pub source: CharSource,
    #[flatten]
    pub info: Info,
}
