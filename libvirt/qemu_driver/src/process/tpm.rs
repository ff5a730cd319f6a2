//! Security modules that a program emulates: `swtpm`, one process a guest, which ends when the emulator does.
//!
//! The state outlives the guest's runs. A new one gets its keys and certificates from `swtpm_setup`.

use crate::core::{Core, Level};
use crate::error::{Result, error, failed, internal, system};
use crate::files;
use crate::process::helper::{Fault, Helper};
use crate::process::start::launch_error;
use confinement::dac::Owner;
use confinement::launch::Launch;
use domain_xml::Domain as Definition;
use domain_xml::misc::{PcrBanks, TpmBackend, TpmType};
use domain_xml::words::yes;
use rpc::Code;
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, lchown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The emulated module of a domain.
fn emulated(definition: &Definition) -> Option<&TpmBackend> {
    let mut backends = definition.devices.tpm.iter().filter_map(|tpm| tpm.backend.as_ref());
    backends.find(|backend| backend.kind == TpmType::Emulator)
}

fn is_version_2(backend: &TpmBackend) -> bool {
    backend.version.as_deref() == Some("2.0")
}

/// The words for the banks that are to be in use.
fn bank_words(banks: &PcrBanks) -> String {
    let all =
        [(banks.sha1, "sha1"), (banks.sha256, "sha256"), (banks.sha384, "sha384"), (banks.sha512, "sha512")];
    all.iter().filter(|(used, _)| *used).map(|(_, word)| *word).collect::<Vec<_>>().join(",")
}

/// Refuses an emulated module where the programs for it are not installed.
///
/// # Errors
/// Names its version.
pub(crate) fn check(definition: &Definition) -> Result<()> {
    let Some(backend) = emulated(definition) else { return Ok(()) };
    let version = backend.version.as_deref().unwrap_or("2.0");
    if crate::capabilities::has_swtpm() {
        return Ok(());
    }
    Err(crate::error::unsupported(format!("TPM version '{version}' is not supported")))
}

/// Where one guest's module has its files.
struct Places {
    storage: PathBuf,
    state: PathBuf,
    socket: PathBuf,
    pid: PathBuf,
    log: PathBuf,
}

impl Core {
    /// The folder of a domain's modules.
    fn tpm_folder(&self, definition: &Definition) -> Option<PathBuf> {
        Some(self.paths.tpm.join(definition.uuid.as_deref()?))
    }

    fn tpm_places(&self, definition: &Definition, backend: &TpmBackend, id: i32) -> Option<Places> {
        let name = definition.name();
        let version = if is_version_2(backend) { "tpm2" } else { "tpm1.2" };
        let socket = self.paths.tpm_socket(id, name);
        Some(Places {
            storage: self.tpm_folder(definition)?.join(version),
            state: self.paths.tpm_sockets(),
            pid: socket.with_extension("pid"),
            socket,
            log: self.paths.tpm_log.join(format!("{name}-swtpm.log")),
        })
    }

    /// The program of a guest that has an emulated module.
    pub(super) fn tpm_helper(&self, definition: &Definition, id: i32) -> Option<Helper> {
        let places = self.tpm_places(definition, emulated(definition)?, id)?;
        Some(Helper { name: "swtpm", pid_file: places.pid, socket: places.socket })
    }

