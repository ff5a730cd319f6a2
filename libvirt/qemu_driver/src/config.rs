//! `qemu.conf`, as far as the driver follows it.

/// The settings with the defaults of the code.
#[derive(Clone, Debug)]
pub struct Config {
    /// The user and group of emulators; this process's own without.
    pub owner: Option<(u32, u32)>,
    /// Where VNC listens.
    pub vnc_listen: String,
    /// Where Spice listens.
    pub spice_listen: String,
    /// First and last port for displays.
    pub display_ports: (u16, u16),
    /// Whether guests' memory is part of core dumps.
    pub dump_guest_core: bool,
    /// Whether emulators are sandboxed.
    pub sandbox: bool,
    /// How guests are confined; as libvirt does without a setting.
    pub security: Option<security::Settings>,
    /// How saved states are compressed: the word of a [`crate::process::Compression`].
    pub save_image_format: String,
    /// How dumps of whole states are compressed.
    pub dump_image_format: String,
    /// The program that handles persistent reservations: a path, or a name that is looked for.
    pub pr_helper: String,
    /// Whom programs that emulate security modules run as, where the daemon is root's.
    pub tpm_owner: (u32, u32),
    /// Whether programs that serve folders tell everything.
    pub virtiofsd_debug: bool,
    /// Seconds that Open vSwitch may take for a change.
    pub ovs_timeout: u32,
    /// The program that makes tap devices for a user's own daemon.
    pub bridge_helper: String,
    /// AppArmor is used where the host has it (`security_driver`).
    pub apparmor: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            owner: None,
            vnc_listen: "127.0.0.1".to_owned(),
            spice_listen: "127.0.0.1".to_owned(),
            display_ports: (5900, 65_535),
            dump_guest_core: false,
            sandbox: true,
            security: None,
            save_image_format: "raw".to_owned(),
            dump_image_format: "raw".to_owned(),
            pr_helper: "qemu-pr-helper".to_owned(),
            tpm_owner: (0, 0),
            virtiofsd_debug: false,
            ovs_timeout: 5,
            bridge_helper: "qemu-bridge-helper".to_owned(),
            apparmor: true,
        }
    }
}
