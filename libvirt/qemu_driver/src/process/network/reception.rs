//! What a guest wants to receive, where it may say so itself: the host's end on top of a device follows it.

use super::{is_direct, parse_mac};
use crate::core::{Core, Level};
use crate::error::{Result, system};
use crate::guest::Guest;
use domain_xml::interface::Interface;
use domain_xml::words::YesNo;
use hostio::netdev::{self, Reception};
use json::{Value, dict};

/// What the guest wants of one interface.
#[derive(Debug, Default, PartialEq)]
struct Wanted {
    mac: Option<[u8; 6]>,
    reception: Reception,
    groups: Vec<[u8; 6]>,
}

fn wanted(reply: &Value) -> Wanted {
    let filter = reply.as_list().and_then(|list| list.first()).unwrap_or(reply);
    let text = |key: &str| filter.get(key).and_then(Value::as_str).unwrap_or_default();
    let groups = filter.get("multicast-table").and_then(Value::as_list).unwrap_or_default();
    Wanted {
        mac: parse_mac(text("main-mac")),
        reception: Reception {
            promiscuous: filter.get("promiscuous").and_then(Value::as_bool) == Some(true),
            all_multicast: text("multicast") == "all",
        },
        groups: groups.iter().filter_map(|group| parse_mac(group.as_str()?)).collect(),
    }
}

/// Lets the host's end of an interface receive what its guest wants.
pub(in crate::process) fn follow_guest(core: &Core, guest: &Guest, id: i32, alias: &str) {
    let _job = guest.jobs.begin_surely("reception");
    let found = guest.with_live(id, |live| {
        let own = |it: &&Interface| it.info.alias.as_ref().is_some_and(|own| own.name == alias);
        live.definition.devices.interface.iter().find(own).cloned()
    });
    let Some(Some(interface)) = found else { return };
    // To ask lets the emulator tell of the next change, also of those that nobody follows.
    let told = guest.execute("query-rx-filter", dict! { "name" => alias });
    if !is_direct(&interface) || interface.trust_guest_rx_filters != Some(YesNo::Yes) {
        return;
    }
    let name = interface.target.as_ref().and_then(|target| target.dev.as_deref()).unwrap_or_default();
    if let Err(error) = told.and_then(|reply| follow(name, &wanted(&reply))) {
        core.log(Level::Warning, &format!("interface {name} does not follow its guest: {error}"));
    }
}

fn follow(name: &str, wanted: &Wanted) -> Result<()> {
    let failed = |what: &'static str| {
        move |error: std::io::Error| system(&error, &format!("Cannot set interface {what} on '{name}'"))
    };
    if let Some(mac) = wanted.mac.filter(|mac| netdev::mac(name).ok() != Some(*mac)) {
        netdev::set_mac(name, mac).map_err(failed("MAC"))?;
    }
    netdev::set_reception(name, wanted.reception).map_err(failed("flags"))?;
    let there = netdev::multicast(name).map_err(failed("multicast list"))?;
    for group in wanted.groups.iter().filter(|group| !there.contains(group)) {
        netdev::set_multicast(name, *group, true).map_err(failed("multicast list"))?;
    }
    for group in there.iter().filter(|group| !wanted.groups.contains(group)) {
        // One that the host itself has joined stays.
        let _ = netdev::set_multicast(name, *group, false);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_emulators_tell() {
        let reply = json::parse(
            b"[{\"name\":\"net0\",\"promiscuous\":false,\"multicast\":\"all\",\"main-mac\":\"52:54:00:01:02:03\",\
              \"multicast-table\":[\"01:00:5e:00:00:01\",\"nonsense\"],\"vlan-table\":[]}]",
        )
        .expect("json");
        let found = wanted(&reply);
        assert_eq!(found.mac, Some([0x52, 0x54, 0, 1, 2, 3]));
        assert_eq!(found.reception, Reception { promiscuous: false, all_multicast: true });
        assert_eq!(found.groups, [[1, 0, 0x5e, 0, 0, 1]]);
        assert_eq!(wanted(&Value::Null), Wanted::default());
    }
}
