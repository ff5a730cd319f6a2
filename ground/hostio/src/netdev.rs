//! Network devices of the host: tap devices, and what is set of devices (netdevice(7), `linux/if_tun.h`,
//! `linux/sockios.h`).

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::net::UnixDatagram;

/// The longest name of a device, without the NUL that ends it (`IFNAMSIZ`).
pub const NAME_LENGTH: usize = 15;

const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const SIOCBRADDIF: libc::c_ulong = 0x89a2;
const SIOCBRDELIF: libc::c_ulong = 0x89a3;
const IFF_TAP: u16 = 0x0002;
const IFF_MULTI_QUEUE: u16 = 0x0100;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;

/// How packets pass through a tap device's descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TapMode {
    /// The device has several queues, each with a descriptor.
    pub multiqueue: bool,
    /// A header that tells of offloads is before each packet (`struct virtio_net_hdr`).
    pub vnet_header: bool,
}

/// `struct ifreq`: a name, and a union of what is asked or told.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Request {
    name: [u8; NAME_LENGTH + 1],
    data: [u8; 24],
}

impl Request {
    /// `ERANGE`: the name is too long; `EINVAL`: it has a NUL.
    fn new(name: &str) -> io::Result<Self> {
        if name.len() > NAME_LENGTH {
            return Err(io::Error::from_raw_os_error(libc::ERANGE));
        }
        if name.as_bytes().contains(&0) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let mut request = Self { name: [0; NAME_LENGTH + 1], data: [0; 24] };
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        Ok(request)
    }

    fn put(mut self, bytes: &[u8]) -> Self {
        self.data[..bytes.len()].copy_from_slice(bytes);
        self
    }

    fn number(&self) -> i32 {
        i32::from_ne_bytes([self.data[0], self.data[1], self.data[2], self.data[3]])
    }

