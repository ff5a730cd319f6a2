//! The tables of commands.

use crate::expr::Reader;
use crate::memory::{self, Format};
use crate::{MachineControl, Topic, keys};
use report::log::ItemsError;
use std::fmt::Write as _;

/// What a command works on.
pub(crate) struct Scope<'a> {
    pub(crate) machine: &'a dyn MachineControl,
    pub(crate) cpu: &'a mut usize,
    pub(crate) format: &'a mut Format,
    /// The program ends: there is nothing more to ask.
    pub(crate) ended: bool,
    /// Lines that were typed.
    pub(crate) history: &'a [String],
    pub(crate) out: &'a mut String,
}

type Run = fn(&mut Scope<'_>, &str) -> Result<(), String>;

struct Command {
    /// Names, separated by `|`.
    names: &'static str,
    params: &'static str,
    help: &'static str,
    run: Run,
}

const COMMANDS: &[Command] = &[
    Command { names: "help|?", params: "[cmd]", help: "show the help", run: help },
    Command { names: "cont|c", params: "", help: "resume emulation", run: cont },
    Command { names: "cpu", params: "index", help: "set the default CPU", run: cpu },
    Command { names: "i", params: "/fmt addr", help: "I/O port read", run: port_in },
    Command {
        names: "info",
        params: "[subcommand]",
        help: "show various information about the system state",
        run: info,
    },
    Command {
        names: "log",
        params: "item1[,...]",
        help: "activate logging of the specified items",
        run: log,
    },
    Command { names: "logfile", params: "filename", help: "output logs to 'filename'", run: log_file },
    Command {
        names: "memsave",
        params: "addr size file",
        help: "save to disk virtual memory dump starting at 'addr' of size 'size'",
        run: |s, a| save(s, a, false),
    },
    Command { names: "nmi", params: "", help: "inject an NMI", run: nmi },
    Command { names: "o", params: "/fmt addr value", help: "I/O port write", run: port_out },
    Command {
        names: "pmemsave",
        params: "addr size file",
        help: "save to disk physical memory dump starting at 'addr' of size 'size'",
        run: |s, a| save(s, a, true),
    },
    Command {
        names: "print|p",
        params: "/fmt expr",
        help: "print expression value (use $reg for CPU register access)",
        run: print,
    },
    Command { names: "quit|q", params: "", help: "quit the emulator", run: quit },
    Command {
        names: "ringbuf_read",
        params: "device size",
        help: "Read from a ring buffer character device",
        run: ringbuf_read,
    },
    Command {
        names: "sendkey",
        params: "keys [hold_ms]",
        help: "send keys to the VM (e.g. 'sendkey ctrl-alt-f1', default hold time=100 ms)",
        run: sendkey,
    },
    Command { names: "stop|s", params: "", help: "stop emulation", run: stop },
    Command { names: "sum", params: "addr size", help: "compute the checksum of a memory region", run: sum },
    Command { names: "system_powerdown", params: "", help: "send system power down event", run: powerdown },
    Command { names: "system_reset", params: "", help: "reset the system", run: reset },
    Command { names: "system_wakeup", params: "", help: "wakeup guest from suspend", run: wakeup },
    Command {
        names: "watchdog_action",
        params: "[reset|shutdown|poweroff|pause|debug|none|inject-nmi]",
        help: "change watchdog action",
        run: watchdog_action,
    },
    Command { names: "x", params: "/fmt addr", help: "virtual memory dump starting at 'addr'", run: x },
    Command { names: "xp", params: "/fmt addr", help: "physical memory dump starting at 'addr'", run: xp },
];

const INFO: &[Command] = &[
    Command {
        names: "block",
        params: "",
        help: "show the block devices",
        run: |s, a| topic(s, a, Topic::Block),
    },
    Command { names: "chardev", params: "", help: "show the character devices", run: info_chardev },
    Command { names: "cpus", params: "", help: "show infos for each CPU", run: info_cpus },
    Command { names: "history", params: "", help: "show the command line history", run: info_history },
    Command {
        names: "irq",
        params: "",
        help: "show the interrupts statistics (if available)",
        run: |s, a| topic(s, a, Topic::Irq),
    },
    Command {
        names: "jit",
        params: "",
        help: "show dynamic compiler info",
        run: |s, a| topic(s, a, Topic::Jit),
    },
    Command { names: "kvm", params: "", help: "show KVM information", run: info_kvm },
    Command {
        names: "lapic",
        params: "",
        help: "show local apic state",
        run: |s, a| topic(s, a, Topic::Lapic),
    },
    Command {
        names: "mem",
        params: "",
        help: "show the active virtual memory mappings",
        run: |s, a| topic(s, a, Topic::Mem),
    },
    Command {
        names: "memory_size_summary",
        params: "",
        help: "show the amount of initially allocated and present hotpluggable (if enabled) memory in bytes.",
        run: info_memory_size,
    },
    Command {
        names: "mtree",
        params: "[-D]",
        help: "show memory tree (-D: dump disabled regions)",
        run: mtree,
    },
    Command { names: "name", params: "", help: "show the current VM name", run: info_name },
    Command { names: "pci", params: "", help: "show PCI info", run: |s, a| topic(s, a, Topic::Pci) },
    Command { names: "pic", params: "", help: "show PIC state", run: |s, a| topic(s, a, Topic::Pic) },
    Command { names: "qtree", params: "", help: "show device tree", run: |s, a| topic(s, a, Topic::Qtree) },
    Command {
        names: "ramblock",
        params: "",
        help: "Display system ramblock information",
        run: |s, a| topic(s, a, Topic::Ramblock),
    },
    Command {
        names: "registers",
        params: "[-a|vcpu]",
        help: "show the cpu registers (-a: show register info for all cpus; vcpu: specific vCPU to query; show the \
               current CPU's registers if no argument is specified)",
        run: info_registers,
    },
    Command { names: "roms", params: "", help: "show roms", run: |s, a| topic(s, a, Topic::Roms) },
    Command {
        names: "status",
        params: "",
        help: "show the current VM status (running|paused)",
        run: info_status,
    },
    Command {
        names: "tlb",
        params: "",
        help: "show virtual to physical memory mappings",
        run: |s, a| topic(s, a, Topic::Tlb),
    },
    Command { names: "uuid", params: "", help: "show the current VM UUID", run: info_uuid },
    Command { names: "version", params: "", help: "show the version of QEMU", run: info_version },
];

impl Command {
    fn is(&self, name: &str) -> bool {
        self.names.split('|').any(|own| own == name)
    }

    fn line(&self, prefix: &str) -> String {
        format!("{prefix}{} {} -- {}\n", self.names, self.params, self.help)
    }
}

/// Cuts the command's name off a line; a name ends where a format begins.
fn split(line: &str) -> (&str, &str) {
    let line = line.trim_start();
    let end = line.find(|c: char| c.is_whitespace() || c == '/').unwrap_or(line.len());
    line.split_at(end)
}

/// Does what one line says for somebody who is not at a monitor of their own; what is to be read.
pub fn run(machine: &dyn MachineControl, line: &str) -> String {
    let mut out = String::new();
    let (mut cpu, mut format) = (0, Format { count: 1, letter: 'x', size: 4 });
    let history = [];
    let (cpu, format) = (&mut cpu, &mut format);
    execute(&mut Scope { machine, cpu, format, ended: false, history: &history, out: &mut out }, line);
    out
}

/// Does what a line says; what the user is to read goes to the scope's output.
pub(crate) fn execute(scope: &mut Scope<'_>, line: &str) {
    let line = line.trim();
    let (name, args) = split(line);
    if name.is_empty() && args.is_empty() {
        return;
    }
    let Some(command) = COMMANDS.iter().find(|command| command.is(name)) else {
        let _ = writeln!(scope.out, "unknown command: '{}'", if name.is_empty() { line } else { name });
        return;
    };
    let (mut shown, mut names) = (name.to_owned(), command.names);
    if command.names == "info"
        && let Some(topic) = INFO.iter().find(|row| row.is(split(args.trim()).0))
    {
        shown = format!("info {}", split(args.trim()).0);
        names = topic.names;
    }
    if let Err(text) = (command.run)(scope, args) {
        let place = if text == EXTRANEOUS { format!("{names}: ") } else { String::new() };
        let _ = writeln!(scope.out, "{place}{text}\nTry \"help {shown}\" for more information");
    }
}

const EXTRANEOUS: &str = "extraneous characters at the end of line";

/// The names that complete `text`, the line up to the cursor.
pub(crate) fn completions(text: &str) -> (String, Vec<&'static str>) {
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    let (table, prefix) = match words.as_slice() {
        [] => (COMMANDS, ""),
        [word] if !text.ends_with(' ') => (COMMANDS, *word),
        ["info" | "help"] => (INFO, ""),
        ["info", word] if !text.ends_with(' ') => (INFO, *word),
        _ => return (String::new(), Vec::new()),
    };
    let names = table.iter().flat_map(|command| command.names.split('|'));
    (prefix.to_owned(), names.filter(|name| name.starts_with(prefix)).collect())
}

fn none(args: &str) -> Result<(), String> {
    if args.trim().is_empty() { Ok(()) } else { Err(EXTRANEOUS.to_owned()) }
}

fn help(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    let args = args.trim();
    let (name, rest) = split(args);
    match (name, rest.trim()) {
        ("", "") => COMMANDS.iter().for_each(|command| scope.out.push_str(&command.line(""))),
        ("info", "") => INFO.iter().for_each(|command| scope.out.push_str(&command.line("info "))),
        ("info", topic) => match INFO.iter().find(|command| command.is(topic)) {
            Some(command) => scope.out.push_str(&command.line("info ")),
            None => {
                let _ = writeln!(scope.out, "unknown command: '{args}'");
            }
        },
        ("log", "") => scope.out.push_str(&log_help()),
        (name, _) => match COMMANDS.iter().find(|command| command.is(name)) {
            Some(command) => scope.out.push_str(&command.line("")),
            None => {
                let _ = writeln!(scope.out, "unknown command: '{args}'");
            }
        },
    }
    Ok(())
}

fn info(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    let args = args.trim();
    let (name, rest) = split(args);
    if name.is_empty() {
        return help(scope, "info");
    }
    match INFO.iter().find(|command| command.is(name)) {
        Some(command) => (command.run)(scope, rest),
        None => {
            let _ = writeln!(scope.out, "unknown command: 'info {name}'");
            Ok(())
        }
    }
}

fn topic(scope: &mut Scope<'_>, args: &str, topic: Topic) -> Result<(), String> {
    none(args)?;
    let text = scope.machine.info(topic, *scope.cpu);
    scope.out.push_str(&text);
    if !text.is_empty() && !text.ends_with('\n') {
        scope.out.push('\n');
    }
    Ok(())
}

fn cont(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    none(args)?;
    if let Err(text) = scope.machine.cont() {
        let _ = writeln!(scope.out, "Error: {text}");
    }
    Ok(())
}

fn stop(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    none(args)?;
    scope.machine.stop();
    Ok(())
}

fn quit(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    none(args)?;
    scope.machine.quit();
    scope.ended = true;
    Ok(())
}

fn reset(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    none(args)?;
    scope.machine.reset();
    Ok(())
}

fn powerdown(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    none(args)?;
    scope.machine.powerdown();
    Ok(())
}

fn wakeup(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    none(args)?;
    if let Err(text) = scope.machine.wake() {
        let _ = writeln!(scope.out, "Error: {text}");
    }
    Ok(())
}

fn nmi(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    none(args)?;
    if let Err(text) = scope.machine.nmi() {
        let _ = writeln!(scope.out, "Error: {text}");
    }
    Ok(())
}

/// Reads `count` expressions, separated by white space.
fn expressions<const N: usize>(scope: &Scope<'_>, args: &str) -> Result<[i64; N], String> {
    let (machine, cpu) = (scope.machine, *scope.cpu);
    let registers = |name: &str| machine.register(cpu, name);
    let mut reader = Reader::new(args, &registers);
    let mut values = [0; N];
    for value in &mut values {
        *value = reader.expression()?;
    }
    none(reader.rest)?;
    Ok(values)
}

fn cpu(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    let [index] = expressions(scope, args)?;
    match usize::try_from(index) {
        Ok(index) if index < scope.machine.cpu_count() => *scope.cpu = index,
        _ => scope.out.push_str("invalid CPU index\n"),
    }
    Ok(())
}

fn print(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    let mut rest = args;
    let format = Format::read(&mut rest, *scope.format)?;
    let [value] = expressions(scope, rest)?;
    scope.format.letter = format.letter;
    scope.out.push_str(&memory::print(value, format.letter));
    scope.out.push('\n');
    Ok(())
}

fn x(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    dump(scope, args, false)
}

fn xp(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    dump(scope, args, true)
}

fn dump(scope: &mut Scope<'_>, args: &str, physical: bool) -> Result<(), String> {
    let mut rest = args;
    let format = Format::read(&mut rest, *scope.format)?;
    let [address] = expressions(scope, rest)?;
    *scope.format = Format { count: 1, ..format };
    let text = if format.letter == 'i' {
        memory::disassemble(scope.machine, *scope.cpu, format.count, address, physical)
    } else {
        memory::dump(scope.machine, *scope.cpu, format, address, physical)
    };
    scope.out.push_str(&text);
    Ok(())
}

/// The port and size of `i` and `o`.
fn port_size(format: Format) -> (usize, char) {
    match format.size {
        1 => (1, 'b'),
        2 => (2, 'w'),
        _ => (4, 'l'),
    }
}

fn port_in(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    let mut rest = args;
    let format = Format::read(&mut rest, *scope.format)?;
    let [port] = expressions(scope, rest)?;
    scope.format.size = format.size;
    let (size, suffix) = port_size(format);
    let port = (port & 0xffff) as u16;
    let value = scope.machine.port_in(port, size);
    let _ = writeln!(scope.out, "port{suffix}[0x{port:04x}] = 0x{value:0width$x}", width = size * 2);
    Ok(())
}

fn port_out(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    let mut rest = args;
    let format = Format::read(&mut rest, *scope.format)?;
    let [port, value] = expressions(scope, rest)?;
    scope.format.size = format.size;
    let (size, _) = port_size(format);
    scope.machine.port_out((port & 0xffff) as u16, size, (value & 0xffff_ffff) as u32);
    Ok(())
}

fn mtree(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    let mut rest = args;
    let mut disabled = false;
    while let Some(option) = word(&mut rest) {
        match option {
            "-D" => disabled = true,
            "-f" | "-d" | "-o" => return Err(format!("mtree: '{option}' is not supported by this build")),
            _ => return Err(EXTRANEOUS.to_owned()),
        }
    }
    topic(scope, "", Topic::Mtree { disabled })
}

fn info_status(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    none(args)?;
    let state = scope.machine.run_state();
    scope.out.push_str(if state.running { "VM status: running" } else { "VM status: paused" });
    if !state.running && state.name != "paused" {
        let _ = write!(scope.out, " ({})", state.name);
    }
    scope.out.push('\n');
    Ok(())
}

fn info_version(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    none(args)?;
    let _ = writeln!(scope.out, "9.1.0 (Tinamou {})", env!("CARGO_PKG_VERSION"));
    Ok(())
}

fn info_name(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    none(args)?;
    if let Some(name) = scope.machine.name() {
        let _ = writeln!(scope.out, "{name}");
    }
    Ok(())
}

fn info_uuid(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    none(args)?;
    for (index, byte) in scope.machine.uuid().unwrap_or_default().iter().enumerate() {
        let dash = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
        let _ = write!(scope.out, "{dash}{byte:02x}");
    }
    scope.out.push('\n');
    Ok(())
}

fn info_cpus(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    none(args)?;
    for index in 0..scope.machine.cpu_count() {
        let mark = if index == *scope.cpu { '*' } else { ' ' };
        let thread = scope.machine.cpu_thread(index).unwrap_or(0);
        let _ = writeln!(scope.out, "{mark} CPU #{index}: thread_id={thread}");
    }
    Ok(())
}

fn info_registers(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    match args.trim() {
        "" => {
            let text = scope.machine.registers(*scope.cpu);
            let _ = writeln!(scope.out, "\nCPU#{}\n{}", *scope.cpu, text.trim_end());
        }
        "-a" => {
            for index in 0..scope.machine.cpu_count() {
                let text = scope.machine.registers(index);
                let _ = writeln!(scope.out, "\nCPU#{index}\n{}", text.trim_end());
            }
        }
        _ => {
            let [index] = expressions(scope, args)?;
            match usize::try_from(index) {
                Ok(index) if index < scope.machine.cpu_count() => {
                    let text = scope.machine.registers(index);
                    let _ = writeln!(scope.out, "\nCPU#{index}\n{}", text.trim_end());
                }
                _ => {
                    let _ = writeln!(scope.out, "CPU#{index} not available");
                }
            }
        }
    }
    Ok(())
}

fn info_history(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    none(args)?;
    for (index, line) in scope.history.iter().enumerate() {
        let _ = writeln!(scope.out, "{index}: '{line}'");
    }
    Ok(())
}

fn info_kvm(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    none(args)?;
    let state = if scope.machine.accelerator() == "kvm" { "enabled" } else { "disabled" };
    let _ = writeln!(scope.out, "kvm support: {state}");
    Ok(())
}

fn info_memory_size(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    none(args)?;
    let _ = writeln!(scope.out, "base memory: {}\nplugged memory: 0", scope.machine.ram());
    Ok(())
}

/// Cuts the next word off a command's arguments.
fn word<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let text = rest.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (word, after) = text.split_at(end);
    *rest = after;
    (!word.is_empty()).then_some(word)
}

