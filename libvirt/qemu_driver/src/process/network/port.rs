//! Ports of virtual networks, which another daemon has.

use super::Owner;
use crate::core::Core;
use crate::error::{Result, unsupported};
use domain_xml::Domain as Definition;
use domain_xml::interface::{
    Bandwidth, Interface, InterfaceSource, InterfaceType, Mac, PortOptions, VirtualPort, Vlan,
};
use domain_xml::words::YesNo;
use rpc::procedure::Secondary;
use rpc::protocol::network::{
    Network, NetworkDhcpLease, NetworkGetDhcpLeasesArgs, NetworkLookupByNameArgs, NetworkPortCreateXmlArgs,
    NetworkPortDeleteArgs, NetworkPortGetXmlDescArgs, NetworkPortLookupByUuidArgs,
    NetworkPortSetParametersArgs,
};
use rpc::protocol::types::TypedParam;
use rpc::relay::{Peer, Sockets};
use rpc::{Code, Error, Origin};
use std::time::Duration;
use xml::element;

/// Where the other daemons of the system listen.
const SOCKETS: &str = "/var/run/libvirt";
/// How long the network daemon may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who a port of a network is for.
#[element]
struct PortOwner {
    #[text]
    name: Option<String>,
    #[text]
    uuid: Option<String>,
}

/// A port that is asked for.
#[element]
struct Port {
    #[text]
    uuid: Option<String>,
    #[child]
    owner: Option<PortOwner>,
    #[text]
    group: Option<String>,
    #[child]
    mac: Option<Mac>,
    #[child]
    virtualport: Option<VirtualPort>,
    #[child]
    bandwidth: Option<Bandwidth>,
    #[child]
    vlan: Option<Vlan>,
    #[child]
    port: Option<PortOptions>,
    #[child]
    rxfilters: Option<ReceptionFilters>,
}

/// Whether the guest may say what it receives.
#[element]
struct ReceptionFilters {
    #[attr("trustGuest")]
    trust_guest: YesNo,
}

/// What a port is plugged into.
#[derive(Debug, Default, PartialEq)]
struct Plug {
    kind: String,
    bridge: Option<String>,
    /// Who keeps the bridge's table of addresses.
    manager: Option<String>,
    /// The host's device that it is on top of, and how.
    dev: Option<String>,
    mode: Option<String>,
    virtualport: Option<VirtualPort>,
    vlan: Option<Vlan>,
    port: Option<PortOptions>,
    trusts_guest: Option<YesNo>,
    /// The limits that the port has, which may be the network's.
    bandwidth: Option<Bandwidth>,
}

fn plug_of(text: &str) -> Result<Plug, xml::Error> {
    xml::parse(text, "networkport", |node| {
        let plug = node.children().find(|child| child.name() == "plug");
        let get =
            |name: &str| plug.as_ref().and_then(|plug| plug.attribute(name)).map(|value| value.to_string());
        let child = |name: &str| node.children().find(|child| child.name() == name);
        let filters =
            child("rxfilters").map(|filters| xml::read::<ReceptionFilters>(&filters)).transpose()?;
        let limits = node.children().find(|child| child.name() == "bandwidth");
        Ok(Plug {
            kind: get("type").unwrap_or_default(),
            bridge: get("bridge"),
            manager: get("macTableManager"),
            dev: get("dev"),
            mode: get("mode"),
            virtualport: child("virtualport").map(|it| xml::read(&it)).transpose()?,
            vlan: child("vlan").map(|it| xml::read(&it)).transpose()?,
            port: child("port").map(|it| xml::read(&it)).transpose()?,
            trusts_guest: filters.map(|filters| filters.trust_guest),
            bandwidth: limits.map(|limits| xml::read(&limits)).transpose()?,
        })
    })
}

fn network_daemon(core: &Core) -> Result<Peer> {
    daemon(core, Secondary::Network, PATIENCE)
}

