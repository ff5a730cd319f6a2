//! The table of all options.

use crate::parse::{Builder, Raw, Stop};
use crate::{block, chars, items, misc, objects};

/// What an option does.
#[derive(Clone, Copy)]
pub enum Apply {
    /// It is built.
    #[expect(private_interfaces, reason = "only the parser calls it; outside it is a marker")]
    Built(fn(&mut Builder<'_>, &Raw<'_>) -> Result<(), Stop>),
    /// It belongs to QEMU's programs for other architectures.
    Foreign,
    /// It is not built yet, and refused by name.
    Unbuilt,
}

/// One option.
pub struct Opt {
    /// Its name without the dash.
    pub name: &'static str,
    /// What its argument looks like; `None` when it takes none.
    pub arg: Option<&'static str>,
    /// Heading in the help text.
    pub section: &'static str,
    /// Help text, one line.
    pub help: &'static str,
    /// What it does.
    pub apply: Apply,
}

const STANDARD: &str = "Standard options";
const BLOCK: &str = "Block device options";
const USB: &str = "USB convenience options";
const DISPLAY: &str = "Display options";
const X86: &str = "i386 target only";
const NETWORK: &str = "Network options";
const CHARACTER: &str = "Character device options";
const TPM: &str = "TPM device options";
const KERNEL: &str = "Boot Image or Kernel specific";
const EXPERT: &str = "Debug/Expert options";
const OBJECT: &str = "Generic object creation";

macro_rules! options {
    ($($section:ident { $($kind:ident $name:literal $arg:expr, $help:literal $(=> $apply:path)?;)* })*) => {
        /// Every option, in the order of the help text.
        pub static OPTIONS: &[Opt] = &[$($(
            Opt { name: $name, arg: $arg, section: $section, help: $help, apply: options!(@ $kind $($apply)?) },
        )*)*];
    };
    (@ built $apply:path) => { Apply::Built($apply) };
    (@ later) => { Apply::Unbuilt };
    (@ foreign) => { Apply::Foreign };
}

