//! Starting a program in a prepared process.
//!
//! | where | what |
//! |---|---|
//! | parent, [`Launch::start`] | writes the [`Plan`] into a memory file, starts the launcher, passes plan and descriptors over a socket, waits for the process id |
//! | child | own session, reparented to init; closes what it did not get; standard descriptors; umask; PID file, locked and left open |
//! | parent | has the id: the status file can be written |
//! | child | limits; private mount namespace and its `/dev`; SELinux and AppArmor labels; core scheduling; user, groups and capabilities; working directory; reports that it is ready |
//! | parent, [`Held::wait_ready`] | then control groups, affinity, ownership of files |
//! | parent, [`Held::release`] | says go |
//! | child | becomes the program |
//!
//! Whatever fails in the child is written to its standard error (the guest's log) in the form of libvirt's library,
//! `libvirt:  error : TEXT`, and reaches the parent as an [`Error`](crate::Error). A [`Held`] that is dropped ends its child.

mod child;
mod descriptors;
mod identity;
mod parent;
mod plan;
mod work;

pub use child::run_if_asked;
pub use identity::{capability, group_id, user_id};
pub use parent::{Child, Held, Launch, Launcher, holder};
pub use plan::{CoreScheduling, Identity, Limits, Plan, SelinuxLabel};
pub(crate) use plan::{Reader, optional};
pub(crate) use work::enter_mount_namespace;

/// The first argument that makes the daemon's binary a launcher. Not an option: it is no part of the command line
/// that users see, and does nothing unless standard input is the launcher's socket.
const WORD: &str = "\u{1}launch";
/// As [`WORD`], of the process between parent and child: it detaches and ends.
const DETACH_WORD: &str = "\u{1}launch-detached";
/// As [`WORD`], of a process that does one piece of work and ends.
const WORK_WORD: &str = "\u{1}launch-work";
