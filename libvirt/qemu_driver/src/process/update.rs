//! Changes of devices that a guest has: media, links, passwords of displays.

use super::network;
use crate::core::Core;
use crate::error::{Result, error, failed, internal, not_running, unsupported};
use crate::guest::Guest;
use domain_xml::address::Address;
use domain_xml::disk::{Disk, DiskBus, DiskDevice, IoTune, Tray};
use domain_xml::graphics::{Graphics, GraphicsType, ListenType};
use domain_xml::interface::{Interface, InterfaceType, LinkState};
use domain_xml::words::YesNo;
use domain_xml::{Devices, Domain as Definition};
use json::dict;
use rpc::{Code, Error, Origin};
use std::sync::Arc;

/// The word that stands for a kind in XML.
fn word(kind: GraphicsType) -> String {
    format!("{kind:?}").to_ascii_lowercase()
}

fn network_word(kind: InterfaceType) -> String {
    format!("{kind:?}").to_ascii_lowercase()
}

fn mac(interface: &Interface) -> Option<String> {
    interface.mac.as_ref().map(|mac| mac.address.to_ascii_lowercase())
}

fn pci(interface: &Interface) -> Option<(u64, u64, u64, u64)> {
    match &interface.info.address {
        Some(Address::Pci(address)) => Some(address.place()),
        _ => None,
    }
}

/// The place of the interface that a client means.
pub(super) fn find_interface(devices: &Devices, wanted: &Interface) -> Result<usize> {
    let (mac_wanted, pci_wanted) = (mac(wanted), pci(wanted));
    let alias = |interface: &Interface| interface.info.alias.as_ref().map(|alias| alias.name.clone());
    let alias_wanted = alias(wanted);
    let fits = |own: &Interface| {
        (mac_wanted.is_none() || mac(own) == mac_wanted)
            && (pci_wanted.is_none() || pci(own) == pci_wanted)
            && (alias_wanted.is_none() || alias(own).is_none() || alias(own) == alias_wanted)
    };
    let all = devices.interface.iter().enumerate();
    let found: Vec<usize> = all.filter(|(_, own)| fits(own)).map(|(place, _)| place).collect();
    let several = |detail| Err(Error::new(Origin::Domain, Code::OperationFailed, detail));
    match (&found[..], &mac_wanted) {
        (&[place], _) => Ok(place),
        ([], _) => {
            let address = pci_wanted.map_or_else(
                || "(<null>)".to_owned(),
                |(domain, bus, slot, function)| format!("{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"),
            );
            let null = || "(<null>)".to_owned();
            let (mac, alias) = (mac_wanted.unwrap_or_else(null), alias_wanted.unwrap_or_else(null));
            let detail = format!(
                "no device found at address '{address}' matching MAC address '{mac}' and alias '{alias}'"
            );
            Err(Error::new(Origin::Domain, Code::DeviceMissing, detail))
        }
        (_, Some(mac)) => several(format!("multiple devices matching MAC address {mac} found")),
        (_, None) => several("multiple matching devices found".to_owned()),
    }
}

/// What of a device only a running guest has: not for the next start.
fn without_runtime(devices: &mut Devices) {
    let own = |alias: &mut Option<domain_xml::address::Alias>| {
        let of_user = alias.as_ref().is_none_or(|alias| alias.name.starts_with("ua-"));
        if !of_user {
            *alias = None;
        }
        of_user
    };
    for disk in &mut devices.disk {
        own(&mut disk.info.alias);
        if let Some(source) = &mut disk.source {
            source.index = None;
        }
    }
    for interface in &mut devices.interface {
        let generated = |dev: &str| dev.starts_with("vnet") || dev.starts_with("macvtap");
        if !own(&mut interface.info.alias)
            && interface.target.as_ref().and_then(|target| target.dev.as_deref()).is_some_and(generated)
        {
            interface.target = None;
        }
    }
}

fn denied_alias(
    old: Option<&domain_xml::address::Alias>,
    new: Option<&domain_xml::address::Alias>,
) -> Result<()> {
    match (old, new) {
        (Some(old), Some(new)) if old.name != new.name => {
            Err(error(Code::OperationDenied, "changing device alias is not allowed"))
        }
        _ => Ok(()),
    }
}

