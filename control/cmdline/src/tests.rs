//! The table against QEMU's list of options, and what becomes of command lines.

use crate::{Catalog, MachineRow, OPTIONS, Outcome, Plan, PropValue, parse};
use chardev::Kind;
use proptest::prelude::*;

/// Properties of the example.
#[derive(qdev::Properties)]
struct Example {
    /// A number.
    addr: u32,
}

static EXAMPLE: qdev::DeviceSpec = qdev::DeviceSpec {
    name: "example",
    aliases: &["sample"],
    desc: "",
    bus: "ISA",
    category: qdev::Category::Misc,
    user_creatable: true,
    properties: || Box::new(Example::default()),
    realize: |_, _| Err(qdev::DeviceError::new("never made")),
};

fn catalog() -> Catalog {
    let row = |name, alias, default, max_cpus| MachineRow {
        name,
        alias: Some(alias),
        description: "Standard PC",
        default,
        max_cpus,
    };
    Catalog {
        machines: vec![row("pc-i440fx-9.1", "pc", true, 255), row("pc-q35-9.1", "q35", false, 4096)],
        devices: vec![&EXAMPLE],
        cpu_help: || "Available CPUs:\n".to_owned(),
        machine_help: |name| format!("{name}-machine options:\n"),
    }
}

fn run(line: &str) -> Result<Outcome, String> {
    let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    parse(&args, &catalog()).map_err(|refused| refused.0)
}

fn plan(line: &str) -> Plan {
    match run(line) {
        Ok(Outcome::Run(plan)) => *plan,
        other => panic!("{line}: {other:?}"),
    }
}

fn error(line: &str) -> String {
    run(line).expect_err(line)
}

#[test]
fn the_table_has_each_option_once() {
    assert_eq!(OPTIONS.len(), 118);
    let mut names: Vec<_> = OPTIONS.iter().map(|option| option.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 118);
}

#[test]
fn errors_are_worded_as_qemu_words_them() {
    for (line, text) in [
        ("-foo", "-foo: invalid option"),
        ("-m", "-m: requires an argument"),
        ("-prom-env a=b", "-prom-env a=b: Option not supported for this target"),
        ("-vnc :0", "-vnc :0: this option is not supported by this build"),
        ("-accel kvm,rapl=on", "-accel kvm,rapl=on: 'rapl' is not supported by this build"),
        ("-name a,foo=b", "-name a,foo=b: Invalid parameter 'foo'"),
        ("-append x", "-append only allowed with -kernel option"),
        ("-initrd x", "-initrd only allowed with -kernel option"),
        ("-smp 300", "Invalid SMP CPUs 300. The max CPUs supported by machine 'pc-i440fx-9.1' is 255"),
        ("-smp foo", "Parameter 'smp.cpus' expects integer"),
        ("-smp 2,foo=1", "Parameter 'smp.foo' is unexpected"),
        ("-chardev foo,id=c", "-chardev foo,id=c: 'foo' is not a valid char driver name"),
        ("-chardev null", "-chardev null: chardev: no id specified"),
        ("-chardev null,id=c,foo=1", "-chardev null,id=c,foo=1: Invalid parameter 'foo'"),
        ("-object foo,id=a", "-object foo,id=a: Parameter 'qom-type' does not accept value 'foo'"),
        ("-object rng-random", "-object rng-random: Parameter 'id' is missing"),
        ("-boot order=zz", "Invalid boot device 'z'"),
        ("-rtc clock=foo", "invalid option value 'foo'"),
        ("-mon chardev=zz", "-mon chardev=zz: chardev \"zz\" not found"),
        ("-M pc,=on", "-M pc,=on: Invalid parameter ''"),
        ("-netdev foo,id=a", "-netdev foo,id=a: Parameter 'type' does not accept value 'foo'"),
        ("-netdev user", "-netdev user: Parameter 'id' is missing"),
        (
            "-drive file=/nonexistent",
            "-drive file=/nonexistent: Could not open '/nonexistent': No such file or directory",
        ),
        ("-drive if=foo", "-drive if=foo: unsupported bus type 'foo'"),
        (
            "-cdrom /nonexistent/x",
            "-cdrom /nonexistent/x: Could not open '/nonexistent/x': No such file or directory",
        ),
        ("-hda /dev/null", "-hda /dev/null: this option is not supported by this build"),
        ("-sd /dev/null", "-sd /dev/null: machine type does not support if=sd,bus=0,unit=0"),
        ("-blockdev driver=foo", "-blockdev driver=foo: Parameter 'driver' does not accept value 'foo'"),
        ("-device {", "-device {: JSON parse error, premature EOI"),
        ("-D a%x", "Bad logfile template: a%x"),
        ("-action watchdog=foo", "-action watchdog=foo: Parameter 'watchdog' does not accept value 'foo'"),
        ("-uuid zz", "-uuid zz: failed to parse UUID string: wrong format"),
        (
            "-serial chardev:zz",
            "-serial chardev:zz: could not connect serial device to character backend 'chardev:zz'",
        ),
        (
            "-mon chardev=a,mode=control",
            "-mon chardev=a,mode=control: mode=control (QMP) is not supported by this build",
        ),
    ] {
        assert_eq!(error(line), text);
    }
    assert!(error("-M foo").starts_with("unsupported machine type"));
    assert!(
        error("-smp 2,cores=4")
            .starts_with("Invalid CPU topology: product of the hierarchy must match maxcpus: ")
    );
}

