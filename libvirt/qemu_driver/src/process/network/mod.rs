//! The host's ends of network interfaces: tap devices, what they are plugged into, and vhost.
//!
//! A tap device lives as long as the emulator that has its descriptor, and leaves its bridge when it goes. What
//! outlives it, a port of a virtual network or a device on top of one of the host, is named by [`choose`], and in the guest's status file before [`connect`]
//! makes it; whoever ends the guest, or what was begun with it, gives it back from there.

pub mod bandwidth;
pub mod filter;
mod macvtap;
pub(super) mod passt;
mod port;
mod program;
mod reception;
mod virtual_port;

pub(super) use macvtap::set_online;
pub(super) use port::daemon;
pub(crate) use port::{Leases, leases};
pub(super) use reception::follow_guest;

use crate::core::{Core, Level};
use crate::error::{Result, error, internal, invalid, system, unsupported};
use crate::process::helper;
use domain_xml::domain::DomainType;
use domain_xml::interface::{Interface, InterfaceSource, InterfaceType};
use domain_xml::words::YesNo;
use hostio::links;
use hostio::netdev::{self, TapMode};
use parking_lot::Mutex;
use rpc::Code;
use std::fs::{File, OpenOptions};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
/// How many names are tried.
const ATTEMPTS: u32 = 10_000;
/// More than a guest can have queues.
const MAX_QUEUES: u32 = 256;

/// What generated names begin with: tap devices of their own, and those on top of a device of the host.
const PREFIXES: [&str; 2] = ["vnet", "macvtap"];

/// Names of devices: each number is given once, so that a name that was just released means nobody else.
#[derive(Debug, Default)]
pub struct Names {
    /// By prefix.
    next: Mutex<[u32; PREFIXES.len()]>,
}

impl Names {
    /// A device of that name is a guest's that was found running.
    pub fn note(&self, name: &str) {
        for (prefix, next) in PREFIXES.iter().zip(self.next.lock().iter_mut()) {
            if let Some(number) = name.strip_prefix(prefix).and_then(|rest| rest.parse::<u32>().ok()) {
                *next = (*next).max(number.saturating_add(1));
            }
        }
    }

    /// The next of the form `template`, in which `%d` is the number, that `taken` does not have.
    fn free(&self, template: &str, taken: impl Fn(&str) -> bool) -> Option<String> {
        let kind = PREFIXES.iter().position(|prefix| template.starts_with(prefix)).unwrap_or(0);
        (0..ATTEMPTS).find_map(|_| {
            let number = {
                let mut next = self.next.lock();
                let next = &mut next[kind];
                let number = *next;
                *next = number.checked_add(1).filter(|next| *next < i32::MAX.cast_unsigned()).unwrap_or(0);
                number
            };
            let name = template.replace("%d", &number.to_string());
            (!taken(&name)).then_some(name)
        })
    }
}

/// Whose interfaces they are.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The guest's name.
    pub name: &'a str,
    /// Its UUID.
    pub uuid: Option<&'a str>,
    /// What runs it.
    pub kind: DomainType,
    /// Its number.
    pub id: i32,
    /// All of it.
    pub definition: &'a domain_xml::Domain,
}

impl<'a> Owner<'a> {
    /// The guest of a definition.
    pub fn of(definition: &'a domain_xml::Domain) -> Self {
        Self {
            name: definition.name(),
            uuid: definition.uuid.as_deref(),
            kind: definition.kind,
            id: definition.id.unwrap_or(-1),
            definition,
        }
    }
}

/// The descriptors of one interface.
#[derive(Debug)]
pub struct Connected {
    /// The interface's name.
    pub alias: String,
    /// Of the tap device, one a queue.
    pub tap: Vec<OwnedFd>,
    /// Of vhost, one a queue, or none.
    pub vhost: Vec<OwnedFd>,
}

impl Connected {
    /// What the descriptors are called where they are passed by name.
    pub fn names(&self) -> qemu_command::Tap {
        let names = |what: &str, count: usize| {
            (0..count).map(|number| format!("{what}-{}{number}", self.alias)).collect()
        };
        qemu_command::Tap { tap: names("tapfd", self.tap.len()), vhost: names("vhostfd", self.vhost.len()) }
    }
}

/// Whether the interface has a tap device.
pub fn has_tap(interface: &Interface) -> bool {
    matches!(
        interface.kind,
        InterfaceType::Network | InterfaceType::Bridge | InterfaceType::Ethernet | InterfaceType::Direct
    )
}