/// Refuses what no running disk can change. `wanted` is what the client gave, `new` the same completed.
fn disk_may_become(old: &Disk, new: &Disk, wanted: &Disk) -> Result<()> {
    let refuse = |field: &str| {
        let detail = format!("cannot modify field '{field}' of the disk");
        Err(error(Code::OperationUnsupported, detail))
    };
    macro_rules! same {
        ($($name:literal $old:expr, $new:expr;)*) => {$(
            if $new.is_some() && $new != $old {
                return refuse($name);
            }
        )*};
    }
    if old.device != new.device {
        return refuse("device");
    }
    if old.bus() != new.bus() {
        return refuse("bus");
    }
    let (old_target, new_target) = (old.target.as_ref(), new.target.as_ref());
    let tray = new_target.and_then(|target| target.tray).filter(|tray| *tray == Tray::Open);
    if tray.is_some() && tray != old_target.and_then(|target| target.tray) {
        return refuse("tray");
    }
    same! { "removable" old_target.and_then(|it| it.removable), new_target.and_then(|it| it.removable); }
    let blockio = |disk: &Disk| {
        let own = disk.blockio.as_ref();
        let size = |size: Option<u32>| size.filter(|size| *size != 0);
        (own.and_then(|own| size(own.logical_block_size)), own.and_then(|own| size(own.physical_block_size)))
    };
    if blockio(old).0 != blockio(new).0 {
        return refuse("blockio logical_block_size");
    }
    if blockio(old).1 != blockio(new).1 {
        return refuse("blockio physical_block_size");
    }
    let tune = |disk: &Disk| disk.iotune.clone().unwrap_or_default();
    let (a, b): (IoTune, IoTune) = (tune(old), tune(new));
    let set = |value: Option<u64>| value.filter(|value| *value != 0);
    macro_rules! tunes {
        ($($field:ident)*) => {$(
            if set(b.$field).is_some() && set(b.$field) != set(a.$field) {
                return refuse(concat!("blkdeviotune ", stringify!($field)));
            }
        )*};
    }
    tunes!(
        total_bytes_sec read_bytes_sec write_bytes_sec total_iops_sec read_iops_sec write_iops_sec
        total_bytes_sec_max read_bytes_sec_max write_bytes_sec_max total_iops_sec_max read_iops_sec_max
        write_iops_sec_max size_iops_sec
    );
    same! {
        "blkdeviotune group name" a.group_name, b.group_name;
        "serial" old.serial, new.serial;
        "wwn" old.wwn, new.wwn;
        "vendor" old.vendor, new.vendor;
        "product" old.product, new.product;
    }
    let (a, b) = (old.driver.clone().unwrap_or_default(), new.driver.clone().unwrap_or_default());
    same! {
        "cache" a.cache, b.cache;
        "error_policy" a.error_policy, b.error_policy;
        "rerror_policy" a.rerror_policy, b.rerror_policy;
        "io" a.io, b.io;
        "ioeventfd" a.ioeventfd, b.ioeventfd;
        "event_idx" a.event_idx, b.event_idx;
        "copy_on_read" a.copy_on_read, b.copy_on_read;
        "transient" old.transient, new.transient;
        "address" old.info.address, wanted.info.address;
        "boot order" old.info.boot, new.info.boot;
        "rawio" old.rawio, new.rawio;
        "sgio" old.sgio, new.sgio;
        "discard" a.discard, b.discard;
        "iothread" a.iothread, b.iothread;
    }
    if new.read_only && !old.read_only {
        return refuse("readonly");
    }
    if new.shareable && !old.shareable {
        return refuse("shared");
    }
    Ok(())
}

/// Whether both are on the same image.
fn same_place(one: &Disk, other: &Disk) -> bool {
    let place = |disk: &Disk| {
        let mut source = disk.source.clone().unwrap_or_default();
        source.index = None;
        source.startup_policy = None;
        let nothing = source == Default::default();
        (!nothing).then_some((disk.kind, source))
    };
    place(one) == place(other)
}

/// The name under which the emulator knows the drive of a disk.
pub(super) fn drive_name(disk: &Disk, alias: &str) -> String {
    match disk.bus() {
        Some(DiskBus::Virtio) => format!("/machine/peripheral/{alias}/virtio-backend"),
        Some(DiskBus::Usb) => format!("/machine/peripheral/{alias}/{alias}.0/legacy[0]"),
        _ => alias.to_owned(),
    }
}