#[test]
fn default_devices() {
    let nographic = plan("-nographic");
    assert_eq!(nographic.chardevs.len(), 1);
    assert!(nographic.chardevs[0].spec.mux);
    assert_eq!(nographic.chardevs[0].spec.kind, Kind::Stdio { signal: false });
    assert_eq!((nographic.serials.len(), nographic.monitors.len()), (1, 1));
    let bare = plan("-nodefaults -display none");
    assert!(bare.chardevs.is_empty() && bare.serials.is_empty() && bare.monitors.is_empty());
    let split = plan("-nographic -serial stdio -monitor none");
    assert_eq!((split.serials.len(), split.monitors.len()), (1, 0));
    let ports = plan("-display none -serial none -serial null -monitor none");
    assert_eq!(ports.serials.len(), 2);
    assert!(ports.serials[0].is_none());
}

#[test]
fn typed_declarations() {
    let plan = plan(
        "-M q35,accel=tcg,hpet=off -m 1.5G -smp 4 -kernel k -append a -device sample,addr=3,id=x \
         -drive file=/dev/null,if=none,id=d,format=raw,cache=none -device {'driver':'example','addr':1} -global a.b=c=d \
         -uuid 00112233-4455-6677-8899-aabbccddeeff -rtc base=1970-01-02T00:00:01 -no-reboot",
    );
    assert_eq!(plan.machine.name, "pc-q35-9.1");
    assert_eq!(plan.machine.props, [("hpet".to_owned(), "off".to_owned())]);
    assert_eq!(plan.ram, 3 << 29);
    assert_eq!(plan.smp.map(|smp| (smp.cpus, smp.sockets, smp.cores)), Some((4, 1, 4)));
    assert_eq!(plan.devices[0].id.as_deref(), Some("x"));
    assert_eq!(plan.devices[1].props[0].1, PropValue::Json(json::Value::Int(1)));
    assert_eq!((plan.globals[0].property.as_str(), plan.globals[0].value.as_str()), ("b", "c=d"));
    let options = &plan.drives[0].options;
    assert_eq!(options.interface, block::Interface::None);
    assert!(options.image.cache.direct && options.image.format.is_some());
    assert_eq!(plan.uuid.map(|uuid| uuid[1]), Some(0x11));
    assert_eq!(plan.rtc.base, crate::RtcBase::At(86401));
}

#[test]
fn the_log_is_planned_and_not_opened() {
    let path = std::env::temp_dir().join(format!("cmdline-log-{}", std::process::id()));
    let line = format!("-display none -d int,guest_errors -D {}", path.display());
    let plan = plan(&line);
    assert_eq!(plan.log.items.count_ones(), 2);
    assert_eq!(plan.log.file.as_deref(), path.to_str());
    assert!(!path.exists());
}

#[test]
fn informational_exits() {
    for (line, first) in [
        ("-version", "QEMU emulator version 9.1.0 (Tinamou "),
        ("--version", "QEMU emulator version 9.1.0 (Tinamou "),
        ("-h", "QEMU emulator version 9.1.0"),
        (
            "-machine help",
            "Supported machines are:\npc                   Standard PC (alias of pc-i440fx-9.1)\n",
        ),
        ("-accel help", "Accelerators supported in QEMU binary:\n"),
        ("-cpu help", "Available CPUs:"),
        ("-object help", "List of user creatable objects:\n  memory-backend-ram\n"),
        ("-object rng-random,help", "rng-random options:\n"),
        ("-chardev help", "Available chardev backend types: \n"),
        ("-M q35,help", "pc-q35-9.1-machine options:\n"),
        ("-M none -accel help", "Accelerators supported in QEMU binary:\ntcg\nkvm\n"),
        (
            "-display none -machine accel=kvm:tcg -device ?",
            "Misc devices:\nname \"example\", bus ISA, alias \"sample\"\n",
        ),
        ("-device sample,help", "example options:\n  addr=<uint32>"),
        ("-d help", "Log items (comma separated):\n"),
    ] {
        match run(line) {
            Ok(Outcome::Text(text, 0)) => assert!(text.starts_with(first), "{line}: {text}"),
            other => panic!("{line}: {other:?}"),
        }
    }
}

proptest! {
    #[test]
    fn no_line_panics(option in 0usize..118, value: String, more: Vec<String>) {
        let mut args = vec![format!("-{}", OPTIONS[option].name), value];
        args.extend(more);
        let _ = parse(&args, &catalog());
    }

    #[test]
    fn no_structured_value_panics(option in 0usize..118, value in "[a-z]{0,8}(,(cpus|id|file|size|base|path|name|cores)=[a-z0-9.:{'\"]{0,6}){0,3}") {
        let option = &OPTIONS[option];
        if option.name != "D" {
            let _ = parse(&[format!("-{}", option.name), value], &catalog());
        }
    }
}