    /// Starts the program for a guest that starts, if it has an emulated module. `directory`: the guest's.
    ///
    /// # Errors
    /// It is not installed, or says why it does not run.
    pub(super) fn start_tpm(&self, definition: &Definition, id: i32, directory: &Path) -> Result<()> {
        let Some(backend) = emulated(definition) else { return Ok(()) };
        let places = self.tpm_places(definition, backend, id).ok_or_else(|| internal("no uuid"))?;
        let owner = self.paths.privileged.then_some(self.config.tpm_owner);
        let failed_at = |path: &Path| {
            let shown = path.display().to_string();
            move |error: std::io::Error| system(&error, &format!("Could not create TPM directory {shown}"))
        };
        let give = |path: &Path| owner.map_or(Ok(()), |(user, group)| lchown(path, Some(user), Some(group)));
        let made = |path: &Path, mode: u32| {
            let parent = path.parent().unwrap_or(Path::new("/"));
            let parents = DirBuilder::new().recursive(true).mode(0o711).create(parent);
            let made = parents.and_then(|()| match std::fs::create_dir(path) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
                _ => Ok(()),
            });
            // Whatever this process's mask is.
            made.and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(mode)))
                .map_err(failed_at(path))
        };
        let folder =
            |path: &Path, mode: u32| made(path, mode).and_then(|()| give(path).map_err(failed_at(path)));
        let log_folder = places.log.parent().unwrap_or(Path::new("/"));
        folder(log_folder, 0o730)?;
        made(&places.state, 0o770)?;
        // The emulator's user finds sockets here, the program's group makes them.
        let user = self.config.owner.filter(|_| self.paths.privileged).map(|(user, _)| user);
        lchown(&places.state, user, owner.map(|(_, group)| group)).map_err(failed_at(&places.state))?;
        let created = !places.storage.exists();
        if created {
            folder(&places.storage, 0o700)?;
        }
        let secret = backend.encryption.as_ref().map(|encryption| encryption.secret.as_str());
        let password = secret.map(|secret| self.password_file(secret, directory, owner)).transpose()?;
        let run = || {
            if created {
                self.set_up_tpm(definition, backend, &places, password.as_deref(), owner)?;
            }
            if let Some(banks) = &backend.active_pcr_banks {
                let arguments = ["--pcr-banks", &bank_words(banks), "--reconfigure"].map(str::to_owned);
                self.run_setup(backend, &places, password.as_deref(), owner, &arguments)?;
            }
            self.run_tpm(definition, backend, &places, password.as_deref())
        };
        let started = run();
        if let Some(path) = &password {
            let _ = files::remove(path);
        }
        if started.is_err() && created {
            let _ = std::fs::remove_dir_all(&places.storage);
        }
        started
    }

    /// A file with the secret, for the program alone.
    fn password_file(&self, secret: &str, directory: &Path, owner: Option<(u32, u32)>) -> Result<PathBuf> {
        let value = self.secret(&format!("uuid:{secret}"))?;
        let mut name = directory.file_name().unwrap_or_default().to_owned();
        name.push(".tpm");
        let path = directory.with_file_name(name);
        let write = || {
            files::remove(&path)?;
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(&value)?;
            owner.map_or(Ok(()), |(user, group)| lchown(&path, Some(user), Some(group)))
        };
        write().map_err(|error| system(&error, "Unable to write the password of the TPM emulator"))?;
        Ok(path)
    }

    fn set_up_tpm(
        &self,
        definition: &Definition,
        backend: &TpmBackend,
        places: &Places,
        password: Option<&Path>,
        owner: Option<(u32, u32)>,
    ) -> Result<()> {
        let id = format!("{}:{}", definition.name(), definition.uuid.as_deref().unwrap_or_default());
        let words = [
            "--vmid",
            &id,
            "--createek",
            "--create-ek-cert",
            "--create-platform-cert",
            "--lock-nvram",
            "--not-overwrite",
        ];
        self.run_setup(backend, places, password, owner, &words.map(str::to_owned))
    }

    fn run_setup(
        &self,
        backend: &TpmBackend,
        places: &Places,
        password: Option<&Path>,
        owner: Option<(u32, u32)>,
        arguments: &[String],
    ) -> Result<()> {
        let program = program("swtpm_setup")?;
        let mut command = Command::new(&program);
        command.arg("--tpm-state").arg(&places.storage).arg("--logfile").arg(&places.log).args(arguments);
        if is_version_2(backend) {
            command.arg("--tpm2");
        }
        if let Some(path) = password {
            command.arg("--pwdfile").arg(path).args(["--cipher", "aes-256-cbc"]);
        }
        let status = as_owner(&mut command, owner).status();
        let shown = program.display();
        let status = status.map_err(|error| system(&error, &format!("cannot execute binary {shown}")))?;
        match status.code() {
            Some(0) => Ok(()),
            code => Err(internal(format!(
                "Could not run '{shown}'. exitstatus: {}; Check error log '{}' for details.",
                code.unwrap_or(-1),
                places.log.display()
            ))),
        }
    }

    fn run_tpm(
        &self,
        definition: &Definition,
        backend: &TpmBackend,
        places: &Places,
        password: Option<&Path>,
    ) -> Result<()> {
        let helper = Helper { name: "swtpm", pid_file: places.pid.clone(), socket: places.socket.clone() };
        super::helper::stop(self, std::slice::from_ref(&helper));
        let program = program("swtpm")?;
        let (socket, storage) = (places.socket.display(), places.storage.display());
        let mut arguments = vec![
            "socket".to_owned(),
            "--ctrl".to_owned(),
            format!("type=unixio,path={socket},mode=0600"),
            "--tpmstate".to_owned(),
            format!("dir={storage},mode=0600"),
            "--log".to_owned(),
            format!("file={}", places.log.display()),
            "--terminate".to_owned(),
        ];
        if is_version_2(backend) {
            arguments.push("--tpm2".to_owned());
        }
        if let Some(path) = password.map(Path::display) {
            for option in ["--key", "--migration-key"] {
                arguments.extend([option.to_owned(), format!("pwdfile={path},mode=aes-256-cbc")]);
            }
        }
        let launch = Launch::new(&program.to_string_lossy()).arguments(arguments);
        let (user, group) = self.config.tpm_owner;
        let launch = self.security.as_other(definition, Owner { user, group }, launch);
        let launch = launch.map_err(|error| launch_error(&error))?;
        self.start_helper(definition, &helper, launch, None).map_err(|fault| match fault {
            Fault::Launch(error) => error,
            Fault::Died(words) => failed(format!("swtpm died and reported: {}", words.trim_end())),
            Fault::Late => error(Code::OperationTimeout, "swtpm socket did not show up"),
        })?;
        if !self.paths.privileged {
            return Ok(());
        }
        // The emulator has no right to what is not its user's, even if that is root.
        let (user, group) = self.config.owner.unwrap_or((0, 0));
        lchown(&places.socket, Some(user), Some(group)).map_err(|error| {
            system(&error, &format!("unable to set user and group on '{}'", places.socket.display()))
        })
    }

    /// Forgets the state of a domain's module, if that is wanted: `remove` and `keep` are what a client says.
    pub fn forget_tpm(&self, definition: &Definition, remove: bool, keep: bool) {
        let Some(backend) = emulated(definition) else { return };
        let persistent = yes(backend.persistent_state);
        let stays = if persistent { !remove } else { keep };
        if stays {
            return;
        }
        if let Some(folder) = self.tpm_folder(definition)
            && let Err(error) = std::fs::remove_dir_all(&folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            self.log(Level::Warning, &format!("cannot remove '{}': {error}", folder.display()));
        }
    }
}

fn program(name: &str) -> Result<PathBuf> {
    super::helper::find_program(name).ok_or_else(|| {
        let none = std::io::Error::from_raw_os_error(rustix::io::Errno::NOENT.raw_os_error());
        system(&none, &format!("Unable to find '{name}' binary in $PATH"))
    })
}

fn as_owner(command: &mut Command, owner: Option<(u32, u32)>) -> &mut Command {
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_banks() {
        let banks = PcrBanks { sha256: true, sha512: true, ..PcrBanks::default() };
        assert_eq!(bank_words(&banks), "sha256,sha512");
    }
}