/// Refuses what no running interface can change; `new` has no gaps.
fn interface_may_become(old: &Interface, new: &Interface) -> Result<()> {
    let refuse = |detail: String| Err(error(Code::OperationUnsupported, detail));
    if matches!(old.kind, InterfaceType::Hostdev | InterfaceType::Vdpa) {
        let kind = network_word(old.kind);
        return refuse(format!("cannot change config of '{kind}' network interface type"));
    }
    if mac(old) != mac(new) {
        let text = |interface: &Interface| mac(interface).unwrap_or_default();
        let (a, b) = (text(old), text(new));
        return refuse(format!("cannot change network interface mac address from {a} to {b}"));
    }
    if old.model() != new.model() {
        let (a, b) = (old.model(), new.model());
        return refuse(format!("cannot modify network device model from {a} to {b}"));
    }
    if old.driver != new.driver {
        return refuse("cannot modify virtio network device driver attributes".to_owned());
    }
    if old.script != new.script {
        return refuse("cannot modify network device script attribute".to_owned());
    }
    if old.target != new.target {
        return refuse("cannot modify network device tap name".to_owned());
    }
    match (&old.info.address, &new.info.address) {
        (a, b) if a == b => {}
        (Some(Address::Pci(_)), Some(Address::Pci(_))) => {
            return refuse("cannot modify network device guest PCI address".to_owned());
        }
        _ => return refuse("cannot modify network device address type".to_owned()),
    }
    if old.info.rom != new.info.rom {
        return refuse("cannot modify network device rom bar setting".to_owned());
    }
    if old.info.boot != new.info.boot {
        return refuse("cannot modify network device boot index setting".to_owned());
    }
    if old.mtu != new.mtu {
        return refuse("cannot modify MTU".to_owned());
    }
    if matches!(new.kind, InterfaceType::Hostdev | InterfaceType::Vdpa) {
        let kind = network_word(new.kind);
        return refuse(format!("cannot change network interface type to '{kind}'"));
    }
    // Only the link, the limits, the bridge and how its port behaves are left to change: whatever else differs would be a
    // new connection.
    let mut rest = new.clone();
    rest.link.clone_from(&old.link);
    rest.bandwidth.clone_from(&old.bandwidth);
    rest.info.alias.clone_from(&old.info.alias);
    if old.kind == InterfaceType::Bridge && new.kind == old.kind {
        rest.source.clone_from(&old.source);
        rest.port.clone_from(&old.port);
    }
    // Notes of the running guest.
    rest.actual.clone_from(&old.actual);
    network::keep_port(&mut rest, old);
    rest.coalesce.clone_from(&old.coalesce);
    rest.filterref.clone_from(&old.filterref);
    rest.trust_guest_rx_filters = old.trust_guest_rx_filters;
    if rest != *old {
        return refuse(format!("unable to change config on '{}' network type", network_word(new.kind)));
    }
    Ok(())
}

/// Refuses what no running display can change.
fn display_may_become(old: &Graphics, new: &Graphics) -> Result<()> {
    let kind = word(new.kind);
    let refuse = |detail: String| Err(error(Code::OperationUnsupported, detail));
    if !matches!(new.kind, GraphicsType::Vnc | GraphicsType::Spice) {
        return Err(unsupported(format!("unable to change config on '{kind}' graphics type")));
    }
    if old.listens.len() != new.listens.len() {
        return refuse(format!("cannot change the number of listen addresses on '{kind}' graphics"));
    }
    for (a, b) in old.listens.iter().zip(&new.listens) {
        if a.kind != b.kind {
            return refuse(format!("cannot change the type of listen address on '{kind}' graphics"));
        }
        let socket = a.kind == ListenType::Socket;
        if socket && a.socket != b.socket {
            return refuse(format!("cannot change listen socket setting on '{kind}' graphics"));
        }
        if !socket && (&a.address, &a.network) != (&b.address, &b.network) {
            return refuse(format!("cannot change listen address setting on '{kind}' graphics"));
        }
    }
    let auto = |one: &Graphics| one.autoport == Some(YesNo::Yes);
    let ports = |one: &Graphics| (one.port, one.tls_port);
    if auto(old) != auto(new) || (!auto(new) && ports(old) != ports(new)) {
        return refuse(format!("cannot change port settings on {kind} graphics"));
    }
    if old.keymap != new.keymap {
        return refuse(format!("cannot change keymap setting on {kind} graphics"));
    }
    if old.passwd_valid_to.is_some() || new.passwd_valid_to.is_some() {
        return refuse(format!("the lifetime of the password of {kind} graphics cannot be changed yet"));
    }
    Ok(())
}

