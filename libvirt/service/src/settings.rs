//! The configuration: files, environment, and what follows from them.

use crate::log::{self, Level};
use crate::options::Options;
use crate::paths::Paths;
use confinement::apparmor::AppArmor;
use confinement::cgroup::Controllers;
use confinement::dac::Owner;
use daemon_config::{Daemon, Qemu, Size};
use rpc::Uuid;

/// All settings.
pub struct Settings {
    /// `virtqemud.conf`.
    pub daemon: Daemon,
    /// `qemu.conf`, as the driver follows it.
    pub driver: qemu_driver::Config,
    /// The host's UUID.
    pub host_uuid: Uuid,
    /// What is to be said once the log has been set up.
    pub warnings: Vec<String>,
}

/// Reads everything.
///
/// # Errors
/// The message.
pub fn load(options: &Options, paths: &Paths) -> Result<Settings, String> {
    let default = paths.config.join("virtqemud.conf");
    let file = options.config.as_ref().unwrap_or(&default);
    let loaded = daemon_config::load::<Daemon>(file, options.config.is_none());
    let loaded = loaded.map_err(|error| format!("Can't load config file: {error}: {}", file.display()))?;
    let (daemon, mut warnings) = (loaded.settings, loaded.warnings);
    let host_uuid = host_uuid(&daemon)?;
    let qemu = daemon_config::load::<Qemu>(&paths.config.join("qemu.conf"), true)
        .map_err(|error| format!("Initialization of QEMU state driver failed: {error}"))?;
    warnings.extend(qemu.warnings);
    let mut driver = driver_config(&qemu.settings, paths)?;
    driver.ovs_timeout = daemon.ovs_timeout;
    Ok(Settings { daemon, driver, host_uuid, warnings })
}

/// The host's UUID: as configured, or from firmware or machine id, or a random one.
fn host_uuid(config: &Daemon) -> Result<Uuid, String> {
    let parse = qemu_driver::uuid::parse;
    let checked = |text: &str| {
        parse(text.trim()).filter(valid).ok_or_else(|| format!("invalid host UUID: {}", text.trim()))
    };
    if let Some(text) = &config.host_uuid {
        return checked(text);
    }
    if config.host_uuid_source.as_deref() == Some("machine-id") {
        let file = "/etc/machine-id";
        let text = std::fs::read_to_string(file).map_err(|_| format!("Can't read {file}"))?;
        return checked(&text);
    }
    let file = "/sys/devices/virtual/dmi/id/product_uuid";
    let found = std::fs::read_to_string(file).ok().and_then(|text| parse(text.trim())).filter(valid);
    Ok(found.unwrap_or_else(random_uuid))
}

/// Whether a UUID tells hosts apart: vendors that have none write one digit all over.
fn valid(uuid: &Uuid) -> bool {
    uuid.0.windows(2).any(|pair| pair[0] != pair[1])
}

fn random_uuid() -> Uuid {
    use std::io::Read as _;
    let mut bytes = [0; 16];
    // Without it a UUID would be of no use, but the daemon is: guests are not told of it.
    let _ = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Uuid(bytes)
}

/// The number of a user or group: "+N" is a number, anything else a name first.
fn number(text: &str, by_name: impl Fn(&str) -> Option<u32>, what: &str) -> Result<u32, String> {
    let found = match text.strip_prefix('+') {
        Some(digits) => digits.parse().ok(),
        None => by_name(text),
    };
    found.ok_or_else(|| format!("invalid argument: Failed to parse {what} '{text}'"))
}

fn driver_config(qemu: &Qemu, paths: &Paths) -> Result<qemu_driver::Config, String> {
    let mut owner = None;
    if paths.privileged {
        let user = |text: &str| number(text, daemon::privileges::user, "user");
        let group = |text: &str| number(text, daemon::privileges::group, "group");
        // Where the distribution's user does not exist, emulators run as we do.
        let user = qemu.user.as_deref().map(user).transpose()?;
        let user = user.or_else(|| daemon::privileges::user("libvirt-qemu")).unwrap_or(0);
        let group = qemu.group.as_deref().map(group).transpose()?;
        let group = group.or_else(|| daemon::privileges::group("libvirt-qemu")).unwrap_or(0);
        owner = Some((user, group)).filter(|ids| *ids != (0, 0));
    }
    let port = |key: &str, value: u32| {
        u16::try_from(value)
            .ok()
            .filter(|port| *port >= 5900)
            .ok_or_else(|| format!("internal error: {key}: port must be between 5900 and 65535"))
    };
    let display_ports = (
        port("remote_display_port_min", qemu.remote_display_port_min)?,
        port("remote_display_port_max", qemu.remote_display_port_max)?,
    );
    if display_ports.0 > display_ports.1 {
        return Err("internal error: min port must not be greater than max port".to_owned());
    }
    let tpm_owner = match paths.privileged {
        true => (
            tpm_account(&qemu.swtpm_user, daemon::privileges::user, "user")?,
            tpm_account(&qemu.swtpm_group, daemon::privileges::group, "group")?,
        ),
        false => (0, 0),
    };
    Ok(qemu_driver::Config {
        owner,
        vnc_listen: qemu.vnc_listen.clone(),
        spice_listen: qemu.spice_listen.clone(),
        display_ports,
        dump_guest_core: qemu.dump_guest_core,
        sandbox: qemu.seccomp_sandbox != 0,
        security: Some(security_settings(qemu, paths, owner)?),
        save_image_format: qemu.save_image_format.clone(),
        dump_image_format: qemu.dump_image_format.clone(),
        pr_helper: qemu.pr_helper.clone(),
        tpm_owner,
        bridge_helper: qemu.bridge_helper.clone(),
        virtiofsd_debug: qemu.virtiofsd_debug,
        // A setting of the daemon.
        ovs_timeout: qemu_driver::Config::default().ovs_timeout,
        apparmor: !qemu.security_driver.0.iter().any(|driver| driver == "none"),
    })
}

