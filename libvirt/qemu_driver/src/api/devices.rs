//! Devices, and what is sent to or read from them.

use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, error, failed, internal, invalid, not_running, system};
use crate::guest::Guest;
use crate::process::{devices, hotplug, network};
use crate::query::{self, Nodes};
use domain_xml::interface::Interface;
use json::{Dict, Value, dict};
use rpc::call::Stream;
use rpc::protocol::device::*;
use rpc::server::Direction;
use rpc::{ClientContext, Code};
use std::os::fd::OwnedFd;

/// Bytes, packets, errors and drops, received and then sent by the guest, of the interface's device on the host.
pub(super) fn interface_stats(interface: &Interface) -> Option<[u64; 8]> {
    let name = interface.target.as_ref()?.dev.as_deref()?;
    let text = std::fs::read_to_string("/proc/net/dev").ok()?;
    let row = text.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'))?;
    let fields: Vec<u64> = row.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let at = |index: usize| fields.get(index).copied().unwrap_or(0);
    if network::is_direct(interface) {
        return Some([at(0), at(1), at(2), at(3), at(8), at(9), at(10), at(11)]);
    }
    // What the device received the guest sent.
    Some([at(8), at(9), at(10), at(11), at(0), at(1), at(2), at(3)])
}

impl QemuDriver {
    fn attach(&self, dom: &rpc::Domain, text: &str, flags: u32, api: &'static str) -> Result<()> {
        let guest = self.guest(dom)?;
        let _job = guest.jobs.begin(api)?;
        let (live, config) = {
            let inner = guest.lock();
            let (live, config) = self.targets(&inner, flags)?;
            (live, config.then(|| inner.config()).flatten())
        };
        check_flags(flags, LIVE | CONFIG, "qemuDomainAttachDeviceLiveAndConfig")?;
        let devices = hotplug::parse_device(text)?;
        // What cannot be written down is not plugged either.
        let config = config.map(|config| self.core.with_devices(&config, devices.clone())).transpose()?;
        if live {
            self.core.plug(&guest, devices)?;
        }
        self.replace_config(&guest, config)
    }

    fn detach(&self, dom: &rpc::Domain, text: &str, flags: u32, api: &'static str) -> Result<()> {
        let guest = self.guest(dom)?;
        let _job = guest.jobs.begin(api)?;
        let (running, config) = {
            let inner = guest.lock();
            let (live, config) = self.targets(&inner, flags)?;
            let running = inner.live.as_ref().filter(|_| live).map(|live| live.definition.clone());
            (running, config.then(|| inner.config()).flatten())
        };
        check_flags(flags, LIVE | CONFIG, "qemuDomainDetachDeviceLiveAndConfig")?;
        let wanted = hotplug::parse_device(text)?;
        let config = config.map(|config| devices::without(&config, &wanted)).transpose()?;
        if let Some(definition) = running {
            let alias = devices::alias_of(&definition, &wanted)?;
            self.core.unplug(&guest, &alias)?;
        }
        self.replace_config(&guest, config)
    }

    fn update(&self, dom: &rpc::Domain, text: &str, flags: u32) -> Result<()> {
        const FORCE: u32 = 4;
        check_flags(flags, LIVE | CONFIG | FORCE, "qemuDomainUpdateDeviceFlags")?;
        let guest = self.guest(dom)?;
        let _job = guest.jobs.begin("virDomainUpdateDeviceFlags")?;
        let (live, config) = {
            let inner = guest.lock();
            let (live, config) = self.targets(&inner, flags)?;
            (live, config.then(|| inner.config()).flatten())
        };
        let devices = hotplug::parse_device(text)?;
        // What cannot be written down is not changed either.
        let config = config.map(|config| self.core.with_changed(&config, &devices)).transpose()?;
        if live {
            self.core.change_device(&guest, &devices, flags & FORCE != 0)?;
            self.core.save_status(&guest);
        }
        self.replace_config(&guest, config)
    }