/// Whether the host's end is a part of a device of the host, so that the guest sends what it sends.
pub fn is_direct(interface: &Interface) -> bool {
    interface.kind == InterfaceType::Direct
}

/// Whether it has a device of the host to itself.
fn is_passthrough(interface: &Interface) -> bool {
    let mode = interface.source.as_ref().and_then(|source| source.mode.as_deref());
    is_direct(interface) && mode == Some("passthrough")
}

/// Whether a name is one in which a number is to be put.
fn is_template(name: &str) -> bool {
    name.matches('%').count() == 1 && name.contains("%d")
}

/// The descriptors' mode.
fn tap_mode(interface: &Interface) -> TapMode {
    TapMode {
        multiqueue: queues(interface) > 1,
        vnet_header: is_virtio(interface) || matches!(interface.model(), "e1000e" | "vmxnet3"),
    }
}

/// An address as its bytes.
fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}

fn mac_error(mac: &str) -> rpc::Error {
    error(Code::XmlError, format!("unable to parse mac address '{mac}'"))
}

/// What cannot be had is refused before anything is made.
fn check(interface: &Interface, privileged: bool) -> Result<()> {
    // What a network's port makes of it is not known yet.
    if interface.kind != InterfaceType::Network {
        virtual_port::check(interface)?;
    }
    if interface.backend.as_ref().is_some_and(|backend| backend.tap.is_some()) && !privileged {
        return Err(unsupported("cannot use custom tap device in session mode"));
    }
    if !privileged && interface.kind == InterfaceType::Direct {
        return Err(crate::error::error(Code::OperationUnsupported, "cannot use direct mode in session"));
    }
    if queues(interface) > MAX_QUEUES {
        return Err(unsupported(format!("an interface cannot have more than {MAX_QUEUES} queues")));
    }
    Ok(())
}

fn queues(interface: &Interface) -> u32 {
    interface.driver.as_ref().and_then(|driver| driver.queues).unwrap_or(0).max(1)
}

fn is_virtio(interface: &Interface) -> bool {
    matches!(interface.model(), "virtio" | "virtio-transitional" | "virtio-non-transitional")
}

/// The tap device's own address: the guest's but for its first byte, as packets from one's own address are dropped,
/// and high, as a bridge takes the lowest of its ports.
fn tap_address(mac: &str) -> Option<[u8; 6]> {
    let mut bytes = parse_mac(mac)?;
    bytes[0] = if bytes[0] == 0xfe { 0xfa } else { 0xfe };
    Some(bytes)
}

/// Refuses what cannot be had, and names what will outlive a daemon that is killed while it makes it.
///
/// # Errors
/// Names what cannot be had.
pub fn choose(core: &Core, interfaces: &mut [Interface]) -> Result<()> {
    for interface in interfaces.iter_mut().filter(|interface| has_tap(interface)) {
        check(interface, core.paths.privileged)?;
        if is_direct(interface) {
            macvtap::choose(core, interface)?;
            virtual_port::check_lan(interface)?;
        }
        if interface.kind == InterfaceType::Network {
            let id = crate::uuid::generate().map_err(|error| system(&error, "no random numbers"))?;
            interface.source.get_or_insert_default().portid = Some(id.to_string());
        }
    }
    Ok(())
}

/// Makes what the interfaces need of the host, by the names that [`choose`] gave, and notes it in them. `note` is called
/// with what is named only here, before it is made.
///
/// # Errors
/// Something cannot be had; then nothing is left of the others.
pub fn connect(
    core: &Core,
    owner: Owner<'_>,
    interfaces: &mut [Interface],
    note: &dyn Fn(&[Interface]) -> Result<()>,
) -> Result<Vec<Connected>> {
    let mut connected = Vec::new();
    for at in 0..interfaces.len() {
        let made = if has_tap(&interfaces[at]) {
            let mut ready = || {
                if interfaces[at].kind == InterfaceType::Network {
                    port::make(core, owner, &mut interfaces[at])?;
                    virtual_port::check(&interfaces[at])?;
                    if is_direct(&interfaces[at]) {
                        macvtap::choose(core, &mut interfaces[at])?;
                        note(interfaces)?;
                    }
                }
                connect_one(core, owner, &mut interfaces[at]).map(Some)
            };
            ready()
        } else if passt::is_wanted(&interfaces[at]) {
            passt::start(core, owner, &interfaces[at]).map(|()| None)
        } else {
            continue;
        };
        match made {
            Ok(one) => connected.extend(one),
            Err(error) => {
                drop(connected);
                release(core, owner, &interfaces[..=at]);
                return Err(error);
            }
        }
    }
    Ok(connected)
}

