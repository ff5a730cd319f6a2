//! The sockets on which clients come: our own, or those that the service manager has made.

use crate::paths::Paths;
use crate::pidfile::text;
use daemon::listen::{SocketFile, listen};
use daemon_config::Daemon;
use rpc::server::{Access, Auth};
use rustix::fs::Mode;
use std::os::fd::OwnedFd;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which of the servers a socket belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// The one for guests.
    Main,
    /// The one for the daemon's administration.
    Admin,
}

/// A socket that listens.
#[derive(Debug)]
pub struct Listening {
    /// The socket.
    pub socket: Arc<OwnedFd>,
    /// Whom its clients speak to.
    pub server: Server,
    /// What they may do.
    pub access: Access,
    /// Its file, if it is ours.
    pub file: Option<SocketFile>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // What is not ours any more stays.
            let _ = file.remove();
        }
    }
}

/// The daemon's three kinds of sockets.
struct Kind {
    name: &'static str,
    server: Server,
    access: Access,
    mode: u32,
    backlog: u32,
}

/// How clients show who they are.
fn auth(setting: Option<&str>, privileged: bool) -> Auth {
    match setting {
        Some("none") => Auth::None,
        Some(_) => Auth::Polkit,
        None if privileged => Auth::Polkit,
        None => Auth::None,
    }
}

fn octal(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| format!("Failed to parse mode '{text}'"))
}

fn kinds(config: &Daemon, privileged: bool) -> Result<Vec<Kind>, String> {
    let read_write = auth(config.auth_unix_rw.as_deref(), privileged);
    // What polkit decides on by default is 0777, whatever was configured to be asked.
    let default_mode = if privileged { "0777" } else { "0700" };
    let mode = config.unix_sock_rw_perms.as_deref().unwrap_or(default_mode);
    let admin = Access { read_only: false, auth: Auth::None };
    let mut kinds = vec![
        Kind {
            name: "virtqemud-sock",
            server: Server::Main,
            access: Access { read_only: false, auth: read_write },
            mode: octal(mode)?,
            backlog: config.max_queued_clients,
        },
        Kind {
            name: "virtqemud-admin-sock",
            server: Server::Admin,
            access: admin,
            mode: octal(&config.unix_sock_admin_perms)?,
            backlog: config.admin_max_queued_clients,
        },
    ];
    if privileged {
        let auth = auth(config.auth_unix_ro.as_deref(), privileged);
        kinds.insert(
            1,
            Kind {
                name: "virtqemud-sock-ro",
                server: Server::Main,
                access: Access { read_only: true, auth },
                mode: octal(&config.unix_sock_ro_perms)?,
                backlog: config.max_queued_clients,
            },
        );
    }
    Ok(kinds)
}

/// Opens all sockets. To be called before there are threads.
///
/// # Errors
/// The message.
pub fn open(config: &Daemon, paths: &Paths) -> Result<Vec<Listening>, String> {
    let kinds = kinds(config, paths.privileged)?;
    let names = std::env::var("LISTEN_FDNAMES").ok();
    let count = daemon::activation::take()?;
    if count > 0 {
        return activated(&kinds, count, names.as_deref());
    }
    let folder = config.unix_sock_dir.as_ref().map_or_else(|| paths.run.clone(), PathBuf::from);
    let group = match &config.unix_sock_group {
        Some(name) if paths.privileged => Some(
            daemon::privileges::group(name)
                .ok_or_else(|| format!("invalid argument: Failed to parse group '{name}'"))?,
        ),
        _ => None,
    };
    kinds.iter().map(|kind| own(kind, &folder, group)).collect()
}

fn own(kind: &Kind, folder: &Path, group: Option<u32>) -> Result<Listening, String> {
    let path = folder.join(kind.name);
    let mask = rustix::process::umask(Mode::from_raw_mode(0o777 & !kind.mode));
    let listening = listen(&path, i32::try_from(kind.backlog).unwrap_or(i32::MAX));
    rustix::process::umask(mask);
    let (socket, file) = listening.map_err(|error| error.to_string())?;
    if let Some(group) = group {
        let failed =
            |error| format!("Failed to change group ID of '{}' to {group}: {}", path.display(), text(&error));
        chown(&path, None, Some(group)).map_err(failed)?;
    }
    let (server, access) = (kind.server, kind.access);
    Ok(Listening { socket: Arc::new(socket), server, access, file: Some(file) })
}

/// The sockets that the service manager has made, told apart by their names.
fn activated(kinds: &[Kind], count: u32, names: Option<&str>) -> Result<Vec<Listening>, String> {
    let names = names.ok_or("Missing LISTEN_FDNAMES env from systemd socket activation")?;
    let names: Vec<&str> = names.split(':').collect();
    if names.len() != count as usize {
        return Err(format!("Expecting {count} FD names but got {}", names.len()));
    }
    let mut sockets = Vec::new();
    for (number, name) in (3..).zip(names) {
        // The sockets' units are called as the sockets, with "d" for "d-sock".
        let kind = kinds.iter().find(|kind| unit(kind.name) == name);
        let kind = kind.ok_or("Some activation file descriptors are unclaimed")?;
        let failed = |error| format!("Activation file descriptor {number} is not usable: {}", text(&error));
        let socket = hostio::inherit::adopt(number).map_err(failed)?;
        rustix::io::ioctl_fionbio(&socket, true).map_err(|errno| failed(errno.into()))?;
        let (server, access) = (kind.server, kind.access);
        sockets.push(Listening { socket: Arc::new(socket), server, access, file: None });
    }
    Ok(sockets)
}

/// The name of a socket's unit.
fn unit(socket: &str) -> String {
    format!("{}.socket", socket.replacen("-admin-sock", "-admin", 1).replacen("-sock", "", 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_have_the_originals_modes_and_units() {
        let shown = |config: &Daemon, privileged| {
            let kinds = kinds(config, privileged).expect("kinds");
            kinds.iter().map(|kind| (unit(kind.name), kind.mode, kind.access.read_only)).collect::<Vec<_>>()
        };
        let unit = |name: &str| format!("virtqemud{name}.socket");
        assert_eq!(
            shown(&Daemon::default(), true),
            [(unit(""), 0o777, false), (unit("-ro"), 0o777, true), (unit("-admin"), 0o700, false)]
        );
        assert_eq!(
            shown(&Daemon::default(), false),
            [(unit(""), 0o700, false), (unit("-admin"), 0o700, false)]
        );
        let config = Daemon { unix_sock_rw_perms: Some("0888".to_owned()), ..Daemon::default() };
        assert!(kinds(&config, true).is_err());
    }
}
