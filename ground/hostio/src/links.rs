//! Network devices that are made on top of others (rtnetlink(7), `linux/if_link.h`).

use crate::netdev::{self, NAME_LENGTH};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::fs::File;
use std::io::{self, Read as _, Write as _};

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

/// Sends a request about the device of that number (0: a new one), and waits for what comes of it.
fn request(kind: u16, flags: u16, index: u32, attributes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(HEADER + 16 + attributes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
    // Sequence number, port.
    message.extend([1u32.to_ne_bytes(), 0u32.to_ne_bytes()].concat());
    // struct ifinfomsg: family, type, index, flags, which of them.
    message.extend([0; 4]);
    message.extend(index.to_ne_bytes());
    message.extend([0; 8]);
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

/// Makes a device `name` that is a tap device (its node is `/dev/tapINDEX`) and sends and receives by the device `lower`.
///
/// # Errors
/// `ENODEV`: there is no device `lower`; `EEXIST`: there is one called `name`; `EBUSY`: `lower` has another's, or is of
/// a mode that allows no second one; `EPERM`; `ERANGE`: the name is too long.
pub fn add_macvtap(name: &str, lower: &str, mac: [u8; 6], mode: MacvlanMode) -> io::Result<()> {
    if name.len() > NAME_LENGTH {
        return Err(io::Error::from_raw_os_error(libc::ERANGE));
    }
    let below = netdev::index(lower).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
    let mode = attribute(IFLA_MACVLAN_MODE, &mode.number().to_ne_bytes());
    let info = [attribute(IFLA_INFO_KIND, b"macvtap"), attribute(IFLA_INFO_DATA, &mode)].concat();
    let attributes = [
        attribute(IFLA_LINK, &below.to_ne_bytes()),
        attribute(IFLA_ADDRESS, &mac),
        attribute(IFLA_IFNAME, &[name.as_bytes(), &[0]].concat()),
        attribute(IFLA_LINKINFO, &info),
    ];
    request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, &attributes.concat())
}

/// Removes a device.
///
/// # Errors
/// `ENODEV`; `EPERM`; `EOPNOTSUPP`: it is none that was made so.
pub fn remove(name: &str) -> io::Result<()> {
    let index = netdev::index(name).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
    request(RTM_DELLINK, 0, index, &[])
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
        let long = add_macvtap("sixteen-letters!", "lo", [0; 6], MacvlanMode::Vepa);
        assert_eq!(number(long), Err(Some(libc::ERANGE)));
    }
}