/// A connection to another daemon of the same user.
pub(in crate::process) fn daemon(core: &Core, secondary: Secondary, patience: Duration) -> Result<Peer> {
    let sockets = Sockets {
        folder: if core.paths.privileged { SOCKETS.into() } else { core.paths.run.clone() },
        path: if core.paths.privileged { "system" } else { "session" },
    };
    Peer::connect(&sockets, secondary, patience)
}

fn look_up(daemon: &mut Peer, source: &InterfaceSource) -> Result<Network> {
    let name = source.network.clone().unwrap_or_default();
    Ok(daemon.call(&NetworkLookupByNameArgs { name })?.net)
}

/// Asks for the port of the network that the interface names; what it is plugged into is noted in the interface.
pub(super) fn make(core: &Core, owner: Owner<'_>, interface: &mut Interface) -> Result<()> {
    let (mac, bandwidth) = (interface.mac.clone(), interface.bandwidth.clone());
    let (virtualport, vlan) = (interface.virtualport.clone(), interface.vlan.clone());
    let (isolation, trust) = (interface.port.clone(), interface.trust_guest_rx_filters);
    let source = interface.source.get_or_insert_default();
    let mut daemon = network_daemon(core)?;
    let network = look_up(&mut daemon, source)?;
    let port = Port {
        uuid: source.portid.clone(),
        owner: Some(PortOwner { name: Some(owner.name.to_owned()), uuid: owner.uuid.map(str::to_owned) }),
        group: source.portgroup.clone(),
        mac: mac.map(|mac| Mac { address: mac.address, ..Mac::default() }),
        virtualport,
        bandwidth,
        vlan,
        port: isolation,
        rxfilters: trust.map(|trust_guest| ReceptionFilters { trust_guest }),
    };
    let xml = xml::to_string(&port, "networkport");
    let port = daemon.call(&NetworkPortCreateXmlArgs { network, xml, flags: 0 })?.port;
    let text = daemon.call(&NetworkPortGetXmlDescArgs { port, flags: 0 })?.xml;
    let plug = plug_of(&text).map_err(|error| Error::new(Origin::Domain, Code::XmlError, error.detail))?;
    match plug.kind.as_str() {
        "network" => {}
        "bridge" => interface.kind = InterfaceType::Bridge,
        "direct" => {
            interface.kind = InterfaceType::Direct;
            (source.dev, source.mode) = (plug.dev, plug.mode);
        }
        kind => return Err(unsupported(format!("ports of networks of type '{kind}' cannot be had yet"))),
    }
    (source.bridge, source.mac_table_manager) = (plug.bridge, plug.manager);
    (interface.virtualport, interface.vlan) = (plug.virtualport, plug.vlan);
    (interface.bandwidth, interface.port) = (plug.bandwidth, plug.port);
    interface.trust_guest_rx_filters = plug.trusts_guest;
    Ok(())
}

/// Gives the interface's port other limits, so that the network knows what it has promised.
pub(super) fn limit(core: &Core, interface: &Interface, wanted: &Bandwidth) -> Result<()> {
    let Some(source) = &interface.source else { return Ok(()) };
    let Some(uuid) = source.portid.as_deref().and_then(crate::uuid::parse) else { return Ok(()) };
    let mut daemon = network_daemon(core)?;
    let network = look_up(&mut daemon, source)?;
    let port = daemon.call(&NetworkPortLookupByUuidArgs { network, uuid })?.port;
    let mut params = Vec::new();
    for (way, rate) in [("inbound", &wanted.inbound), ("outbound", &wanted.outbound)] {
        let rate = rate.clone().unwrap_or_default();
        let values =
            [("average", rate.average), ("peak", rate.peak), ("burst", rate.burst), ("floor", rate.floor)];
        for (name, value) in values.into_iter().filter(|(name, _)| (way, *name) != ("outbound", "floor")) {
            let value = u32::try_from(value.unwrap_or(0)).unwrap_or(u32::MAX);
            params.push(TypedParam::new(format!("{way}.{name}"), value));
        }
    }
    daemon.call(&NetworkPortSetParametersArgs { port, params, flags: 0 }).map(drop)
}