fn connect_one(core: &Core, owner: Owner<'_>, interface: &mut Interface) -> Result<Connected> {
    let source = |interface: &Interface, get: fn(&InterfaceSource) -> Option<&String>| {
        interface.source.as_ref().and_then(get).cloned()
    };
    let direct = is_direct(interface);
    let bridged = !matches!(interface.kind, InterfaceType::Ethernet | InterfaceType::Direct);
    if bridged && !core.paths.privileged {
        // Somebody else has the right to make it, and does all that is done here.
        let tap = program::ask_for_tap(interface, &core.config.bridge_helper, tap_mode(interface))?;
        let alias = interface.info.alias.as_ref().map(|alias| alias.name.clone()).unwrap_or_default();
        let vhost = open_vhost(core, owner, interface)?;
        return Ok(Connected { alias, tap: vec![tap], vhost });
    }
    let tap = if direct { macvtap::open(core, interface)? } else { open_tap(core, interface)? };
    let name = interface.target.as_ref().and_then(|target| target.dev.clone()).unwrap_or_default();
    let managed = !is_unmanaged(interface);
    if managed && !direct {
        let mac = interface.mac.as_ref().map(|mac| mac.address.clone()).unwrap_or_default();
        let address = tap_address(&mac).ok_or_else(|| mac_error(&mac))?;
        netdev::set_mac(&name, address).map_err(|error| {
            let [a, b, c, d, e, f] = address;
            let text = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
            system(&error, &format!("Cannot set interface MAC to {text} on '{name}'"))
        })?;
    }
    if bridged {
        let bridge = source(interface, |source| source.bridge.as_ref());
        let bridge = bridge.ok_or_else(|| internal("Missing bridge name"))?;
        match virtual_port::wanted(interface) {
            Some(_) => virtual_port::plug(core, owner, interface, &bridge, &name)?,
            None => add_to_bridge(&bridge, &name, interface)?,
        }
    }
    if managed && !direct {
        netdev::set_up(&name, true)
            .map_err(|error| system(&error, &format!("Cannot set interface flags on '{name}'")))?;
    }
    if interface.kind == InterfaceType::Ethernet
        && let Some(script) = &interface.script
    {
        program::run_script(&script.path, &name, core.paths.privileged)?;
    }
    coalesce(interface)?;
    set_addresses(interface, &name)?;
    filter::make(core, owner, interface)?;
    bandwidth::set_up(core, interface)?;
    if let Some(mtu) = interface.mtu.as_ref().filter(|_| managed) {
        netdev::set_mtu(&name, mtu.size)
            .map_err(|error| system(&error, &format!("Cannot set interface MTU on '{name}'")))?;
    }
    let alias = interface.info.alias.as_ref().map(|alias| alias.name.clone()).unwrap_or_default();
    Ok(Connected { alias, tap, vhost: open_vhost(core, owner, interface)? })
}

/// The network that the interface is a port of, whatever the port is: what it became is noted in the interface.
fn is_port(interface: &Interface) -> bool {
    interface.source.as_ref().is_some_and(|source| source.network.is_some())
}

/// What a running interface's port is stays what it is in a definition that asks for its network.
pub fn keep_port(wanted: &mut Interface, own: &Interface) {
    let network = |interface: &Interface| interface.source.as_ref().and_then(|source| source.network.clone());
    if network(own).is_none() || network(wanted) != network(own) {
        return;
    }
    wanted.kind = own.kind;
    if let (Some(source), Some(own)) = (&mut wanted.source, &own.source) {
        (source.portid, source.bridge) = (own.portid.clone(), own.bridge.clone());
        (source.dev, source.mode) = (own.dev.clone(), own.mode.clone());
        source.mac_table_manager.clone_from(&own.mac_table_manager);
    }
    (wanted.virtualport, wanted.vlan) = (own.virtualport.clone(), own.vlan.clone());
}

/// Sets how many packets may come until the host is interrupted for them.
///
/// # Errors
/// The device has no such setting.
pub fn coalesce(interface: &Interface) -> Result<()> {
    let frames = interface.coalesce.as_ref().and_then(|it| it.rx.as_ref()?.frames.as_ref()?.max);
    let name = interface.target.as_ref().and_then(|target| target.dev.as_deref()).unwrap_or_default();
    let Some(frames) = frames else { return Ok(()) };
    netdev::set_coalesced_frames(name, frames)
        .map_err(|error| system(&error, &format!("Cannot set coalesce info on '{name}'")))
}