impl Core {
    /// A definition in which the device that is meant has become as `wanted` says, completed; for the next start.
    ///
    /// # Errors
    /// There is no such device, or it cannot be so.
    pub fn with_changed(&self, definition: &Definition, wanted: &Devices) -> Result<Definition> {
        let mut wanted = wanted.clone();
        without_runtime(&mut wanted);
        self.replaced(definition, &wanted)
    }

    fn replaced(&self, definition: &Definition, wanted: &Devices) -> Result<Definition> {
        let mut changed = definition.clone();
        let devices = &mut changed.devices;
        if let Some(disk) = wanted.disk.first() {
            let place = devices.disk.iter_mut().find(|own| own.dev() == disk.dev());
            let missing = || error(Code::InvalidArg, format!("target {} doesn't exist.", disk.dev()));
            *place.ok_or_else(missing)? = disk.clone();
        } else if let Some(interface) = wanted.interface.first() {
            let place = find_interface(devices, interface)?;
            if let Some(own) = devices.interface.get_mut(place) {
                let mac = own.mac.clone();
                *own = interface.clone();
                own.mac = own.mac.take().or(mac);
            }
        } else if let Some(graphics) = wanted.graphics.first() {
            let place = devices.graphics.iter_mut().find(|own| own.kind == graphics.kind);
            let kind = word(graphics.kind);
            let missing = || {
                let detail = format!("cannot find existing graphics type '{kind}' device to modify");
                error(Code::InvalidArg, detail)
            };
            *place.ok_or_else(missing)? = graphics.clone();
        } else {
            let kind = super::devices::kind(wanted).unwrap_or("none");
            let detail = format!("persistent update of device '{kind}' is not supported");
            return Err(error(Code::OperationUnsupported, detail));
        }
        Ok(self.complete(changed, false)?.definition)
    }

    /// Changes a device of a running guest. Its job is held by the caller.
    ///
    /// # Errors
    /// There is no such device, or it cannot become so while the guest runs.
    pub fn change_device(self: &Arc<Self>, guest: &Arc<Guest>, wanted: &Devices, force: bool) -> Result<()> {
        let id = guest.running_id()?;
        let old = guest.with_live(id, |live| live.definition.clone()).ok_or_else(not_running)?;
        if let Some(disk) = wanted.disk.first() {
            return self.change_disk(guest, id, &old, disk, force);
        }
        if let Some(interface) = wanted.interface.first() {
            return self.change_interface(guest, id, &old, interface);
        }
        if let Some(graphics) = wanted.graphics.first() {
            return self.change_display(guest, id, &old, graphics);
        }
        let kind = super::devices::kind(wanted).unwrap_or("none");
        Err(unsupported(format!("live update of device '{kind}' is not supported")))
    }

    fn change_disk(
        self: &Arc<Self>,
        guest: &Arc<Guest>,
        id: i32,
        old: &Definition,
        wanted: &Disk,
        force: bool,
    ) -> Result<()> {
        let at = |definition: &Definition| {
            let disks = &definition.devices.disk;
            disks.iter().position(|disk| disk.dev() == wanted.dev())
        };
        let missing = || internal(format!("disk '{}' not found", wanted.dev()));
        let place = at(old).ok_or_else(missing)?;
        let before = old.devices.disk.get(place).ok_or_else(missing)?;
        denied_alias(before.info.alias.as_ref(), wanted.info.alias.as_ref())?;
        let completed = self.replaced(old, &Devices { disk: vec![wanted.clone()], ..Devices::default() })?;
        let after = at(&completed).and_then(|place| completed.devices.disk.get(place)).ok_or_else(missing)?;
        disk_may_become(before, after, wanted)?;
        let mut new = old.clone();
        let changed = new.devices.disk.get_mut(place).ok_or_else(missing)?;
        changed.snapshot = after.snapshot.clone();
        if same_place(before, after) {
            if let (Some(own), Some(source)) = (&mut changed.source, &after.source) {
                own.startup_policy = source.startup_policy.clone();
            }
            guest.with_live(id, |live| live.definition = Arc::new(new));
            return Ok(());
        }
        if !matches!(before.device, DiskDevice::Cdrom | DiskDevice::Floppy) {
            return Err(unsupported("disk source can be changed only in removable drives"));
        }
        if before.iotune.as_ref().is_some_and(|tune| *tune != IoTune::default()) {
            return Err(unsupported("the medium of a drive with a throttle cannot be changed yet"));
        }
        changed.kind = after.kind;
        changed.source = after.source.clone();
        if let Some(source) = &mut changed.source {
            source.index = None;
        }
        changed.backing_store = None;
        let format = after.driver.as_ref().and_then(|driver| driver.format);
        changed.driver.get_or_insert_default().format = format;
        self.change_medium(guest, id, old, new, place, force)
    }