/// Whom programs that emulate security modules run as. Where the distribution has no such account, that is root.
fn tpm_account(text: &str, by_name: impl Fn(&str) -> Option<u32>, what: &str) -> Result<u32, String> {
    const STANDARD: &str = "tss";
    match number(text, &by_name, what) {
        Err(_) if text == STANDARD => Ok(0),
        found => found,
    }
}

/// How guests are confined.
fn security_settings(
    qemu: &Qemu,
    paths: &Paths,
    owner: Option<(u32, u32)>,
) -> Result<security::Settings, String> {
    if qemu.security_driver.0.iter().any(|driver| driver == "apparmor") && AppArmor::find().is_none() {
        return Err("unsupported configuration: Security driver apparmor not enabled".to_owned());
    }
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let (user, group) = owner.unwrap_or(own);
    let controllers = qemu.cgroup_controllers.iter().filter_map(|name| Controllers::named(name));
    Ok(security::Settings {
        dynamic_ownership: qemu.dynamic_ownership,
        remember_owner: qemu.remember_owner,
        mount_namespace: qemu.namespaces.iter().any(|name| name == "mount"),
        device_nodes: qemu.cgroup_device_acl.clone(),
        controllers: controllers.fold(Controllers::NONE, Controllers::with),
        clear_capabilities: qemu.clear_emulator_capabilities,
        max_processes: qemu.max_processes.into(),
        max_files: qemu.max_files.into(),
        max_threads: qemu.max_threads_per_process.into(),
        max_core: match qemu.max_core {
            Size::Unlimited => u64::MAX,
            Size::Bytes(bytes) => bytes,
        },
        default_confined: qemu.security_default_confined,
        require_confined: qemu.security_require_confined,
        files_by_logd: qemu.stdio_handler == "logd",
        ..security::Settings::new(paths.privileged, Owner { user, group })
    })
}

/// The level of what is logged, by its number or word.
fn priority(text: &str) -> Result<Level, String> {
    let wrong = || format!("invalid argument: Failed to set logging priority, argument '{text}' is invalid");
    Level::parse(text).ok_or_else(wrong)
}

/// Sets up the log: the configuration, then the environment, then the command line.
///
/// # Errors
/// The message.
pub fn set_up_log(config: &Daemon, options: &Options, paths: &Paths) -> Result<(), String> {
    use std::io::IsTerminal as _;
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut level = priority(&config.log_level.to_string())?;
    if let Some(debug) = variable("LIBVIRT_DEBUG") {
        level = priority(&debug)?;
    }
    if options.verbose {
        level = level.min(Level::Info);
    }
    log::set_level(level);
    let journald = std::path::Path::new("/run/systemd/journal/socket").exists();
    let number = level as u32;
    let default = match options.daemon {
        _ if journald && (options.daemon || !std::io::stdin().is_terminal()) => format!("{number}:journald"),
        true => {
            if let Some(folder) = paths.log_file.parent() {
                // If it cannot be made, opening the file says so.
                let _ = std::fs::create_dir_all(folder);
            }
            format!("{number}:file:{}", paths.log_file.display())
        }
        false => format!("{number}:stderr"),
    };
    log::set_default(crate::VERSION_TEXT, &default);
    let outputs = variable("LIBVIRT_LOG_OUTPUTS").or_else(|| config.log_outputs.clone());
    let filters = variable("LIBVIRT_LOG_FILTERS").or_else(|| config.log_filters.clone());
    log::set_filters(filters.as_deref()).map_err(|error| error.to_string())?;
    log::set_outputs(outputs.as_deref()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(number("+0", |_| None, "user"), Ok(0));
        assert_eq!(number("root", daemon::privileges::user, "user"), Ok(0));
        assert_eq!(
            number("no-such", |_| None, "user"),
            Err("invalid argument: Failed to parse user 'no-such'".to_owned())
        );
        assert_eq!(tpm_account("tss", |_| None, "user"), Ok(0));
        assert_eq!(tpm_account("tss", |_| Some(7), "user"), Ok(7));
        assert!(tpm_account("no-such", |_| None, "group").is_err());
    }

    #[test]
    fn levels_that_there_are_not() {
        assert_eq!(priority("1"), Ok(Level::Debug));
        assert_eq!(priority("info"), Ok(Level::Info));
        for text in ["0", "9", "x", ""] {
            let wrong =
                format!("invalid argument: Failed to set logging priority, argument '{text}' is invalid");
            assert_eq!(priority(text), Err(wrong));
        }
    }

    #[test]
    fn a_uuid_of_one_digit_is_none() {
        assert!(!valid(&Uuid([0; 16])));
        assert!(!valid(&Uuid([0xff; 16])));
        assert!(valid(&random_uuid()));
        let config =
            Daemon { host_uuid: Some("00000000-0000-0000-0000-000000000000".into()), ..Daemon::default() };
        assert!(host_uuid(&config).is_err());
    }
}