/// The addresses and routes that the host's end has on the host.
fn set_addresses(interface: &Interface, name: &str) -> Result<()> {
    let Some(source) = interface.source.as_ref().filter(|_| interface.kind == InterfaceType::Ethernet) else {
        return Ok(());
    };
    let parse = |text: &str| {
        let wrong = || error(Code::XmlError, format!("Cannot parse socket address '{text}'"));
        text.parse::<IpAddr>().map_err(|_| wrong())
    };
    let whole = |address: IpAddr| if address.is_ipv4() { 32 } else { 128 };
    let length = |prefix: Option<u32>, address| {
        prefix.and_then(|prefix| u8::try_from(prefix).ok()).unwrap_or_else(|| whole(address))
    };
    for ip in &source.ip {
        let address = parse(&ip.address)?;
        let peer = ip.peer.as_deref().map(parse).transpose()?;
        links::add_address(name, address, length(ip.prefix, address), peer)
            .map_err(|error| system(&error, &format!("Failed to add IP address {address} to {name}")))?;
    }
    if !source.route.is_empty() {
        // What leaves by a device that is off goes nowhere.
        netdev::set_up(name, true)
            .map_err(|error| system(&error, &format!("Cannot set interface flags on '{name}'")))?;
    }
    for route in &source.route {
        let (Some(to), Some(gateway)) = (&route.address, &route.gateway) else { continue };
        let (to, gateway) = (parse(to)?, parse(gateway)?);
        let mask = route.netmask.as_deref().map(parse).transpose()?;
        let mask = mask.and_then(|mask| match mask {
            IpAddr::V4(mask) => Some(mask.to_bits().count_ones()),
            IpAddr::V6(_) => None,
        });
        let prefix = length(route.prefix.or(mask), to);
        links::add_route(name, to, prefix, gateway, route.metric)
            .map_err(|error| system(&error, &format!("Failed to add route {to}/{prefix} to {name}")))?;
    }
    Ok(())
}

fn is_unmanaged(interface: &Interface) -> bool {
    interface.kind == InterfaceType::Ethernet
        && interface.target.as_ref().is_some_and(|target| target.managed == Some(YesNo::No))
}

/// The tap device's descriptors; its name is noted in the interface.
fn open_tap(core: &Core, interface: &mut Interface) -> Result<Vec<OwnedFd>> {
    let wanted =
        interface.target.as_ref().and_then(|target| target.dev.clone()).filter(|name| !name.is_empty());
    let name = match wanted {
        _ if is_unmanaged(interface) => {
            let name = wanted.ok_or_else(|| internal("target dev must be supplied when managed='no'"))?;
            if netdev::index(&name).is_none() {
                return Err(internal("target managed='no' but specified dev doesn't exist"));
            }
            name
        }
        Some(name) if !is_template(&name) => {
            if netdev::index(&name).is_some() {
                return Err(invalid(format!("The {name} interface already exists")));
            }
            name
        }
        template => {
            let template = template.as_deref().unwrap_or("vnet%d");
            let taken = |name: &str| netdev::index(name).is_some();
            let free = core.interfaces.free(template, taken);
            free.ok_or_else(|| internal("no unused vnet names available"))?
        }
    };
    let path =
        interface.backend.as_ref().and_then(|backend| backend.tap.as_deref()).unwrap_or("/dev/net/tun");
    let queues = queues(interface);
    let mode = tap_mode(interface);
    if name.len() > netdev::NAME_LENGTH {
        let long = std::io::Error::from(rustix::io::Errno::RANGE);
        return Err(system(&long, &format!("Network interface name '{name}' is too long")));
    }
    let mut descriptors = Vec::new();
    let mut given = name.clone();
    for _ in 0..queues {
        let tun = open(path)
            .map_err(|error| system(&error, &format!("Unable to open {path}, is tun module loaded?")))?;
        given = netdev::attach_tap(&tun, &name, mode)
            .map_err(|error| system(&error, &format!("Unable to create tap device {name}")))?;
        descriptors.push(tun.into());
    }
    interface.target.get_or_insert_default().dev = Some(given);
    Ok(descriptors)
}

fn open(path: &str) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

