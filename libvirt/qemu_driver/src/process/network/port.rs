//! Ports of virtual networks, which another daemon has.

use super::Owner;
use crate::core::Core;
use crate::error::{Result, unsupported};
use domain_xml::Domain as Definition;
use domain_xml::interface::{Bandwidth, Interface, InterfaceSource, InterfaceType, Mac};
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
    bandwidth: Option<Bandwidth>,
}

/// What a port is plugged into.
#[derive(Debug, Default, PartialEq)]
struct Plug {
    kind: String,
    bridge: Option<String>,
    /// Who keeps the bridge's table of addresses.
    manager: Option<String>,
    /// The limits that the port has, which may be the network's.
    bandwidth: Option<Bandwidth>,
}

fn plug_of(text: &str) -> Result<Plug, xml::Error> {
    xml::parse(text, "networkport", |node| {
        let plug = node.children().find(|child| child.name() == "plug");
        let get =
            |name: &str| plug.as_ref().and_then(|plug| plug.attribute(name)).map(|value| value.to_string());
        let limits = node.children().find(|child| child.name() == "bandwidth");
        Ok(Plug {
            kind: get("type").unwrap_or_default(),
            bridge: get("bridge"),
            manager: get("macTableManager"),
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
    let source = interface.source.get_or_insert_default();
    let mut daemon = network_daemon(core)?;
    let network = look_up(&mut daemon, source)?;
    let port = Port {
        uuid: source.portid.clone(),
        owner: Some(PortOwner { name: Some(owner.name.to_owned()), uuid: owner.uuid.map(str::to_owned) }),
        group: source.portgroup.clone(),
        mac: mac.map(|mac| Mac { address: mac.address, ..Mac::default() }),
        bandwidth,
    };
    let xml = xml::to_string(&port, "networkport");
    let port = daemon.call(&NetworkPortCreateXmlArgs { network, xml, flags: 0 })?.port;
    let text = daemon.call(&NetworkPortGetXmlDescArgs { port, flags: 0 })?.xml;
    let plug = plug_of(&text).map_err(|error| Error::new(Origin::Domain, Code::XmlError, error.detail))?;
    if !matches!(plug.kind.as_str(), "network" | "bridge") {
        let kind = plug.kind;
        return Err(unsupported(format!("ports of networks of type '{kind}' cannot be had yet")));
    }
    if plug.manager.as_deref() == Some("libvirt") {
        return Err(unsupported("bridges whose table of addresses libvirt keeps cannot be had yet"));
    }
    source.bridge = plug.bridge;
    interface.bandwidth = plug.bandwidth;
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
            bandwidth: None,
        };
        let text = xml::to_string(&port, "networkport");
        let wanted = "<networkport>\n  <uuid>u</uuid>\n  <owner>\n    <name>a &amp; b</name>\n  </owner>\n  \
                      <mac address='52:54:00:12:34:56'/>\n</networkport>\n";
        assert_eq!(text, wanted);
        let answer = "<networkport><uuid>u</uuid><bandwidth><inbound average='5'/></bandwidth>\
            <plug type='network' bridge='virbr0'/></networkport>";
        let plug = plug_of(answer).expect("plug");
        assert_eq!((plug.kind.as_str(), plug.bridge.as_deref()), ("network", Some("virbr0")));
        assert_eq!(plug.bandwidth.and_then(|it| it.inbound?.average), Some(5));
        assert!(plug_of("<network/>").is_err());
    }
}