fn sendkey(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    let mut rest = args;
    let Some(names) = word(&mut rest) else { return Err("sendkey: string expected".to_owned()) };
    let hold = if rest.trim().is_empty() { 100 } else { expressions::<1>(scope, rest)?[0] };
    let mut codes = Vec::new();
    for name in keys::split(names) {
        match keys::code(name) {
            Some(code) => codes.push(code),
            None => {
                let _ = writeln!(scope.out, "invalid parameter: {name}");
                return Ok(());
            }
        }
    }
    scope.machine.send_keys(&codes, u64::try_from(hold).unwrap_or(0).min(60_000));
    Ok(())
}

fn sum(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    let [address, size] = expressions(scope, args)?;
    let mut checksum: u16 = 0;
    let (mut at, mut left) = (address.cast_unsigned(), u64::try_from(size).unwrap_or(0).min(MAX_RANGE));
    let mut bytes = vec![0; 4096];
    while left > 0 {
        let length = usize::try_from(left.min(4096)).unwrap_or(4096);
        scope.machine.read_physical(at, &mut bytes[..length]);
        for &byte in &bytes[..length] {
            // The BSD checksum.
            checksum = checksum.rotate_right(1).wrapping_add(byte.into());
        }
        at = at.wrapping_add(length as u64);
        left -= length as u64;
    }
    let _ = writeln!(scope.out, "{checksum:05}");
    Ok(())
}

