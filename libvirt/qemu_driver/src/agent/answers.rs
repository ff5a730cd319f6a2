//! What agents return, as clients are told of it.
//!
//! Every member may be missing or of another kind than it should be: that is the agent's error, told in libvirt's
//! words.

use crate::error::{Result, internal};
use domain_xml::Domain as Definition;
use domain_xml::address::Address;
use domain_xml::controller::ControllerType;
use domain_xml::disk::{Disk, DiskBus};
use json::Value;
use rpc::TypedParam;
use rpc::protocol::guest::{DomainFsinfo, DomainInterface, DomainIpAddr};
use std::collections::{BTreeMap, BTreeSet};

/// vCPUs of a guest are numbered below this.
const VCPUS: u32 = 16384;

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).map(str::to_owned)
}

fn uint(value: &Value, key: &str) -> Option<u32> {
    value.get(key).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok())
}

fn need<T>(found: Option<T>, detail: impl FnOnce() -> String) -> Result<T> {
    found.ok_or_else(|| internal(detail()))
}

fn param<T: Into<rpc::protocol::types::TypedValue>>(name: impl Into<String>, value: T) -> TypedParam {
    TypedParam::new(name, value)
}

/// A processor of the guest as its system knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vcpu {
    /// Its number.
    pub id: u32,
    /// It is in use.
    pub online: bool,
    /// It can be taken out of use.
    pub offlinable: bool,
}

/// The answer to `guest-get-vcpus`.
///
/// # Errors
/// It is malformed.
pub fn vcpus(answer: &Value) -> Result<Vec<Vcpu>> {
    let list = need(answer.as_list(), || "guest-get-vcpus reply was missing return data".to_owned())?;
    let missing = |key: &str| internal(format!("'{key}' missing in reply of guest-get-vcpus"));
    let one = |row: &Value| {
        let id = uint(row, "logical-id").ok_or_else(|| missing("logical-id"))?;
        let online = row.get("online").and_then(Value::as_bool).ok_or_else(|| missing("online"))?;
        let offlinable =
            row.get("can-offline").and_then(Value::as_bool).ok_or_else(|| missing("can-offline"))?;
        Ok(Vcpu { id, online, offlinable })
    };
    list.iter().map(one).collect()
}

/// The processors as parameters.
///
/// # Errors
/// A number is out of range.
pub fn vcpu_params(vcpus: &[Vcpu]) -> Result<Vec<TypedParam>> {
    if let Some(vcpu) = vcpus.iter().find(|vcpu| vcpu.id >= VCPUS) {
        return Err(internal(format!("vcpu id '{}' reported by guest agent is out of range", vcpu.id)));
    }
    let set = |chosen: &dyn Fn(&&Vcpu) -> bool| {
        let ids: BTreeSet<u32> = vcpus.iter().filter(chosen).map(|vcpu| vcpu.id).collect();
        qemu_domain::ranges(&ids)
    };
    Ok(vec![
        param("vcpus", set(&|_| true)),
        param("online", set(&|vcpu| vcpu.online)),
        param("offlinable", set(&|vcpu| vcpu.offlinable)),
    ])
}

/// The answer to `guest-network-get-interfaces`; aliases (`eth0:1`) are part of what they are aliases of.
///
/// # Errors
/// It is malformed.
pub fn interfaces(answer: &Value) -> Result<Vec<DomainInterface>> {
    let list = need(answer.as_list(), || "qemu agent didn't return an array of interfaces".to_owned())?;
    let mut found: Vec<DomainInterface> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for row in list {
        let full = need(text(row, "name"), || "qemu agent didn't provide 'name' field".to_owned())?;
        let name = full.split(':').next().unwrap_or_default().to_owned();
        let place = *places.entry(name.clone()).or_insert_with(|| {
            let hwaddr = text(row, "hardware-address");
            found.push(DomainInterface { name, hwaddr, addrs: Vec::new() });
            found.len() - 1
        });
        let Some(addresses) = row.get("ip-addresses") else { continue };
        let addresses = need(addresses.as_list(), || "Malformed ip-addresses array".to_owned())?;
        for address in addresses {
            let address = ip_address(address, &full)?;
            if let Some(interface) = found.get_mut(place) {
                interface.addrs.push(address);
            }
        }
    }
    Ok(found)
}

