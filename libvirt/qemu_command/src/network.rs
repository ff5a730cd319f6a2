//! Network interfaces.

use crate::command::Builder;
use crate::{Error, Props, Result, Tap};
use domain_xml::Address;
use domain_xml::address::{BootInfo, HasInfo as _};
use domain_xml::disk::VirtioModel;
use domain_xml::interface::{Interface, InterfaceDriver, InterfaceType, Ip};
use domain_xml::words::YesNo;

/// Adds where a device's option ROM comes from.
pub(crate) fn rom(props: Props, info: &BootInfo) -> Result<Props> {
    let Some(rom) = &info.rom else { return Ok(props) };
    if rom.enabled.is_none() && rom.bar.is_none() && rom.file.is_none() {
        return Ok(props);
    }
    if !matches!(info.address, Some(Address::Pci(_))) {
        return Err(Error::unsupported("ROM tuning is only supported for PCI devices"));
    }
    if rom.enabled == Some(YesNo::No) {
        return Ok(props.put("romfile", ""));
    }
    let bar = rom.bar.map(|bar| u32::from(bar == domain_xml::words::OnOff::On));
    Ok(props.some("rombar", bar).some("romfile", rom.file.clone()))
}

impl Builder<'_> {
    pub(crate) fn interfaces(&mut self) -> Result<()> {
        let interfaces = &self.devices().interface;
        for (number, interface) in interfaces.iter().enumerate() {
            let boot = self.boot.of_interface(number, interface);
            self.interface(interface, boot)?;
        }
        Ok(())
    }

    fn interface(&mut self, interface: &Interface, boot: u32) -> Result<()> {
        // Cards of the host are handed over with its other devices.
        if interface.kind == InterfaceType::Hostdev {
            return Ok(());
        }
        let alias = interface.info.name();
        let mut tap = Tap::default();
        let mut vdpa = None;
        match interface.kind {
            InterfaceType::Network
            | InterfaceType::Bridge
            | InterfaceType::Direct
            | InterfaceType::Ethernet => {
                tap = self.host.tap(interface)?;
            }
            InterfaceType::Vdpa => {
                let path = interface.source.as_ref().and_then(|s| s.dev.as_deref()).unwrap_or("");
                let fd = self.host.open(path, true)?;
                vdpa = Some(self.descriptor_set(&[(fd, format!("{alias}-vdpa"))]));
            }
            InterfaceType::VhostUser => {
                let source = interface.source.as_ref();
                let path = source.and_then(|s| s.path.as_deref()).unwrap_or("");
                let mut text = format!("socket,id=char{alias},path={}", crate::props::escape(path));
                // The emulator makes the socket itself, and waits for the switch.
                if source.and_then(|s| s.mode.as_deref()) == Some("server") {
                    text += ",server=on";
                }
                if let Some(reconnect) = source.and_then(|s| s.reconnect.as_ref()) {
                    text += &crate::chardev::reconnect(reconnect);
                }
                self.option("-chardev", text);
            }
            _ => {}
        }
        let back_end = self.back_end(interface, &tap, vdpa)?;
        self.option("-netdev", back_end.argument());
        let card = self.card(interface, boot)?;
        self.device(card)
    }

    /// The host's end.
    pub(crate) fn back_end(&self, interface: &Interface, tap: &Tap, vdpa: Option<String>) -> Result<Props> {
        let alias = interface.info.name();
        let source = interface.source.as_ref();
        let queues = interface.driver.as_ref().and_then(|d| d.queues).unwrap_or(0);
        let socket = |key: &str| {
            let address = source.and_then(|s| s.address.as_deref()).unwrap_or("");
            let port = source.and_then(|s| s.port).unwrap_or(0);
            Props::default().put("type", "socket").put(key, format!("{address}:{port}"))
        };
        if interface.script.is_some() && interface.kind != InterfaceType::Ethernet {
            return Err(Error::unsupported(format!(
                "scripts are not supported on interfaces of type {}",
                interface.kind
            )));
        }
        let props = match interface.kind {
            InterfaceType::Network
            | InterfaceType::Bridge
            | InterfaceType::Direct
            | InterfaceType::Ethernet => {
                let field = |one: &'static str, many: &'static str, list: &[String]| {
                    if list.len() > 1 { many } else { one }
                };
                let mut props =
                    Props::default().put("type", "tap").put(field("fd", "fds", &tap.tap), tap.tap.join(":"));
                if !tap.vhost.is_empty() {
                    props = props
                        .put("vhost", true)
                        .put(field("vhostfd", "vhostfds", &tap.vhost), tap.vhost.join(":"));
                }
                props.some("sndbuf", interface.tune.as_ref().and_then(|t| t.sndbuf))
            }
            InterfaceType::Client => socket("connect"),
            InterfaceType::Server => socket("listen"),
            InterfaceType::Mcast => socket("mcast"),
            InterfaceType::Udp => {
                let local = source.and_then(|s| s.local.as_ref());
                let address = local.and_then(|l| l.address.as_deref()).unwrap_or("");
                let port = local.and_then(|l| l.port).unwrap_or(0);
                socket("udp").put("localaddr", format!("{address}:{port}"))
            }
            InterfaceType::User => {
                if interface.backend.as_ref().and_then(|b| b.kind.as_deref()) == Some("passt") {
                    let path = self.passt_socket(alias);
                    let address = Props::default().put("type", "unix").put("path", path);
                    Props::default().put("type", "stream").put("addr", address).put("server", false)
                } else {
                    interface.ip.iter().fold(Props::default().put("type", "user"), user_address)
                }
            }
            InterfaceType::Internal => Props::default().put("type", "user"),
            InterfaceType::VhostUser => Props::default()
                .put("type", "vhost-user")
                .put("chardev", format!("char{alias}"))
                .some("queues", (queues > 1).then_some(queues)),
            InterfaceType::Vdpa => Props::default()
                .put("type", "vhost-vdpa")
                .put("vhostdev", vdpa.unwrap_or_default())
                .some("queues", (queues > 1).then_some(queues)),
            other => {
                return Err(Error::unsupported(format!("interface type '{other}' is not supported")));
            }
        };
        Ok(props.put("id", format!("host{alias}")))
    }

    fn passt_socket(&self, alias: &str) -> String {
        // The guest's part of paths, in which long names are cut.
        let own = self.settings.guest_folder.rsplit('/').next().unwrap_or_default();
        let own = own.strip_prefix("domain-").unwrap_or(own);
        format!("{}/{own}-{alias}.socket", self.settings.passt_folder)
    }

    /// The card that the guest sees.
    pub(crate) fn card(&self, interface: &Interface, boot: u32) -> Result<Props> {
        let model = interface.model();
        let virtio = matches!(model, "virtio" | "virtio-transitional" | "virtio-non-transitional");
        let props = if virtio { self.virtio_card(interface, model)? } else { Props::device(model) };
        let props = props
            .put("netdev", format!("host{}", interface.info.name()))
            .put("id", interface.info.name())
            .put("mac", interface.mac.as_ref().map(|m| m.address.clone()).unwrap_or_default())
            .positive("bootindex", boot);
        let props = self.place(props, &interface.info)?;
        rom(props, &interface.info)
    }

    fn virtio_card(&self, interface: &Interface, model: &str) -> Result<Props> {
        let none = InterfaceDriver::default();
        let driver = interface.driver.as_ref().unwrap_or(&none);
        let form: Option<VirtioModel> = crate::virtio::form(model);
        let transmit = match driver.txmode.as_deref() {
            Some("iothread") => Some("bh"),
            other => other,
        };
        let queues = driver.queues.unwrap_or(0);
        let failover = interface.teaming.as_ref().is_some_and(|t| t.kind == "persistent");
        let (host, guest) = (driver.host.as_ref(), driver.guest.as_ref());
        Ok(self
            .virtio("virtio-net", form, &interface.info, Some(driver.virtio))?
            .some("tx", transmit)
            .switch("ioeventfd", driver.ioeventfd)
            .switch("event_idx", driver.event_idx)
            .switch("csum", host.and_then(|o| o.csum))
            .switch("gso", host.and_then(|o| o.gso))
            .switch("host_tso4", host.and_then(|o| o.tso4))
            .switch("host_tso6", host.and_then(|o| o.tso6))
            .switch("host_ecn", host.and_then(|o| o.ecn))
            .switch("host_ufo", host.and_then(|o| o.ufo))
            .switch("mrg_rxbuf", host.and_then(|o| o.mrg_rxbuf))
            .switch("guest_csum", guest.and_then(|o| o.csum))
            .switch("guest_tso4", guest.and_then(|o| o.tso4))
            .switch("guest_tso6", guest.and_then(|o| o.tso6))
            .switch("guest_ecn", guest.and_then(|o| o.ecn))
            .switch("guest_ufo", guest.and_then(|o| o.ufo))
            .if_true("mq", queues > 1)
            // Two vectors a queue pair, one for its control queue, one for changes of configuration.
            .positive("vectors", if queues > 1 { 2 * queues + 2 } else { 0 })
            .positive("rx_queue_size", driver.rx_queue_size.unwrap_or(0))
            .positive("tx_queue_size", driver.tx_queue_size.unwrap_or(0))
            .switch("rss", driver.rss)
            .switch("hash", driver.rss_hash_report)
            .positive("host_mtu", interface.mtu.as_ref().map_or(0, |m| m.size))
            .if_true("failover", failover))
    }
}

/// The guest's addresses in a network of user space.
fn user_address(props: Props, ip: &Ip) -> Props {
    let v6 = ip.family.as_deref() == Some("ipv6") || ip.address.contains(':');
    match (v6, ip.prefix) {
        (false, Some(prefix)) => props.put("net", format!("{}/{prefix}", ip.address)),
        (false, None) => props.put("net", ip.address.clone()),
        (true, prefix) => {
            props.put("ipv6-prefix", ip.address.clone()).positive("ipv6-prefixlen", prefix.unwrap_or(0))
        }
    }
}