/// Most bytes of memory in one command.
const MAX_RANGE: u64 = 1 << 40;

fn save(scope: &mut Scope<'_>, args: &str, physical: bool) -> Result<(), String> {
    let (machine, cpu) = (scope.machine, *scope.cpu);
    let registers = |name: &str| machine.register(cpu, name);
    let mut reader = Reader::new(args, &registers);
    let (address, size) = (reader.expression()?, reader.expression()?);
    let mut rest = reader.rest;
    let command = if physical { "pmemsave" } else { "memsave" };
    let Some(name) = word(&mut rest) else { return Err(format!("{command}: filename expected")) };
    none(rest)?;
    let name = name.trim_matches('"');
    let write = || -> std::io::Result<Option<u64>> {
        use std::io::Write as _;
        let mut file = std::io::BufWriter::new(machine.create_file(name)?);
        let (mut at, mut left) = (address.cast_unsigned(), u64::try_from(size).unwrap_or(0).min(MAX_RANGE));
        let mut bytes = vec![0; 4096];
        while left > 0 {
            let length = usize::try_from(left.min(4096)).unwrap_or(4096);
            let bytes = &mut bytes[..length];
            let read = if physical {
                machine.read_physical(at, bytes)
            } else {
                machine.read_virtual(cpu, at, bytes)
            };
            if !read {
                return Ok(Some(at));
            }
            file.write_all(bytes)?;
            at = at.wrapping_add(length as u64);
            left -= length as u64;
        }
        file.flush()?;
        Ok(None)
    };
    match write() {
        Ok(None) => {}
        Ok(Some(at)) => {
            let _ = writeln!(scope.out, "Error: Invalid addr 0x{at:016x}/size {size} specified");
        }
        Err(error) => {
            let text = error.to_string();
            let text = text.rfind(" (os error").map_or(text.as_str(), |at| &text[..at]);
            let _ = writeln!(scope.out, "Error: Could not open '{name}': {text}");
        }
    }
    Ok(())
}

