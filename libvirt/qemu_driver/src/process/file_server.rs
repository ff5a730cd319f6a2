//! Programs that serve folders of the host to a guest (virtiofs): one for each.

use super::helper::{Fault, Helper};
use crate::core::Core;
use crate::error::{Result, error, internal, system};
use confinement::launch::Launch;
use domain_xml::Domain as Definition;
use domain_xml::misc::Filesystem;
use domain_xml::words::OnOff;
use json::Value;
use rpc::Code;
use std::os::unix::fs::{PermissionsExt as _, lchown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Where the program finds the socket.
const DESCRIPTOR: i32 = 3;
/// Descriptions of programs behind devices, the most important folder first.
const DESCRIPTIONS: [&str; 2] = ["/etc/qemu/vhost-user", "/usr/share/qemu/vhost-user"];
/// Longest description.
const LONGEST: u64 = 64 << 10;

/// Whether the daemon starts a program for it: else somebody else does, at a socket.
fn is_wanted(filesystem: &Filesystem) -> bool {
    let kind = filesystem.driver.as_ref().and_then(|driver| driver.kind.as_deref());
    kind == Some("virtiofs") && filesystem.source.as_ref().is_none_or(|source| source.socket.is_none())
}

/// The program of a shared folder of the guest with that directory.
pub(super) fn of(directory: &Path, filesystem: &Filesystem) -> Option<Helper> {
    let alias = filesystem.info.alias.as_ref().filter(|_| is_wanted(filesystem))?;
    let alias = &alias.name;
    Some(Helper {
        name: "virtiofsd",
        pid_file: directory.join(format!("{alias}-fs.pid")),
        socket: directory.join(format!("{alias}-fs.sock")),
    })
}

/// Notes which program serves a folder where the definition does not say.
///
/// # Errors
/// The host has none.
pub(super) fn choose(definition: &mut Definition) -> Result<()> {
    for filesystem in definition.devices.filesystem.iter_mut().filter(|it| is_wanted(it)) {
        let binary = filesystem.binary.get_or_insert_default();
        if binary.path.is_none() {
            let found = DESCRIPTIONS.iter().find_map(|folder| described(Path::new(folder), "fs"));
            let none = || error(Code::OperationFailed, "Unable to find a satisfying virtiofsd");
            binary.path = Some(found.ok_or_else(none)?);
        }
    }
    Ok(())
}

/// The first program of that kind in a folder of descriptions, by their names.
fn described(folder: &Path, kind: &str) -> Option<String> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "json"));
    paths.sort();
    paths.iter().find_map(|path| {
        let description = json::parse(crate::files::read(path, LONGEST).ok()?.as_bytes()).ok()?;
        let text = |key: &str| description.get(key).and_then(Value::as_str).map(str::to_owned);
        text("binary").filter(|_| text("type").as_deref() == Some(kind))
    })
}

/// What the program is told.
fn arguments(filesystem: &Filesystem, debug: bool) -> Vec<String> {
    let folder = filesystem.source.as_ref().and_then(|source| source.dir.as_deref()).unwrap_or_default();
    let binary = filesystem.binary.as_ref();
    let mut options = format!("source={}", folder.replace(',', ",,"));
    let mode = |mode: Option<&domain_xml::misc::Mode>| mode.map(|mode| mode.mode.clone());
    for (name, value) in [
        ("cache", mode(binary.and_then(|binary| binary.cache.as_ref()))),
        ("sandbox", mode(binary.and_then(|binary| binary.sandbox.as_ref()))),
    ] {
        if let Some(value) = value {
            options += &format!(",{name}={value}");
        }
    }
    let lock = binary.and_then(|binary| binary.lock.as_ref());
    for (name, value) in [
        ("xattr", binary.and_then(|binary| binary.xattr)),
        ("flock", lock.and_then(|lock| lock.flock)),
        ("posix_lock", lock.and_then(|lock| lock.posix)),
    ] {
        match value {
            Some(OnOff::On) => options += &format!(",{name}"),
            Some(OnOff::Off) => options += &format!(",no_{name}"),
            None => {}
        }
    }
    let mut all = vec![format!("--fd={DESCRIPTOR}"), "-o".to_owned(), options];
    if let Some(pool) = binary.and_then(|binary| binary.thread_pool.as_ref()).filter(|pool| pool.size >= 0) {
        all.push(format!("--thread-pool-size={}", pool.size));
    }
    if debug {
        all.push("-d".to_owned());
    }
    all
}

