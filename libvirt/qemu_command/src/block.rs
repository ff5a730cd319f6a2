//! Block devices: the nodes that a disk's data goes through.

use crate::command::Builder;
use crate::{Error, Props, Result, Sealed};
use domain_xml::disk::{Cache, DetectZeroes, Discard, Disk, DiskDevice, Io};
use domain_xml::source::{
    BackingStore, DiskFormat, Encryption, EncryptionEngine, EncryptionFormat, Host, Protocol, Secret, Slice,
    Source, SourceType, Transport,
};
use domain_xml::words::YesNo;
use json::Value;

/// The storage node of a file.
pub(crate) fn file_props(path: &str) -> Props {
    Props::default().put("driver", "file").put("filename", path)
}

/// What of a disk holds for its whole chain.
#[derive(Clone, Copy, Default)]
pub(crate) struct Manner {
    pub(crate) cache: Option<Cache>,
    pub(crate) io: Option<Io>,
    pub(crate) discard: Option<Discard>,
    pub(crate) detect_zeroes: Option<DetectZeroes>,
    pub(crate) cdrom: bool,
    pub(crate) floppy: bool,
}

impl Manner {
    /// The manner of a disk's top.
    pub(crate) fn of(disk: &Disk) -> Self {
        let driver = disk.driver.as_ref();
        Self {
            cache: driver.and_then(|d| d.cache).filter(|c| *c != Cache::Default),
            io: driver.and_then(|d| d.io).filter(|io| *io != Io::Default),
            discard: driver.and_then(|d| d.discard).filter(|d| *d != Discard::Default),
            detect_zeroes: driver.and_then(|d| d.detect_zeroes).filter(|d| *d != DetectZeroes::Default),
            cdrom: disk.device == DiskDevice::Cdrom,
            floppy: disk.device == DiskDevice::Floppy,
        }
    }
}

/// Whether the host caches writes, whether it goes past its cache, and whether it ignores flushes.
pub(crate) fn cache_flags(cache: Cache) -> (bool, bool, bool) {
    match cache {
        Cache::None => (true, true, false),
        Cache::Writethrough | Cache::Default => (false, false, false),
        Cache::Writeback => (true, false, false),
        Cache::Directsync => (false, true, false),
        Cache::Unsafe => (true, false, true),
    }
}

/// A link of a disk's chain.
pub(crate) struct Link<'a> {
    pub(crate) kind: SourceType,
    pub(crate) format: DiskFormat,
    pub(crate) source: &'a Source,
    pub(crate) index: u32,
    pub(crate) read_only: bool,
    pub(crate) encryption: Option<&'a Encryption>,
    pub(crate) auth: Option<&'a domain_xml::source::Auth>,
    pub(crate) cache_size: u64,
    pub(crate) manner: Manner,
    /// What is below: nothing said, the end, or another link's number.
    pub(crate) below: Below,
}

/// What a link stands on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Below {
    /// The domain does not say.
    Unknown,
    /// Nothing.
    Nothing,
    /// The link with that number.
    Link(u32),
}

/// Whether a source has data: an empty drive has none.
pub(crate) fn is_empty(kind: SourceType, source: Option<&Source>) -> bool {
    let Some(source) = source else { return true };
    match kind {
        SourceType::File => source.file.as_ref().is_none_or(String::is_empty),
        SourceType::Block => source.dev.as_ref().is_none_or(String::is_empty),
        SourceType::Dir => source.dir.as_ref().is_none_or(String::is_empty),
        SourceType::Network => source.protocol.is_none(),
        SourceType::Volume => source.pool.is_none(),
        SourceType::Nvme | SourceType::VhostUser => false,
    }
}

