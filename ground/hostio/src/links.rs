//! Network devices that are made on top of others (rtnetlink(7), `linux/if_link.h`).

use crate::netdev::{self, NAME_LENGTH};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_MACVLAN_MODE: u16 = 1;
/// An answer's header, and that of what it answers with the number of an error.
const HEADER: usize = 16;
const ANSWER: usize = 8192;

/// Who sees what the guests of one device send each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacvlanMode {
    /// Nobody.
    Private,
    /// Whom the next switch sends it back to.
    Vepa,
    /// They, at once.
    Bridge,
    /// There is one guest, which has the device to itself.
    Passthrough,
}

impl MacvlanMode {
    /// `enum macvlan_mode`.
    fn number(self) -> u32 {
        match self {
            Self::Private => 1,
            Self::Vepa => 2,
            Self::Bridge => 4,
            Self::Passthrough => 8,
        }
    }
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// `struct ifinfomsg` of the device of that number (0: a new one).
fn about(index: u32) -> Vec<u8> {
    // Family, type, index, flags, which of them.
    [&[0; 4][..], &index.to_ne_bytes(), &[0; 8]].concat()
}

fn number_of(name: &str) -> io::Result<u32> {
    netdev::index(name).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
}

/// Sends a request, `body`: what its kind begins with, and waits for what comes of it.
fn request(kind: u16, flags: u16, body: &[u8], attributes: &[u8]) -> io::Result<()> {
    let length = HEADER + body.len() + attributes.len();
    let length = u32::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
    // Sequence number, port.
    message.extend([1u32.to_ne_bytes(), 0u32.to_ne_bytes()].concat());
    message.extend_from_slice(body);
    message.extend_from_slice(attributes);
    let socket =
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let mut socket = File::from(socket);
    socket.write_all(&message)?;
    let mut answer = vec![0; ANSWER];
    let count = socket.read(&mut answer)?;
    let word = |at: usize| Some(u16::from_ne_bytes(answer.get(at..at + 2)?.try_into().ok()?));
    let number = |at: usize| Some(i32::from_ne_bytes(answer.get(at..at + 4)?.try_into().ok()?));
    match (word(4), number(HEADER)) {
        (Some(NLMSG_ERROR), Some(0)) if count >= HEADER + 4 => Ok(()),
        (Some(NLMSG_ERROR), Some(error)) if count >= HEADER + 4 => {
            Err(io::Error::from_raw_os_error(error.saturating_neg()))
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn family(address: IpAddr) -> u8 {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    family as u8
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Gives a device an address on the host; `peer`: that of the other end.
///
/// # Errors
/// `ENODEV`; `EPERM`; `EEXIST`: it has it; `EINVAL`.
pub fn add_address(name: &str, address: IpAddr, prefix: u8, peer: Option<IpAddr>) -> io::Result<()> {
    const RTM_NEWADDR: u16 = 20;
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    let index = number_of(name)?;
    // struct ifaddrmsg: family, prefix, flags, scope, index.
    let body = [&[family(address), prefix, 0, 0][..], &index.to_ne_bytes()].concat();
    let attributes =
        [attribute(IFA_LOCAL, &octets(address)), attribute(IFA_ADDRESS, &octets(peer.unwrap_or(address)))];
    request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &body, &attributes.concat())
}

/// What is on the way to `address` leaves by a device, for the next host `gateway`.
///
/// # Errors
/// `ENODEV`; `EPERM`; `EEXIST`; `ENETUNREACH`, `EHOSTUNREACH`: the gateway is not near.
pub fn add_route(
    name: &str,
    address: IpAddr,
    prefix: u8,
    gateway: IpAddr,
    metric: Option<u32>,
) -> io::Result<()> {
    const RTM_NEWROUTE: u16 = 24;
    const RTA_DST: u16 = 1;
    const RTA_OIF: u16 = 4;
    const RTA_GATEWAY: u16 = 5;
    const RTA_PRIORITY: u16 = 6;
    const RT_TABLE_MAIN: u8 = 254;
    const RTPROT_STATIC: u8 = 4;
    const RTN_UNICAST: u8 = 1;
    let index = number_of(name)?;
    // struct rtmsg: family, lengths of destination and source, type of service, table, who made it, scope, type, flags.
    let body = [family(address), prefix, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, 0, RTN_UNICAST, 0, 0, 0, 0];
    let mut attributes = [
        attribute(RTA_DST, &octets(address)),
        attribute(RTA_GATEWAY, &octets(gateway)),
        attribute(RTA_OIF, &index.to_ne_bytes()),
    ]
    .concat();
    if let Some(metric) = metric {
        attributes.extend(attribute(RTA_PRIORITY, &metric.to_ne_bytes()));
    }
    request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &body, &attributes)
}

/// Tells a bridge which address is behind its port `name`.
///
/// # Errors
/// `ENODEV`; `EPERM`; `EEXIST`; `EOPNOTSUPP`: it is no bridge's port.
pub fn add_to_forwarding(name: &str, mac: [u8; 6]) -> io::Result<()> {
    const RTM_NEWNEIGH: u16 = 28;
    const NDA_LLADDR: u16 = 2;
    const NUD_REACHABLE: u16 = 2;
    const NTF_MASTER: u8 = 4;
    const AF_BRIDGE: u8 = 7;
    let index = number_of(name)?;
    // struct ndmsg: family, padding, index, state, flags, type.
    let body =
        [&[AF_BRIDGE, 0, 0, 0][..], &index.to_ne_bytes(), &NUD_REACHABLE.to_ne_bytes(), &[NTF_MASTER, 0]];
    request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_EXCL, &body.concat(), &attribute(NDA_LLADDR, &mac))
}

/// Sets the address of a virtual function of the device `name`, and which virtual LAN it is in (0: none).
///
/// # Errors
/// `ENODEV`; `EPERM`; `EOPNOTSUPP`: the device has no virtual functions; `EINVAL`: not that one.
pub fn set_function(name: &str, function: u32, mac: [u8; 6], vlan: u32) -> io::Result<()> {
    const IFLA_VFINFO_LIST: u16 = 22;
    const IFLA_VF_INFO: u16 = 1;
    const IFLA_VF_MAC: u16 = 1;
    const IFLA_VF_VLAN: u16 = 2;
    let index = number_of(name)?;
    // struct ifla_vf_mac: function, 32 bytes; struct ifla_vf_vlan: function, tag, priority.
    let mut address = [0; 36];
    address[..4].copy_from_slice(&function.to_ne_bytes());
    address[4..10].copy_from_slice(&mac);
    let lan = [function.to_ne_bytes(), vlan.to_ne_bytes(), [0; 4]].concat();
    let info = [attribute(IFLA_VF_MAC, &address), attribute(IFLA_VF_VLAN, &lan)].concat();
    let list = attribute(IFLA_VFINFO_LIST, &attribute(IFLA_VF_INFO, &info));
    request(RTM_NEWLINK, 0, &about(index), &list)
}

/// Makes a device `name` that is a tap device (its node is `/dev/tapINDEX`) and sends and receives by the device `lower`.
///
/// # Errors
/// `ENODEV`: there is no device `lower`; `EEXIST`: there is one called `name`; `EBUSY`: `lower` has another's, or is of
/// a mode that allows no second one; `EPERM`; `ERANGE`: the name is too long.
pub fn add_macvtap(name: &str, lower: &str, mac: [u8; 6], mode: MacvlanMode) -> io::Result<()> {
    if name.len() > NAME_LENGTH {
        return Err(io::Error::from_raw_os_error(libc::ERANGE));
    }
    let below = number_of(lower)?;
    let mode = attribute(IFLA_MACVLAN_MODE, &mode.number().to_ne_bytes());
    let info = [attribute(IFLA_INFO_KIND, b"macvtap"), attribute(IFLA_INFO_DATA, &mode)].concat();
    let attributes = [
        attribute(IFLA_LINK, &below.to_ne_bytes()),
        attribute(IFLA_ADDRESS, &mac),
        attribute(IFLA_IFNAME, &[name.as_bytes(), &[0]].concat()),
        attribute(IFLA_LINKINFO, &info),
    ];
    request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &about(0), &attributes.concat())
}

/// Removes a device.
///
/// # Errors
/// `ENODEV`; `EPERM`; `EOPNOTSUPP`: it is none that was made so.
pub fn remove(name: &str) -> io::Result<()> {
    request(RTM_DELLINK, 0, &about(number_of(name)?), &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs the right to make devices; where the host does not give it, the refusal is what is seen.
    #[test]
    fn devices_on_top_of_others() {
        let name = format!("mv{}", std::process::id());
        let number = |result: io::Result<()>| result.map_err(|error| error.raw_os_error());
        assert_eq!(number(remove(&name)), Err(Some(libc::ENODEV)));
        let add = |lower: &str| add_macvtap(&name, lower, [0x52, 0x54, 0, 1, 2, 3], MacvlanMode::Bridge);
        assert_eq!(number(add("no-such-device")), Err(Some(libc::ENODEV)));
        // The loopback device is no Ethernet device.
        let refused = [libc::EINVAL, libc::EPERM, libc::EOPNOTSUPP, libc::EBUSY];
        assert!(number(add("lo")).is_err_and(|error| error.is_some_and(|error| refused.contains(&error))));
        let v4 = IpAddr::from([10, 99, 0, 1]);
        assert_eq!(number(add_address(&name, v4, 24, None)), Err(Some(libc::ENODEV)));
        assert_eq!(number(add_route(&name, v4, 24, v4, None)), Err(Some(libc::ENODEV)));
        assert_eq!(number(add_to_forwarding(&name, [2; 6])), Err(Some(libc::ENODEV)));
        // It has none.
        assert!(set_function("lo", 0, [2; 6], 5).is_err());
        let Ok(tun) = File::options().read(true).write(true).open("/dev/net/tun") else { return };
        let tap = format!("tl{}", std::process::id());
        if netdev::attach_tap(&tun, &tap, netdev::TapMode::default()).is_ok() {
            add_address(&tap, v4, 24, None).expect("an address");
            assert_eq!(number(add_address(&tap, v4, 24, None)), Err(Some(libc::EEXIST)));
            add_address(&tap, "fd00::1".parse().expect("an address"), 64, None).expect("an address");
            netdev::set_up(&tap, true).expect("up");
            let (far, near) = (IpAddr::from([10, 98, 0, 0]), IpAddr::from([10, 99, 0, 2]));
            add_route(&tap, far, 16, near, Some(5)).expect("a route");
            assert_eq!(number(add_route(&tap, far, 16, near, Some(5))), Err(Some(libc::EEXIST)));
            let far = add_route(&tap, far, 24, IpAddr::from([10, 97, 0, 1]), None);
            assert!(far.is_err());
        }
        let long = add_macvtap("sixteen-letters!", "lo", [0; 6], MacvlanMode::Vepa);
        assert_eq!(number(long), Err(Some(libc::ERANGE)));
    }
}