options! {
    STANDARD {
        built "help" None, "show this text and exit (also -h)" => misc::help;
        built "version" None, "show the version and exit" => misc::version;
        built "machine" Some("[type=]name[,prop[=value][,...]]"), "choose the board and its properties; 'help' lists boards" => items::machine;
        built "M" Some("[type=]name[,prop[=value][,...]]"), "the same as -machine" => items::machine;
        built "cpu" Some("model[,+feature][,-feature][,feature=on|off]"), "choose the CPU model and its features; 'help' lists models" => items::cpu;
        built "accel" Some("[accel=]name[,prop[=value][,...]]"), "choose what runs guest code (tcg, kvm); may be repeated as a fallback list" => items::accel;
        built "smp" Some("[[cpus=]n][,maxcpus=n][,sockets=n][,dies=n][,cores=n][,threads=n]"), "set the number of CPUs and their topology" => items::smp;
        later "numa" Some("node[,...]"), "describe NUMA nodes";
        later "add-fd" Some("fd=fd,set=set[,opaque=text]"), "put an inherited descriptor into a set";
        later "set" Some("group.id.arg=value"), "change a parameter of an earlier option";
        built "global" Some("driver.property=value"), "set a property's default for all devices of a type" => items::global;
        built "boot" Some("[order=drives][,once=drives][,menu=on|off][,splash=file][,splash-time=ms][,reboot-timeout=ms][,strict=on|off]"), "set the boot order and what firmware shows" => misc::boot;
        built "m" Some("[size=]megs[,slots=n,maxmem=size]"), "set the size of the guest's RAM (MiB, or with a suffix)" => misc::memory;
        later "mem-path" Some("path"), "take the guest's RAM from a file";
        later "mem-prealloc" None, "touch the guest's RAM at start";
        later "k" Some("language"), "set the keyboard layout";
        later "audio" Some("[driver=]driver[,prop=value][,...]"), "set up sound in one step";
        built "audiodev" Some("[driver=]driver,id=id[,prop=value][,...]"), "make a sound back end; 'help' lists them" => misc::audiodev;
        built "device" Some("driver[,prop[=value][,...]]"), "add a device; 'help' lists types, 'driver,help' a type's properties" => items::device;
        built "name" Some("[guest=]text[,process=text][,debug-threads=on|off]"), "name the guest, the process and its threads" => misc::name;
        built "uuid" Some("uuid"), "set the system's UUID" => misc::uuid;
    }
    BLOCK {
        later "fda" Some("file"), "use file as floppy disk 0";
        later "fdb" Some("file"), "use file as floppy disk 1";
        later "hda" Some("file"), "use file as IDE disk 0";
        later "hdb" Some("file"), "use file as IDE disk 1";
        later "hdc" Some("file"), "use file as IDE disk 2";
        later "hdd" Some("file"), "use file as IDE disk 3";
        later "cdrom" Some("file"), "use file as an IDE CD-ROM";
        built "blockdev" Some("[driver=]driver[,node-name=name][,prop=value][,...]"), "make a node of the block graph (file, raw)" => block::blockdev;
        built "drive" Some("[file=file][,if=virtio|none][,format=raw][,id=name][,readonly=on|off][,cache=mode][,discard=mode][,snapshot=on|off][,aio=engine]"), "use file as a drive" => block::drive;
        later "mtdblock" Some("file"), "use file as on-board flash";
        later "sd" Some("file"), "use file as an SD card";
        built "snapshot" None, "write to temporary files instead of images" => misc::flag;
        later "fsdev" Some("driver,id=id[,...]"), "share a folder by 9p";
        later "virtfs" Some("driver,path=path,mount_tag=tag[,...]"), "share a folder by 9p in one step";
        later "iscsi" Some("[prop=value][,...]"), "set iSCSI session parameters";
    }
    USB {
        later "usb" None, "enable the board's USB controller";
        later "usbdevice" Some("name"), "add a USB device";
    }
    DISPLAY {
        built "display" Some("type[,prop=value][,...]"), "choose the display (none); 'help' lists them" => misc::display;
        built "nographic" None, "no display; first serial port and monitor share the terminal" => misc::nographic;
        later "spice" Some("prop=value[,...]"), "serve the display by SPICE";
        later "portrait" None, "turn the display by 90 degrees";
        later "rotate" Some("degrees"), "turn the display";
        built "vga" Some("type"), "choose the display adapter (none)" => misc::vga;
        later "full-screen" None, "start in full screen";
        foreign "g" Some("WxH[xDEPTH]"), "set the initial resolution (other targets)";
        later "vnc" Some("display[,...]"), "serve the display by VNC";
    }
    X86 {
        later "win2k-hack" None, "slow down IDE for an old installer";
        later "no-fd-bootchk" None, "do not check a floppy's boot signature";
        later "acpitable" Some("[prop=value][,...]"), "add an ACPI table";
        later "smbios" Some("[file=file]|[type=n,...]"), "set SMBIOS fields";
    }
    NETWORK {
        built "netdev" Some("type,id=id[,prop=value][,...]"), "make a network back end; 'help' lists them" => misc::netdev;
        built "nic" Some("none"), "no default network card" => misc::nic;
        built "net" Some("none"), "no default network card (old form)" => misc::nic;
    }
    CHARACTER {
        built "chardev" Some("backend,id=id[,mux=on|off][,logfile=path][,logappend=on|off][,...]"), "make a character device; 'help' lists back ends" => chars::chardev;
    }
    TPM {
        later "tpmdev" Some("type,id=id[,...]"), "make a TPM back end";
    }
    KERNEL {
        built "bios" Some("file"), "load this firmware image" => misc::bios;
        later "pflash" Some("file"), "use file as firmware flash";
        built "kernel" Some("image"), "boot this kernel (bzImage, PVH ELF, multiboot)" => misc::kernel;
        built "append" Some("text"), "set the kernel's command line" => misc::kernel;
        built "initrd" Some("file"), "give the kernel this initial RAM disk" => misc::kernel;
        later "dtb" Some("file"), "give the kernel this device tree";
    }
    EXPERT {
        later "compat" Some("[prop=value][,...]"), "set the policy for deprecated interfaces";
        built "fw_cfg" Some("[name=]name,file=file|string=text"), "give the firmware a named file" => misc::fw_cfg;
        built "serial" Some("dev"), "connect the next serial port to dev" => chars::serial;
        built "parallel" Some("none"), "no parallel port" => chars::parallel;
        built "monitor" Some("dev"), "connect the monitor to dev" => chars::monitor;
        later "qmp" Some("dev"), "serve QMP on dev";
        later "qmp-pretty" Some("dev"), "serve indented QMP on dev";
        built "mon" Some("[chardev=]id[,mode=readline]"), "connect a monitor to a character device" => chars::mon;
        built "debugcon" Some("dev"), "connect the debug port 0xe9 to dev" => chars::debugcon;
        built "pidfile" Some("file"), "write the process id to file" => misc::pidfile;
        later "preconfig" None, "wait for configuration before the board is made";
        built "S" None, "do not start the CPUs" => misc::flag;
        later "overcommit" Some("[mem-lock=on|off][,cpu-pm=on|off]"), "give hints on memory and power";
        built "gdb" Some("dev"), "serve GDB on dev" => chars::gdb;
        built "s" None, "serve GDB on TCP port 1234" => chars::gdb;
        built "d" Some("item1,..."), "log these items; 'help' lists them" => misc::log_items;
        built "D" Some("file"), "log to file" => misc::log_file;
        built "dfilter" Some("range,..."), "log code at these addresses only" => misc::log_ranges;
        later "seed" Some("number"), "seed random numbers";
        built "L" Some("path"), "look for firmware in this folder; 'help' lists folders" => misc::data_dir;
        built "enable-kvm" None, "the same as -accel kvm" => items::enable_kvm;
        foreign "xen-domid" Some("id"), "set the Xen domain id";
        foreign "xen-attach" None, "attach to a Xen domain";
        foreign "xen-domid-restrict" None, "restrict Xen operations";
        built "no-reboot" None, "exit instead of resetting" => misc::flag;
        built "no-shutdown" None, "stop instead of exiting at power-off" => misc::flag;
        built "action" Some("[reboot=reset|shutdown][,shutdown=poweroff|pause][,panic=pause|shutdown|exit-failure|none][,watchdog=reset|shutdown|poweroff|inject-nmi|pause|debug|none]"), "set the reaction to events" => misc::action;
        later "loadvm" Some("id"), "start from a snapshot";
        built "daemonize" None, "go to the background once ready" => misc::flag;
        later "option-rom" Some("file"), "load an option ROM";
        built "rtc" Some("[base=utc|localtime|date][,clock=host|rt|vm][,driftfix=none|slew]"), "set the real-time clock" => misc::rtc;
        later "icount" Some("[shift=n][,...]"), "count virtual time in instructions";
        built "watchdog-action" Some("reset|shutdown|poweroff|inject-nmi|pause|debug|none"), "set the reaction to a watchdog" => misc::watchdog_action;
        built "echr" Some("code"), "set the terminal's escape key" => misc::echr;
        later "incoming" Some("address"), "wait for a migration";
        later "only-migratable" None, "refuse devices that cannot migrate";
        built "nodefaults" None, "make no default devices" => misc::flag;
        later "runas" Some("user"), "run as another user";
        foreign "prom-env" Some("variable=value"), "set a firmware variable (other targets)";
        foreign "semihosting" None, "enable semihosting (other targets)";
        foreign "semihosting-config" Some("[...]"), "set semihosting (other targets)";
        foreign "old-param" None, "old parameter block (other targets)";
        later "sandbox" Some("on[,...]"), "filter system calls";
        later "readconfig" Some("file"), "read options from file";
        built "no-user-config" None, "read no configuration files (there are none to read)" => misc::flag;
        later "trace" Some("[[enable=]pattern][,...]"), "enable trace events";
        later "plugin" Some("[file=]file[,...]"), "load a plugin";
        later "qtest" Some("dev"), "serve the device test protocol";
        later "qtest-log" Some("file"), "log the device test protocol";
        later "run-with" Some("[async-teardown=on|off][,chroot=dir]"), "set process options";
        built "msg" Some("[timestamp=on|off][,guest-name=on|off]"), "set the layout of messages" => misc::msg;
        later "dump-vmstate" Some("file"), "write the layout of the saved state";
        later "enable-sync-profile" None, "profile locks";
        built "perfmap" None, "write a map of translated code for perf, /tmp/perf-PID.map" => misc::flag;
        built "jitdump" None, "write translated code for perf, jit-PID.dump" => misc::flag;
    }
    OBJECT {
        built "object" Some("type[,id=id][,prop=value][,...]"), "make an object; 'help' lists types" => objects::object;
    }
}