/// The links of a disk's chain, top first.
pub(crate) fn chain(disk: &Disk) -> Vec<Link<'_>> {
    let mut links = Vec::new();
    let Some(source) = &disk.source else { return links };
    if is_empty(disk.kind, Some(source)) {
        return links;
    }
    let driver = disk.driver.as_ref();
    let manner = Manner::of(disk);
    let size =
        |cache: Option<&domain_xml::source::MetadataCache>| cache.and_then(|c| c.max_size).map_or(0, |s| s.0);
    links.push(Link {
        kind: disk.kind,
        format: driver.and_then(|d| d.format).unwrap_or(match disk.kind {
            SourceType::Dir => DiskFormat::Fat,
            _ => DiskFormat::Raw,
        }),
        source,
        index: source.index.unwrap_or(0),
        read_only: disk.read_only || disk.device == DiskDevice::Cdrom,
        encryption: source.encryption.as_ref().or(disk.encryption.as_ref()),
        auth: source.auth.as_ref().or(disk.auth.as_ref()),
        cache_size: size(driver.and_then(|d| d.metadata_cache.as_ref())),
        manner,
        below: Below::Unknown,
    });
    let mut store: Option<&BackingStore> = disk.backing_store.as_deref();
    while let Some(below) = store {
        let last = links.len() - 1;
        let (Some(kind), Some(source)) = (below.kind, &below.source) else {
            links[last].below = Below::Nothing;
            break;
        };
        let index = below.index.or(source.index).unwrap_or(0);
        links[last].below = Below::Link(index);
        let format = below.format.as_ref();
        links.push(Link {
            kind,
            format: format.map_or(DiskFormat::Raw, |f| f.kind),
            source,
            index,
            read_only: true,
            encryption: source.encryption.as_ref(),
            auth: source.auth.as_ref(),
            cache_size: size(format.and_then(|f| f.metadata_cache.as_ref())),
            manner: Manner { detect_zeroes: None, ..manner },
            below: Below::Unknown,
        });
        store = below.backing_store.as_deref();
    }
    links
}

/// The address of a server.
fn socket_address(host: &Host) -> Result<Props> {
    match host.transport.unwrap_or(Transport::Tcp) {
        Transport::Tcp => Ok(Props::default().put("type", "inet").and(inet_address(host))),
        Transport::Unix => {
            Ok(Props::default().put("type", "unix").put("path", host.socket.clone().unwrap_or_default()))
        }
        Transport::Rdma => Err(Error::internal("transport protocol 'rdma' is not yet supported")),
    }
}

fn inet_address(host: &Host) -> Props {
    Props::default()
        .put("host", host.name.clone().unwrap_or_default())
        .put("port", host.port.unwrap_or(0).to_string())
}

fn one_host<'a>(source: &'a Source, what: &str) -> Result<&'a Host> {
    match &source.host[..] {
        [host] => Ok(host),
        _ => Err(Error::internal(format!("{what} accepts only one host"))),
    }
}

/// The properties of a unit that is reached by iSCSI.
pub(crate) fn iscsi(
    props: Props,
    source: &Source,
    user: Option<String>,
    secret: Option<String>,
) -> Result<Props> {
    let name = source.name.as_deref().unwrap_or("");
    let host = source.host.first().ok_or_else(|| Error::internal("iscsi needs a host"))?;
    let (target, unit) = name.split_once('/').unwrap_or((name, "0"));
    let unit: u32 =
        unit.parse().map_err(|_| Error::internal(format!("cannot parse target for lunStr '{target}'")))?;
    let server = host.name.as_deref().unwrap_or("");
    let server = if server.contains(':') { format!("[{server}]") } else { server.to_owned() };
    let initiator = source.initiator.as_ref().and_then(|i| i.iqn.as_ref()).map(|iqn| iqn.name.clone());
    Ok(props
        .put("portal", format!("{server}:{}", host.port.unwrap_or(ISCSI_PORT)))
        .put("target", target)
        .put("lun", unit)
        .put("transport", "tcp")
        .some("user", user)
        .some("password-secret", secret)
        .some("initiator-name", initiator))
}

/// The port of iSCSI servers.
const ISCSI_PORT: u16 = 3260;

