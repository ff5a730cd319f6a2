//! Character devices: serial and parallel ports, channels, consoles, and what they are attached to at the host.

use crate::command::Builder;
use crate::props::escape;
use crate::{Error, Props, Result};
use domain_xml::Address;
use domain_xml::address::HasInfo as _;
use domain_xml::chardev::{
    CharDevice, CharMode, CharProtocol, CharSource, CharType, FilterNumber, MouseMode, Smartcard,
    SmartcardMode,
};
use domain_xml::controller::ControllerType;
use domain_xml::graphics::GraphicsType;
use domain_xml::source::Reconnect;
use domain_xml::words::{OnOff, YesNo, yes};
use json::Value;
use xml::Value as _;

/// How often a connection is tried again.
pub(crate) fn reconnect(reconnect: &Reconnect) -> String {
    match reconnect.enabled {
        YesNo::Yes => format!(",reconnect={}", reconnect.timeout.unwrap_or(0)),
        YesNo::No => ",reconnect=0".to_owned(),
    }
}

/// The database of certificates of smart cards unless another is named.
const CARD_DATABASE: &str = "/etc/pki/nssdb";

impl Builder<'_> {
    /// Adds the host's end of the device `alias` as the character device `name`.
    pub(crate) fn chardev(&mut self, source: &CharSource, alias: &str, name: &str) -> Result<()> {
        let end = source.ends.first();
        let path = source.path().unwrap_or("");
        let kind = source.kind();
        let log_append = source.log.as_ref().and_then(|log| log.append);
        let mut text = match kind {
            CharType::Null | CharType::Vc | CharType::Pty | CharType::Stdio => format!("{kind},id={name}"),
            CharType::Dev => {
                let kind = if name.starts_with("charparallel") { "parallel" } else { "serial" };
                format!("{kind},id={name},path={}", escape(path))
            }
            CharType::File => {
                let append = end.and_then(|e| e.append);
                let file = self.host.output(alias, path, append == Some(OnOff::On))?;
                match file {
                    Some(fd) => {
                        let path = self.descriptor_set(&[(fd, format!("{alias}-source"))]);
                        format!("file,id={name},path={path},append=on")
                    }
                    None => {
                        let append = append.map_or_else(String::new, |a| format!(",append={a}"));
                        format!("file,id={name},path={}{append}", escape(path))
                    }
                }
            }
            CharType::Pipe => format!("pipe,id={name},path={}", escape(path)),
            CharType::Udp => {
                let connect = source.end(CharMode::Connect);
                let bind = source.end(CharMode::Bind);
                let text = |value: Option<&String>| value.cloned().unwrap_or_default();
                format!(
                    "udp,id={name},host={},port={},localaddr={},localport={}",
                    text(connect.and_then(|e| e.host.as_ref())),
                    text(connect.and_then(|e| e.service.as_ref())),
                    text(bind.and_then(|e| e.host.as_ref())),
                    bind.and_then(|e| e.service.as_deref()).unwrap_or("0"),
                )
            }
            CharType::Tcp => self.tcp(source, name)?,
            CharType::Unix => {
                let listens = end.and_then(|e| e.mode) == Some(CharMode::Bind);
                let mut text = format!("socket,id={name}");
                if listens {
                    text += &format!(",{},server=on,wait=off", self.listening(alias, path)?);
                } else {
                    text += &format!(",path={}", escape(path));
                }
                text + &end.and_then(|e| e.reconnect.as_ref()).map_or_else(String::new, reconnect)
            }
            CharType::SpiceVmc => {
                let port = if name.starts_with("charredir") {
                    "usbredir"
                } else if name.starts_with("charsmartcard") {
                    "smartcard"
                } else {
                    "vdagent"
                };
                format!("spicevmc,id={name},name={port}")
            }
            CharType::SpicePort | CharType::Dbus => {
                let channel = end.and_then(|e| e.channel.as_deref()).unwrap_or("");
                format!("{kind},id={name},name={channel}")
            }
            CharType::QemuVdagent => {
                let mut text = format!("qemu-vdagent,id={name},name=vdagent");
                if let Some(clipboard) = end.and_then(|e| e.clipboard.as_ref()) {
                    text += &format!(",clipboard={}", crate::machine::on_off(clipboard.copypaste));
                }
                if let Some(mouse) = end.and_then(|e| e.mouse.as_ref()) {
                    text += if mouse.mode == MouseMode::Client { ",mouse=on" } else { ",mouse=off" };
                }
                text
            }
            CharType::Nmdm => return Err(Error::unsupported("unsupported chardev 'nmdm'")),
        };
        if let Some(log) = &source.log {
            match self.host.output(alias, &log.file, log_append == Some(OnOff::On))? {
                Some(fd) => {
                    let path = self.descriptor_set(&[(fd, format!("{alias}-log"))]);
                    text += &format!(",logfile={path},logappend=on");
                }
                None => {
                    text += &format!(",logfile={}", escape(&log.file));
                    if let Some(append) = log.append {
                        text += &format!(",logappend={append}");
                    }
                }
            }
        }
        self.option("-chardev", text);
        Ok(())
    }

    fn tcp(&mut self, source: &CharSource, name: &str) -> Result<String> {
        let end = source.ends.first();
        let listens = end.and_then(|e| e.mode) == Some(CharMode::Bind);
        let protocol = source.protocol.as_ref().map(|p| p.kind);
        let tls = match end.and_then(|e| e.tls) {
            Some(tls) => tls == YesNo::Yes,
            None => self.settings.chardev_tls.enabled,
        };
        let mut credentials = None;
        if tls {
            let tls = &self.settings.chardev_tls;
            let mut password = None;
            if let Some(secret) = &tls.secret {
                let sealed = self.host.secret(&format!("uuid:{secret}"))?;
                let secret = format!("{name}-secret0");
                self.sealed_object(&secret, sealed);
                password = Some(secret);
            }
            let object = format!("obj{name}_tls0");
            let props = Props::object("tls-creds-x509", object.clone())
                .put("dir", tls.directory.clone())
                .put("endpoint", if listens { "server" } else { "client" })
                .put("verify-peer", !listens || tls.verify)
                .some("passwordid", password);
            self.object(&props);
            credentials = Some(object);
        }
        let mut text = format!(
            "socket,id={name},host={},port={}",
            end.and_then(|e| e.host.as_deref()).unwrap_or(""),
            end.and_then(|e| e.service.as_deref()).unwrap_or("")
        );
        if protocol == Some(CharProtocol::Telnet) {
            text += ",telnet=on";
        }
        if listens {
            text += ",server=on,wait=off";
        }
        text += &end.and_then(|e| e.reconnect.as_ref()).map_or_else(String::new, reconnect);
        if let Some(credentials) = credentials {
            text += &format!(",tls-creds={credentials}");
        }
        Ok(text)
    }

    pub(crate) fn serial_ports(&mut self) -> Result<()> {
        let spice = self.devices().graphics.iter().any(|g| g.kind == GraphicsType::Spice);
        for port in &self.devices().serial {
            if port.source.kind() == CharType::SpicePort && !spice {
                continue;
            }
            let alias = port.info.name();
            self.chardev(&port.source, alias, &format!("char{alias}"))?;
            let target = port.target.as_ref();
            let Some(model) = target.and_then(|t| t.model.as_ref()) else {
                self.option("-serial", format!("chardev:char{alias}"));
                continue;
            };
            let number = target.and_then(|t| t.port);
            let props = Props::device(model.name.clone())
                .put("chardev", format!("char{alias}"))
                .put("id", alias)
                .some("index", number.filter(|_| model.name == "isa-serial"));
            let props = self.place(props, &port.info)?;
            self.device(props)?;
        }
        Ok(())
    }

    pub(crate) fn parallel_ports(&mut self) -> Result<()> {
        for port in &self.devices().parallel {
            let alias = port.info.name();
            self.chardev(&port.source, alias, &format!("char{alias}"))?;
            let props = Props::device("isa-parallel").put("chardev", format!("char{alias}")).put("id", alias);
            self.device(props)?;
        }
        Ok(())
    }

    pub(crate) fn channels(&mut self) -> Result<()> {
        for channel in &self.devices().channel {
            let alias = channel.info.name();
            self.chardev(&channel.source, alias, &format!("char{alias}"))?;
            let target = channel.target.as_ref();
            match target.and_then(|t| t.kind.as_deref()) {
                Some("guestfwd") => {
                    let text = format!(
                        "tcp:{}:{}-chardev:char{alias}",
                        target.and_then(|t| t.address.as_deref()).unwrap_or(""),
                        target.and_then(|t| t.port).unwrap_or(0)
                    );
                    let forward: Value = Props::default().put("str", text).into();
                    let props = Props::default()
                        .put("type", "user")
                        .put("guestfwd", Value::List(vec![forward]))
                        .put("id", alias);
                    self.option("-netdev", props.argument());
                }
                Some("virtio") => {
                    let named = target.and_then(|t| t.name.clone());
                    let spice = channel.source.kind() == CharType::SpiceVmc;
                    if spice && named.as_ref().is_some_and(|name| name != "com.redhat.spice.0") {
                        return Err(Error::unsupported(format!(
                            "Unsupported spicevmc target name '{}'",
                            named.unwrap_or_default()
                        )));
                    }
                    let name = named.or_else(|| spice.then(|| "com.redhat.spice.0".to_owned()));
                    self.virtio_port("virtserialport", channel, name)?;
                }
                other => {
                    return Err(Error::unsupported(format!(
                        "unsupported channel target type '{}'",
                        other.unwrap_or("none")
                    )));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn consoles(&mut self) -> Result<()> {
        for console in &self.devices().console {
            match console.target.as_ref().and_then(|t| t.kind.as_deref()) {
                Some("virtio") => {
                    let alias = console.info.name();
                    self.chardev(&console.source, alias, &format!("char{alias}"))?;
                    self.virtio_port("virtconsole", console, None)?;
                }
                // The first console is the first serial port under another name.
                Some("serial") | None => {}
                Some(other) => {
                    return Err(Error::unsupported(format!("unsupported console target type {other}")));
                }
            }
        }
        Ok(())
    }

    fn virtio_port(&mut self, driver: &str, device: &CharDevice, name: Option<String>) -> Result<()> {
        let alias = device.info.name();
        let props = self.place(Props::device(driver), &device.info)?;
        let props = props.put("chardev", format!("char{alias}")).put("id", alias).some("name", name);
        self.device(props)
    }

    pub(crate) fn smartcards(&mut self) -> Result<()> {
        let Some(card) = self.devices().smartcard.first() else { return Ok(()) };
        let alias = card.info.name();
        let props = match card.mode {
            SmartcardMode::Host => Props::device("ccid-card-emulated").put("backend", "nss-emulated"),
            SmartcardMode::HostCertificates => certificates(card),
            SmartcardMode::Passthrough => {
                self.chardev(&card.source, alias, &format!("char{alias}"))?;
                Props::device("ccid-card-passthru").put("chardev", format!("char{alias}"))
            }
        };
        let reader = match card.info.address() {
            Some(Address::Ccid(at)) => at.controller,
            _ => 0,
        };
        let bus = self.controller_alias(ControllerType::Ccid, reader)?;
        self.device(props.put("id", alias).put("bus", format!("{bus}.0")))
    }

    pub(crate) fn redirected(&mut self) -> Result<()> {
        let filter = self.devices().redirfilter.as_ref().map(|filter| {
            let rows = filter.usbdev.iter().map(|row| {
                let version = row.version.as_deref().and_then(|v| {
                    let (major, minor) = v.split_once('.').unwrap_or((v, "0"));
                    let bcd = |t: &str| u32::from_str_radix(t, 16).ok();
                    Some(format!("0x{:04X}", bcd(major)? << 8 | bcd(&format!("{minor:0<2}"))?))
                });
                format!(
                    "{}:{}:{}:{}:{}",
                    row.class.unwrap_or(FilterNumber(-1)).format(),
                    row.vendor.unwrap_or(FilterNumber(-1)).format(),
                    row.product.unwrap_or(FilterNumber(-1)).format(),
                    version.unwrap_or_else(|| "-1".to_owned()),
                    u8::from(yes(Some(row.allow)))
                )
            });
            rows.collect::<Vec<_>>().join("|")
        });
        for device in &self.devices().redirdev {
            let alias = device.info.name();
            self.chardev(&device.source, alias, &format!("char{alias}"))?;
            let props = Props::device("usb-redir")
                .put("chardev", format!("char{alias}"))
                .put("id", alias)
                .some("filter", filter.clone())
                .positive("bootindex", device.info.boot.as_ref().map_or(0, |b| b.order));
            let props = self.place(props, &device.info)?;
            self.device(props)?;
        }
        Ok(())
    }
}

fn certificates(card: &Smartcard) -> Props {
    let file = |n: usize| card.certificate.get(n).cloned().unwrap_or_default();
    Props::device("ccid-card-emulated")
        .put("backend", "certificates")
        .put("cert1", file(0))
        .put("cert2", file(1))
        .put("cert3", file(2))
        .put("db", card.database.as_deref().unwrap_or(CARD_DATABASE))
}