    fn change_interface(
        self: &Arc<Self>,
        guest: &Arc<Guest>,
        id: i32,
        old: &Definition,
        wanted: &Interface,
    ) -> Result<()> {
        let place = find_interface(&old.devices, wanted)?;
        let missing = || internal("no such interface");
        let before = old.devices.interface.get(place).ok_or_else(missing)?;
        denied_alias(before.info.alias.as_ref(), wanted.info.alias.as_ref())?;
        let mut filled = wanted.clone();
        macro_rules! keep {
            ($($($field:ident).+),*) => {$(
                if filled.$($field).+.is_none() {
                    filled.$($field).+ = before.$($field).+.clone();
                }
            )*};
        }
        keep!(mac, target, info.address, info.alias, info.rom, info.boot);
        let target = filled.target.clone();
        let devices = Devices { interface: vec![filled], ..Devices::default() };
        let completed = self.replaced(old, &devices)?;
        let mut after = completed.devices.interface.get(place).ok_or_else(missing)?.clone();
        // A generated name is not one that a definition keeps.
        after.target = target;
        interface_may_become(before, &after)?;
        if before.bandwidth != after.bandwidth && network::bandwidth::is_supported(before.kind) {
            network::bandwidth::change(self, before, after.bandwidth.as_ref())?;
            self.note_interface(guest, id, place, |own| own.bandwidth.clone_from(&after.bandwidth));
        }
        network::keep_port(&mut after, before);
        if before.filterref != after.filterref {
            network::filter::change(self, network::Owner::of(old), before, &after)?;
            self.note_interface(guest, id, place, |own| own.filterref.clone_from(&after.filterref));
        }
        if before.coalesce != after.coalesce {
            network::coalesce(&after)?;
            self.note_interface(guest, id, place, |own| own.coalesce.clone_from(&after.coalesce));
        }
        if before.trust_guest_rx_filters != after.trust_guest_rx_filters {
            self.note_interface(guest, id, place, |own| {
                own.trust_guest_rx_filters = after.trust_guest_rx_filters;
            });
        }
        if (&before.source, &before.port) != (&after.source, &after.port)
            && before.kind == InterfaceType::Bridge
            && before.source.as_ref().is_none_or(|source| source.network.is_none())
        {
            network::move_to_bridge(before, &after)?;
            self.note_interface(guest, id, place, |own| {
                own.source.clone_from(&after.source);
                own.port.clone_from(&after.port);
            });
        }
        if before.link == after.link {
            return Ok(());
        }
        let alias = before.info.alias.as_ref();
        let alias = alias.ok_or_else(|| failed("can't change link state: device alias not found"))?;
        let up = after.link.as_ref().is_none_or(|link| link.state != LinkState::Down);
        guest.execute("set_link", dict! { "name" => alias.name.as_str(), "up" => up })?;
        self.note_interface(guest, id, place, |own| own.link.clone_from(&after.link));
        Ok(())
    }

    fn note_interface(&self, guest: &Arc<Guest>, id: i32, place: usize, note: impl Fn(&mut Interface)) {
        guest.with_live(id, |live| {
            live.change(|it| it.devices.interface.get_mut(place).into_iter().for_each(note))
        });
    }

