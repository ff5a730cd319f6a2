//! Interfaces on top of a device of the host: the guest sends and receives by it with an address of its own.

use super::{is_passthrough, is_template, mac_error, parse_mac, queues, tap_mode};
use crate::core::Core;
use crate::error::{Result, internal, invalid, system, unsupported};
use crate::files;
use domain_xml::interface::Interface;
use hostio::links::{self, MacvlanMode};
use hostio::netdev;
use json::{Value, dict};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

/// How often, and how far apart, the node of a new device is looked for: somebody else may have to make it.
const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_millis(20);
/// More than a device can have virtual functions.
const MOST_FUNCTIONS: u32 = 1024;
/// Longest note of what a device of the host was like.
const LONGEST: u64 = 4096;

fn mode(interface: &Interface) -> Result<MacvlanMode> {
    match interface.source.as_ref().and_then(|source| source.mode.as_deref()) {
        None | Some("vepa") => Ok(MacvlanMode::Vepa),
        Some("private") => Ok(MacvlanMode::Private),
        Some("bridge") => Ok(MacvlanMode::Bridge),
        Some("passthrough") => Ok(MacvlanMode::Passthrough),
        Some(other) => Err(unsupported(format!("Unknown mode '{other}' has been specified"))),
    }
}

fn lower(interface: &Interface) -> Option<&str> {
    interface.source.as_ref()?.dev.as_deref()
}

fn name(interface: &Interface) -> Option<&str> {
    interface.target.as_ref()?.dev.as_deref()
}

fn mac(interface: &Interface) -> Result<[u8; 6]> {
    let text = interface.mac.as_ref().map_or("", |mac| mac.address.as_str());
    parse_mac(text).ok_or_else(|| mac_error(text))
}

/// Names the device that will be made.
pub(super) fn choose(core: &Core, interface: &mut Interface) -> Result<()> {
    mode(interface)?;
    let taken = |name: &str| netdev::index(name).is_some();
    let wanted = name(interface).filter(|name| !name.is_empty());
    let name = match wanted {
        Some(name) if !is_template(name) => {
            if taken(name) {
                return Err(invalid(format!("The {name} interface already exists")));
            }
            name.to_owned()
        }
        template => {
            let free = core.interfaces.free(template.unwrap_or("macvtap%d"), taken);
            free.ok_or_else(|| internal("no unused macvtap names available"))?
        }
    };
    interface.target.get_or_insert_default().dev = Some(name);
    Ok(())
}

/// Makes the device, and opens it once for each queue.
pub(super) fn open(core: &Core, interface: &Interface) -> Result<Vec<OwnedFd>> {
    let (name, lower) =
        name(interface).zip(lower(interface)).ok_or_else(|| internal("Missing source device"))?;
    let address = mac(interface)?;
    if netdev::index(lower).is_none() {
        let none = rustix::io::Errno::NODEV.into();
        return Err(system(&none, &format!("Unable to get index for interface {lower}")));
    }
    if is_passthrough(interface) {
        take_address(core, lower, address)?;
        if let Some(tag) = interface.vlan.as_ref().and_then(|vlan| vlan.tag.first()) {
            set_lan(lower, address, tag.id)?;
        }
    }
    let shown = interface.mac.as_ref().map_or("", |mac| mac.address.as_str());
    links::add_macvtap(name, lower, address, mode(interface)?).map_err(|error| {
        system(&error, &format!("error creating macvtap interface {name}@{lower} ({shown})"))
    })?;
    let index = netdev::index(name).ok_or_else(|| internal(format!("the device '{name}' has gone")))?;
    let path = format!("/dev/tap{index}");
    let mut tries = 0..TRIES;
    let mut descriptors = Vec::new();
    for _ in 0..queues(interface) {
        let file = loop {
            match super::open(&path) {
                Ok(file) => break file,
                Err(_) if tries.next().is_some() => std::thread::sleep(PAUSE),
                Err(error) => {
                    return Err(system(&error, &format!("cannot open macvtap tap device {path}")));
                }
            }
        };
        netdev::attach_tap(&file, name, tap_mode(interface))
            .map_err(|error| system(&error, "unable to set vnet or multiqueue flags on macvtap"))?;
        descriptors.push(file.into());
    }
    Ok(descriptors)
}

