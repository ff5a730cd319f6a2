//! `qemu.conf`.

use crate::setting::{OneOrMore, Size, settings};

/// A device that every guest may use.
fn device_acl() -> Vec<String> {
    ["null", "full", "zero", "random", "urandom", "ptmx", "kvm", "userfaultfd"]
        .map(|name| format!("/dev/{name}"))
        .into()
}

fn controllers() -> Vec<String> {
    ["cpu", "devices", "memory", "blkio", "cpuset", "cpuacct"].map(String::from).into()
}

settings! {
    /// The settings of the QEMU driver.
    pub struct Qemu {
        "TLS" {
            /// Folder of the certificates for all uses that have none of their own.
            default_tls_x509_cert_dir: String = "/etc/pki/qemu", unbuilt;
            /// Clients must show a certificate.
            default_tls_x509_verify: bool = true, unbuilt;
            /// Secret with the key's password.
            default_tls_x509_secret_uuid: Option<String> = None::<String>, unbuilt;
        }
        "VNC" {
            /// Address on which displays listen.
            vnc_listen: String = "127.0.0.1";
            /// Displays without an address listen on a Unix socket.
            vnc_auto_unix_socket: bool = false, unbuilt;
            /// Displays are encrypted.
            vnc_tls: bool = false, unbuilt;
            /// Folder of the certificates for VNC.
            vnc_tls_x509_cert_dir: Option<String> = None::<String>, unbuilt;
            /// Secret with the key's password for VNC.
            vnc_tls_x509_secret_uuid: Option<String> = None::<String>, unbuilt;
            /// Clients of VNC must show a certificate.
            vnc_tls_x509_verify: bool = false, unbuilt;
            /// Password of displays that have none.
            vnc_password: Option<String> = None::<String>, unbuilt;
            /// Clients of VNC authenticate by SASL.
            vnc_sasl: bool = false, unbuilt;
            /// Folder of the configuration of SASL for VNC.
            vnc_sasl_dir: Option<String> = None::<String>, unbuilt;
            /// Guests with VNC may use the host's audio.
            vnc_allow_host_audio: bool = false, unbuilt;
        }
        "Spice" {
            /// Address on which displays listen.
            spice_listen: String = "127.0.0.1";
            /// Displays are encrypted.
            spice_tls: bool = false, unbuilt;
            /// Folder of the certificates for Spice.
            spice_tls_x509_cert_dir: Option<String> = None::<String>, unbuilt;
            /// Displays without an address listen on a Unix socket.
            spice_auto_unix_socket: bool = false, unbuilt;
            /// Password of displays that have none.
            spice_password: Option<String> = None::<String>, unbuilt;
            /// Clients of Spice authenticate by SASL.
            spice_sasl: bool = false, unbuilt;
            /// Folder of the configuration of SASL for Spice.
            spice_sasl_dir: Option<String> = None::<String>, unbuilt;
        }
        "Certificates of other uses" {
            /// TCP character devices are encrypted.
            chardev_tls: bool = false, unbuilt;
            /// Folder of the certificates for character devices.
            chardev_tls_x509_cert_dir: Option<String> = None::<String>, unbuilt;
            /// Peers of character devices must show a certificate.
            chardev_tls_x509_verify: bool = true, unbuilt;
            /// Secret with the key's password for character devices.
            chardev_tls_x509_secret_uuid: Option<String> = None::<String>, unbuilt;
            /// Folder of the certificates for migration.
            migrate_tls_x509_cert_dir: Option<String> = None::<String>, unbuilt;
            /// Peers of migration must show a certificate.
            migrate_tls_x509_verify: bool = true, unbuilt;
            /// Secret with the key's password for migration.
            migrate_tls_x509_secret_uuid: Option<String> = None::<String>, unbuilt;
            /// Migration without encryption is refused.
            migrate_tls_force: bool = false, unbuilt;
            /// Folder of the certificates for backups.
            backup_tls_x509_cert_dir: Option<String> = None::<String>, unbuilt;
            /// Peers of backups must show a certificate.
            backup_tls_x509_verify: bool = true, unbuilt;
            /// Secret with the key's password for backups.
            backup_tls_x509_secret_uuid: Option<String> = None::<String>, unbuilt;
            /// VxHS disks are encrypted.
            vxhs_tls: bool = false, unbuilt;
            /// Folder of the certificates for VxHS.
            vxhs_tls_x509_cert_dir: Option<String> = None::<String>, unbuilt;
            /// Secret with the key's password for VxHS.
            vxhs_tls_x509_secret_uuid: Option<String> = None::<String>, unbuilt;
            /// NBD disks are encrypted.
            nbd_tls: bool = false, unbuilt;
            /// Folder of the certificates for NBD.
            nbd_tls_x509_cert_dir: Option<String> = None::<String>, unbuilt;
            /// Secret with the key's password for NBD.
            nbd_tls_x509_secret_uuid: Option<String> = None::<String>, unbuilt;
        }
        "Audio without a display" {
            /// Guests without a display may use the host's audio.
            nographics_allow_host_audio: bool = false, unbuilt;
        }
        "Ports of displays" {
            /// First port of displays.
            remote_display_port_min: u32 = 5900u32;
            /// Last port of displays.
            remote_display_port_max: u32 = 65_535u32;
            /// First port of displays over WebSocket.
            remote_websocket_port_min: u32 = 5700u32, unbuilt;
            /// Last port of displays over WebSocket.
            remote_websocket_port_max: u32 = 65_535u32, unbuilt;
        }
        "Security" {
            /// Security drivers; without a setting those that the host has.
            security_driver: OneOrMore = OneOrMore::default() => ["none", "apparmor"];
            /// Guests without a label are confined too.
            security_default_confined: bool = true;
            /// Guests that are not confined are refused.
            security_require_confined: bool = false;
            /// The user that runs emulators; "+0" is a number.
            user: Option<String> = None::<String>;
            /// The group that runs emulators.
            group: Option<String> = None::<String>;
            /// Files of guests are given to that user while the guest runs.
            dynamic_ownership: bool = true;
            /// Who owned a file is remembered.
            remember_owner: bool = true;
            /// Controllers of cgroups that are used.
            cgroup_controllers: Vec<String> = controllers() => ["cpu", "devices", "memory", "blkio", "cpuset", "cpuacct"];
            /// Devices that every guest may use.
            cgroup_device_acl: Vec<String> = device_acl();
            /// Emulators are sandboxed: 1 always, 0 never, -1 where they can be.
            seccomp_sandbox: i32 = -1;
            /// Namespaces of guests.
            namespaces: Vec<String> = vec!["mount".to_owned()] => ["mount"];
            /// Words of capabilities that emulators are said not to have.
            capability_filters: Vec<String> = Vec::new(), unbuilt;
            /// Capabilities of emulators are cleared.
            clear_emulator_capabilities: bool = true;
        }
        "Saved guests and dumps" {
            /// Compression of saved guests.
            save_image_format: String = "raw";
            /// Compression of dumps.
            dump_image_format: String = "raw";
            /// Compression of the memory of snapshots.
            snapshot_image_format: String = "raw", unbuilt;
            /// Where dumps go that a watchdog asks for.
            auto_dump_path: String = "/var/lib/libvirt/qemu/dump", unbuilt;
            /// They go past the host's cache.
            auto_dump_bypass_cache: bool = false, unbuilt;
            /// Saved guests are read past the host's cache when they are started with the host.
            auto_start_bypass_cache: bool = false, unbuilt;
        }
        "Processes" {
            /// Where huge pages are; from the host's mounts without a setting.
            hugetlbfs_mount: Option<OneOrMore> = None::<OneOrMore>, unbuilt;
            /// The helper that makes network devices for a user's own daemon.
            bridge_helper: String = "qemu-bridge-helper";
            /// The helper for persistent reservations.
            pr_helper: String = "qemu-pr-helper";
            /// The helper for networks in user space.
            slirp_helper: String = "slirp-helper", unbuilt;
            /// The daemon for D-Bus displays.
            dbus_daemon: String = "dbus-daemon", unbuilt;
            /// Emulators have the guest's name.
            set_process_name: bool = true, unbuilt;
            /// Most processes of the emulators' user; 0: no limit of our own.
            max_processes: u32 = 0u32;
            /// Most open files of an emulator.
            max_files: u32 = 0u32;
            /// Most threads of an emulator.
            max_threads_per_process: u32 = 0u32;
            /// Largest core dump of an emulator.
            max_core: Size = Size::Bytes(0);
            /// Guests' memory is part of core dumps.
            dump_guest_core: bool = false;
            /// Who writes what emulators say: virtlogd, or they themselves. Either way it is in the guest's log.
            stdio_handler: String = "logd" => ["logd", "file"];
            /// Which threads share a core only with each other.
            sched_core: String = "none", unbuilt;
        }
        "Devices" {
            /// Frames with an address that is not the guest's are dropped.
            mac_filter: bool = false, unbuilt;
            /// PCI devices behind switches without access control may be assigned.
            relaxed_acs_check: bool = false, unbuilt;
            /// Formats of disks are probed.
            allow_disk_format_probing: bool = false, unbuilt;
            /// The lock manager of disks.
            lock_manager: Option<String> = None::<String>, unbuilt;
        }
        "Jobs and migration" {
            /// Most operations that wait for one guest; 0: any number.
            max_queued: u32 = 0u32, unbuilt;
            /// Seconds of silence after which the other daemon of a migration is asked whether it lives.
            keepalive_interval: i32 = 5, unbuilt;
            /// Questions without an answer until it is given up.
            keepalive_count: u32 = 5u32, unbuilt;
            /// Address on which migrations are received.
            migration_address: Option<String> = None::<String>, unbuilt;
            /// First port of migrations.
            migration_port_min: u32 = 49_152u32, unbuilt;
            /// Last port of migrations.
            migration_port_max: u32 = 49_215u32, unbuilt;
            /// This host's name for others; its host name without a setting.
            migration_host: Option<String> = None::<String>, unbuilt;
        }
        "Log" {
            /// Emulators' messages begin with the time.
            log_timestamp: bool = true, unbuilt;
            /// How much the Gluster client tells.
            gluster_debug_level: u32 = 4u32, unbuilt;
            /// virtiofsd tells everything.
            virtiofsd_debug: bool = false;
            /// What emulators do about deprecated options.
            deprecation_behavior: String = "none", unbuilt;
        }
        "Firmware and memory" {
            /// Firmware and the template of its variables, "CODE:VARS"; by the firmware's descriptions without.
            nvram: Option<Vec<String>> = None::<Vec<String>>, unbuilt;
            /// Folder of guests' memory in files.
            memory_backing_dir: Option<String> = None::<String>, unbuilt;
        }
        "TPM" {
            /// The user that runs TPM emulators.
            swtpm_user: String = "tss";
            /// The group that runs TPM emulators.
            swtpm_group: String = "tss";
        }
        "Storage" {
            /// Disks over SSH and HTTP go through nbdkit.
            storage_use_nbdkit: bool = false, unbuilt;
        }
    }
}
