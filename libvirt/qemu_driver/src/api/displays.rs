//! Connections with displays that clients bring along.

use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, internal, monitor, not_running, system, unsupported};
use crate::guest::Guest;
use domain_xml::graphics::GraphicsType;
use json::dict;
use rpc::protocol::device::{DomainOpenGraphicsArgs, DomainOpenGraphicsFdArgs};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

const SKIP_AUTH: u32 = 1;
/// What the emulator calls the connection until it uses it.
const NAME: &str = "graphicsfd";

/// The protocol of the display of that number.
fn protocol(guest: &Guest, number: u32) -> Result<&'static str> {
    let inner = guest.lock();
    let definition = &inner.live.as_ref().ok_or_else(not_running)?.definition;
    let display = usize::try_from(number).ok().and_then(|number| definition.devices.graphics.get(number));
    let display = display
        .ok_or_else(|| internal(format!("No graphics backend with index {}", number.cast_signed())))?;
    match display.kind {
        GraphicsType::Vnc => Ok("vnc"),
        GraphicsType::Spice => Ok("spice"),
        GraphicsType::Dbus => Ok("@dbus-display"),
        other => {
            Err(unsupported(format!("Can only open VNC, SPICE or D-Bus p2p graphics backends, not {other}")))
        }
    }
}

fn connect(guest: &Guest, protocol: &str, end: BorrowedFd<'_>, flags: u32) -> Result<()> {
    let qemu = guest.monitor()?;
    qemu.execute_with_fds("getfd", dict! { "fdname" => NAME }, &[end])
        .map_err(|error| monitor(error, "getfd"))?;
    let arguments = dict! { "protocol" => protocol, "fdname" => NAME, "skipauth" => flags & SKIP_AUTH != 0 };
    let added = qemu.execute("add_client", arguments);
    if added.is_err() {
        // It has not taken the descriptor.
        let _ = qemu.execute("closefd", dict! { "fdname" => NAME });
    }
    added.map(drop).map_err(|error| monitor(error, "add_client"))
}

impl QemuDriver {
    pub(super) fn open_graphics(&self, args: &DomainOpenGraphicsArgs, fds: Vec<OwnedFd>) -> Result<()> {
        // More than one are let go.
        let none = || rpc::Error::internal(rpc::Origin::Rpc, "No FD available at slot 0");
        let end = fds.into_iter().next().ok_or_else(none)?;
        check_flags(args.flags, SKIP_AUTH, "qemuDomainOpenGraphics")?;
        let guest = self.guest(&args.dom)?;
        let _job = guest.jobs.begin("virDomainOpenGraphics")?;
        connect(&guest, protocol(&guest, args.idx)?, end.as_fd(), args.flags)
    }

    pub(super) fn open_graphics_fd(&self, args: &DomainOpenGraphicsFdArgs) -> Result<((), Vec<OwnedFd>)> {
        check_flags(args.flags, SKIP_AUTH, "qemuDomainOpenGraphicsFD")?;
        let guest = self.guest(&args.dom)?;
        let protocol = protocol(&guest, args.idx)?;
        let (ours, theirs) =
            UnixStream::pair().map_err(|error| system(&error, "cannot make a pair of sockets"))?;
        let _job = guest.jobs.begin("virDomainOpenGraphicsFD")?;
        connect(&guest, protocol, theirs.as_fd(), args.flags)?;
        Ok(((), vec![ours.into()]))
    }
}
