//! Network interfaces.

use xml::{Internal, element, words};

use crate::address::{BootInfo, VirtioOptions};
use crate::hostdev::HostdevAddress;
use crate::source::{Named, Reconnect};
use crate::words::{OnOff, YesNo};

/// What an interface is attached to on the host.
#[words]
pub enum InterfaceType {
    User,
    Ethernet,
    #[word("vhostuser")]
    VhostUser,
    Server,
    Client,
    Mcast,
    Network,
    Bridge,
    Internal,
    Direct,
    Hostdev,
    Udp,
    Vdpa,
    Null,
    Vds,
}

/// The interface's hardware address.
#[element]
pub struct Mac {
    #[attr]
    pub address: String,
    #[attr("type")]
    pub kind: Option<String>,
    #[attr]
    pub check: Option<YesNo>,
}

/// Where the local end of a socket is.
#[element]
pub struct SocketEnd {
    #[attr]
    pub address: Option<String>,
    #[attr]
    pub port: Option<u32>,
}

/// The host's end. Which parts count depends on the interface's type.
#[element]
pub struct InterfaceSource {
    #[attr]
    pub network: Option<String>,
    #[attr]
    pub portgroup: Option<String>,
    #[attr]
    pub portid: Option<String>,
    #[attr("type")]
    pub kind: Option<String>,
    #[attr]
    pub path: Option<String>,
    #[attr]
    pub bridge: Option<String>,
    /// Who keeps the bridge's table of addresses.
    #[attr("macTableManager")]
    pub mac_table_manager: Option<String>,
    #[attr]
    pub address: Option<String>,
    #[attr]
    pub port: Option<u32>,
    #[attr]
    pub name: Option<String>,
    #[attr]
    pub dev: Option<String>,
    #[attr]
    pub mode: Option<String>,
    #[child]
    pub local: Option<SocketEnd>,
    #[child("address")]
    pub device: Option<HostdevAddress>,
    #[child]
    pub reconnect: Option<Reconnect>,
    #[child]
    pub ip: Vec<Ip>,
    #[child]
    pub route: Vec<Route>,
}

/// An address of the interface.
#[element]
pub struct Ip {
    #[attr]
    pub address: String,
    #[attr]
    pub family: Option<String>,
    #[attr]
    pub prefix: Option<u32>,
    #[attr]
    pub peer: Option<String>,
}

/// A route.
#[element]
pub struct Route {
    #[attr]
    pub family: Option<String>,
    #[attr]
    pub address: Option<String>,
    #[attr]
    pub netmask: Option<String>,
    #[attr]
    pub prefix: Option<u32>,
    #[attr]
    pub gateway: Option<String>,
    #[attr]
    pub metric: Option<u32>,
}

/// What the switch is told of the port.
#[element]
pub struct VirtualPort {
    #[attr("type")]
    pub kind: Option<String>,
    #[child]
    pub parameters: Option<VirtualPortParameters>,
}

/// Parameters of a [`VirtualPort`].
#[element]
pub struct VirtualPortParameters {
    #[attr]
    pub managerid: Option<u32>,
    #[attr]
    pub typeid: Option<u32>,
    #[attr]
    pub typeidversion: Option<u32>,
    #[attr]
    pub instanceid: Option<String>,
    #[attr]
    pub interfaceid: Option<String>,
    #[attr]
    pub profileid: Option<String>,
}

/// A program that sets the interface up.
#[element]
pub struct Script {
    #[attr]
    pub path: String,
}

/// The host's name of the interface.
#[element]
pub struct InterfaceTarget {
    #[attr]
    pub dev: Option<String>,
    #[attr]
    pub managed: Option<YesNo>,
}

/// The guest's name of the interface.
#[element]
pub struct InterfaceGuest {
    #[attr]
    pub dev: Option<String>,
    #[attr]
    pub actual: Option<String>,
}

/// The card that the guest sees.
#[element]
pub struct InterfaceModel {
    #[attr("type")]
    pub kind: String,
}

/// Offloads of a virtio card.
#[element]
pub struct Offloads {
    #[attr]
    pub csum: Option<OnOff>,
    #[attr]
    pub gso: Option<OnOff>,
    #[attr]
    pub tso4: Option<OnOff>,
    #[attr]
    pub tso6: Option<OnOff>,
    #[attr]
    pub ecn: Option<OnOff>,
    #[attr]
    pub ufo: Option<OnOff>,
    #[attr]
    pub mrg_rxbuf: Option<OnOff>,
}

/// How a virtio card is driven.
#[element]
pub struct InterfaceDriver {
    #[attr]
    pub name: Option<String>,
    #[attr]
    pub txmode: Option<String>,
    #[attr]
    pub ioeventfd: Option<OnOff>,
    #[attr]
    pub event_idx: Option<OnOff>,
    #[attr]
    pub queues: Option<u32>,
    #[attr]
    pub rx_queue_size: Option<u32>,
    #[attr]
    pub tx_queue_size: Option<u32>,
    #[attr]
    pub rss: Option<OnOff>,
    #[attr]
    pub rss_hash_report: Option<OnOff>,
    #[flatten]
    pub virtio: VirtioOptions,
    #[child]
    pub host: Option<Offloads>,
    #[child]
    pub guest: Option<Offloads>,
}

