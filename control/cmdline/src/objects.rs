//! `-object`.

use crate::items::{as_json, check_id};
use crate::parse::{Builder, Raw, Stop, refuse};
use crate::{Object, ObjectKind};
use json::{Dict, Value};
use keyval::parse_bool;

/// A type that is built: its name and its properties' help lines.
const BUILT: &[(&str, &[&str])] = &[
    (
        "memory-backend-ram",
        &[
            "  dump=<bool>            - Set to 'off' to exclude from core dump",
            "  merge=<bool>           - Mark memory as mergeable",
            "  prealloc=<bool>        - Preallocate memory",
            "  share=<bool>           - Mark the memory as private to QEMU or shared",
            "  size=<int>             - Size of the memory region (ex: 500M)",
        ],
    ),
    ("rng-builtin", &[]),
    ("rng-random", &["  filename=<string>"]),
];

/// Types that QEMU knows and this build does not.
const UNBUILT: &[&str] = &[
    "acpi-generic-initiator",
    "authz-list",
    "authz-list-file",
    "authz-pam",
    "authz-simple",
    "can-bus",
    "can-host-socketcan",
    "colo-compare",
    "cryptodev-backend",
    "cryptodev-backend-builtin",
    "cryptodev-backend-lkcf",
    "cryptodev-vhost-user",
    "dbus-vmstate",
    "filter-buffer",
    "filter-dump",
    "filter-mirror",
    "filter-redirector",
    "filter-replay",
    "filter-rewriter",
    "input-barrier",
    "input-linux",
    "iommufd",
    "iothread",
    "main-loop",
    "memory-backend-epc",
    "memory-backend-file",
    "memory-backend-memfd",
    "memory-backend-shm",
    "pef-guest",
    "pr-manager-helper",
    "qtest",
    "rng-egd",
    "s390-pv-guest",
    "secret",
    "secret_keyring",
    "sev-guest",
    "sev-snp-guest",
    "thread-context",
    "throttle-group",
    "tls-cipher-suites",
    "tls-creds-anon",
    "tls-creds-psk",
    "tls-creds-x509",
    "x-remote-object",
    "x-vfio-user-server",
];

/// The members of one object while they are read.
struct Members {
    dict: Dict,
    /// From `key=value`: all values are text.
    text: bool,
}

impl Members {
    fn string(&mut self, key: &str) -> Result<Option<String>, Stop> {
        match self.dict.remove(key) {
            None => Ok(None),
            Some(Value::Str(text)) => Ok(Some(text)),
            Some(_) => refuse(format!("Invalid parameter type for '{key}', expected: string")),
        }
    }

    fn bool(&mut self, key: &str) -> Result<Option<bool>, Stop> {
        match self.dict.remove(key) {
            None => Ok(None),
            Some(Value::Bool(on)) if !self.text => Ok(Some(on)),
            Some(Value::Str(text)) if self.text => Ok(Some(parse_bool(key, &text)?)),
            Some(_) => refuse(format!("Invalid parameter type for '{key}', expected: boolean")),
        }
    }

    fn size(&mut self, key: &str) -> Result<Option<u64>, Stop> {
        match self.dict.remove(key) {
            None => Ok(None),
            Some(Value::Int(number)) if !self.text && number >= 0 => Ok(Some(number.cast_unsigned())),
            Some(Value::Uint(number)) if !self.text => Ok(Some(number)),
            Some(Value::Str(text)) if self.text => match keyval::parse_size(key, &text, 1) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(_) => refuse(format!("Parameter '{key}' expects a size value")),
            },
            Some(_) => refuse(format!("Parameter '{key}' expects uint64")),
        }
    }

    /// Refuses what nobody has read.
    fn finish(&self) -> Result<(), Stop> {
        match self.dict.iter().next() {
            None => Ok(()),
            Some((key, _)) if self.text => refuse(format!("Invalid parameter '{key}'")),
            Some((key, _)) => refuse(format!("Parameter '{key}' is unexpected")),
        }
    }
}

fn help(kind: Option<&str>) -> Option<String> {
    match kind {
        None | Some("help" | "?") => {
            let names = BUILT.iter().map(|(name, _)| format!("  {name}\n"));
            Some(format!("List of user creatable objects:\n{}", names.collect::<String>()))
        }
        Some(kind) => match BUILT.iter().find(|(name, _)| *name == kind)? {
            (name, []) => Some(format!("There are no options for {name}.\n")),
            (name, lines) => Some(format!("{name} options:\n{}\n", lines.join("\n"))),
        },
    }
}

pub(crate) fn object(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    let json = as_json(raw.value)?;
    let text = json.is_none();
    let mut dict = match json {
        Some(dict) => dict,
        None => keyval::dict(raw.value, Some("qom-type"))?,
    };
    if text {
        let asked = dict.remove("help").is_some_and(|value| value == Value::Bool(true));
        let kind = dict.get("qom-type").and_then(Value::as_str);
        if asked || matches!(kind, Some("help" | "?")) {
            match help(kind) {
                Some(text) => return Err(Stop::Text(text, 0)),
                None => {
                    return refuse(format!(
                        "Parameter 'qom-type' does not accept value '{}'",
                        kind.unwrap_or("")
                    ));
                }
            }
        }
    }
    let mut members = Members { dict, text };
    let Some(name) = members.string("qom-type")? else { return refuse("Parameter 'qom-type' is missing") };
    if !BUILT.iter().any(|(built, _)| *built == name) {
        return refuse(if UNBUILT.contains(&name.as_str()) {
            format!("object type '{name}' is not supported by this build")
        } else {
            format!("Parameter 'qom-type' does not accept value '{name}'")
        });
    }
    let Some(id) = members.string("id")? else { return refuse("Parameter 'id' is missing") };
    let kind = match name.as_str() {
        "rng-builtin" => ObjectKind::RngBuiltin,
        "rng-random" => ObjectKind::RngRandom {
            filename: members.string("filename")?.unwrap_or_else(|| "/dev/urandom".to_owned()),
        },
        _ => memory(&mut members)?,
    };
    members.finish()?;
    check_id(&id)?;
    builder.claim_id("object", &id)?;
    builder.plan.objects.push(Object { location: raw.location.clone(), id, kind });
    Ok(())
}

fn memory(members: &mut Members) -> Result<ObjectKind, Stop> {
    let dump = members.bool("dump")?.unwrap_or(true);
    let merge = members.bool("merge")?.unwrap_or(true);
    let prealloc = members.bool("prealloc")?.unwrap_or(false);
    // Shared or private makes no difference to memory that has no file and no other process.
    members.bool("share")?;
    for key in ["host-nodes", "policy", "prealloc-threads", "prealloc-context", "reserve"] {
        if members.dict.get(key).is_some() {
            return refuse(format!("'{key}' is not supported by this build"));
        }
    }
    let Some(size) = members.size("size")? else { return refuse("Parameter 'size' is missing") };
    if size == 0 {
        return Err(Stop::Late("property 'size' of memory-backend-ram doesn't take value '0'".to_owned()));
    }
    Ok(ObjectKind::MemoryBackendRam { size, prealloc, merge, dump })
}