fn ip_address(row: &Value, name: &str) -> Result<DomainIpAddr> {
    let field = |key: &str| {
        need(text(row, key), || format!("qemu agent didn't provide '{key}' field for interface '{name}'"))
    };
    let kind = match field("ip-address-type")?.as_str() {
        "ipv4" => 0,
        "ipv6" => 1,
        other => return Err(internal(format!("unknown ip address type '{other}'"))),
    };
    let addr = field("ip-address")?;
    let prefix = need(uint(row, "prefix"), || "malformed 'prefix' field".to_owned())?;
    Ok(DomainIpAddr { kind, addr, prefix })
}

/// Interfaces as parameters.
pub fn interface_params(interfaces: &[DomainInterface]) -> Vec<TypedParam> {
    let mut params = vec![param("if.count", interfaces.len() as u32)];
    for (i, interface) in interfaces.iter().enumerate() {
        params.push(param(format!("if.{i}.name"), interface.name.clone()));
        if let Some(address) = &interface.hwaddr {
            params.push(param(format!("if.{i}.hwaddr"), address.clone()));
        }
        params.push(param(format!("if.{i}.addr.count"), interface.addrs.len() as u32));
        for (j, address) in interface.addrs.iter().enumerate() {
            let kind = if address.kind == 0 { "ipv4" } else { "ipv6" };
            params.push(param(format!("if.{i}.addr.{j}.type"), kind));
            params.push(param(format!("if.{i}.addr.{j}.addr"), address.addr.clone()));
            params.push(param(format!("if.{i}.addr.{j}.prefix"), address.prefix));
        }
    }
    params
}

/// Where a disk of the guest is.
struct Place {
    pci: (u64, u64, u64, u64),
    bus: u32,
    target: u32,
    unit: u32,
    serial: Option<String>,
    dev: Option<String>,
}

fn place(row: &Value) -> Result<Place> {
    let number = |row: &Value, key: &str| need(uint(row, key), || format!("'{key}' missing"));
    let (bus, target, unit) = (number(row, "bus")?, number(row, "target")?, number(row, "unit")?);
    let pci = need(row.get("pci-controller"), || "'pci-controller' missing".to_owned())?;
    let part = |key: &str| number(pci, key).map(u64::from);
    let pci = (part("domain")?, part("bus")?, part("slot")?, part("function")?);
    Ok(Place { pci, bus, target, unit, serial: text(row, "serial"), dev: text(row, "dev") })
}

/// The disk of the definition at a place in the guest.
fn disk_at<'a>(definition: &'a Definition, at: &Place) -> Option<&'a Disk> {
    let is_there =
        |address: Option<&Address>| matches!(address, Some(Address::Pci(it)) if it.place() == at.pci);
    let devices = &definition.devices;
    let controller = devices.controller.iter().find(|it| is_there(it.address.as_ref()));
    devices.disk.iter().find(|disk| match &disk.info.address {
        address @ Some(Address::Pci(_)) => is_there(address.as_ref()),
        Some(Address::Drive(drive)) => controller.is_some_and(|controller| {
            let fits = matches!(
                (controller.kind, disk.bus()),
                (ControllerType::Scsi, Some(DiskBus::Scsi))
                    | (ControllerType::Fdc, Some(DiskBus::Fdc))
                    | (ControllerType::Ide, Some(DiskBus::Ide))
                    | (ControllerType::Sata, Some(DiskBus::Sata))
            );
            fits && drive.controller == controller.index()
                && (drive.bus, drive.target, drive.unit) == (at.bus, at.target, at.unit)
        }),
        _ => false,
    })
}

/// A mounted file system of the guest.
pub struct FileSystem {
    mountpoint: String,
    name: String,
    kind: String,
    total: Option<u64>,
    used: Option<u64>,
    disks: Vec<Place>,
}