    fn replace_config(&self, guest: &Guest, config: Option<domain_xml::Domain>) -> Result<()> {
        if let Some(config) = config {
            self.core.save_definition(&config)?;
            guest.lock().set_config(Some(&config));
        }
        Ok(())
    }
}

/// `VIR_DOMAIN_AFFECT_...`
const LIVE: u32 = 1;
const CONFIG: u32 = 2;

impl DomainDevices for QemuDriver {
    fn domain_attach_device(&self, _: &ClientContext, args: DomainAttachDeviceArgs) -> Result<()> {
        self.attach(&args.dom, &args.xml, LIVE, "virDomainAttachDevice")
    }

    fn domain_attach_device_flags(&self, _: &ClientContext, args: DomainAttachDeviceFlagsArgs) -> Result<()> {
        self.attach(&args.dom, &args.xml, args.flags, "virDomainAttachDeviceFlags")
    }

    fn domain_detach_device(&self, _: &ClientContext, args: DomainDetachDeviceArgs) -> Result<()> {
        self.detach(&args.dom, &args.xml, LIVE, "virDomainDetachDevice")
    }

    fn domain_detach_device_flags(&self, _: &ClientContext, args: DomainDetachDeviceFlagsArgs) -> Result<()> {
        self.detach(&args.dom, &args.xml, args.flags, "virDomainDetachDeviceFlags")
    }

    fn domain_detach_device_alias(&self, _: &ClientContext, args: DomainDetachDeviceAliasArgs) -> Result<()> {
        let guest = self.guest(&args.dom)?;
        let _job = guest.jobs.begin("virDomainDetachDeviceAlias")?;
        check_flags(args.flags, LIVE | CONFIG, "qemuDomainDetachDeviceAliasLiveAndConfig")?;
        let (live, config) = self.both(&guest, args.flags)?;
        for definition in [&live, &config].into_iter().flatten() {
            if !crate::definition::has_device(definition, &args.alias) {
                let detail = format!("no device found with alias {}", args.alias);
                return Err(rpc::Error::internal(rpc::Origin::Domain, detail));
            }
        }
        if live.is_some() {
            self.core.unplug(&guest, &args.alias)?;
        }
        let without = config.map(|config| {
            let mut left = domain_xml::Domain::clone(&config);
            crate::definition::remove_device(&mut left, &args.alias);
            left
        });
        self.replace_config(&guest, without)
    }

    fn domain_update_device_flags(&self, _: &ClientContext, args: DomainUpdateDeviceFlagsArgs) -> Result<()> {
        self.update(&args.dom, &args.xml, args.flags)
    }

    fn domain_get_block_info(
        &self,
        _: &ClientContext,
        args: DomainGetBlockInfoArgs,
    ) -> Result<DomainGetBlockInfoRet> {
        check_flags(args.flags, 0, "qemuDomainGetBlockInfo")?;
        if args.path.is_empty() {
            return Err(error(Code::InvalidArg, "NULL or empty path"));
        }
        let guest = self.guest(&args.dom)?;
        let (definition, active) = {
            let inner = guest.lock();
            let definition = inner.current().ok_or_else(|| internal("no definition"))?;
            (definition, inner.is_active())
        };
        let disk = query::find_disk(&definition, &args.path).ok_or_else(|| {
            error(Code::InvalidArg, format!("invalid path {} not assigned to domain", args.path))
        })?;
        let path = query::local_path(disk).ok_or_else(|| {
            error(Code::InvalidArg, format!("disk '{}' does not currently have a source assigned", args.path))
        })?;
        let mut sizes = query::file_sizes(path)
            .map_err(|error| system(&error, &format!("Failed to open file '{path}'")))?;
        if active && let Some(capacity) = Nodes::ask(&guest)?.capacity(disk) {
            sizes.capacity = capacity;
        }
        Ok(DomainGetBlockInfoRet {
            allocation: sizes.allocation,
            capacity: sizes.capacity,
            physical: sizes.physical,
        })
    }