fn log(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    let mut rest = args;
    let Some(list) = word(&mut rest) else { return Err("log: string expected".to_owned()) };
    none(rest)?;
    let done = match report::log::items(list) {
        Ok(mask) => scope.machine.set_log_items(mask),
        Err(ItemsError::Unknown(_)) => {
            scope.out.push_str(&log_help());
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    };
    if let Err(text) = done {
        let _ = writeln!(scope.out, "{text}");
    }
    Ok(())
}

/// The items, `none` first, as `help log` shows them.
fn log_help() -> String {
    let text = report::log::help();
    let (head, items) = text.split_once('\n').unwrap_or_default();
    format!("{head}\n{:<15} remove all logs\n{items}", "none")
}

fn watchdog_action(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    let mut rest = args;
    let Some(action) = word(&mut rest) else { return Err("watchdog_action: string expected".to_owned()) };
    none(rest)?;
    if !scope.machine.set_watchdog_action(action) {
        let _ = writeln!(scope.out, "Error: invalid parameter value: {action}");
    }
    Ok(())
}

fn log_file(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    let mut rest = args;
    let Some(name) = word(&mut rest) else { return Err("logfile: filename expected".to_owned()) };
    none(rest)?;
    if let Err(text) = scope.machine.set_log_file(name.trim_matches('"')) {
        let _ = writeln!(scope.out, "{text}");
    }
    Ok(())
}

fn ringbuf_read(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    let mut rest = args;
    let Some(device) = word(&mut rest) else { return Err("ringbuf_read: string expected".to_owned()) };
    let [size] = expressions(scope, rest)?;
    match scope.machine.ringbuf_read(device, usize::try_from(size).unwrap_or(0)) {
        Ok(bytes) => {
            for character in String::from_utf8_lossy(&bytes).chars() {
                match character {
                    '\\' => scope.out.push_str("\\\\"),
                    '\n' | '\t' | ' '..='~' => scope.out.push(character),
                    other => {
                        let _ = write!(scope.out, "\\u{:04X}", u32::from(other));
                    }
                }
            }
            scope.out.push('\n');
        }
        Err(text) => {
            let _ = writeln!(scope.out, "Error: {text}");
        }
    }
    Ok(())
}

fn info_chardev(scope: &mut Scope<'_>, args: &str) -> Result<(), String> {
    none(args)?;
    for (id, description) in scope.machine.chardevs() {
        let _ = writeln!(scope.out, "{id}: filename={description}");
    }
    Ok(())
}