/// The answer to `guest-get-fsinfo`, in the order of mounting.
///
/// # Errors
/// It is malformed.
pub fn file_systems(answer: &Value) -> Result<Vec<FileSystem>> {
    let list = need(answer.as_list(), || "Malformed guest-get-fsinfo data array".to_owned())?;
    let missing = |key: &str| internal(format!("'{key}' missing in reply of guest-get-fsinfo"));
    let one = |row: &Value| {
        let field = |key: &str| text(row, key).ok_or_else(|| missing(key));
        let (mountpoint, name, kind) = (field("mountpoint")?, field("name")?, field("type")?);
        let size = |key: &str| match row.get(key) {
            None => Ok(None),
            Some(value) => {
                need(value.as_u64(), || format!("Error getting '{key}' in reply of guest-get-fsinfo"))
                    .map(Some)
            }
        };
        let (used, total) = (size("used-bytes")?, size("total-bytes")?);
        let disks = row.get("disk").ok_or_else(|| missing("disk"))?;
        let malformed = || "Malformed guest-get-fsinfo 'disk' data array".to_owned();
        let disks = need(disks.as_list(), malformed)?.iter().map(place).collect::<Result<_>>()?;
        Ok(FileSystem { mountpoint, name, kind, total, used, disks })
    };
    list.iter().rev().map(one).collect()
}

impl FileSystem {
    /// As `virDomainGetFSInfo` tells of it.
    pub fn info(&self, definition: &Definition) -> DomainFsinfo {
        let name = |at: &Place| disk_at(definition, at).map(|disk| disk.dev().to_owned());
        DomainFsinfo {
            mountpoint: self.mountpoint.clone(),
            name: self.name.clone(),
            fstype: self.kind.clone(),
            dev_aliases: self.disks.iter().filter_map(name).collect(),
        }
    }
}

/// File systems as parameters.
pub fn file_system_params(systems: &[FileSystem], definition: &Definition) -> Vec<TypedParam> {
    let mut params = vec![param("fs.count", systems.len() as u32)];
    for (i, it) in systems.iter().enumerate() {
        params.push(param(format!("fs.{i}.name"), it.name.clone()));
        params.push(param(format!("fs.{i}.mountpoint"), it.mountpoint.clone()));
        params.push(param(format!("fs.{i}.fstype"), it.kind.clone()));
        params.extend(it.total.map(|size| param(format!("fs.{i}.total-bytes"), size)));
        params.extend(it.used.map(|size| param(format!("fs.{i}.used-bytes"), size)));
        params.push(param(format!("fs.{i}.disk.count"), it.disks.len() as u32));
        for (j, at) in it.disks.iter().enumerate() {
            let mut add = |key: &str, value: Option<String>| {
                params.extend(value.map(|value| param(format!("fs.{i}.disk.{j}.{key}"), value)));
            };
            add("alias", disk_at(definition, at).map(|disk| disk.dev().to_owned()));
            add("serial", at.serial.clone());
            add("device", at.dev.clone());
        }
    }
    params
}

/// The answer to `guest-get-disks` as parameters; none when there are no disks.
///
/// # Errors
/// It is malformed.
pub fn disk_params(answer: &Value, definition: &Definition) -> Result<Vec<TypedParam>> {
    let list = need(answer.as_list(), || "qemu agent didn't return an array of disks".to_owned())?;
    if list.is_empty() {
        return Ok(Vec::new());
    }
    let missing = |key: &str| internal(format!("'{key}' missing in reply of guest-get-disks"));
    let mut params = vec![param("disk.count", list.len() as u32)];
    for (i, row) in list.iter().enumerate() {
        let name = text(row, "name").ok_or_else(|| missing("name"))?;
        let partition = row.get("partition").and_then(Value::as_bool).ok_or_else(|| missing("partition"))?;
        params.push(param(format!("disk.{i}.name"), name));
        params.push(param(format!("disk.{i}.partition"), partition));
        let needs: Vec<&str> = row
            .get("dependencies")
            .and_then(Value::as_list)
            .unwrap_or_default()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        if !needs.is_empty() {
            params.push(param(format!("disk.{i}.dependency.count"), needs.len() as u32));
        }
        for (j, name) in needs.into_iter().enumerate() {
            params.push(param(format!("disk.{i}.dependency.{j}.name"), name));
        }
        if let Some(at) = row.get("address").filter(|at| at.as_dict().is_some()).map(place).transpose()? {
            params.extend(at.serial.clone().map(|serial| param(format!("disk.{i}.serial"), serial)));
            let disk = disk_at(definition, &at);
            params.extend(disk.map(|disk| param(format!("disk.{i}.alias"), disk.dev())));
        }
        params.extend(text(row, "alias").map(|alias| param(format!("disk.{i}.guest_alias"), alias)));
    }
    Ok(params)
}