    fn domain_get_block_io_tune(
        &self,
        _: &ClientContext,
        args: DomainGetBlockIoTuneArgs,
    ) -> Result<DomainGetBlockIoTuneRet> {
        self.block_io_tune(args)
    }

    fn domain_get_blkio_parameters(
        &self,
        _: &ClientContext,
        args: DomainGetBlkioParametersArgs,
    ) -> Result<DomainGetBlkioParametersRet> {
        self.block_limits(&args)
    }

    fn domain_set_blkio_parameters(
        &self,
        _: &ClientContext,
        args: DomainSetBlkioParametersArgs,
    ) -> Result<()> {
        self.set_block_shares(&args)
    }

    fn domain_block_peek(&self, _: &ClientContext, args: DomainBlockPeekArgs) -> Result<DomainBlockPeekRet> {
        self.block_peek(&args)
    }

    fn domain_memory_peek(
        &self,
        _: &ClientContext,
        args: DomainMemoryPeekArgs,
    ) -> Result<DomainMemoryPeekRet> {
        self.memory_peek(&args)
    }

    fn domain_set_block_threshold(&self, _: &ClientContext, args: DomainSetBlockThresholdArgs) -> Result<()> {
        self.set_block_threshold(&args)
    }

    fn domain_fd_associate(
        &self,
        client: &ClientContext,
        args: DomainFdAssociateArgs,
        fds: Vec<OwnedFd>,
    ) -> Result<()> {
        const RESTORE_LABEL: u32 = 1;
        const WRITABLE: u32 = 2;
        // Owners of what clients opened are left as they are: there is nothing to restore.
        if fds.is_empty() {
            let (api, text) = ("virDomainFDAssociate", "nfds in virDomainFDAssociate must not be zero");
            return Err(rpc::Error::invalid_argument(rpc::Origin::Domain, api, "nfds", text));
        }
        check_flags(args.flags, RESTORE_LABEL | WRITABLE, "qemuDomainFDAssociate")?;
        let guest = self.guest(&args.dom)?;
        let key = (guest.uuid, args.name);
        self.core.groups.put(key, client.id(), fds, args.flags & WRITABLE != 0)
    }

    fn domain_open_graphics(
        &self,
        _: &ClientContext,
        args: DomainOpenGraphicsArgs,
        fds: Vec<OwnedFd>,
    ) -> Result<()> {
        self.open_graphics(&args, fds)
    }

    fn domain_open_graphics_fd(
        &self,
        _: &ClientContext,
        args: DomainOpenGraphicsFdArgs,
    ) -> Result<((), Vec<OwnedFd>)> {
        self.open_graphics_fd(&args)
    }

    fn domain_set_block_io_tune(&self, _: &ClientContext, args: DomainSetBlockIoTuneArgs) -> Result<()> {
        self.set_block_io_tune(&args)
    }

    fn domain_block_resize(&self, _: &ClientContext, args: DomainBlockResizeArgs) -> Result<()> {
        self.block_resize(&args)
    }

    fn domain_get_interface_parameters(
        &self,
        _: &ClientContext,
        args: DomainGetInterfaceParametersArgs,
    ) -> Result<DomainGetInterfaceParametersRet> {
        self.interface_parameters(&args)
    }

    fn domain_set_interface_parameters(
        &self,
        _: &ClientContext,
        args: DomainSetInterfaceParametersArgs,
    ) -> Result<()> {
        self.set_interface_parameters(&args)
    }

