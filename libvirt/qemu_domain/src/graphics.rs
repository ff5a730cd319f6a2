//! Displays.

use domain_xml::graphics::{Graphics, GraphicsType, Listen, ListenType};
use domain_xml::words::{YesNo, yes};
use domain_xml::{Domain, Error, Result};

use crate::Settings;

/// Completes the displays.
pub fn complete(domain: &mut Domain, settings: &Settings) -> Result<()> {
    for graphics in &mut domain.devices.graphics {
        match graphics.kind {
            GraphicsType::Vnc => {
                listens(graphics)?;
                forget_generated(graphics, &settings.lib);
                vnc(graphics);
            }
            GraphicsType::Spice => {
                listens(graphics)?;
                spice(graphics);
            }
            _ => {}
        }
    }
    Ok(())
}

/// A socket that the driver made for another start is made anew, or not at all.
fn forget_generated(graphics: &mut Graphics, lib: &str) {
    for listen in &mut graphics.listens {
        let ours = listen.socket.as_ref().is_some_and(|path| !lib.is_empty() && path.starts_with(lib));
        if listen.kind == ListenType::Socket && ours {
            *listen = Listen { kind: ListenType::Address, ..Listen::default() };
        }
    }
}

fn vnc(graphics: &mut Graphics) {
    let automatic = match graphics.autoport {
        Some(chosen) => chosen == YesNo::Yes,
        None => graphics.port.is_none_or(|port| port == -1),
    };
    graphics.socket = graphics
        .listens
        .first()
        .filter(|listen| listen.kind == ListenType::Socket)
        .and_then(|listen| listen.socket.clone());
    if graphics
        .listens
        .first()
        .is_some_and(|listen| listen.kind == ListenType::Socket || listen.kind == ListenType::None)
    {
        graphics.port = None;
        graphics.autoport = None;
    } else {
        if automatic {
            graphics.port = Some(-1);
        }
        graphics.port = graphics.port.filter(|port| *port != 0);
        graphics.autoport = Some(automatic.into());
    }
    if graphics.websocket_generated == Some(YesNo::Yes) {
        graphics.websocket = Some(-1);
        graphics.websocket_generated = None;
    }
}

fn spice(graphics: &mut Graphics) {
    let both = graphics.port == Some(-1) && graphics.tls_port == Some(-1);
    let automatic = yes(graphics.autoport) || both;
    if automatic {
        graphics.port = None;
        graphics.tls_port = None;
    }
    graphics.port = graphics.port.filter(|port| *port != 0);
    graphics.tls_port = graphics.tls_port.filter(|port| *port != 0);
    graphics.autoport = if automatic {
        Some(YesNo::Yes)
    } else if graphics.port.is_some() || graphics.tls_port.is_some() {
        Some(YesNo::No)
    } else {
        None
    };
    if graphics.default_mode == Some(domain_xml::graphics::SpiceMode::Any) {
        graphics.default_mode = None;
    }
    graphics.channel.sort_by_key(|channel| channel.name);
}

fn listens(graphics: &mut Graphics) -> Result<()> {
    if let Some(socket) = &graphics.socket
        && graphics.kind == GraphicsType::Vnc
    {
        // The attribute is the older way to say it, and has its way.
        let by_attribute =
            Listen { kind: ListenType::Socket, socket: Some(socket.clone()), ..Listen::default() };
        match graphics.listens.first_mut() {
            None => graphics.listens.push(by_attribute),
            Some(first) if first.kind != ListenType::Socket => *first = by_attribute,
            Some(first) => {
                let own = first.socket.get_or_insert_with(|| socket.clone());
                if own != socket {
                    return Err(Error::unsupported(format!(
                        "graphics 'socket' attribute '{socket}' must match 'socket' attribute of first listen element (found '{own}')"
                    )));
                }
            }
        }
    }
    if graphics.listens.is_empty() {
        graphics.listens.push(Listen {
            kind: ListenType::Address,
            address: graphics.listen.clone(),
            ..Listen::default()
        });
    }
    let first = &mut graphics.listens[0];
    if let (Some(attribute), ListenType::Address) = (&graphics.listen, first.kind) {
        match &first.address {
            Some(address) if address != attribute => {
                return Err(Error::unsupported(format!(
                    "graphics 'listen' attribute '{attribute}' must match 'address' attribute of first listen element (found '{address}')"
                )));
            }
            _ => first.address = Some(attribute.clone()),
        }
    }
    for listen in &mut graphics.listens {
        if listen.kind == ListenType::Socket && listen.auto_generated == Some(YesNo::Yes) {
            listen.socket = None;
            listen.auto_generated = None;
        }
        if listen.kind == ListenType::Address && listen.from_config.is_some_and(|value| value > 0) {
            listen.address = None;
            listen.from_config = None;
        }
    }
    let first = &graphics.listens[0];
    graphics.listen = (first.kind == ListenType::Address).then(|| first.address.clone()).flatten();
    Ok(())
}

/// A Spice display without ports does not listen.
pub fn late(domain: &mut Domain) {
    for graphics in domain.devices.graphics.iter_mut().filter(|g| g.kind == GraphicsType::Spice) {
        let idle = graphics.port.is_none() && graphics.tls_port.is_none() && !yes(graphics.autoport);
        if let Some(first) = graphics.listens.first_mut()
            && first.kind == ListenType::Address
            && idle
        {
            *first = Listen::default();
            graphics.listen = None;
        }
        if graphics.listens.first().is_some_and(|l| matches!(l.kind, ListenType::Socket | ListenType::None)) {
            graphics.autoport = None;
            graphics.port = None;
            graphics.tls_port = None;
        }
    }
}
