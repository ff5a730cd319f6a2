//! Where character devices ended up.

use domain_xml::Domain as Definition;
use domain_xml::chardev::{CharDevice, CharEnd, CharType};
use json::Value;

/// Writes the paths of pseudo-terminals that `query-chardev` tells into the definition, and gives the console that is
/// the first serial port the same one.
pub(super) fn note_paths(definition: &mut Definition, reply: &Value) {
    let path_of = |alias: &str| {
        let label = format!("char{alias}");
        let rows = reply.as_list().unwrap_or_default();
        let row = rows.iter().find(|row| row.get("label").and_then(Value::as_str) == Some(&label))?;
        row.get("filename")?.as_str()?.strip_prefix("pty:").map(str::to_owned)
    };
    let open = |alias: &str| {
        let label = format!("char{alias}");
        let rows = reply.as_list().unwrap_or_default();
        let row = rows.iter().find(|row| row.get("label").and_then(Value::as_str) == Some(&label))?;
        row.get("frontend-open")?.as_bool()
    };
    let devices = &mut definition.devices;
    for channel in &mut devices.channel {
        let alias = channel.info.alias.as_ref().map(|alias| alias.name.clone());
        if let (Some(open), Some(target)) = (alias.and_then(|alias| open(&alias)), &mut channel.target)
            && target.kind.as_deref() == Some("virtio")
        {
            target.state = Some(if open { "connected" } else { "disconnected" }.to_owned());
        }
    }
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
