//! The limits of the protocol: how long lists and data may be. More is refused, in both directions.

/// Most bytes of a string.
pub const STRING_MAX: usize = 4_194_304;
/// Most entries of connect identity params.
pub const CONNECT_IDENTITY_PARAMS_MAX: usize = 20;
/// Most domains in a list.
pub const DOMAIN_LIST_MAX: usize = 16_384;
/// Most bytes in a map of CPUs.
pub const CPUMAP_MAX: usize = 2_048;
/// Most vCPUs in a list.
pub const VCPUINFO_MAX: usize = 16_384;
/// Most bytes in maps of CPUs.
pub const CPUMAPS_MAX: usize = 8_388_608;
/// Most entries of iothread info.
pub const IOTHREAD_INFO_MAX: usize = 16_384;
/// Most bytes in a migration cookie.
pub const MIGRATE_COOKIE_MAX: usize = 4_194_304;
/// Most entries of network.
pub const NETWORK_LIST_MAX: usize = 16_384;
/// Most entries of network port.
pub const NETWORK_PORT_LIST_MAX: usize = 16_384;
/// Most entries of interface.
pub const INTERFACE_LIST_MAX: usize = 16_384;
/// Most entries of storage pool.
pub const STORAGE_POOL_LIST_MAX: usize = 16_384;
/// Most entries of storage vol.
pub const STORAGE_VOL_LIST_MAX: usize = 16_384;
/// Most entries of node device.
pub const NODE_DEVICE_LIST_MAX: usize = 65_536;
/// Most entries of node device caps.
pub const NODE_DEVICE_CAPS_LIST_MAX: usize = 65_536;
/// Most entries of nwfilter.
pub const NWFILTER_LIST_MAX: usize = 16_384;
/// Most entries of nwfilter binding.
pub const NWFILTER_BINDING_LIST_MAX: usize = 16_384;
/// Most entries of domain scheduler parameters.
pub const DOMAIN_SCHEDULER_PARAMETERS_MAX: usize = 16;
/// Most entries of domain blkio parameters.
pub const DOMAIN_BLKIO_PARAMETERS_MAX: usize = 16;
/// Most entries of domain memory parameters.
pub const DOMAIN_MEMORY_PARAMETERS_MAX: usize = 16;
/// Most entries of domain block io tune parameters.
pub const DOMAIN_BLOCK_IO_TUNE_PARAMETERS_MAX: usize = 32;
/// Most entries of domain numa parameters.
pub const DOMAIN_NUMA_PARAMETERS_MAX: usize = 16;
/// Most entries of domain perf events.
pub const DOMAIN_PERF_EVENTS_MAX: usize = 64;
/// Most entries of domain block copy parameters.
pub const DOMAIN_BLOCK_COPY_PARAMETERS_MAX: usize = 16;
/// Most entries of node cpu stats.
pub const NODE_CPU_STATS_MAX: usize = 16;
/// Most entries of node memory stats.
pub const NODE_MEMORY_STATS_MAX: usize = 16;
/// Most entries of domain block stats parameters.
pub const DOMAIN_BLOCK_STATS_PARAMETERS_MAX: usize = 16;
/// Most NUMA cells.
pub const NODE_MAX_CELLS: usize = 1_024;
/// Most bytes of SASL data.
pub const AUTH_SASL_DATA_MAX: usize = 65_536;
/// Most entries of auth type.
pub const AUTH_TYPE_LIST_MAX: usize = 20;
/// Most entries of domain memory stats.
pub const DOMAIN_MEMORY_STATS_MAX: usize = 1_024;
/// Most entries of domain checkpoint.
pub const DOMAIN_CHECKPOINT_LIST_MAX: usize = 16_384;
/// Most entries of domain snapshot.
pub const DOMAIN_SNAPSHOT_LIST_MAX: usize = 16_384;
/// Most bytes peeked from a disk.
pub const DOMAIN_BLOCK_PEEK_BUFFER_MAX: usize = 4_194_304;
/// Most bytes peeked from memory.
pub const DOMAIN_MEMORY_PEEK_BUFFER_MAX: usize = 4_194_304;
/// Most entries of security label.
pub const SECURITY_LABEL_LIST_MAX: usize = 64;
/// Most characters in a security model's name, its NUL included.
pub const SECURITY_MODEL_MAX: usize = 257;
/// Most characters in a security label, its NUL included.
pub const SECURITY_LABEL_MAX: usize = 4_097;
/// Most characters in a domain of interpretation, its NUL included.
pub const SECURITY_DOI_MAX: usize = 257;
/// Most bytes of a secret's value.
pub const SECRET_VALUE_MAX: usize = 65_536;
/// Most entries of secret.
pub const SECRET_LIST_MAX: usize = 16_384;
/// Most CPUs compared.
pub const CPU_BASELINE_MAX: usize = 256;
/// Most keys sent at once.
pub const DOMAIN_SEND_KEY_MAX: usize = 16;
/// Most entries of domain interface parameters.
pub const DOMAIN_INTERFACE_PARAMETERS_MAX: usize = 16;
/// Most entries of domain get cpu stats.
pub const DOMAIN_GET_CPU_STATS_MAX: usize = 2_048;
/// Most entries of domain disk errors.
pub const DOMAIN_DISK_ERRORS_MAX: usize = 256;
/// Most entries of node memory parameters.
pub const NODE_MEMORY_PARAMETERS_MAX: usize = 64;
/// Most entries of domain migrate param.
pub const DOMAIN_MIGRATE_PARAM_LIST_MAX: usize = 64;
/// Most entries of domain save params.
pub const DOMAIN_SAVE_PARAMS_MAX: usize = 64;
/// Most entries of domain job stats.
pub const DOMAIN_JOB_STATS_MAX: usize = 64;
/// Most names of CPU models.
pub const CONNECT_CPU_MODELS_MAX: usize = 8_192;
/// Most entries of domain fsfreeze mountpoints.
pub const DOMAIN_FSFREEZE_MOUNTPOINTS_MAX: usize = 256;
/// Most entries of network dhcp leases.
pub const NETWORK_DHCP_LEASES_MAX: usize = 65_536;
/// Most entries of connect get all domain stats.
pub const CONNECT_GET_ALL_DOMAIN_STATS_MAX: usize = 262_144;
/// Most entries of domain event tunable.
pub const DOMAIN_EVENT_TUNABLE_MAX: usize = 2_048;
/// Most entries of domain fsinfo.
pub const DOMAIN_FSINFO_MAX: usize = 256;
/// Most entries of domain fsinfo disks.
pub const DOMAIN_FSINFO_DISKS_MAX: usize = 256;
/// Most entries of domain interface.
pub const DOMAIN_INTERFACE_MAX: usize = 2_048;
/// Most entries of domain ip addr.
pub const DOMAIN_IP_ADDR_MAX: usize = 2_048;
/// Most entries of domain guest vcpu params.
pub const DOMAIN_GUEST_VCPU_PARAMS_MAX: usize = 64;
/// Most entries of domain iothread params.
pub const DOMAIN_IOTHREAD_PARAMS_MAX: usize = 64;
/// Most entries of node sev info.
pub const NODE_SEV_INFO_MAX: usize = 64;
/// Most entries of domain launch security info params.
pub const DOMAIN_LAUNCH_SECURITY_INFO_PARAMS_MAX: usize = 64;
/// Most entries of domain launch security state params.
pub const DOMAIN_LAUNCH_SECURITY_STATE_PARAMS_MAX: usize = 64;
/// Most entries of domain guest info params.
pub const DOMAIN_GUEST_INFO_PARAMS_MAX: usize = 2_048;
/// Most entries of network port parameters.
pub const NETWORK_PORT_PARAMETERS_MAX: usize = 16;
/// Most entries of domain authorized ssh keys.
pub const DOMAIN_AUTHORIZED_SSH_KEYS_MAX: usize = 2_048;
/// Most entries of domain messages.
pub const DOMAIN_MESSAGES_MAX: usize = 2_048;
/// Most entries of domain event graphics identity.
pub const DOMAIN_EVENT_GRAPHICS_IDENTITY_MAX: usize = 20;
/// Most servers in a list.
pub const ADMIN_SERVER_LIST_MAX: usize = 16_384;
/// Most parameters of a pool of workers.
pub const ADMIN_SERVER_THREADPOOL_PARAMETERS_MAX: usize = 32;
/// Most clients in a list.
pub const ADMIN_CLIENT_LIST_MAX: usize = 16_384;
/// Most parameters that describe a client.
pub const ADMIN_CLIENT_INFO_PARAMETERS_MAX: usize = 64;
/// Most limits of a server's clients.
pub const ADMIN_SERVER_CLIENT_LIMITS_MAX: usize = 32;
