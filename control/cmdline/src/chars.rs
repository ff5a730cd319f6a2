//! Character devices, serial ports, monitors.

use crate::parse::{Builder, Raw, Stop, refuse};
use crate::{CharDecl, CharUse};
use chardev::{Address, Kind, SocketSpec, Spec, parse_legacy};
use keyval::{Opts, parse_bool, parse_size};

/// Back ends that QEMU knows and this build does not.
const UNBUILT: &[&str] = &[
    "braille",
    "console",
    "dbus",
    "hub",
    "msmouse",
    "mux",
    "parallel",
    "parport",
    "qemu-vdagent",
    "serial",
    "spiceport",
    "spicevmc",
    "testdev",
    "tty",
    "udp",
    "wctablet",
];
/// Back ends that are built, in the order of `-chardev help`.
const BUILT: &[&str] = &["stdio", "ringbuf", "pipe", "null", "socket", "vc", "memory", "file", "pty"];
/// Keys that some back end of QEMU knows.
const KEYS: &[&str] = &[
    "abstract",
    "append",
    "backend",
    "chardev",
    "clipboard",
    "cols",
    "debug",
    "delay",
    "fd",
    "height",
    "host",
    "id",
    "input-path",
    "ipv4",
    "ipv6",
    "localaddr",
    "localport",
    "logappend",
    "logfile",
    "mouse",
    "mux",
    "name",
    "nodelay",
    "path",
    "port",
    "reconnect",
    "reconnect-ms",
    "rows",
    "server",
    "signal",
    "size",
    "telnet",
    "tight",
    "tls-authz",
    "tls-creds",
    "tn3270",
    "to",
    "wait",
    "websocket",
    "width",
];

pub(crate) fn chardev(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    let opts = Opts::parse(raw.value, Some("backend"));
    let Some(backend) = opts.get("backend") else {
        return match opts.get("id") {
            Some(id) => refuse(format!("chardev: \"{id}\" missing backend")),
            None => refuse("chardev: no id specified"),
        };
    };
    if matches!(backend, "help" | "?") {
        let mut text = "Available chardev backend types: \n".to_owned();
        for name in BUILT {
            text.push_str(&format!("  {name}\n"));
        }
        return Err(Stop::Text(text, 0));
    }
    opts.check(KEYS)?;
    crate::misc::warn_short_form(&opts);
    let Some(id) = opts.get("id") else { return refuse("chardev: no id specified") };
    builder.claim_id("chardev", id)?;
    let spec = chardev_spec(id, backend, &opts)?;
    if builder.plan.daemonize && matches!(spec.kind, Kind::Stdio { .. }) {
        return refuse("cannot use stdio with -daemonize");
    }
    builder.plan.chardevs.push(CharDecl { location: raw.location.clone(), spec, on_failure: None });
    Ok(())
}

fn chardev_spec(id: &str, backend: &str, opts: &Opts) -> Result<Spec, Stop> {
    let flag = |key: &str, default| opts.get(key).map_or(Ok(default), |value| parse_bool(key, value));
    let path =
        |missing: &str| opts.get("path").map(str::to_owned).ok_or_else(|| Stop::Refused(missing.to_owned()));
    let mut used = vec!["backend", "id", "mux", "logfile", "logappend"];
    let kind = match backend {
        "null" => Kind::Null,
        "vc" => {
            // The size of a picture that nobody sees.
            for key in ["width", "height", "cols", "rows"] {
                opts.get(key).map(|value| keyval::parse_number(key, value)).transpose()?;
                used.push(key);
            }
            Kind::VirtualConsole
        }
        "pty" => Kind::Pty,
        "stdio" => {
            used.push("signal");
            Kind::Stdio { signal: flag("signal", true)? }
        }
        "ringbuf" | "memory" => {
            used.push("size");
            let size = opts.get("size").map_or(Ok(65536), |value| parse_size("size", value, 1))?;
            // A bound, since the buffer is ours to allocate.
            if size > 1 << 30 {
                return refuse("size of ringbuf chardev must be at most 1 GiB");
            }
            Kind::RingBuf { size: usize::try_from(size).unwrap_or(0) }
        }
        "file" => {
            used.extend(["path", "input-path", "append"]);
            let input = opts.get("input-path").map(str::to_owned);
            Kind::File {
                path: path("chardev: file: no filename given")?,
                input,
                append: flag("append", false)?,
            }
        }
        "pipe" => {
            used.push("path");
            Kind::Pipe { path: path("chardev: pipe: no device path given")? }
        }
        "socket" => return Ok(Spec { kind: socket(opts)?, ..common(id, opts)? }),
        _ if UNBUILT.contains(&backend) => {
            return refuse(format!("character device kind '{backend}' is not supported by this build"));
        }
        _ => return refuse(format!("'{backend}' is not a valid char driver name")),
    };
    opts.check(&used)?;
    Ok(Spec { kind, ..common(id, opts)? })
}

