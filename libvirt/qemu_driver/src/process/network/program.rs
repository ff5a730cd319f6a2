//! Programs that set devices up.

use crate::error::{Result, error, internal, system};
use crate::process::helper::find_program;
use domain_xml::interface::Interface;
use hostio::netdev::TapMode;
use rpc::Code;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::thread::CapabilitySet;
use std::io::IoSliceMut;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Runs the program and waits for it.
///
/// # Errors
/// It cannot be run, or fails: with what it says. `environment` is what the original shows of it.
pub(super) fn run(path: &str, arguments: &[&str], environment: &[(&str, String)]) -> Result<()> {
    let mut command = Command::new(path);
    command.args(arguments).stdin(Stdio::null());
    told(path, arguments, environment, command.output())
}

/// Runs the script that sets an interface up or takes it down. Of the daemon's rights it has that over networks only.
///
/// # Errors
/// As [`run`].
pub(super) fn run_script(path: &str, name: &str, privileged: bool) -> Result<()> {
    if path.is_empty() {
        return Ok(());
    }
    let mut environment = vec![("LC_ALL", "C".to_owned())];
    for name in ["PATH", "HOME", "USER", "LOGNAME", "TMPDIR"] {
        environment.extend(std::env::var(name).ok().map(|value| (name, value)));
    }
    let run = || {
        if privileged {
            // The thread's only: whoever it starts cannot have them back.
            for capability in CapabilitySet::all().difference(CapabilitySet::NET_ADMIN).iter() {
                match rustix::thread::remove_capability_from_bounding_set(capability) {
                    // One that this kernel does not know.
                    Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let mut command = Command::new(path);
        command.arg(name).env_clear().envs(environment.iter().cloned()).stdin(Stdio::null());
        command.output()
    };
    let result = std::thread::scope(|scope| scope.spawn(run).join());
    let result = result.unwrap_or_else(|_| Err(std::io::Error::other("the thread has ended")));
    told(path, &[name], &environment, result)
}

/// Asks the program that may do so for a tap device in the bridge that the interface names, for a user who may not make
/// one himself.
///
/// # Errors
/// It cannot be run, or refuses: with what it says.
pub(super) fn ask_for_tap(interface: &Interface, program: &str, mode: TapMode) -> Result<OwnedFd> {
    let bridge = interface.source.as_ref().and_then(|source| source.bridge.as_deref());
    let bridge = bridge.ok_or_else(|| internal("Missing bridge name"))?;
    let path = find_helper(program).ok_or_else(|| {
        error(Code::OperationFailed, format!("'{program}' is not a suitable bridge helper"))
    })?;
    let failed = |error: std::io::Error, words: &str| {
        let words = words.trim_end();
        let shown = path.display();
        let text =
            format!("{shown} --use-vnet --br={bridge}: failed to communicate with bridge helper: {words}");
        system(&error, &text)
    };
    let (ours, theirs) = UnixStream::pair().map_err(|error| failed(error, ""))?;
    let mut command = Command::new(&path);
    if mode.vnet_header {
        command.arg("--use-vnet");
    }
    // It answers where its standard input is.
    command.arg(format!("--br={bridge}")).arg("--fd=0").stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
    let output = command.stderr(Stdio::piped()).output().map_err(|error| failed(error, ""))?;
    // Its end of the connection is the command's.
    drop(command);
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0; 1];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    rustix::net::recvmsg(&ours, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)
        .map_err(|error| failed(error.into(), &words))?;
    let passed = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    passed.ok_or_else(|| failed(std::io::ErrorKind::InvalidData.into(), &words))
}

/// Where the distributions have it, if it is no path.
fn find_helper(program: &str) -> Option<PathBuf> {
    const PLACES: [&str; 2] = ["/usr/lib/qemu", "/usr/libexec"];
    find_program(program).or_else(|| {
        let places = PLACES.iter().map(|place| Path::new(place).join(program));
        places.filter(|_| !program.contains('/')).find(|path| crate::core::is_executable(path))
    })
}

/// What became of the program.
fn told(
    path: &str,
    arguments: &[&str],
    environment: &[(&str, String)],
    output: std::io::Result<Output>,
) -> Result<()> {
    let output = output.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound if !path.contains('/') => {
            system(&error, &format!("Cannot find '{path}' in path"))
        }
        _ => system(&error, &format!("Cannot run '{path}'")),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let shown: String = environment.iter().map(|(name, value)| format!("{name}={value} ")).collect();
    let ending = match output.status.code() {
        Some(code) => format!("unexpected exit status {code}"),
        None => "was ended by a signal".to_owned(),
    };
    let arguments = arguments.join(" ");
    Err(internal(format!("Child process ({shown}{path} {arguments}) {ending}: {words}")))
}