    fn domain_get_disk_errors(
        &self,
        _: &ClientContext,
        args: DomainGetDiskErrorsArgs,
    ) -> Result<DomainGetDiskErrorsRet> {
        check_flags(args.flags, 0, "qemuDomainGetDiskErrors")?;
        let guest = self.guest(&args.dom)?;
        let definition = {
            let inner = guest.lock();
            inner.live.as_ref().ok_or_else(not_running)?.definition.clone()
        };
        if args.maxerrors == 0 {
            return Ok(DomainGetDiskErrorsRet {
                errors: Vec::new(),
                nerrors: definition.devices.disk.len() as i32,
            });
        }
        let reply = guest.execute("query-block", Dict::default())?;
        let mut errors = Vec::new();
        for row in reply.as_list().unwrap_or_default() {
            let state = match row.get("io-status").and_then(Value::as_str) {
                Some("failed") => 1,
                Some("nospace") => 2,
                _ => continue,
            };
            let qdev = row.get("qdev").and_then(Value::as_str).unwrap_or_default();
            let ours = |disk: &&domain_xml::disk::Disk| {
                crate::definition::disk_alias(disk)
                    .is_some_and(|alias| qdev.split('/').any(|part| part == alias))
            };
            if let Some(disk) = definition.devices.disk.iter().find(ours) {
                errors.push(DomainDiskError { disk: disk.dev().to_owned(), error: state });
            }
        }
        errors.truncate(args.maxerrors as usize);
        let nerrors = errors.len() as i32;
        Ok(DomainGetDiskErrorsRet { errors, nerrors })
    }

    fn domain_inject_nmi(&self, _: &ClientContext, args: DomainInjectNmiArgs) -> Result<()> {
        check_flags(args.flags, 0, "qemuDomainInjectNMI")?;
        let guest = self.guest(&args.dom)?;
        let _job = guest.jobs.begin("virDomainInjectNMI")?;
        guest.execute("inject-nmi", Dict::default()).map(drop)
    }

    fn domain_send_key(&self, _: &ClientContext, args: DomainSendKeyArgs) -> Result<()> {
        check_flags(args.flags, 0, "qemuDomainSendKey")?;
        let guest = self.guest(&args.dom)?;
        let keys = super::keys::to_qemu(args.codeset, &args.keycodes)?;
        let _job = guest.jobs.begin("virDomainSendKey")?;
        let keys: Vec<Dict> =
            keys.into_iter().map(|code| dict! { "type" => "number", "data" => i64::from(code) }).collect();
        let mut arguments = dict! { "keys" => keys };
        if args.holdtime != 0 {
            arguments.insert("hold-time", i64::from(args.holdtime).into());
        }
        guest.execute("send-key", arguments).map(drop)
    }

    fn domain_screenshot(
        &self,
        _: &ClientContext,
        args: DomainScreenshotArgs,
        stream: Stream,
    ) -> Result<DomainScreenshotRet> {
        check_flags(args.flags, 0, "qemuDomainScreenshot")?;
        let guest = self.guest(&args.dom)?;
        let _job = guest.jobs.begin("virDomainScreenshot")?;
        let (definition, png) = {
            let inner = guest.lock();
            let live = inner.live.as_ref().ok_or_else(not_running)?;
            (live.definition.clone(), live.caps.has("screenshot-format-png"))
        };
        let videos = &definition.devices.video;
        if videos.is_empty() {
            return Err(invalid("only one screen is supported"));
        }
        // All heads of the first card, then those of the next one.
        let mut head = args.screen;
        let mut card = None;
        for video in videos {
            let heads = video.model.as_ref().and_then(|model| model.heads).unwrap_or(1);
            if head < heads {
                card = Some(video);
                break;
            }
            head -= heads;
        }
        let card = card.ok_or_else(|| invalid("no such screen ID"))?;
        let directory = &self.core.paths.data;
        let name = format!(
            "qemu.screendump.{:016x}",
            u64::from_ne_bytes(crate::files::random().map_err(|error| system(&error, "no random numbers"))?)
        );
        let path = directory.join(name);
        let shown = path.to_string_lossy().into_owned();
        let create = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
        let file = create.map_err(|error| system(&error, &format!("cannot create '{shown}'")))?;
        if let Some((user, group)) = self.core.config.owner {
            let _ = std::os::unix::fs::fchown(&file, Some(user), Some(group));
        }
        let mut arguments = dict! { "filename" => shown.as_str() };
        if let Some(alias) = card.info.alias.as_ref().filter(|_| args.screen > 0 || videos.len() > 1) {
            arguments.insert("device", alias.name.as_str().into());
            arguments.insert("head", i64::from(head).into());
        }
        if png {
            arguments.insert("format", "png".into());
        }
        let taken = guest.execute("screendump", arguments);
        let file = std::fs::File::open(&path);
        let _ = std::fs::remove_file(&path);
        taken?;
        let file = file.map_err(|error| system(&error, &format!("unable to open '{shown}'")))?;
        let mime = if png { "image/png" } else { "image/x-portable-pixmap" };
        stream.attach(file.into(), Direction::Read, None);
        Ok(DomainScreenshotRet { mime: Some(mime.to_owned()) })
    }