fn common(id: &str, opts: &Opts) -> Result<Spec, Stop> {
    let flag = |key: &str| opts.get(key).map_or(Ok(false), |value| parse_bool(key, value));
    Ok(Spec {
        id: id.to_owned(),
        kind: Kind::Null,
        mux: flag("mux")?,
        logfile: opts.get("logfile").map(str::to_owned),
        logappend: flag("logappend")?,
    })
}

fn socket(opts: &Opts) -> Result<Kind, Stop> {
    if ["path", "fd", "host"].iter().filter(|key| opts.get(key).is_some()).count() > 1 {
        return refuse("None or one of 'path', 'fd' or 'host' option required.");
    }
    let address = if let Some(fd) = opts.get("fd") {
        let Ok(number) = fd.parse() else {
            return refuse(format!("Unable to parse FD number {fd}"));
        };
        Address::Fd(number)
    } else if let Some(path) = opts.get("path") {
        Address::Unix { path: path.to_owned(), abstract_name: false }
    } else {
        let Some(host) = opts.get("host") else { return refuse("Unable to parse FD number ") };
        let Some(port) = opts.get("port") else { return refuse("chardev: socket: no port given") };
        Address::Inet { host: host.to_owned(), port: port.to_owned() }
    };
    let mut socket = SocketSpec { address, server: false, wait: true, nodelay: false, reconnect_ms: 0 };
    let common = ["backend", "id", "mux", "logfile", "logappend", "path", "fd", "host", "port"];
    for (key, value) in opts.iter().filter(|(key, _)| !common.contains(key)) {
        socket.set(key, value)?;
    }
    if socket.server && socket.reconnect_ms > 0 {
        return refuse("'reconnect' option is incompatible with socket in server listen mode");
    }
    if !socket.server && opts.get("wait") == Some("on") {
        return refuse("'wait' option is incompatible with socket in client connect mode");
    }
    Ok(Kind::Socket(socket))
}

pub(crate) fn serial(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    builder.serials.push((raw.location.clone(), raw.value.to_owned()));
    Ok(())
}

pub(crate) fn monitor(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    builder.monitors.push((raw.location.clone(), raw.value.to_owned()));
    Ok(())
}

/// `-gdb DEVICE`, `-s`. The last one counts.
pub(crate) fn gdb(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    let device = if raw.name == "s" { "tcp::1234" } else { raw.value };
    builder.plan.gdb = None;
    if device == "none" {
        return Ok(());
    }
    let more = if device.starts_with("tcp:") { ",wait=off,nodelay=on,server=on" } else { "" };
    match parse_legacy("gdb", &format!("{device}{more}")) {
        Ok(spec) => {
            let location = raw.location.clone();
            builder.plan.gdb = Some(CharDecl { spec, location, on_failure: None });
            Ok(())
        }
        Err(error) => refuse(error.to_string()),
    }
}

pub(crate) fn debugcon(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    builder.debugcons.push((raw.location.clone(), raw.value.to_owned()));
    Ok(())
}

pub(crate) fn parallel(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    if raw.value == "none" {
        builder.plan.no_parallel = true;
        return Ok(());
    }
    let missing = raw
        .value
        .strip_prefix("chardev:")
        .is_some_and(|id| !builder.plan.chardevs.iter().any(|decl| decl.spec.id == id));
    if missing {
        return refuse(format!("could not connect parallel device to character backend '{}'", raw.value));
    }
    if !raw.value.starts_with("chardev:")
        && let Err(error) = parse_legacy("parallel0", raw.value)
    {
        report::error_report!("{error}");
        return refuse(format!("could not connect parallel device to character backend '{}'", raw.value));
    }
    refuse("parallel ports are not supported by this build")
}

pub(crate) fn mon(builder: &mut Builder<'_>, raw: &Raw<'_>) -> Result<(), Stop> {
    let opts = Opts::parse(raw.value, Some("chardev"));
    opts.check(&["chardev", "id", "mode", "pretty"])?;
    match opts.get("mode") {
        None | Some("readline") => {}
        Some("control") => return refuse("mode=control (QMP) is not supported by this build"),
        Some(other) => return refuse(format!("Parameter 'mode' does not accept value '{other}'")),
    }
    if opts.get("pretty").is_some() {
        return refuse("'pretty' is not compatible with HMP monitors");
    }
    if let Some(id) = opts.get("id") {
        builder.claim_id("mon", id)?;
    }
    let Some(chardev) = opts.get("chardev") else { return refuse("Parameter 'chardev' is missing") };
    builder.mons += 1;
    builder.plan.monitors.push(CharUse {
        location: raw.location.clone(),
        chardev: chardev.to_owned(),
        on_missing: format!("chardev \"{chardev}\" not found"),
    });
    Ok(())
}