impl Builder<'_> {
    /// Adds the nodes of a disk's chain, the lowest first.
    pub(crate) fn chain_nodes(&mut self, links: &[Link<'_>]) -> Result<()> {
        let mut sets = std::collections::HashMap::new();
        for link in links {
            if let Some(group) = &link.source.fdgroup {
                let (descriptors, writable) = self.host.group(group)?;
                let node = format!("libvirt-{}-storage", link.index);
                let named: Vec<_> =
                    descriptors.into_iter().enumerate().map(|(n, fd)| (fd, format!("{node}{n}"))).collect();
                let count = named.len();
                let set = self.disk_sets.get(&link.index).copied().unwrap_or(self.sets);
                self.sets = self.sets.max(set + 1);
                sets.insert(link.index, (self.numbered_set(set, &named), count, writable));
            }
        }
        for link in links.iter().rev() {
            self.link_objects(link)?;
            let set = sets.get(&link.index).map(|(path, count, writable)| (path.as_str(), *count, *writable));
            let storage = self.storage_node(link, set)?;
            self.option("-blockdev", storage.argument());
            let slice = storage_slice(link.source);
            if let Some(slice) = slice
                && slice_apart(link)
            {
                self.option("-blockdev", slice_node(link, slice).argument());
            }
            let format = format_node(link, slice)?;
            self.option("-blockdev", format.argument());
        }
        Ok(())
    }

    /// What the nodes of a link refer to: secrets, certificates, helpers.
    fn link_objects(&mut self, link: &Link<'_>) -> Result<()> {
        let node = |part: &str| format!("libvirt-{}-{part}", link.index);
        if let Some(reservations) = &link.source.reservations
            && reservations.managed == YesNo::No
        {
            let path = reservations.source.as_ref().and_then(|s| s.path.clone()).unwrap_or_default();
            let name = format!("pr-helper-{}", node("storage"));
            self.object(&Props::object("pr-manager-helper", name).put("path", path));
        }
        if let Some(secret) = link.auth.and_then(|auth| auth.secret.as_ref()) {
            self.secret_object(&format!("{}-auth-secret0", node("storage")), secret)?;
        }
        if let Some(secret) = link.encryption.and_then(|e| e.secret.first()) {
            self.secret_object(&format!("{}-encryption-secret0", node("format")), secret)?;
        }
        if let Some(cookies) = &link.source.cookies {
            let text: Vec<String> =
                cookies.cookie.iter().map(|c| format!("{}={}", c.name, c.value)).collect();
            let sealed = self.host.seal(&text.join("; "))?;
            self.sealed_object(&format!("{}-httpcookie-secret0", node("storage")), sealed);
        }
        if link.source.tls == Some(YesNo::Yes) {
            let mut password = None;
            if let Some(secret) = self.settings.nbd_tls.secret.clone() {
                let name = format!("obj{}_tls0-secret0", node("storage"));
                let sealed = self.host.secret(&format!("uuid:{secret}"))?;
                self.sealed_object(&name, sealed);
                password = Some(name);
            }
            let name = format!("obj{}_tls0", node("storage"));
            let directory = self.settings.nbd_tls.directory.clone();
            let props = Props::object("tls-creds-x509", name)
                .put("dir", directory)
                .put("endpoint", "client")
                .put("verify-peer", true)
                .some("passwordid", password);
            self.object(&props);
        }
        Ok(())
    }

    pub(crate) fn secret_object(&mut self, name: &str, secret: &Secret) -> Result<()> {
        let reference = match (&secret.uuid, &secret.usage) {
            (Some(uuid), _) => format!("uuid:{uuid}"),
            (None, usage) => {
                format!("{}:{}", secret.kind.as_deref().unwrap_or("volume"), usage.as_deref().unwrap_or(""))
            }
        };
        let sealed = self.host.secret(&reference)?;
        self.sealed_object(name, sealed);
        Ok(())
    }

    /// Adds a secret that was sealed with the guest's master key.
    pub(crate) fn sealed_object(&mut self, name: &str, sealed: Sealed) {
        let props = Props::object("secret", name)
            .put("data", sealed.data)
            .put("keyid", "masterKey0")
            .put("iv", sealed.iv)
            .put("format", "base64");
        self.object(&props);
    }

    fn storage_node(&mut self, link: &Link<'_>, set: Option<(&str, usize, bool)>) -> Result<Props> {
        let name = format!("libvirt-{}-storage", link.index);
        let mut props = self.storage_props(link.kind, link.source, Some((link, set.map(|s| s.0))))?;
        props = props.put("node-name", name);
        props = with_cache(props, link.manner.cache);
        props = match set {
            // With one descriptor there is none to try reading first with.
            Some((_, 1, writable)) => props.put("read-only", !writable && link.read_only),
            _ => props.put("auto-read-only", true),
        };
        Ok(props.put("discard", "unmap"))
    }

    /// The driver of a storage node and where its data is.
    pub(crate) fn storage_props(
        &mut self,
        kind: SourceType,
        source: &Source,
        link: Option<(&Link<'_>, Option<&str>)>,
    ) -> Result<Props> {
        let (link, set) = link.unzip();
        let node = link.map(|link| format!("libvirt-{}-storage", link.index)).unwrap_or_default();
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        Ok(match kind {
            SourceType::File | SourceType::Block => {
                let path = if kind == SourceType::File { text(&source.file) } else { text(&source.dev) };
                let driver = if kind == SourceType::File {
                    "file"
                } else if link.is_some_and(|l| l.manner.cdrom && l.format == DiskFormat::Raw)
                    && self.host.is_cdrom(&path)
                {
                    "host_cdrom"
                } else {
                    "host_device"
                };
                let manager = source.reservations.as_ref().map(|r| match r.managed {
                    YesNo::Yes => "pr-helper0".to_owned(),
                    YesNo::No => format!("pr-helper-{node}"),
                });
                Props::default()
                    .put("driver", driver)
                    .put("filename", set.flatten().map_or(path, str::to_owned))
                    .some("aio", link.and_then(|l| l.manner.io).map(Io::as_str))
                    .some("pr-manager", manager)
            }
            SourceType::Dir => Props::default()
                .put("driver", "vvfat")
                .put("dir", text(&source.dir))
                .put("floppy", link.is_some_and(|l| l.manner.floppy))
                .put("rw", !link.is_some_and(|l| l.read_only)),
            SourceType::Nvme => {
                let address = source.address.as_ref().map(|a| {
                    let (domain, bus, slot, function) = a.place();
                    format!("{domain:04x}:{bus:02x}:{slot:02x}.{function:x}")
                });
                Props::default()
                    .put("driver", "nvme")
                    .put("device", address.unwrap_or_default())
                    .put("namespace", source.namespace.unwrap_or(0))
            }
            SourceType::Network => self.network_props(source, link, &node)?,
            SourceType::Volume => {
                return Err(Error::internal(format!(
                    "storage source pool '{}' volume '{}' is not translated",
                    text(&source.pool),
                    text(&source.volume)
                )));
            }
            SourceType::VhostUser => {
                return Err(Error::internal("unable to create blockdev props for vhostuser disk type"));
            }
        })
    }

    fn network_props(&mut self, source: &Source, link: Option<&Link<'_>>, node: &str) -> Result<Props> {
        let protocol = source.protocol.unwrap_or_default();
        let name = source.name.clone().unwrap_or_default();
        let auth = link.and_then(|l| l.auth);
        let user = auth.map(|a| a.username.clone());
        let secret = auth.map(|_| format!("{node}-auth-secret0"));
        let props = Props::default().put("driver", protocol.as_str());
        Ok(match protocol {
            Protocol::Gluster => {
                let (volume, path) = name.split_once('/').unwrap_or((&name, ""));
                let servers: Vec<Value> =
                    source.host.iter().map(|h| socket_address(h).map(Value::from)).collect::<Result<_>>()?;
                props
                    .put("volume", volume)
                    .put("path", path)
                    .put("server", Value::List(servers))
                    .put("debug", self.settings.gluster_debug)
            }
            Protocol::Http | Protocol::Https | Protocol::Ftp | Protocol::Ftps | Protocol::Tftp => {
                let host = one_host(source, &format!("protocol '{protocol}'"))?;
                let slash = if name.starts_with('/') { "" } else { "/" };
                let query = source.query.as_ref().map_or_else(String::new, |q| format!("?{q}"));
                let server = host.name.as_deref().unwrap_or("");
                let port = host.port.unwrap_or(0);
                props
                    .put("url", format!("{protocol}://{server}:{port}{slash}{name}{query}"))
                    .some("username", user)
                    .some("password-secret", secret)
                    .answer("sslverify", source.ssl.as_ref().map(|ssl| ssl.verify))
                    .some(
                        "cookie-secret",
                        source.cookies.as_ref().map(|_| format!("{node}-httpcookie-secret0")),
                    )
                    .positive("timeout", source.timeout.as_ref().map_or(0, |t| t.seconds))
                    .positive("readahead", source.readahead.as_ref().map_or(0, |r| r.size))
            }
            Protocol::Iscsi => iscsi(props, source, user, secret)?,
            Protocol::Nbd => {
                let host = one_host(source, "nbd protocol")?;
                let delay = source.reconnect.as_ref().and_then(|it| it.delay).unwrap_or(0);
                props
                    .put("server", socket_address(host)?)
                    .some("export", source.name.clone())
                    .some("tls-creds", (source.tls == Some(YesNo::Yes)).then(|| format!("obj{node}_tls0")))
                    .some("tls-hostname", source.tls_hostname.clone())
                    .positive("reconnect-delay", delay)
            }
            Protocol::Rbd => {
                let (pool, image) = name.split_once('/').unwrap_or(("", &name));
                let servers: Vec<Value> = source.host.iter().map(|h| inet_address(h).into()).collect();
                let encryption = link.and_then(|l| l.encryption.map(|e| (l, e)));
                let encrypt = encryption.filter(|(_, e)| e.engine == Some(EncryptionEngine::Librbd));
                let encrypt = encrypt.map(|(link, e)| {
                    Props::default()
                        .put("format", e.format.as_str())
                        .put("key-secret", format!("libvirt-{}-format-encryption-secret0", link.index))
                });
                let modes: Vec<&str> = vec!["cephx", "none"];
                props
                    .put("pool", pool)
                    .put("image", image)
                    .some("snapshot", source.snapshot.as_ref().map(|s| s.name.clone()))
                    .some("conf", source.config.as_ref().map(|c| c.file.clone()))
                    .some("server", (!servers.is_empty()).then_some(Value::List(servers)))
                    .some("encrypt", encrypt)
                    .some("user", user)
                    .some("auth-client-required", auth.map(|_| modes))
                    .some("key-secret", secret)
            }
            Protocol::Nfs => {
                let host = one_host(source, "nfs protocol")?;
                let server =
                    Props::default().put("host", host.name.clone().unwrap_or_default()).put("type", "inet");
                let number = |id: Option<&String>| {
                    id.and_then(|id| id.strip_prefix('+').unwrap_or(id).parse::<i64>().ok())
                };
                let identity = source.identity.as_ref();
                props
                    .put("server", server)
                    .put("path", name)
                    .some("user", number(identity.and_then(|i| i.user.as_ref())))
                    .some("group", number(identity.and_then(|i| i.group.as_ref())))
            }
            Protocol::Sheepdog => {
                let host = one_host(source, "sheepdog protocol")?;
                props.put("server", socket_address(host)?).put("vdi", name)
            }
            Protocol::Ssh => {
                let host = one_host(source, "ssh protocol")?;
                props.put("path", name).put("server", inet_address(host)).some("user", user)
            }
            Protocol::Vxhs => {
                return Err(Error::unsupported("VxHS protocol is not supported with this QEMU binary"));
            }
        })
    }
}

/// The part of a file that is the disk.
pub(crate) fn storage_slice(source: &Source) -> Option<&Slice> {
    source.slices.iter().flat_map(|s| &s.slice).find(|s| s.kind == "storage")
}

/// Whether a slice needs a node of its own: only the plain format can show a part of a file.
fn slice_apart(link: &Link<'_>) -> bool {
    let luks = link
        .encryption
        .is_some_and(|e| e.engine != Some(EncryptionEngine::Librbd) && e.format == EncryptionFormat::Luks);
    link.format != DiskFormat::Raw || luks
}

fn with_cache(props: Props, cache: Option<Cache>) -> Props {
    let Some(cache) = cache else { return props };
    let (_, direct, no_flush) = cache_flags(cache);
    props.put("cache", Props::default().put("direct", direct).put("no-flush", no_flush))
}

fn slice_node(link: &Link<'_>, slice: &Slice) -> Props {
    let props = Props::default()
        .put("driver", "raw")
        .put("node-name", format!("libvirt-{}-slice-sto", link.index))
        .put("offset", slice.offset)
        .put("size", slice.size)
        .put("file", format!("libvirt-{}-storage", link.index))
        .put("auto-read-only", true)
        .put("discard", "unmap");
    with_cache(props, link.manner.cache)
}

fn format_node(link: &Link<'_>, slice: Option<&Slice>) -> Result<Props> {
    let name = format!("libvirt-{}-format", link.index);
    let manner = link.manner;
    // Without discarding there is nothing to unmap.
    let zeroes = manner.detect_zeroes.map(|zeroes| match zeroes {
        DetectZeroes::Unmap if manner.discard != Some(Discard::Unmap) => DetectZeroes::On,
        other => other,
    });
    let mut props = Props::default()
        .put("node-name", name.clone())
        .put("read-only", link.read_only)
        .some("discard", manner.discard.map(Discard::as_str))
        .some("detect-zeroes", zeroes.map(DetectZeroes::as_str));
    props = with_cache(props, manner.cache);
    let by_qemu = link.encryption.filter(|e| e.engine != Some(EncryptionEngine::Librbd));
    let key = format!("{name}-encryption-secret0");
    let encrypt = |e: &Encryption| -> Result<Props> {
        let format = match e.format {
            EncryptionFormat::Qcow => "aes",
            EncryptionFormat::Luks => "luks",
            EncryptionFormat::Luks2 | EncryptionFormat::LuksAny | EncryptionFormat::Default => {
                return Err(Error::unsupported(format!(
                    "{} is currently not supported by the qemu encryption engine",
                    e.format
                )));
            }
        };
        Ok(Props::default().put("format", format).put("key-secret", key.clone()))
    };
    let mut storage = format!("libvirt-{}-storage", link.index);
    props = match link.format {
        DiskFormat::Raw | DiskFormat::Fat => match by_qemu {
            Some(e) if e.format == EncryptionFormat::Luks => {
                props.put("driver", "luks").put("key-secret", key.clone())
            }
            _ => {
                let props = props.put("driver", "raw");
                match slice {
                    Some(slice) => props.put("offset", slice.offset).put("size", slice.size),
                    None => props,
                }
            }
        },
        DiskFormat::Qcow2 => props
            .put("driver", "qcow2")
            .some("encrypt", by_qemu.map(encrypt).transpose()?)
            .positive("cache-size", link.cache_size),
        DiskFormat::Qcow => props.put("driver", "qcow").some("encrypt", by_qemu.map(encrypt).transpose()?),
        DiskFormat::Ploop => props.put("driver", "parallels"),
        DiskFormat::Vhd => props.put("driver", "vhdx"),
        format @ (DiskFormat::Bochs
        | DiskFormat::Cloop
        | DiskFormat::Dmg
        | DiskFormat::Vdi
        | DiskFormat::Vpc
        | DiskFormat::Qed
        | DiskFormat::Vmdk) => props.put("driver", format.as_str()),
        other => return Err(Error::internal(format!("mishandled storage format '{other}'"))),
    };
    if slice.is_some() && slice_apart(link) {
        storage = format!("libvirt-{}-slice-sto", link.index);
    }
    props = props.put("file", storage);
    let layered = matches!(
        link.format,
        DiskFormat::Cow | DiskFormat::Qcow | DiskFormat::Qcow2 | DiskFormat::Qed | DiskFormat::Vmdk
    );
    Ok(match link.below {
        Below::Link(index) if layered => props.put("backing", format!("libvirt-{index}-format")),
        Below::Nothing if layered => props.put("backing", Value::Null),
        Below::Link(_) => {
            return Err(Error::unsupported(format!(
                "storage format '{}' does not support backing store",
                link.format
            )));
        }
        _ => props,
    })
}