/// By what a device of the host is handed over. It is written before its source and read with other drivers:
/// definitions are completed with it.
#[element]
pub struct HostDriver {
    #[child("driver")]
    pub name: Option<Named>,
}

/// What implements the host's end.
#[element]
pub struct InterfaceBackend {
    #[attr("type")]
    pub kind: Option<String>,
    #[attr]
    pub tap: Option<String>,
    #[attr]
    pub vhost: Option<String>,
    #[attr("logFile")]
    pub log_file: Option<String>,
}

/// Ports that are forwarded.
#[element]
pub struct ForwardRange {
    #[attr]
    pub start: u32,
    #[attr]
    pub end: Option<u32>,
    #[attr]
    pub to: Option<u32>,
    #[attr]
    pub exclude: Option<YesNo>,
}

/// Ports of an address that are forwarded.
#[element]
pub struct PortForward {
    #[attr]
    pub proto: String,
    #[attr]
    pub address: Option<String>,
    #[attr]
    pub dev: Option<String>,
    #[child]
    pub range: Vec<ForwardRange>,
}

/// A filter's parameter.
#[element]
pub struct FilterParameter {
    #[attr]
    pub name: String,
    #[attr]
    pub value: String,
}

/// The filter of an interface.
#[element]
pub struct FilterRef {
    #[attr]
    pub filter: String,
    #[child]
    pub parameter: Vec<FilterParameter>,
}

/// A limit of traffic.
#[element]
pub struct Rate {
    #[attr]
    pub average: Option<u64>,
    #[attr]
    pub peak: Option<u64>,
    #[attr]
    pub floor: Option<u64>,
    #[attr]
    pub burst: Option<u64>,
}

/// The limits of an interface's traffic.
#[element]
pub struct Bandwidth {
    #[child]
    pub inbound: Option<Rate>,
    #[child]
    pub outbound: Option<Rate>,
}

/// A tag of a virtual LAN.
#[element]
pub struct VlanTag {
    #[attr]
    pub id: u32,
    #[attr("nativeMode")]
    pub native_mode: Option<String>,
}

/// Virtual LANs.
#[element]
pub struct Vlan {
    #[attr]
    pub trunk: Option<YesNo>,
    #[child]
    pub tag: Vec<VlanTag>,
}

/// State of the link.
#[element]
pub struct Link {
    #[attr]
    pub state: LinkState,
}

/// State of the link.
#[words]
pub enum LinkState {
    Up,
    Down,
}

/// Largest packet.
#[element]
pub struct Mtu {
    #[attr]
    pub size: u32,
}

/// Whether ports of a bridge see each other.
#[element]
pub struct PortOptions {
    #[attr]
    pub isolated: YesNo,
}

/// How interrupts are held back.
#[element]
pub struct CoalesceFrames {
    #[attr]
    pub max: Option<u32>,
}

/// How interrupts are held back.
#[element]
pub struct CoalesceRx {
    #[child]
    pub frames: Option<CoalesceFrames>,
}

/// How interrupts are held back.
#[element]
pub struct Coalesce {
    #[child]
    pub rx: Option<CoalesceRx>,
}

/// The interface's partner in a team.
#[element]
pub struct Teaming {
    #[attr("type")]
    pub kind: String,
    #[attr]
    pub persistent: Option<String>,
}

/// The host's buffer.
#[element]
pub struct InterfaceTune {
    #[text]
    pub sndbuf: Option<u64>,
}

/// A network interface.
#[element]
pub struct Interface {
    #[attr("type")]
    pub kind: InterfaceType,
    #[attr]
    pub managed: Option<YesNo>,
    #[attr("trustGuestRxFilters")]
    pub trust_guest_rx_filters: Option<YesNo>,
    #[child]
    pub mac: Option<Mac>,
    #[flatten]
    pub host_driver: HostDriver,
    #[child]
    pub source: Option<InterfaceSource>,
    #[child]
    pub vlan: Option<Vlan>,
    #[child]
    pub virtualport: Option<VirtualPort>,
    #[child]
    pub bandwidth: Option<Bandwidth>,
    #[child]
    pub port: Option<PortOptions>,
    /// What a network's interface really is, while the guest runs.
    #[child]
    pub actual: Internal,
    #[child]
    pub ip: Vec<Ip>,
    #[child]
    pub route: Vec<Route>,
    #[child("portForward")]
    pub port_forward: Vec<PortForward>,
    #[child]
    pub script: Option<Script>,
    #[child]
    pub downscript: Option<Script>,
    #[child]
    pub backenddomain: Option<Named>,
    #[child]
    pub target: Option<InterfaceTarget>,
    #[child]
    pub guest: Option<InterfaceGuest>,
    #[child]
    pub model: Option<InterfaceModel>,
    #[child]
    pub driver: Option<InterfaceDriver>,
    #[child]
    pub backend: Option<InterfaceBackend>,
    #[child]
    pub filterref: Option<FilterRef>,
    #[child]
    pub tune: Option<InterfaceTune>,
    #[child]
    pub link: Option<Link>,
    #[child]
    pub mtu: Option<Mtu>,
    #[child]
    pub coalesce: Option<Coalesce>,
    #[child]
    pub teaming: Option<Teaming>,
    #[flatten]
    pub info: BootInfo,
}

impl Interface {
    /// The name of the card's model; empty if none is given.
    pub fn model(&self) -> &str {
        self.model.as_ref().map_or("", |model| &model.kind)
    }
}