/// The answer to `guest-get-users` as parameters; times of log-in are in milliseconds since 1970.
///
/// # Errors
/// It is malformed.
pub fn user_params(answer: &Value) -> Result<Vec<TypedParam>> {
    let list = need(answer.as_list(), || "guest-get-users reply was missing return data".to_owned())?;
    let missing = |key: &str| internal(format!("'{key}' missing in reply of guest-get-users"));
    let mut params = vec![param("user.count", list.len() as u32)];
    for (i, row) in list.iter().enumerate() {
        let name = text(row, "user").ok_or_else(|| missing("user"))?;
        params.push(param(format!("user.{i}.name"), name));
        params.extend(text(row, "domain").map(|domain| param(format!("user.{i}.domain"), domain)));
        let time = match row.get("login-time") {
            Some(Value::Int(seconds)) => *seconds as f64,
            Some(Value::Uint(seconds)) => *seconds as f64,
            Some(Value::Float(seconds)) => *seconds,
            _ => return Err(missing("login-time")),
        };
        params.push(param(format!("user.{i}.login-time"), (time * 1000.0) as u64));
    }
    Ok(params)
}

/// The answer to `guest-get-osinfo` as parameters.
///
/// # Errors
/// It is malformed.
pub fn os_params(answer: &Value) -> Result<Vec<TypedParam>> {
    need(answer.as_dict(), || "guest-get-osinfo reply was missing return data".to_owned())?;
    const KEYS: [&str; 10] = [
        "id",
        "name",
        "pretty-name",
        "version",
        "version-id",
        "machine",
        "variant",
        "variant-id",
        "kernel-release",
        "kernel-version",
    ];
    let one = |key: &&str| text(answer, key).map(|value| param(format!("os.{key}"), value));
    Ok(KEYS.iter().filter_map(one).collect())
}

/// The answer to `guest-get-timezone` as parameters; the offset is in seconds.
///
/// # Errors
/// It is malformed.
pub fn timezone_params(answer: &Value) -> Result<Vec<TypedParam>> {
    need(answer.as_dict(), || "guest-get-timezone reply was missing return data".to_owned())?;
    let mut params: Vec<TypedParam> =
        text(answer, "zone").map(|zone| param("timezone.name", zone)).into_iter().collect();
    let offset = answer.get("offset").and_then(Value::as_i64).and_then(|offset| i32::try_from(offset).ok());
    let missing = || "'offset' missing in reply of guest-get-timezone".to_owned();
    params.push(param("timezone.offset", need(offset, missing)?));
    Ok(params)
}

/// The answer to `guest-get-host-name`.
///
/// # Errors
/// It is malformed.
pub fn hostname(answer: &Value) -> Result<String> {
    need(text(answer, "host-name"), || "'host-name' missing in guest-get-host-name reply".to_owned())
}