impl Core {
    /// Starts the programs for a guest's shared folders. `directory`: the guest's.
    ///
    /// # Errors
    /// One cannot be started; the caller stops the others.
    pub(super) fn start_file_servers(&self, definition: &Definition, directory: &Path) -> Result<()> {
        for filesystem in &definition.devices.filesystem {
            if let Some(helper) = of(directory, filesystem) {
                self.start_file_server(definition, filesystem, &helper)?;
            }
        }
        Ok(())
    }

    fn start_file_server(
        &self,
        definition: &Definition,
        filesystem: &Filesystem,
        helper: &Helper,
    ) -> Result<()> {
        let program =
            filesystem.binary.as_ref().and_then(|binary| binary.path.as_deref()).unwrap_or_default();
        if !crate::core::is_executable(Path::new(program)) {
            return Err(internal(format!("virtiofsd binary '{program}' is not executable")));
        }
        let folder = filesystem.source.as_ref().and_then(|source| source.dir.as_deref()).unwrap_or_default();
        if !Path::new(folder).exists() {
            return Err(internal(format!("the virtiofs export directory '{folder}' does not exist")));
        }
        let shown = helper.socket.display();
        let unbound =
            |error: std::io::Error| system(&error, &format!("Unable to bind to UNIX socket path '{shown}'"));
        crate::files::remove(&helper.socket).map_err(unbound)?;
        let listener = UnixListener::bind(&helper.socket).map_err(unbound)?;
        std::fs::set_permissions(&helper.socket, std::fs::Permissions::from_mode(0o700)).map_err(unbound)?;
        if let Some((user, group)) = self.config.owner.filter(|_| self.paths.privileged) {
            lchown(&helper.socket, Some(user), Some(group)).map_err(unbound)?;
        }
        let launch = Launch::new(program)
            .arguments(arguments(filesystem, self.config.virtiofsd_debug))
            .pass(listener.into(), DESCRIPTOR);
        self.start_helper(definition, helper, launch, None).map_err(|fault| match fault {
            Fault::Launch(error) => error,
            Fault::Died(words) => internal(format!("virtiofsd died unexpectedly: {words}")),
            Fault::Late => internal("Could not start 'virtiofsd'"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_is_told() {
        let text = "<filesystem type='mount'><driver type='virtiofs'/><binary path='/v' xattr='on'>\
            <cache mode='always'/><sandbox mode='chroot'/><lock posix='off' flock='on'/><thread_pool size='4'/>\
            </binary><source dir='/a,b'/><target dir='tag'/></filesystem>";
        let filesystem = crate::process::hotplug::parse_device(text).expect("a device").filesystem.remove(0);
        assert_eq!(
            arguments(&filesystem, true).join(" "),
            "--fd=3 -o source=/a,,b,cache=always,sandbox=chroot,xattr,flock,no_posix_lock \
             --thread-pool-size=4 -d"
        );
        let folder = std::env::temp_dir().join(format!("vhost-user-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("written");
        write("10-gpu.json", "{\"type\":\"gpu\",\"binary\":\"/g\"}");
        write("60-other.json", "{\"type\":\"fs\",\"binary\":\"/later\"}");
        write("50-fs.json", "{\"type\":\"fs\",\"binary\":\"/first\"}");
        write("05-broken.json", "{");
        assert_eq!(described(&folder, "fs").as_deref(), Some("/first"));
        assert_eq!(described(&folder, "input"), None);
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
