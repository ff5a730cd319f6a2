//! The numbers of errors and of the parts that report them (`virErrorNumber`, `virErrorDomain`), and the texts.

macro_rules! codes {
    ($($name:ident = $number:literal, $plain:literal, $detailed:literal;)*) => {
        /// What went wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(i32)]
        pub enum Code {
            $(#[doc = $plain] $name = $number,)*
        }

        impl Code {
            /// The message without and with a detail, which stands for `%1$s`.
            pub(super) fn texts(self) -> (&'static str, &'static str) {
                match self {
                    $(Self::$name => ($plain, $detailed),)*
                }
            }

            /// The code of a number; `None`: there is none.
            pub fn from_number(number: i32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    InternalError = 1, "internal error", "internal error: %1$s";
    NoMemory = 2, "out of memory", "out of memory: %1$s";
    NoSupport = 3, "this function is not supported by the connection driver", "this function is not supported by the connection driver: %1$s";
    UnknownHost = 4, "unknown host", "unknown host %1$s";
    NoConnect = 5, "no connection driver available", "no connection driver available for %1$s";
    InvalidConn = 6, "invalid connection pointer in", "invalid connection pointer in %1$s";
    InvalidDomain = 7, "invalid domain pointer in", "invalid domain pointer in %1$s";
    InvalidArg = 8, "invalid argument", "invalid argument: %1$s";
    OperationFailed = 9, "operation failed", "operation failed: %1$s";
    GetFailed = 10, "GET operation failed", "GET operation failed: %1$s";
    PostFailed = 11, "POST operation failed", "POST operation failed: %1$s";
    HttpError = 12, "got unknown HTTP error code", "got unknown HTTP error code %1$s";
    SexprSerial = 13, "failed to serialize S-Expr", "failed to serialize S-Expr: %1$s";
    NoXen = 14, "could not use Xen hypervisor entry", "could not use Xen hypervisor entry %1$s";
    XenCall = 15, "failed Xen syscall", "failed Xen syscall %1$s";
    OsType = 16, "unknown OS type", "unknown OS type %1$s";
    NoKernel = 17, "missing kernel information", "missing kernel information: %1$s";
    NoRoot = 18, "missing root device information", "missing root device information in %1$s";
    NoSource = 19, "missing source information for device", "missing source information for device %1$s";
    NoTarget = 20, "missing target information for device", "missing target information for device %1$s";
    NoName = 21, "missing name information", "missing name information in %1$s";
    NoOs = 22, "missing operating system information", "missing operating system information for %1$s";
    NoDevice = 23, "missing devices information", "missing devices information for %1$s";
    NoXenstore = 24, "could not connect to Xen Store", "could not connect to Xen Store %1$s";
    DriverFull = 25, "too many drivers registered", "too many drivers registered in %1$s";
    CallFailed = 26, "library call failed", "library call failed: %1$s";
    XmlError = 27, "XML description is invalid or not well formed", "XML error: %1$s";
    DomExist = 28, "this domain exists already", "domain %1$s exists already";
    OperationDenied = 29, "operation forbidden for read only access", "operation forbidden: %1$s";
    OpenFailed = 30, "failed to open configuration file", "failed to open configuration file %1$s";
    ReadFailed = 31, "failed to read configuration file", "failed to read configuration file %1$s";
    ParseFailed = 32, "failed to parse configuration file", "failed to parse configuration file %1$s";
    ConfSyntax = 33, "configuration file syntax error", "configuration file syntax error: %1$s";
    WriteFailed = 34, "failed to write configuration file", "failed to write configuration file: %1$s";
    XmlDetail = 35, "parser error", "%s";
    InvalidNetwork = 36, "invalid network pointer in", "invalid network pointer in %1$s";
    NetworkExist = 37, "this network exists already", "network %1$s exists already";
    SystemError = 38, "system call error", "%s";
    Rpc = 39, "RPC error", "%s";
    GnutlsError = 40, "GNUTLS call error", "%s";
    WarnNoNetwork = 41, "Failed to find the network", "Failed to find the network: %1$s";
    NoDomain = 42, "Domain not found", "Domain not found: %1$s";
    NoNetwork = 43, "Network not found", "Network not found: %1$s";
    InvalidMac = 44, "invalid MAC address", "invalid MAC address: %1$s";
    AuthFailed = 45, "authentication failed", "authentication failed: %1$s";
    InvalidStoragePool = 46, "invalid storage pool pointer in", "invalid storage pool pointer in %1$s";
    InvalidStorageVol = 47, "invalid storage volume pointer in", "invalid storage volume pointer in %1$s";
    WarnNoStorage = 48, "Failed to find a storage driver", "Failed to find a storage driver: %1$s";
    NoStoragePool = 49, "Storage pool not found", "Storage pool not found: %1$s";
    NoStorageVol = 50, "Storage volume not found", "Storage volume not found: %1$s";
    WarnNoNode = 51, "Failed to find a node driver", "Failed to find a node driver: %1$s";
    InvalidNodeDevice = 52, "invalid node device pointer", "invalid node device pointer in %1$s";
    NoNodeDevice = 53, "Node device not found", "Node device not found: %1$s";
    NoSecurityModel = 54, "Security model not found", "Security model not found: %1$s";
    OperationInvalid = 55, "Requested operation is not valid", "Requested operation is not valid: %1$s";
    WarnNoInterface = 56, "Failed to find the interface", "Failed to find the interface: %1$s";
    NoInterface = 57, "Interface not found", "Interface not found: %1$s";
    InvalidInterface = 58, "invalid interface pointer in", "invalid interface pointer in %1$s";
    MultipleInterfaces = 59, "multiple matching interfaces found", "multiple matching interfaces found: %1$s";
    WarnNoNwfilter = 60, "Failed to start the nwfilter driver", "Failed to start the nwfilter driver: %1$s";
    InvalidNwfilter = 61, "Invalid network filter", "Invalid network filter: %1$s";
    NoNwfilter = 62, "Network filter not found", "Network filter not found: %1$s";
    BuildFirewall = 63, "Error while building firewall", "Error while building firewall: %1$s";
    WarnNoSecret = 64, "Failed to find a secret storage driver", "Failed to find a secret storage driver: %1$s";
    InvalidSecret = 65, "Invalid secret", "Invalid secret: %1$s";
    NoSecret = 66, "Secret not found", "Secret not found: %1$s";
    ConfigUnsupported = 67, "unsupported configuration", "unsupported configuration: %1$s";
    OperationTimeout = 68, "Timed out during operation", "Timed out during operation: %1$s";
    MigratePersistFailed = 69, "Failed to make domain persistent after migration", "Failed to make domain persistent after migration: %1$s";
    HookScriptFailed = 70, "Hook script execution failed", "Hook script execution failed: %1$s";
    InvalidDomainSnapshot = 71, "Invalid domain snapshot", "Invalid domain snapshot: %1$s";
    NoDomainSnapshot = 72, "Domain snapshot not found", "Domain snapshot not found: %1$s";
    InvalidStream = 73, "invalid stream pointer", "invalid stream pointer in %1$s";
    ArgumentUnsupported = 74, "argument unsupported", "argument unsupported: %1$s";
    StorageProbeFailed = 75, "Storage pool probe failed", "Storage pool probe failed: %1$s";
    StoragePoolBuilt = 76, "Storage pool already built", "Storage pool already built: %1$s";
    SnapshotRevertRisky = 77, "revert requires force", "revert requires force: %1$s";
    OperationAborted = 78, "operation aborted", "operation aborted: %1$s";
    AuthCancelled = 79, "authentication cancelled", "authentication cancelled: %1$s";
    NoDomainMetadata = 80, "metadata not found", "metadata not found: %1$s";
    MigrateUnsafe = 81, "Unsafe migration", "Unsafe migration: %1$s";
    Overflow = 82, "numerical overflow", "numerical overflow: %1$s";
    BlockCopyActive = 83, "block copy still active", "block copy still active: %1$s";
    OperationUnsupported = 84, "Operation not supported", "Operation not supported: %1$s";
    Ssh = 85, "SSH transport error", "SSH transport error: %1$s";
    AgentUnresponsive = 86, "Guest agent is not responding", "Guest agent is not responding: %1$s";
    ResourceBusy = 87, "resource busy", "resource busy: %1$s";
    AccessDenied = 88, "access denied", "access denied: %1$s";
    DbusService = 89, "error from service", "error from service: %1$s";
    StorageVolExist = 90, "this storage volume exists already", "storage volume %1$s exists already";
    CpuIncompatible = 91, "the CPU is incompatible with host CPU", "the CPU is incompatible with host CPU: %1$s";
    XmlInvalidSchema = 92, "XML document failed to validate against schema", "XML document failed to validate against schema: %1$s";
    MigrateFinishOk = 93, "migration successfully aborted", "migration successfully aborted: %1$s";
    AuthUnavailable = 94, "authentication unavailable", "authentication unavailable: %1$s";
    NoServer = 95, "Server not found", "Server not found: %1$s";
    NoClient = 96, "Client not found", "Client not found: %1$s";
    AgentUnsynced = 97, "guest agent replied with wrong id to guest-sync command", "guest agent replied with wrong id to guest-sync command: %1$s";
    Libssh = 98, "libssh transport error", "libssh transport error: %1$s";
    DeviceMissing = 99, "device not found", "device not found: %1$s";
    InvalidNwfilterBinding = 100, "Invalid network filter binding", "Invalid network filter binding: %1$s";
    NoNwfilterBinding = 101, "Network filter binding not found", "Network filter binding not found: %1$s";
    InvalidDomainCheckpoint = 102, "Invalid domain checkpoint", "Invalid domain checkpoint: %1$s";
    NoDomainCheckpoint = 103, "Domain checkpoint not found", "Domain checkpoint not found: %1$s";
    NoDomainBackup = 104, "Domain backup job id not found", "Domain backup job id not found: %1$s";
    InvalidNetworkPort = 105, "Invalid network port pointer", "Invalid network port pointer: %1$s";
    NetworkPortExist = 106, "this network port exists already", "network port %1$s exists already";
    NoNetworkPort = 107, "network port not found", "network port not found: %1$s";
    NoHostname = 108, "no hostname found", "no hostname found: %1$s";
    CheckpointInconsistent = 109, "checkpoint inconsistent", "checkpoint inconsistent: %1$s";
    MultipleDomains = 110, "multiple matching domains found", "multiple matching domains found: %1$s";
    NoNetworkMetadata = 111, "metadata not found", "metadata not found: %1$s";
    AgentCommandTimeout = 112, "guest agent command timed out", "guest agent command timed out: %1$s";
    AgentCommandFailed = 113, "guest agent command failed", "guest agent command failed: %1$s";
}

/// Which part reports an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Origin {
    None = 0,
    Xen = 1,
    Xend = 2,
    Xenstore = 3,
    Sexpr = 4,
    Xml = 5,
    Dom = 6,
    Rpc = 7,
    Proxy = 8,
    Conf = 9,
    Qemu = 10,
    Net = 11,
    Test = 12,
    Remote = 13,
    Openvz = 14,
    Xenxm = 15,
    StatsLinux = 16,
    Lxc = 17,
    Storage = 18,
    Network = 19,
    Domain = 20,
    Uml = 21,
    Nodedev = 22,
    XenInotify = 23,
    Security = 24,
    Vbox = 25,
    Interface = 26,
    One = 27,
    Esx = 28,
    Phyp = 29,
    Secret = 30,
    Cpu = 31,
    Xenapi = 32,
    Nwfilter = 33,
    Hook = 34,
    DomainSnapshot = 35,
    Audit = 36,
    Sysinfo = 37,
    Streams = 38,
    Vmware = 39,
    Event = 40,
    Libxl = 41,
    Locking = 42,
    Hyperv = 43,
    Capabilities = 44,
    Uri = 45,
    Auth = 46,
    Dbus = 47,
    Parallels = 48,
    Device = 49,
    Ssh = 50,
    Lockspace = 51,
    Initctl = 52,
    Identity = 53,
    Cgroup = 54,
    Access = 55,
    Systemd = 56,
    Bhyve = 57,
    Crypto = 58,
    Firewall = 59,
    Polkit = 60,
    Thread = 61,
    Admin = 62,
    Logging = 63,
    Xenxl = 64,
    Perf = 65,
    Libssh = 66,
    Resctrl = 67,
    Firewalld = 68,
    DomainCheckpoint = 69,
    Tpm = 70,
    Bpf = 71,
    Ch = 72,
}