impl Builder<'_> {
    /// Makes `text` a character device, or finds the one it names; `None` for `none`.
    fn connect(
        &mut self,
        location: &str,
        text: &str,
        id: &str,
        failure: &str,
    ) -> Result<Option<CharUse>, Stop> {
        if text == "none" {
            return Ok(None);
        }
        let user = |chardev: &str| CharUse {
            location: location.to_owned(),
            chardev: chardev.to_owned(),
            on_missing: failure.to_owned(),
        };
        if let Some(name) = text.strip_prefix("chardev:") {
            if !self.plan.chardevs.iter().any(|decl| decl.spec.id == name) {
                return refuse(format!("{location}: {failure}"));
            }
            return Ok(Some(user(name)));
        }
        let spec = match parse_legacy(id, text) {
            Ok(spec) => spec,
            Err(error) => {
                // Some mistakes have no text of their own.
                if !error.to_string().is_empty() {
                    report::error_report!("{location}: {error}");
                }
                return refuse(format!("{location}: {failure}"));
            }
        };
        if self.plan.daemonize && matches!(spec.kind, Kind::Stdio { .. }) {
            report::error_report!("{location}: cannot use stdio with -daemonize");
            return refuse(format!("{location}: {failure}"));
        }
        self.claim_id("chardev", id)?;
        self.plan.chardevs.push(CharDecl {
            location: location.to_owned(),
            spec,
            on_failure: Some(failure.to_owned()),
        });
        Ok(Some(user(id)))
    }

    /// Adds the default serial port and monitor, and turns all short forms into declarations.
    pub(crate) fn finish_chars(&mut self) -> Result<(), Stop> {
        let plan = &self.plan;
        let own_serial = plan.devices.iter().any(|device| device.kind == "isa-serial");
        let default_serial = self.serials.is_empty() && !own_serial && !plan.no_defaults;
        let monitor_on_serial = self.serials.iter().any(|(_, text)| text.starts_with("mon:"));
        let default_monitor =
            self.monitors.is_empty() && self.mons == 0 && !monitor_on_serial && !plan.no_defaults;
        let default_parallel = !plan.no_parallel && !plan.no_defaults;
        // Not when everything has been sent elsewhere: then it means nothing.
        if plan.daemonize && plan.nographic && (default_serial || default_monitor || default_parallel) {
            return refuse("-nographic cannot be used with -daemonize");
        }
        let place = || String::new();
        if plan.nographic {
            match (default_serial, default_monitor) {
                (true, true) => self.serials.push((place(), "mon:stdio".to_owned())),
                (true, false) => self.serials.push((place(), "stdio".to_owned())),
                (false, true) => self.monitors.push((place(), "stdio".to_owned())),
                (false, false) => {}
            }
        } else {
            if default_serial {
                self.serials.push((place(), "vc".to_owned()));
            }
            if default_monitor {
                self.monitors.push((place(), "vc".to_owned()));
            }
        }
        for user in &self.plan.monitors {
            if !self.plan.chardevs.iter().any(|decl| decl.spec.id == user.chardev) {
                return refuse(format!("{}: {}", user.location, user.on_missing));
            }
        }
        let serials = std::mem::take(&mut self.serials);
        if serials.len() > 4 {
            return refuse("too many serial ports: at most 4 are supported");
        }
        for (index, (location, text)) in serials.iter().enumerate() {
            let failure = format!("could not connect serial device to character backend '{text}'");
            let user = self.connect(location, text, &format!("serial{index}"), &failure)?;
            if text.starts_with("mon:")
                && let Some(user) = &user
            {
                self.plan.monitors.push(user.clone());
            }
            self.plan.serials.push(user);
        }
        for (index, (location, text)) in std::mem::take(&mut self.monitors).iter().enumerate() {
            let failure = match text.strip_prefix("chardev:") {
                Some(id) => format!("chardev \"{id}\" not found"),
                None => format!("parse error: {text}"),
            };
            let user = self.connect(location, text, &format!("compat_monitor{index}"), &failure)?;
            self.plan.monitors.extend(user);
        }
        for (index, (location, text)) in std::mem::take(&mut self.debugcons).iter().enumerate() {
            let id = if index == 0 { "debugcon".to_owned() } else { format!("debugcon{index}") };
            let failure = format!("invalid character backend '{text}'");
            if text == "none" {
                report::error_report!("{location}: 'none' is not a valid char driver");
                return refuse(format!("{location}: {failure}"));
            }
            let user = self.connect(location, text, &id, &failure)?;
            self.plan.debugcons.extend(user);
        }
        Ok(())
    }
}