fn add_to_bridge(bridge: &str, name: &str, interface: &Interface) -> Result<()> {
    // A bridge's packets are as long as its ports' shortest: this one is not to change that.
    let mtu = netdev::mtu(bridge)
        .map_err(|error| system(&error, &format!("Cannot get interface MTU on '{bridge}'")))?;
    netdev::set_mtu(name, mtu)
        .map_err(|error| system(&error, &format!("Cannot set interface MTU on '{name}'")))?;
    netdev::add_to_bridge(bridge, name)
        .map_err(|error| system(&error, &format!("Unable to add bridge {bridge} port {name}")))?;
    if interface.source.as_ref().and_then(|source| source.mac_table_manager.as_deref()) == Some("libvirt") {
        keep_table(bridge, name, interface)?;
    }
    if is_isolated(interface) { set_isolated(bridge, name, interface) } else { Ok(()) }
}

/// The bridge does not learn who is behind the port, but is told.
fn keep_table(bridge: &str, name: &str, interface: &Interface) -> Result<()> {
    for setting in ["learning", "unicast_flood"] {
        std::fs::write(format!("/sys/class/net/{name}/brport/{setting}"), "0").map_err(|error| {
            system(&error, &format!("Unable to set bridge {bridge} port {name} {setting} to 0"))
        })?;
    }
    let text = interface.mac.as_ref().map_or("", |mac| mac.address.as_str());
    let address = parse_mac(text).ok_or_else(|| mac_error(text))?;
    links::add_to_forwarding(name, address)
        .map_err(|error| system(&error, &format!("error adding fdb entry for {name}")))
}

fn is_isolated(interface: &Interface) -> bool {
    interface.port.as_ref().is_some_and(|port| port.isolated == YesNo::Yes)
}

/// Whether the port sees the bridge's other isolated ports.
fn set_isolated(bridge: &str, name: &str, interface: &Interface) -> Result<()> {
    let value = if is_isolated(interface) { "1" } else { "0" };
    let path = format!("/sys/class/net/{name}/brport/isolated");
    let written = std::fs::write(path, value).map_err(|error| match error.kind() {
        // The kernel has no such setting.
        std::io::ErrorKind::NotFound => rustix::io::Errno::INVAL.into(),
        _ => error,
    });
    written.map_err(|error| {
        system(&error, &format!("Unable to set bridge {bridge} port {name} isolated to {value}"))
    })
}

/// Moves the device of a running guest's interface to another bridge, or sets anew how its port there behaves.
///
/// # Errors
/// It cannot be moved; then it is where it was.
pub fn move_to_bridge(old: &Interface, new: &Interface) -> Result<()> {
    let bridge = |interface: &Interface| interface.source.as_ref().and_then(|source| source.bridge.clone());
    let (from, to) = (bridge(old), bridge(new));
    let (from, to) = from.zip(to).ok_or_else(|| internal("Missing bridge name"))?;
    let name = old.target.as_ref().and_then(|target| target.dev.clone());
    let name = name.ok_or_else(|| internal("the interface has no device"))?;
    if from == to {
        return set_isolated(&to, &name, new);
    }
    if netdev::index(&to).is_none() {
        return Err(crate::error::failed(format!("bridge {to} doesn't exist")));
    }
    if let Err(error) = netdev::remove_from_bridge(&from, &name)
        && error.raw_os_error() != Some(rustix::io::Errno::INVAL.raw_os_error())
    {
        return Err(system(&error, &format!("Unable to remove bridge {from} port {name}")));
    }
    add_to_bridge(&to, &name, new).inspect_err(|_| {
        // What was wrong first is what to tell.
        let _ = add_to_bridge(&from, &name, old);
    })
}

fn open_vhost(core: &Core, owner: Owner<'_>, interface: &Interface) -> Result<Vec<OwnedFd>> {
    let wanted = interface.driver.as_ref().and_then(|driver| driver.name.as_deref());
    if owner.kind != DomainType::Kvm || wanted == Some("qemu") {
        return Ok(Vec::new());
    }
    let required = wanted == Some("vhost");
    if !is_virtio(interface) {
        if required {
            return Err(unsupported("vhost-net is only supported for virtio network interfaces"));
        }
        return Ok(Vec::new());
    }
    let path =
        interface.backend.as_ref().and_then(|backend| backend.vhost.as_deref()).unwrap_or("/dev/vhost-net");
    let queues = queues(interface);
    let mut descriptors = Vec::new();
    for opened in 0..queues {
        match open(path) {
            Ok(file) => descriptors.push(file.into()),
            Err(_) if required => {
                return Err(unsupported("vhost-net was requested for an interface, but is unavailable"));
            }
            Err(_) => {
                // The emulator wants as many as there are queues, or none.
                descriptors.clear();
                let text = format!("Unable to open vhost-net. Opened so far {opened}, requested {queues}");
                core.log(Level::Warning, &text);
                break;
            }
        }
    }
    Ok(descriptors)
}