    fn perform(&mut self, descriptor: &impl AsFd, what: libc::c_ulong) -> io::Result<()> {
        // SAFETY: all commands of this module take a `struct ifreq`, which the kernel reads and writes whole; `self`
        // is one: as large (40 bytes on hosts of 64 bits, more than elsewhere), and aligned. The one command that
        // follows a pointer in it, SIOCETHTOOL, finds a structure there that its caller keeps until this returns.
        let result = unsafe {
            libc::ioctl(
                descriptor.as_fd().as_raw_fd(),
                what as _,
                std::ptr::from_mut(self).cast::<libc::c_void>(),
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn ask(mut self, what: libc::c_ulong) -> io::Result<Self> {
        // Any socket stands for the network in calls about devices.
        self.perform(&UnixDatagram::unbound()?, what)?;
        Ok(self)
    }
}

/// Makes an open `/dev/net/tun` the end of the tap device of that name, which is made if it is not there; it goes with
/// its last descriptor unless it is persistent. The device's name.
///
/// # Errors
/// `EPERM`: `CAP_NET_ADMIN` is missing; `EBUSY`: the device is in use; `EINVAL`: it is another kind of device, or has
/// other queues; `ERANGE`: the name is too long.
pub fn attach_tap(tun: &impl AsFd, name: &str, mode: TapMode) -> io::Result<String> {
    let mut flags = IFF_TAP | IFF_NO_PI;
    if mode.multiqueue {
        flags |= IFF_MULTI_QUEUE;
    }
    if mode.vnet_header {
        flags |= IFF_VNET_HDR;
    }
    let mut request = Request::new(name)?.put(&flags.to_ne_bytes());
    request.perform(tun, TUNSETIFF)?;
    let end = request.name.iter().position(|byte| *byte == 0).unwrap_or(NAME_LENGTH);
    Ok(String::from_utf8_lossy(&request.name[..end]).into_owned())
}

/// The number of a device; none: there is no such device.
pub fn index(name: &str) -> Option<u32> {
    let request = Request::new(name).ok()?.ask(libc::SIOCGIFINDEX as _).ok()?;
    Some(request.number().cast_unsigned())
}

/// Sets the Ethernet address.
///
/// # Errors
/// `ENODEV`; `EPERM`; `EADDRNOTAVAIL`: it is none that a device may have.
pub fn set_mac(name: &str, mac: [u8; 6]) -> io::Result<()> {
    // struct sockaddr: family, address.
    let family = libc::ARPHRD_ETHER.to_ne_bytes();
    let mut address = [0; 8];
    address[..2].copy_from_slice(&family);
    address[2..].copy_from_slice(&mac);
    Request::new(name)?.put(&address).ask(libc::SIOCSIFHWADDR as _).map(drop)
}

/// The Ethernet address.
///
/// # Errors
/// `ENODEV`.
pub fn mac(name: &str) -> io::Result<[u8; 6]> {
    let request = Request::new(name)?.ask(libc::SIOCGIFHWADDR as _)?;
    let mut address = [0; 6];
    address.copy_from_slice(&request.data[2..8]);
    Ok(address)
}

/// The length of the largest packet, in bytes, without the Ethernet header.
///
/// # Errors
/// `ENODEV`.
pub fn mtu(name: &str) -> io::Result<u32> {
    Ok(Request::new(name)?.ask(libc::SIOCGIFMTU as _)?.number().cast_unsigned())
}

/// Sets what [`mtu`] tells.
///
/// # Errors
/// `ENODEV`; `EPERM`; `EINVAL`: more or less than the device can do.
pub fn set_mtu(name: &str, bytes: u32) -> io::Result<()> {
    Request::new(name)?.put(&bytes.to_ne_bytes()).ask(libc::SIOCSIFMTU as _).map(drop)
}

/// Switches the device on or off.
///
/// # Errors
/// `ENODEV`; `EPERM`.
pub fn set_up(name: &str, up: bool) -> io::Result<()> {
    let request = Request::new(name)?.ask(libc::SIOCGIFFLAGS as _)?;
    let flags = u16::from_ne_bytes([request.data[0], request.data[1]]);
    let bit = libc::IFF_UP as u16;
    let wanted = if up { flags | bit } else { flags & !bit };
    if wanted == flags {
        return Ok(());
    }
    Request::new(name)?.put(&wanted.to_ne_bytes()).ask(libc::SIOCSIFFLAGS as _).map(drop)
}

/// Which packets a device takes that are not for its own address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reception {
    /// All.
    pub promiscuous: bool,
    /// All that are for several receivers.
    pub all_multicast: bool,
}

/// Sets which packets the device takes.
///
/// # Errors
/// `ENODEV`; `EPERM`.
pub fn set_reception(name: &str, wanted: Reception) -> io::Result<()> {
    let request = Request::new(name)?.ask(libc::SIOCGIFFLAGS as _)?;
    let flags = u16::from_ne_bytes([request.data[0], request.data[1]]);
    let mut set = flags & !(libc::IFF_PROMISC as u16 | libc::IFF_ALLMULTI as u16);
    if wanted.promiscuous {
        set |= libc::IFF_PROMISC as u16;
    }
    if wanted.all_multicast {
        set |= libc::IFF_ALLMULTI as u16;
    }
    if set == flags {
        return Ok(());
    }
    Request::new(name)?.put(&set.to_ne_bytes()).ask(libc::SIOCSIFFLAGS as _).map(drop)
}

/// The addresses of groups of receivers whose packets the device takes (`/proc/net/dev_mcast`).
///
/// # Errors
/// The table cannot be read.
pub fn multicast(name: &str) -> io::Result<Vec<[u8; 6]>> {
    let table = std::fs::read_to_string("/proc/net/dev_mcast")?;
    Ok(table.lines().filter_map(|line| multicast_row(line, name)).collect())
}

fn multicast_row(line: &str, name: &str) -> Option<[u8; 6]> {
    let mut fields = line.split_whitespace().skip(1);
    let (device, digits) = (fields.next()?, fields.nth(2)?);
    let mut address = [0; 6];
    for (at, byte) in address.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    (device == name && digits.len() == 12).then_some(address)
}

/// Adds the address of a group of receivers, or removes it.
///
/// # Errors
/// `ENODEV`; `EPERM`; `EINVAL`: it is none; `EADDRNOTAVAIL`: it is not there.
pub fn set_multicast(name: &str, address: [u8; 6], there: bool) -> io::Result<()> {
    // struct sockaddr: the family is any, the address follows.
    let mut bytes = [0; 8];
    bytes[2..].copy_from_slice(&address);
    let what = if there { libc::SIOCADDMULTI } else { libc::SIOCDELMULTI };
    Request::new(name)?.put(&bytes).ask(what as _).map(drop)
}

/// `struct ethtool_coalesce` (`linux/ethtool.h`).
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Coalesce {
    command: u32,
    /// How long an interrupt waits for more packets, and for how many.
    receive_microseconds: u32,
    receive_frames: u32,
    rest: [u32; 20],
}

/// Sets how many packets may be received until there is an interrupt; all else of the kind is switched off.
///
/// # Errors
/// `ENODEV`; `EPERM`; `EOPNOTSUPP`: the device has no such setting.
pub fn set_coalesced_frames(name: &str, frames: u32) -> io::Result<()> {
    const SCOALESCE: u32 = 0x0f;
    let mut coalesce = Coalesce { command: SCOALESCE, receive_frames: frames, ..Coalesce::default() };
    let pointer = std::ptr::from_mut(&mut coalesce);
    // The kernel follows the pointer until `ask` returns; `coalesce` lives longer, and is what the command wants.
    Request::new(name)?.put(&pointer.expose_provenance().to_ne_bytes()).ask(libc::SIOCETHTOOL as _).map(drop)
}

fn port(bridge: &str, name: &str, what: libc::c_ulong) -> io::Result<()> {
    let index = index(name).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
    Request::new(bridge)?.put(&index.to_ne_bytes()).ask(what).map(drop)
}

/// Makes the device a port of a bridge.
///
/// # Errors
/// `ENODEV`; `EPERM`; `EBUSY`: it is a bridge's already; `EOPNOTSUPP`: `bridge` is none.
pub fn add_to_bridge(bridge: &str, name: &str) -> io::Result<()> {
    port(bridge, name, SIOCBRADDIF)
}

/// Takes a port out of its bridge.
///
/// # Errors
/// As [`add_to_bridge`]; `EINVAL`: it is no port of this bridge.
pub fn remove_from_bridge(bridge: &str, name: &str) -> io::Result<()> {
    port(bridge, name, SIOCBRDELIF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_found() {
        assert!(index("lo").is_some());
        assert!(index("no-such-device").is_none());
        assert!(index("with\0nul").is_none());
        assert!(mtu("lo").expect("mtu") >= 1280);
        assert_eq!(mtu("no-such-device").map_err(|error| error.raw_os_error()), Err(Some(libc::ENODEV)));
        let long = mtu("sixteen-letters!").map_err(|error| error.raw_os_error());
        assert_eq!(long, Err(Some(libc::ERANGE)));
    }

    #[test]
    fn rows_of_groups() {
        let row = "2    vnet0           1     0     01005e000001";
        assert_eq!(multicast_row(row, "vnet0"), Some([1, 0, 0x5e, 0, 0, 1]));
        assert_eq!(multicast_row(row, "vnet1"), None);
        assert_eq!(multicast_row("2 vnet0 1 0 01005e0000", "vnet0"), None);
        assert_eq!(multicast_row("", "vnet0"), None);
    }

    /// Needs the right to make devices; where the host does not give it, the refusal is what is seen.
    #[test]
    fn a_tap_device_lives_as_long_as_its_descriptors() {
        let Ok(tun) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun") else { return };
        let name = format!("tap{}", std::process::id());
        let mode = TapMode { vnet_header: true, ..TapMode::default() };
        match attach_tap(&tun, &name, mode) {
            Ok(given) => assert_eq!(given, name),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EPERM));
                return;
            }
        }
        assert!(index(&name).is_some());
        set_mac(&name, [0xfe, 0x54, 0, 1, 2, 3]).expect("mac");
        assert_eq!(mac(&name).expect("mac"), [0xfe, 0x54, 0, 1, 2, 3]);
        set_mtu(&name, 1400).expect("mtu");
        assert_eq!(mtu(&name).expect("mtu"), 1400);
        set_up(&name, true).expect("up");
        set_coalesced_frames(&name, 7).expect("coalesced");
        let group = [1, 0, 0x5e, 1, 2, 3];
        set_multicast(&name, group, true).expect("added");
        assert!(multicast(&name).expect("groups").contains(&group));
        set_multicast(&name, group, false).expect("removed");
        assert!(!multicast(&name).expect("groups").contains(&group));
        set_reception(&name, Reception { promiscuous: true, all_multicast: true }).expect("set");
        set_reception(&name, Reception::default()).expect("set");
        let none = set_coalesced_frames("no-such-device", 7).map_err(|error| error.raw_os_error());
        assert_eq!(none, Err(Some(libc::ENODEV)));
        let second = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun").expect("tun");
        let busy = attach_tap(&second, &name, mode).map_err(|error| error.raw_os_error());
        assert_eq!(busy, Err(Some(libc::EBUSY)));
        drop(tun);
        assert!(index(&name).is_none());
    }
}