    fn domain_open_console(
        &self,
        _: &ClientContext,
        args: DomainOpenConsoleArgs,
        stream: Stream,
    ) -> Result<()> {
        const FORCE: u32 = 1;
        // No client is let in beside another one anyway.
        const SAFE: u32 = 2;
        check_flags(args.flags, SAFE | FORCE, "qemuDomainOpenConsole")?;
        let guest = self.guest(&args.dom)?;
        let definition = {
            let inner = guest.lock();
            inner.live.as_ref().ok_or_else(not_running)?.definition.clone()
        };
        let devices = &definition.devices;
        let mut all = devices.console.iter().chain(&devices.serial).chain(&devices.parallel);
        let found = match &args.dev_name {
            Some(name) => {
                all.find(|device| device.info.alias.as_ref().is_some_and(|alias| alias.name == *name))
            }
            None => devices.console.first().or(devices.serial.first()),
        };
        let device = found.ok_or_else(|| match &args.dev_name {
            Some(name) => internal(format!("cannot find character device {name}")),
            None => internal("cannot find character device (null)"),
        })?;
        match open_chardev(&guest, device, args.flags & FORCE != 0, stream)? {
            true => Ok(()),
            false => Err(failed("Active console session exists for this domain")),
        }
    }

    fn domain_open_channel(
        &self,
        _: &ClientContext,
        args: DomainOpenChannelArgs,
        stream: Stream,
    ) -> Result<()> {
        const FORCE: u32 = 1;
        check_flags(args.flags, FORCE, "qemuDomainOpenChannel")?;
        let guest = self.guest(&args.dom)?;
        let definition = {
            let inner = guest.lock();
            inner.live.as_ref().ok_or_else(not_running)?.definition.clone()
        };
        let named = |channel: &&domain_xml::chardev::CharDevice| match &args.name {
            Some(name) => channel.target.as_ref().and_then(|target| target.name.as_deref()) == Some(name),
            None => true,
        };
        let channel = definition.devices.channel.iter().find(named);
        let channel = channel.ok_or_else(|| {
            internal(format!("cannot find channel {}", args.name.as_deref().unwrap_or("(null)")))
        })?;
        match open_chardev(&guest, channel, args.flags & FORCE != 0, stream)? {
            true => Ok(()),
            false => Err(failed("Active channel stream exists for this domain")),
        }
    }
}

/// Connects a stream with a character device; `false`: somebody else is connected.
fn open_chardev(
    guest: &Guest,
    device: &domain_xml::chardev::CharDevice,
    force: bool,
    stream: Stream,
) -> Result<bool> {
    use domain_xml::chardev::CharType;
    use rustix::fs::{Mode, OFlags};
    let path =
        device.source.path().ok_or_else(|| internal("character device is not using a PTY or UNIX socket"))?;
    guest.sessions.connect(path, force, stream, || match device.source.kind {
        Some(CharType::Pty) => {
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty())
                .map_err(|errno| system(&errno.into(), &format!("Unable to open stream for '{path}'")))
        }
        Some(CharType::Unix) => std::os::unix::net::UnixStream::connect(path)
            .map(OwnedFd::from)
            .map_err(|error| system(&error, &format!("Unable to connect to '{path}'"))),
        _ => Err(internal(format!("character device {path} is not using a PTY or UNIX socket"))),
    })
}