/// The answer to `guest-ssh-get-authorized-keys`.
///
/// # Errors
/// It is malformed.
pub fn ssh_keys(answer: &Value) -> Result<Vec<String>> {
    let malformed = || "qemu agent didn't return an array of keys".to_owned();
    let list = need(answer.get("keys").and_then(Value::as_list), malformed)?;
    list.iter().map(|key| need(key.as_str().map(str::to_owned), malformed)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Value {
        json::parse(text.as_bytes()).expect("json")
    }

    fn shown(params: &[TypedParam]) -> Vec<String> {
        params.iter().map(|param| format!("{}={:?}", param.field, param.value)).collect()
    }

    #[test]
    fn processors() {
        let answer = json(
            r#"[{"logical-id": 0, "online": true, "can-offline": false},
                {"logical-id": 1, "online": true, "can-offline": true},
                {"logical-id": 3, "online": false, "can-offline": true}]"#,
        );
        let found = vcpus(&answer).expect("vcpus");
        assert_eq!(
            shown(&vcpu_params(&found).expect("params")),
            ["vcpus=Text(\"0-1,3\")", "online=Text(\"0-1\")", "offlinable=Text(\"1,3\")"]
        );
        let far = [Vcpu { id: 16384, online: true, offlinable: true }];
        assert!(vcpu_params(&far).is_err());
        let error = vcpus(&json(r#"[{"logical-id": 0}]"#)).expect_err("incomplete");
        assert_eq!(error.to_string(), "internal error: 'online' missing in reply of guest-get-vcpus");
    }

    #[test]
    fn addresses_of_interfaces() {
        let answer = json(
            r#"[{"name": "lo", "ip-addresses": [{"ip-address-type": "ipv4", "ip-address": "127.0.0.1", "prefix": 8}]},
                {"name": "eth0", "hardware-address": "52:54:00:00:00:01"},
                {"name": "eth0:1", "ip-addresses": [{"ip-address-type": "ipv6", "ip-address": "::1", "prefix": 128}]}]"#,
        );
        let found = interfaces(&answer).expect("interfaces");
        assert_eq!(found.len(), 2);
        assert_eq!((found[1].addrs[0].kind, found[1].addrs[0].prefix), (1, 128));
        assert_eq!(shown(&interface_params(&found))[0], "if.count=Uint(2)");
        let bad = json(r#"[{"name": "x", "ip-addresses": [{"ip-address-type": "ipx"}]}]"#);
        assert_eq!(
            interfaces(&bad).expect_err("type").to_string(),
            "internal error: unknown ip address type 'ipx'"
        );
    }

    #[test]
    fn disks_are_found() {
        let definition: Definition = domain_xml::parse(
            "<domain type='qemu'><name>a</name><memory>1024</memory><os><type arch='x86_64' machine='pc'>hvm</type></os><devices>\
             <disk type='file' device='disk'><target dev='vda' bus='virtio'/>\
             <address type='pci' domain='0x0000' bus='0x00' slot='0x05' function='0x0'/></disk>\
             <disk type='file' device='disk'><target dev='sda' bus='sata'/>\
             <address type='drive' controller='0' bus='0' target='0' unit='1'/></disk>\
             <controller type='sata' index='0'><address type='pci' domain='0x0000' bus='0x00' slot='0x1f' function='0x2'/>\
             </controller></devices></domain>",
        )
        .expect("definition");
        let answer = json(
            r#"[{"name": "b", "mountpoint": "/b", "type": "ext4", "disk": [
                  {"bus": 0, "target": 0, "unit": 1, "serial": "s", "dev": "/dev/sda1",
                   "pci-controller": {"domain": 0, "bus": 0, "slot": 31, "function": 2}}]},
                {"name": "a", "mountpoint": "/", "type": "xfs", "used-bytes": 5, "total-bytes": 9, "disk": [
                  {"bus": 0, "target": 0, "unit": 0,
                   "pci-controller": {"domain": 0, "bus": 0, "slot": 5, "function": 0}}]}]"#,
        );
        let systems = file_systems(&answer).expect("file systems");
        let infos: Vec<_> = systems.iter().map(|it| it.info(&definition)).collect();
        assert_eq!((infos[0].mountpoint.as_str(), &infos[0].dev_aliases[..]), ("/", &["vda".to_owned()][..]));
        assert_eq!(infos[1].dev_aliases, ["sda"]);
        let params = shown(&file_system_params(&systems, &definition));
        assert!(params.contains(&"fs.0.total-bytes=Ullong(9)".to_owned()), "{params:?}");
        assert!(params.contains(&"fs.1.disk.0.device=Text(\"/dev/sda1\")".to_owned()), "{params:?}");
        let answer =
            json(r#"[{"name": "/dev/sda", "partition": false, "dependencies": ["x"], "alias": "root"}]"#);
        let params = shown(&disk_params(&answer, &definition).expect("disks"));
        assert_eq!(params.len(), 6);
        let error = file_systems(&json(r#"[{"name": 1, "mountpoint": "/"}]"#)).err().expect("malformed");
        assert_eq!(error.to_string(), "internal error: 'name' missing in reply of guest-get-fsinfo");
    }

    #[test]
    fn systems_and_users() {
        let users = user_params(&json(r#"[{"user": "root", "login-time": 1.5}]"#)).expect("users");
        assert_eq!(shown(&users)[2], "user.0.login-time=Ullong(1500)");
        assert!(user_params(&json(r#"[{"user": "root"}]"#)).is_err());
        let zone = timezone_params(&json(r#"{"zone": "CET", "offset": 3600}"#)).expect("zone");
        assert_eq!(shown(&zone), ["timezone.name=Text(\"CET\")", "timezone.offset=Int(3600)"]);
        assert!(timezone_params(&json(r#"{"offset": 99999999999}"#)).is_err());
        assert_eq!(os_params(&json(r#"{"id": "debian", "x": 1, "name": 7}"#)).expect("os").len(), 1);
        assert!(ssh_keys(&json(r#"{"keys": [1]}"#)).is_err());
        assert!(hostname(&json("[]")).is_err());
    }
}