/// An interface with what a network has lent it.
pub(crate) type Leases<'a> = (&'a Interface, Vec<NetworkDhcpLease>);

/// The addresses that networks have lent to interfaces; none where no daemon has networks.
pub(crate) fn leases<'a>(core: &Core, definition: &'a Definition) -> Result<Option<Vec<Leases<'a>>>> {
    let mut daemon = match network_daemon(core) {
        Err(error) if error.code == Code::SystemError as i32 => return Ok(None),
        daemon => daemon?,
    };
    let mut found = Vec::new();
    for interface in &definition.devices.interface {
        let Some(source) = interface.source.as_ref().filter(|_| interface.kind == InterfaceType::Network)
        else {
            continue;
        };
        let net = look_up(&mut daemon, source)?;
        let mac = interface.mac.as_ref().map(|mac| mac.address.to_lowercase());
        let leases = daemon.call(&NetworkGetDhcpLeasesArgs { net, mac, need_results: 1, flags: 0 })?.leases;
        if !leases.is_empty() {
            found.push((interface, leases));
        }
    }
    Ok(Some(found))
}

/// Gives the interface's port back, if there is one.
pub(super) fn remove(core: &Core, interface: &Interface) -> Result<()> {
    let Some(source) = &interface.source else { return Ok(()) };
    let Some(uuid) = source.portid.as_deref().and_then(crate::uuid::parse) else { return Ok(()) };
    let mut daemon = network_daemon(core)?;
    let network = look_up(&mut daemon, source)?;
    let missing = |error: &Error| error.code == Code::NoNetworkPort as i32;
    let port = match daemon.call(&NetworkPortLookupByUuidArgs { network, uuid }) {
        // It was named, and never made.
        Err(error) if missing(&error) => return Ok(()),
        found => found?.port,
    };
    daemon.call(&NetworkPortDeleteArgs { port, flags: 0 })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_networks() {
        let port = Port {
            uuid: Some("u".to_owned()),
            owner: Some(PortOwner { name: Some("a & b".to_owned()), uuid: None }),
            group: None,
            mac: Some(Mac { address: "52:54:00:12:34:56".to_owned(), ..Mac::default() }),
            virtualport: None,
            bandwidth: None,
            vlan: None,
            port: None,
            rxfilters: Some(ReceptionFilters { trust_guest: YesNo::Yes }),
        };
        let text = xml::to_string(&port, "networkport");
        let wanted = "<networkport>\n  <uuid>u</uuid>\n  <owner>\n    <name>a &amp; b</name>\n  </owner>\n  \
                      <mac address='52:54:00:12:34:56'/>\n  <rxfilters trustGuest='yes'/>\n</networkport>\n";
        assert_eq!(text, wanted);
        let answer = "<networkport><uuid>u</uuid><bandwidth><inbound average='5'/></bandwidth>\
            <plug type='network' bridge='virbr0'/></networkport>";
        let plug = plug_of(answer).expect("plug");
        assert_eq!((plug.kind.as_str(), plug.bridge.as_deref()), ("network", Some("virbr0")));
        assert_eq!(plug.bandwidth.and_then(|it| it.inbound?.average), Some(5));
        let answer = "<networkport><vlan><tag id='5'/></vlan><rxfilters trustGuest='no'/>\
            <plug type='direct' dev='eth0' mode='private'/></networkport>";
        let plug = plug_of(answer).expect("plug");
        assert_eq!((plug.dev.as_deref(), plug.mode.as_deref()), (Some("eth0"), Some("private")));
        assert_eq!((plug.vlan.expect("vlan").tag[0].id, plug.trusts_guest), (5, Some(YesNo::No)));
        assert!(plug_of("<network/>").is_err());
    }
}