/// Gives back what outlives the emulator that the interfaces were of.
pub fn release(core: &Core, owner: Owner<'_>, interfaces: &[Interface]) {
    let programs = interfaces.iter().filter_map(|it| passt::of(core, owner.id, owner.name, it));
    helper::stop(core, &programs.collect::<Vec<_>>());
    for interface in interfaces {
        let name = interface.target.as_ref().and_then(|target| target.dev.as_deref()).unwrap_or_default();
        for ended in [
            filter::remove(core, interface),
            virtual_port::unplug(core, interface, name),
            if is_port(interface) { port::remove(core, interface) } else { Ok(()) },
        ] {
            if let Err(error) = ended {
                let text = error.message.unwrap_or_default();
                core.log(Level::Warning, &format!("Unable to release interface '{name}': {text}"));
            }
        }
        let result = match interface.kind {
            InterfaceType::Direct => macvtap::remove(core, interface),
            InterfaceType::Ethernet => match &interface.downscript {
                Some(script) if !name.is_empty() => {
                    program::run_script(&script.path, name, core.paths.privileged)
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        };
        if let Err(error) = result {
            let text = error.message.unwrap_or_default();
            core.log(Level::Warning, &format!("Unable to release interface '{name}': {text}"));
        }
    }
}

/// The interfaces of a guest that was found running: their names are taken, and they are in their bridges again where
/// somebody has made those anew meanwhile.
pub fn take_up(core: &Core, owner: Owner<'_>, interfaces: &[Interface]) {
    for interface in interfaces.iter().filter(|interface| has_tap(interface)) {
        let Some(name) = interface.target.as_ref().and_then(|target| target.dev.as_deref()) else { continue };
        core.interfaces.note(name);
        if let Err(error) = filter::find_or_make(core, owner, interface) {
            core.log(Level::Warning, &error.message.unwrap_or_default());
        }
        if virtual_port::wanted(interface).is_some() {
            continue;
        }
        let bridge = interface.source.as_ref().and_then(|source| source.bridge.as_deref());
        let bridged = !matches!(interface.kind, InterfaceType::Ethernet | InterfaceType::Direct);
        let Some(bridge) = bridge.filter(|_| bridged) else { continue };
        let master = std::fs::read_link(format!("/sys/class/net/{name}/master")).ok();
        let master = master.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        if master.as_deref() == Some(bridge) {
            continue;
        }
        if let Some(other) = master {
            // What keeps it there is told by the attempt that follows.
            let _ = netdev::remove_from_bridge(&other, name);
        }
        if let Err(error) = add_to_bridge(bridge, name, interface) {
            core.log(Level::Warning, &error.message.unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_not_given_twice() {
        let names = Names::default();
        let free = |taken: &str| names.free("vnet%d", |name| name == taken);
        assert_eq!(free("").as_deref(), Some("vnet0"));
        assert_eq!(free("vnet1").as_deref(), Some("vnet2"));
        names.note("vnet7");
        names.note("vnet3");
        names.note("eth9");
        assert_eq!(free("").as_deref(), Some("vnet8"));
        assert_eq!(names.free("t%d-a", |_| false).as_deref(), Some("t9-a"));
        assert_eq!(names.free("vnet%d", |_| true), None);
        assert_eq!(names.free("macvtap%d", |_| false).as_deref(), Some("macvtap0"));
    }

    #[test]
    fn addresses_of_tap_devices() {
        assert_eq!(tap_address("52:54:00:12:34:56"), Some([0xfe, 0x54, 0, 0x12, 0x34, 0x56]));
        assert_eq!(tap_address("fe:54:00:12:34:56"), Some([0xfa, 0x54, 0, 0x12, 0x34, 0x56]));
        for bad in ["", "52:54:00:12:34", "52:54:00:12:34:56:78", "52:54:00:12:34:xx"] {
            assert_eq!(tap_address(bad), None, "{bad}");
        }
    }
}
