//! Where character devices ended up.

use domain_xml::Domain as Definition;
use domain_xml::chardev::{CharDevice, CharEnd, CharType};
use json::{Dict, Value, dict};

/// Writes the paths of pseudo-terminals that `query-chardev` tells into the definition, and gives the console that is
/// the first serial port the same one.
pub(super) fn note_paths(definition: &mut Definition, reply: &Value) {
    let path_of = |alias: &str| {
        let label = format!("char{alias}");
        let rows = reply.as_list().unwrap_or_default();
        let row = rows.iter().find(|row| row.get("label").and_then(Value::as_str) == Some(&label))?;
        row.get("filename")?.as_str()?.strip_prefix("pty:").map(str::to_owned)
    };
    let devices = &mut definition.devices;
    let all = [&mut devices.serial, &mut devices.parallel, &mut devices.console, &mut devices.channel];
    for (group, list) in all.into_iter().enumerate() {
        for device in list.iter_mut().filter(|device| device.source.kind == Some(CharType::Pty)) {
            let alias = device.info.alias.as_ref().map(|alias| alias.name.clone());
            if let Some(path) = alias.and_then(|alias| path_of(&alias)) {
                set_path(device, &path, group == 2);
            }
        }
    }
}

/// Notes which channels somebody in the guest has opened, by what `query-chardev` tells.
pub(super) fn note_states(definition: &mut Definition, reply: &Value) {
    let open = |alias: &str| {
        let label = format!("char{alias}");
        let rows = reply.as_list().unwrap_or_default();
        let row = rows.iter().find(|row| row.get("label").and_then(Value::as_str) == Some(&label))?;
        row.get("frontend-open")?.as_bool()
    };
    for channel in &mut definition.devices.channel {
        let alias = channel.info.alias.as_ref().map(|alias| alias.name.clone());
        if let (Some(open), Some(target)) = (alias.and_then(|alias| open(&alias)), &mut channel.target)
            && target.kind.as_deref() == Some("virtio")
        {
            target.state = Some(if open { "connected" } else { "disconnected" }.to_owned());
        }
    }
}

fn set_path(device: &mut CharDevice, path: &str, console: bool) {
    if device.source.ends.is_empty() {
        device.source.ends.push(CharEnd::default());
    }
    if let Some(end) = device.source.ends.first_mut() {
        end.path = Some(path.to_owned());
    }
    if console {
        device.source.tty = Some(path.to_owned());
    }
}

/// The argument of `-chardev` as that of `chardev-add`; none: it is of a kind that is not known.
pub(super) fn described(text: &str) -> Option<Dict> {
    // A comma in a value is doubled.
    let text = text.replace(",,", "\0");
    let mut words = text.split(',').map(|word| word.replace('\0', ","));
    let kind = words.next()?;
    let mut options: Vec<(String, String)> = Vec::new();
    for word in words {
        let (name, value) = word.split_once('=')?;
        options.push((name.to_owned(), value.to_owned()));
    }
    let mut take = |name: &str| {
        let at = options.iter().position(|(known, _)| known == name)?;
        Some(options.remove(at).1)
    };
    let mut data = Dict::default();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            data.insert(name, value);
        }
    };
    let truth = |value: Option<String>| value.map(|value| Value::from(value == "on"));
    let inet = |host: String, port: String| {
        Value::from(dict! { "type" => "inet", "data" => dict! { "host" => host, "port" => port } })
    };
    let id = take("id")?;
    put("logfile", take("logfile").map(Value::from));
    put("logappend", truth(take("logappend")));
    let name = match kind.as_str() {
        "null" | "vc" | "pty" => kind.as_str(),
        "file" => {
            put("out", Some(take("path")?.into()));
            put("append", truth(take("append")));
            "file"
        }
        "serial" | "parallel" | "pipe" => {
            put("device", Some(take("path")?.into()));
            kind.as_str()
        }
        "udp" => {
            put("remote", Some(inet(take("host")?, take("port")?)));
            let (host, port) = (take("localaddr")?, take("localport")?);
            if !host.is_empty() || port != "0" {
                put("local", Some(inet(host, port)));
            }
            "udp"
        }
        "socket" => {
            let address = match take("path") {
                Some(path) => dict! { "type" => "unix", "data" => dict! { "path" => path } }.into(),
                None => inet(take("host")?, take("port")?),
            };
            put("addr", Some(address));
            put("server", Some((take("server").as_deref() == Some("on")).into()));
            put("wait", truth(take("wait")));
            put("telnet", truth(take("telnet")));
            put("tls-creds", take("tls-creds").map(Value::from));
            put(
                "reconnect",
                take("reconnect").and_then(|seconds| seconds.parse::<i64>().ok()).map(Value::from),
            );
            "socket"
        }
        "spicevmc" => {
            put("type", Some(take("name")?.into()));
            "spicevmc"
        }
        "spiceport" => {
            put("fqdn", Some(take("name")?.into()));
            "spiceport"
        }
        "dbus" => {
            put("name", Some(take("name")?.into()));
            "dbus"
        }
        "qemu-vdagent" => {
            take("name")?;
            put("clipboard", truth(take("clipboard")));
            put("mouse", truth(take("mouse")));
            "qemu-vdagent"
        }
        _ => return None,
    }
    .to_owned();
    options.is_empty().then(|| dict! { "id" => id, "backend" => dict! { "type" => name, "data" => data } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_arguments() {
        let told = |text: &str| described(text).map(|told| Value::Dict(told).to_string().replace(' ', ""));
        assert_eq!(
            told("pty,id=charserial1,logfile=/a,,b,logappend=on").as_deref(),
            Some(
                "{\"id\":\"charserial1\",\"backend\":{\"type\":\"pty\",\"data\":{\"logfile\":\"/a,b\",\"logappend\":true}}}"
            )
        );
        assert_eq!(
            told("socket,id=c,path=/s,server=on,wait=off").as_deref(),
            Some(
                "{\"id\":\"c\",\"backend\":{\"type\":\"socket\",\"data\":{\"addr\":{\"type\":\"unix\",\"data\":{\"path\":\"/s\"}},\"server\":true,\"wait\":false}}}"
            )
        );
        assert!(
            told("udp,id=c,host=h,port=1,localaddr=,localport=0").is_some_and(|it| !it.contains("local"))
        );
        assert_eq!(told("stdio,id=c"), None);
        assert_eq!(told("pty,id=c,what=else"), None);
    }
}