/// Where it is noted which address a device had before a guest had it to itself.
fn note(core: &Core, lower: &str) -> PathBuf {
    core.paths.state.join(lower)
}

/// The device gets the guest's address, so that the next switch knows one only.
fn take_address(core: &Core, lower: &str, address: [u8; 6]) -> Result<()> {
    let failed = |error: std::io::Error| system(&error, &format!("Cannot set interface MAC on '{lower}'"));
    let path = note(core, lower);
    if !path.exists() {
        let [a, b, c, d, e, f] = netdev::mac(lower).map_err(failed)?;
        let before = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
        let text = Value::Dict(dict! { "mac" => before }).to_string();
        files::replace(&path, text.as_bytes()).map_err(failed)?;
    }
    netdev::set_mac(lower, address).map_err(failed)
}

/// A virtual function's network is set by the device that has it.
fn set_lan(lower: &str, address: [u8; 6], tag: u32) -> Result<()> {
    let device = PathBuf::from(format!("/sys/class/net/{lower}/device"));
    let whole = device.join("physfn");
    let parent = std::fs::read_dir(whole.join("net")).ok().and_then(|mut found| found.next()?.ok());
    let parent = parent.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let own = std::fs::canonicalize(&device).ok();
    let number = (0..MOST_FUNCTIONS)
        .find(|number| std::fs::canonicalize(whole.join(format!("virtfn{number}"))).ok() == own);
    let (parent, number) = parent
        .zip(number.filter(|_| own.is_some()))
        .ok_or_else(|| internal(format!("the physical function of '{lower}' has no network device")))?;
    links::set_function(&parent, number, address, tag).map_err(|error| {
        system(&error, &format!("Cannot set interface MAC/vlanid to {tag} for ifname {parent} vf {number}"))
    })
}

fn give_address_back(core: &Core, lower: &str, tagged: bool) -> Result<()> {
    let path = note(core, lower);
    let Ok(text) = files::read(&path, LONGEST) else { return Ok(()) };
    let before = json::parse(text.as_bytes()).ok();
    let before = before.as_ref().and_then(|note| note.get("mac")?.as_str()).and_then(parse_mac);
    let before = before.ok_or_else(|| internal(format!("'{}' cannot be read", path.display())))?;
    let failed = |error: std::io::Error| system(&error, &format!("Cannot set interface MAC on '{lower}'"));
    netdev::set_mac(lower, before).map_err(failed)?;
    if tagged {
        set_lan(lower, before, 0)?;
    }
    files::remove(&path).map_err(failed)
}

/// Removes the device, if it is the guest's: its name may have become another's meanwhile.
pub(super) fn remove(core: &Core, interface: &Interface) -> Result<()> {
    let Some((name, lower)) = name(interface).zip(lower(interface)) else { return Ok(()) };
    if netdev::mac(name).ok().is_some_and(|address| mac(interface).ok() == Some(address)) {
        links::remove(name)
            .map_err(|error| system(&error, &format!("error destroying network device {name}")))?;
    }
    if is_passthrough(interface) { give_address_back(core, lower, interface.vlan.is_some()) } else { Ok(()) }
}

/// Switches the devices of guests on, which send from then on, or off: a host answers for them else while the guest
/// stands still.
///
/// # Errors
/// One cannot be switched.
pub fn set_online(interfaces: &[Interface], online: bool) -> Result<()> {
    for interface in interfaces.iter().filter(|interface| super::is_direct(interface)) {
        let Some((name, lower)) = name(interface).zip(lower(interface)) else { continue };
        let set = |device: &str| {
            netdev::set_up(device, online)
                .map_err(|error| system(&error, &format!("Cannot set interface flags on '{device}'")))
        };
        if online {
            set(lower)?;
        }
        set(name)?;
        if !online && is_passthrough(interface) {
            set(lower)?;
        }
    }
    Ok(())
}
