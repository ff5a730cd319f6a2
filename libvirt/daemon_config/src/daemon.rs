//! `virtqemud.conf`.

use crate::setting::settings;

settings! {
    /// The settings of the daemon.
    pub struct Daemon {
        "Sockets" {
            /// The group that owns the sockets: its members may use them, as far as the modes below allow.
            unix_sock_group: Option<String> = None::<String>;
            /// Mode of the read-only socket.
            unix_sock_ro_perms: String = "0777";
            /// Mode of the read-write socket. Without a setting it is 0777 where polkit decides who may use it, else
            /// 0700.
            unix_sock_rw_perms: Option<String> = None::<String>;
            /// Mode of the admin socket.
            unix_sock_admin_perms: String = "0700";
            /// The folder of the sockets; the run-time folder without.
            unix_sock_dir: Option<String> = None::<String>;
        }
        "Authentication" {
            /// How clients of the read-only socket show who they are. Without a setting: polkit for the system's
            /// daemon, none for a user's own.
            auth_unix_ro: Option<String> = None::<String> => ["none", "polkit"];
            /// How clients of the read-write socket show who they are.
            auth_unix_rw: Option<String> = None::<String> => ["none", "polkit"];
            /// Drivers that are asked for leave of each call.
            access_drivers: Vec<String> = Vec::new(), unbuilt;
            /// Users that SASL admits.
            sasl_allowed_username_list: Option<Vec<String>> = None::<Vec<String>>, unbuilt;
        }
        "Clients and workers" {
            /// So many clients at once.
            max_clients: u32 = 5000u32;
            /// So many clients wait in the socket's queue.
            max_queued_clients: u32 = 1000u32;
            /// So many clients that have not shown who they are; 0: as many as there are clients.
            max_anonymous_clients: u32 = 20u32;
            /// Threads that are started at once.
            min_workers: u32 = 5u32;
            /// So many calls are served at once.
            max_workers: u32 = 20u32;
            /// So many more, of those that wait for no guest.
            prio_workers: u32 = 5u32;
            /// So many calls of one client at once.
            max_client_requests: u32 = 5u32;
            /// Threads of the admin socket.
            admin_min_workers: u32 = 5u32;
            /// Calls at once on the admin socket.
            admin_max_workers: u32 = 20u32;
            /// Clients of the admin socket.
            admin_max_clients: u32 = 5000u32;
            /// Clients that wait in the queue of the admin socket.
            admin_max_queued_clients: u32 = 20u32;
            /// Calls of one client of the admin socket.
            admin_max_client_requests: u32 = 5u32;
        }
        "Log" {
            /// What is logged: 1 debug, 2 information, 3 warnings, 4 errors.
            log_level: u32 = 3u32;
            /// Levels of single sources: "1:qemu 3:rpc".
            log_filters: Option<String> = None::<String>;
            /// Where the log goes: "1:file:/path 3:syslog:name 1:stderr 3:journald".
            log_outputs: Option<String> = None::<String>;
        }
        "Audit" {
            /// 0: none; 1: where the host has it; 2: the daemon does not start without.
            audit_level: u32 = 1u32, unbuilt;
            /// Audit messages are logged too.
            audit_logging: bool = false, unbuilt;
        }
        "The host's identity" {
            /// The host's UUID.
            host_uuid: Option<String> = None::<String>;
            /// Where the UUID is from otherwise: the firmware, or the machine's id.
            host_uuid_source: Option<String> = None::<String> => ["smbios", "machine-id"];
        }
        "Keeping connections alive" {
            /// Seconds of silence after which a client is asked whether it lives; -1: never.
            keepalive_interval: i32 = 5;
            /// Questions without an answer until a client is given up.
            keepalive_count: u32 = 5u32;
            /// Only clients that understand the questions are admitted.
            keepalive_required: bool = false, unbuilt;
            /// The same for the admin socket.
            admin_keepalive_interval: i32 = 5;
            /// The same for the admin socket.
            admin_keepalive_count: u32 = 5u32;
            /// The same for the admin socket.
            admin_keepalive_required: bool = false, unbuilt;
        }
        "Open vSwitch" {
            /// Seconds for a command of Open vSwitch.
            ovs_timeout: u32 = 5u32;
        }
    }
}
