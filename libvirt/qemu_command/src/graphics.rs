//! Displays that clients connect to.

use crate::command::Builder;
use crate::machine::on_off;
use crate::props::escape;
use crate::{Error, Props, Result};
use domain_xml::chardev::MouseMode;
use domain_xml::graphics::{Graphics, GraphicsType, Listen, ListenType, SpiceChannelName, SpiceMode};
use domain_xml::words::{YesNo, yes};

/// The first port of VNC displays, which is display 0.
const VNC_BASE: i32 = 5900;

impl Builder<'_> {
    pub(crate) fn displays(&mut self) -> Result<()> {
        for graphics in &self.devices().graphics {
            match graphics.kind {
                GraphicsType::Sdl => self.sdl(graphics),
                GraphicsType::Vnc => self.vnc(graphics)?,
                GraphicsType::Spice => self.spice(graphics)?,
                GraphicsType::EglHeadless => {
                    let node = graphics.gl.as_ref().and_then(|gl| gl.rendernode.as_ref());
                    let node = node.map_or_else(String::new, |n| format!(",rendernode={}", escape(n)));
                    self.option("-display", format!("egl-headless{node}"));
                }
                GraphicsType::Dbus => self.dbus(graphics)?,
                other => {
                    return Err(Error::unsupported(format!("graphics type '{other}' is not supported")));
                }
            }
        }
        Ok(())
    }

    fn sdl(&mut self, graphics: &Graphics) {
        if let Some(xauth) = &graphics.xauth {
            self.env("XAUTHORITY", xauth.clone());
        }
        if let Some(display) = &graphics.display {
            self.env("DISPLAY", display.clone());
        }
        if yes(graphics.fullscreen) {
            self.flag("-full-screen");
        }
        let gl = graphics.gl.as_ref().and_then(|gl| gl.enable);
        let gl = gl.map_or_else(String::new, |on| format!(",gl={}", on_off(on)));
        self.option("-display", format!("sdl{gl}"));
    }

    fn dbus(&mut self, graphics: &Graphics) -> Result<()> {
        let mut text = "dbus".to_owned();
        if yes(graphics.p2p) {
            text += ",p2p=on";
        } else {
            text += &format!(",addr={}", escape(graphics.address.as_deref().unwrap_or("")));
        }
        if let Some(gl) = &graphics.gl {
            if let Some(on) = gl.enable {
                text += &format!(",gl={}", on_off(on));
            }
            if let Some(node) = &gl.rendernode {
                text += &format!(",rendernode={}", escape(node));
            }
        }
        if let Some(audio) = &graphics.audio {
            text += &format!(",audiodev={}", self.audio_name(Some(audio))?);
        }
        self.option("-display", text);
        Ok(())
    }

    fn vnc(&mut self, graphics: &Graphics) -> Result<()> {
        let audio = self.audio_name(graphics.audio.as_ref())?;
        let listen = first_listen(graphics)?;
        let port = graphics.port.unwrap_or(-1);
        let mut text = match listen.kind {
            ListenType::Socket => format!("vnc=unix:{}", escape(listen.socket.as_deref().unwrap_or(""))),
            ListenType::None => "none".to_owned(),
            ListenType::Address | ListenType::Network => {
                if !(VNC_BASE..=65535).contains(&port) {
                    return Err(Error::unsupported("vnc port must be in range [5900,65535]"));
                }
                let address = listen.address.as_deref().unwrap_or("");
                let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
                let socket = graphics.websocket.filter(|w| *w != 0);
                let socket = socket.map_or_else(String::new, |w| format!(",websocket={w}"));
                format!("{address}:{}{socket}", port - VNC_BASE)
            }
        };
        if let Some(policy) = &graphics.share_policy {
            text += &format!(",share={policy}");
        }
        if graphics.passwd.is_some() || self.settings.vnc_password {
            text += ",password=on";
        }
        if self.settings.vnc_tls.enabled {
            let tls = self.settings.vnc_tls.clone();
            let mut password = None;
            if let Some(secret) = &tls.secret {
                let sealed = self.host.secret(&format!("uuid:{secret}"))?;
                self.sealed_object("vnc-tls-creds0-secret0", sealed);
                password = Some("vnc-tls-creds0-secret0");
            }
            let props = Props::object("tls-creds-x509", "vnc-tls-creds0")
                .put("dir", tls.directory)
                .put("endpoint", "server")
                .put("verify-peer", tls.verify)
                .some("passwordid", password);
            self.object(&props);
            text += ",tls-creds=vnc-tls-creds0";
        }
        if let Some(directory) = self.settings.vnc_sasl.clone() {
            text += ",sasl=on";
            if let Some(directory) = directory {
                self.env("SASL_CONF_PATH", directory);
            }
        }
        if let Some(control) = graphics.power_control {
            text += &format!(",power-control={}", on_off(control));
        }
        self.option("-vnc", format!("{text},audiodev={audio}"));
        if let Some(keymap) = &graphics.keymap {
            self.option("-k", keymap.clone());
        }
        Ok(())
    }

    fn spice(&mut self, graphics: &Graphics) -> Result<()> {
        let listen = first_listen(graphics)?;
        let mut parts: Vec<String> = Vec::new();
        let (mut plain, mut secure) = (false, false);
        match listen.kind {
            ListenType::Socket => {
                parts.push("unix".into());
                parts.push(format!("addr={}", escape(listen.socket.as_deref().unwrap_or(""))));
                plain = true;
            }
            ListenType::None => {
                // There has to be some port.
                parts.push("port=0".into());
                plain = true;
            }
            ListenType::Address | ListenType::Network => {
                if let Some(port) = graphics.port.filter(|p| *p > 0) {
                    parts.push(format!("port={port}"));
                    plain = true;
                }
                if let Some(port) = graphics.tls_port.filter(|p| *p > 0) {
                    parts.push(format!("tls-port={port}"));
                    secure = true;
                }
                if plain || secure {
                    parts.extend(listen.address.as_ref().map(|address| format!("addr={address}")));
                }
            }
        }
        if let Some(directory) = self.settings.spice_sasl.clone() {
            parts.push("sasl=on".into());
            if let Some(directory) = directory {
                self.env("SASL_CONF_PATH", directory);
            }
        }
        if let Some(mouse) = &graphics.mouse {
            let on = if mouse.mode == MouseMode::Client { "on" } else { "off" };
            parts.push(format!("agent-mouse={on}"));
        }
        if graphics.passwd.is_none() && !self.settings.spice_password {
            parts.push("disable-ticketing=on".into());
        }
        if secure {
            parts.push(format!("x509-dir={}", escape(&self.settings.spice_tls.directory)));
        }
        let channel = |mode: SpiceMode, name: &str, wish: &str| -> Result<Option<String>> {
            let missing = |what: &str| {
                Error::unsupported(format!(
                    "spice {wish} in XML configuration, but {what} connection is not available"
                ))
            };
            match mode {
                SpiceMode::Any => Ok(None),
                SpiceMode::Secure if secure => Ok(Some(format!("tls-channel={name}"))),
                SpiceMode::Secure => Err(missing("TLS")),
                SpiceMode::Insecure if plain => Ok(Some(format!("plaintext-channel={name}"))),
                SpiceMode::Insecure => Err(missing("plaintext")),
            }
        };
        if let Some(mode) = graphics.default_mode {
            parts.extend(channel(mode, "default", &format!("defaultMode {mode} requested"))?);
        }
        for name in SpiceChannelName::ALL {
            if let Some(own) = graphics.channel.iter().find(|c| c.name == *name) {
                parts.extend(channel(own.mode, name.as_str(), &format!("{} channels set", own.mode))?);
            }
        }
        for (option, setting) in [
            ("image-compression", &graphics.image),
            ("jpeg-wan-compression", &graphics.jpeg),
            ("zlib-glz-wan-compression", &graphics.zlib),
        ] {
            parts.extend(setting.as_ref().map(|s| format!("{option}={}", s.compression)));
        }
        parts.extend(graphics.playback.as_ref().map(|p| format!("playback-compression={}", p.compression)));
        parts.extend(graphics.streaming.as_ref().map(|s| format!("streaming-video={}", s.mode)));
        if graphics.clipboard.as_ref().is_some_and(|c| c.copypaste == YesNo::No) {
            parts.push("disable-copy-paste=on".into());
        }
        if graphics.filetransfer.as_ref().is_some_and(|f| f.enable == YesNo::No) {
            parts.push("disable-agent-file-xfer=on".into());
        }
        if let Some(gl) = graphics.gl.as_ref().filter(|gl| yes(gl.enable)) {
            parts.push("gl=on".into());
            parts.extend(gl.rendernode.as_ref().map(|n| format!("rendernode={}", escape(n))));
        }
        parts.push("seamless-migration=on".into());
        self.option("-spice", parts.join(","));
        if let Some(keymap) = &graphics.keymap {
            self.option("-k", keymap.clone());
        }
        Ok(())
    }
}

fn first_listen(graphics: &Graphics) -> Result<&Listen> {
    graphics.listens.first().ok_or_else(|| Error::internal("missing listen element"))
}