    fn change_display(
        self: &Arc<Self>,
        guest: &Arc<Guest>,
        id: i32,
        old: &Definition,
        wanted: &Graphics,
    ) -> Result<()> {
        let kind = word(wanted.kind);
        let place = old.devices.graphics.iter().position(|own| own.kind == wanted.kind);
        let missing = || {
            let detail = format!("cannot find existing graphics device to modify of type '{kind}'");
            error(Code::DeviceMissing, detail)
        };
        let place = place.ok_or_else(missing)?;
        let before = old.devices.graphics.get(place).ok_or_else(missing)?;
        let completed =
            self.replaced(old, &Devices { graphics: vec![wanted.clone()], ..Devices::default() })?;
        let after = completed.devices.graphics.get(place).ok_or_else(missing)?;
        display_may_become(before, after)?;
        let spice_ends =
            after.kind == GraphicsType::Spice && after.connected.as_deref() == Some("disconnect");
        if (&before.passwd, &before.connected) == (&after.passwd, &after.connected) && !spice_ends {
            return Ok(());
        }
        let Some(password) = &after.passwd else {
            return Err(unsupported("a password of a display cannot be taken away while the guest runs"));
        };
        let mut arguments = dict! { "protocol" => kind.as_str(), "password" => password.as_str() };
        if let Some(connected) = &after.connected {
            arguments.insert("connected", connected.as_str().into());
        }
        guest.execute("set_password", arguments)?;
        guest.execute("expire_password", dict! { "protocol" => kind.as_str(), "time" => "never" })?;
        guest.with_live(id, |live| {
            live.change(|it| {
                if let Some(own) = it.devices.graphics.get_mut(place) {
                    own.passwd = after.passwd.clone();
                    own.connected = after.connected.clone();
                }
            });
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(text: &str) -> Devices {
        crate::process::hotplug::parse_device(text).expect("device")
    }

    const CARD: &str =
        "<interface type='user'><mac address='52:54:00:00:00:0A'/><model type='virtio'/></interface>";

    #[test]
    fn interfaces_are_found() {
        let mut all = devices(CARD);
        all.interface.push(all.interface[0].clone());
        let wanted = devices(CARD).interface.remove(0);
        let text = |result: Result<usize>| result.expect_err("refused").to_string();
        assert!(
            text(find_interface(&all, &wanted))
                .contains("multiple devices matching MAC address 52:54:00:00:00:0a")
        );
        all.interface.truncate(1);
        assert_eq!(find_interface(&all, &wanted).expect("found"), 0);
        all.interface.clear();
        assert_eq!(
            text(find_interface(&all, &wanted)),
            "device not found: no device found at address '(<null>)' matching MAC address '52:54:00:00:00:0a' and alias '(<null>)'"
        );
    }

    #[test]
    fn what_interfaces_may_become() {
        let old = devices(CARD).interface.remove(0);
        let text = |new: &Interface| interface_may_become(&old, new).err().map(|error| error.to_string());
        let mut new = old.clone();
        new.link = Some(domain_xml::interface::Link { state: LinkState::Down });
        assert_eq!(text(&new), None);
        new.model = None;
        assert!(text(&new).expect("refused").ends_with("cannot modify network device model from virtio to "));
        let mut new = old.clone();
        new.kind = InterfaceType::Ethernet;
        assert!(text(&new).expect("refused").ends_with("unable to change config on 'ethernet' network type"));
    }

    #[test]
    fn what_disks_may_become() {
        let text = "<disk type='file' device='cdrom'><source file='/a'/><target dev='hdc' bus='ide'/><readonly/></disk>";
        let old = devices(text).disk.remove(0);
        let says = |new: &Disk| disk_may_become(&old, new, new).err().map(|error| error.to_string());
        let mut new = old.clone();
        new.source = None;
        assert_eq!(says(&new), None);
        assert!(!same_place(&old, &new));
        let mut other = old.clone();
        other.source.as_mut().expect("source").index = Some(7);
        assert!(same_place(&old, &other));
        new.serial = Some("x".to_owned());
        assert!(says(&new).expect("refused").ends_with("cannot modify field 'serial' of the disk"));
        new.device = DiskDevice::Disk;
        assert!(says(&new).expect("refused").ends_with("cannot modify field 'device' of the disk"));
    }

    #[test]
    fn displays_and_others() {
        let text = "<graphics type='vnc' port='5900' autoport='no' passwd='x'/>";
        let old = devices(text).graphics.remove(0);
        let mut new = old.clone();
        new.passwd = Some("y".to_owned());
        assert!(display_may_become(&old, &new).is_ok());
        new.port = Some(5901);
        let error = display_may_become(&old, &new).expect_err("refused").to_string();
        assert!(error.ends_with("cannot change port settings on vnc graphics"));
    }

    #[test]
    fn what_only_runs_is_left_out() {
        let mut all = devices(
            "<interface type='user'><target dev='vnet3'/><alias name='net0'/></interface>\
             <disk type='file'><source file='/a' index='3'/><target dev='vda'/><alias name='ua-x'/></disk>",
        );
        without_runtime(&mut all);
        assert!(all.interface[0].target.is_none() && all.interface[0].info.alias.is_none());
        assert_eq!(all.disk[0].source.as_ref().expect("source").index, None);
        assert!(all.disk[0].info.alias.is_some());
    }
}
