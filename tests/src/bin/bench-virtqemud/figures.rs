//! What is measured.

use crate::client::{Client, procedure, text, words};
use anyhow::{Context, Result, ensure};
use blackbox::virtqemud::Daemon;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One figure.
pub struct Figure {
    pub name: &'static str,
    pub more_is_better: bool,
    /// What takes long is not repeated as often as the rest.
    pub most_rounds: usize,
    pub measure: fn(&mut Bench) -> Result<f64>,
}

const fn less(name: &'static str, measure: fn(&mut Bench) -> Result<f64>) -> Figure {
    Figure { name, more_is_better: false, most_rounds: usize::MAX, measure }
}

const fn more(name: &'static str, measure: fn(&mut Bench) -> Result<f64>) -> Figure {
    Figure { more_is_better: true, ..less(name, measure) }
}

const fn seldom(name: &'static str, measure: fn(&mut Bench) -> Result<f64>) -> Figure {
    Figure { most_rounds: 1, ..less(name, measure) }
}

/// All, in this order.
pub const ALL: &[Figure] = &[
    less("start to the first answer, ms", Bench::start),
    less("idle, private memory and shares of the rest (PSS), MB", Bench::idle_pss),
    less("idle, resident memory (RSS), MB", Bench::idle_rss),
    less("cold capabilities, ms", Bench::cold_capabilities),
    more("calls a second, 1 client", |bench| bench.rate(1)),
    more("calls a second, 8 clients", |bench| bench.rate(8)),
    more("calls a second, 64 clients", |bench| bench.rate(64)),
    less("processor time of a call, 1 client, us", |bench| bench.cost(1)),
    less("processor time of a call, 64 clients, us", |bench| bench.cost(64)),
    less("connecting and closing, us", Bench::connections),
    less("creating a guest without QEMU's own time, ms", Bench::create),
    less("destroying it, ms", Bench::destroy),
    less("all statistics of 4 running guests, us", |bench| bench.running_statistics()),
    less("defining each of 1,000 domains, us", |bench| bench.define(1000)),
    less("all statistics of 1,000 domains, ms", |bench| bench.statistics()),
    less("listing 1,000 domains, us", |bench| bench.list()),
    less("a domain's state, us", |bench| bench.one(procedure::DOMAIN_GET_STATE, 4)),
    less("a domain's description, us", |bench| bench.one(procedure::DOMAIN_GET_XML_DESC, 4)),
    less("a domain by its name, us", Bench::look_up),
    less("start with 1,000 domains, ms", Bench::start_again),
    seldom("defining each of 10,000 domains, us", |bench| bench.define(10_000)),
    seldom("defining each of the last 1,000 of them, us", |bench| Ok(bench.last)),
    seldom("memory for 10,000 domains (PSS), MB", Bench::defined_memory),
    seldom("start with 10,000 domains, ms", Bench::start_again),
    seldom("memory for 10,000 domains after a start (PSS), MB", Bench::defined_memory),
];

/// A daemon under measurement.
pub struct Bench {
    daemon: Daemon,
    program: PathBuf,
    running: bool,
    /// Microseconds for each of the last 1,000 definitions, the median.
    last: f64,
    /// Processor time of the last measurement of rates.
    spent: Vec<(usize, f64)>,
    /// Memory without domains.
    empty: f64,
}

const RUN: Duration = Duration::from_millis(700);
const START: Duration = Duration::from_secs(120);
/// A device of each usual kind, and no image.
const DEVICES: &str = "<disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>\
<controller type='scsi' index='0' model='virtio-scsi'/><interface type='user'><model type='virtio'/></interface>\
<serial type='pty'/><channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>\
<input type='tablet' bus='usb'/><graphics type='vnc' port='-1' autoport='yes'/><video><model type='vga'/></video>\
<memballoon model='virtio'/><rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>";
/// What QEMU's own time is measured with: the same devices.
const QEMU: &[&str] = &[
    "-machine",
    "q35,usb=off,accel=tcg",
    "-m",
    "64",
    "-nodefaults",
    "-no-user-config",
    "-display",
    "none",
    "-device",
    "qemu-xhci",
    "-device",
    "virtio-scsi-pci",
    "-device",
    "virtio-serial-pci",
    "-netdev",
    "user,id=n",
    "-device",
    "virtio-net-pci,netdev=n",
    "-device",
    "ide-cd",
    "-device",
    "usb-tablet",
    "-device",
    "VGA",
    "-vnc",
    "none",
    "-device",
    "virtio-balloon-pci",
    "-object",
    "rng-random,id=r,filename=/dev/urandom",
    "-device",
    "virtio-rng-pci,rng=r",
    "-S",
    "-qmp",
    "stdio",
];

fn uuid(number: usize) -> String {
    format!("11111111-2222-4333-8444-{number:012x}")
}

fn domain(number: usize) -> String {
    format!(
        "<domain type='qemu'><name>bench-{number}</name><uuid>{}</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu>\
         <os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/><apic/></features>\
         <devices>{DEVICES}</devices></domain>",
        uuid(number)
    )
}

/// How a domain is named in calls.
fn reference(number: usize) -> Vec<u8> {
    let mut bytes = text(&format!("bench-{number}"));
    let digits: String = uuid(number).chars().filter(char::is_ascii_hexdigit).collect();
    bytes.extend((0..16).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).expect("a digit")));
    bytes.extend(words(&[u32::MAX]));
    bytes
}

fn micros(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e6
}

impl Bench {
    pub fn new(program: &Path) -> Result<Self> {
        let (daemon, program) = (Daemon::machine(program), program.to_owned());
        let mut bench =
            Self { daemon, program, running: false, last: f64::NAN, spent: Vec::new(), empty: f64::NAN };
        // The first start fills the cache of capabilities and makes directories.
        bench.launch()?.call(procedure::GET_CAPABILITIES, &[])?;
        bench.empty = bench.memory("Pss:")?;
        Ok(bench)
    }

    pub fn name(&self) -> String {
        let log = self.daemon.stderr();
        format!("{}\n{}", self.program.display(), log.lines().last().unwrap_or_default())
    }

    fn client(&self) -> Result<Client> {
        Client::open(&self.daemon.socket("-sock"))
    }

    /// Starts the daemon and waits until it answers.
    fn launch(&mut self) -> Result<Client> {
        ensure!(!self.running, "it runs");
        self.daemon.launch(&self.program);
        self.running = true;
        let begin = Instant::now();
        let mut client = loop {
            match self.client() {
                Ok(client) => break client,
                Err(error) if begin.elapsed() > START => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_micros(200)),
            }
        };
        client.call(procedure::GET_LIB_VERSION, &[])?;
        Ok(client)
    }

    /// Ends the daemon.
    fn end(&mut self) -> Result<()> {
        let pid = self.client()?.daemon()?;
        kill(Pid::from_raw(pid), Signal::SIGTERM)?;
        let begin = Instant::now();
        while Path::new(&format!("/proc/{pid}")).exists() {
            ensure!(begin.elapsed() < START, "it does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
        self.running = false;
        Ok(())
    }

    fn shell(&self, line: &str) -> Result<()> {
        let output = self.daemon.shell(line);
        ensure!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// A daemon without domains that has just been started.
    fn afresh(&mut self) -> Result<Client> {
        self.end()?;
        self.shell("rm -rf /etc/libvirt/qemu")?;
        self.launch()
    }

    fn start(&mut self) -> Result<f64> {
        self.end()?;
        self.shell("rm -rf /etc/libvirt/qemu")?;
        self.start_now()
    }

    fn start_again(&mut self) -> Result<f64> {
        self.end()?;
        self.start_now()
    }

    fn start_now(&mut self) -> Result<f64> {
        let begin = Instant::now();
        self.launch()?;
        Ok(micros(begin) / 1e3)
    }

    /// A line of the daemon's memory in megabytes.
    fn memory(&self, line: &str) -> Result<f64> {
        let pid = self.client()?.daemon()?;
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let found = text.lines().find_map(|text| text.strip_prefix(line)).context("smaps_rollup")?;
        let kib: f64 = found.trim().trim_end_matches(" kB").parse()?;
        Ok(kib / 1024.0)
    }

    fn idle_pss(&mut self) -> Result<f64> {
        drop(self.afresh()?);
        self.empty = self.memory("Pss:")?;
        Ok(self.empty)
    }

    fn idle_rss(&mut self) -> Result<f64> {
        drop(self.afresh()?);
        self.memory("Rss:")
    }

    fn cold_capabilities(&mut self) -> Result<f64> {
        self.end()?;
        self.shell("rm -rf /var/cache/libvirt/qemu/capabilities")?;
        let mut client = self.launch()?;
        let begin = Instant::now();
        client.call(procedure::GET_CAPABILITIES, &[])?;
        Ok(micros(begin) / 1e3)
    }

    /// What the daemon has used of processors, in microseconds.
    fn processor_time(client: &Client) -> Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", client.daemon()?))?;
        let fields: Vec<&str> = text.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let ticks: f64 = fields.get(11).context("stat")?.parse::<f64>()?
            + fields.get(12).context("stat")?.parse::<f64>()?;
        Ok(ticks * 1e4)
    }

    /// One thread has a call of each client in progress.
    fn rate(&mut self, count: usize) -> Result<f64> {
        let mut clients = (0..count).map(|_| self.client()).collect::<Result<Vec<_>>>()?;
        for client in &mut clients {
            client.call(procedure::GET_LIB_VERSION, &[])?;
        }
        let before = Self::processor_time(&clients[0])?;
        let (begin, mut calls) = (Instant::now(), 0.0);
        while begin.elapsed() < RUN {
            for client in &mut clients {
                client.send(procedure::GET_LIB_VERSION, &[])?;
            }
            for client in &mut clients {
                client.receive()?;
                calls += 1.0;
            }
        }
        let rate = calls / begin.elapsed().as_secs_f64();
        self.spent.push((count, (Self::processor_time(&clients[0])? - before) / calls));
        Ok(rate)
    }

    fn cost(&mut self, count: usize) -> Result<f64> {
        self.rate(count)?;
        Ok(self.spent.last().context("no measurement")?.1)
    }

    fn connections(&mut self) -> Result<f64> {
        const COUNT: u32 = 200;
        let begin = Instant::now();
        for _ in 0..COUNT {
            self.client()?.call(procedure::CLOSE, &[])?;
        }
        Ok(micros(begin) / f64::from(COUNT))
    }

    /// Defines so many domains on an empty daemon; answers microseconds for each, the median.
    fn define(&mut self, count: usize) -> Result<f64> {
        let mut client = self.afresh()?;
        client.call(procedure::GET_CAPABILITIES, &[])?;
        let mut times = Vec::new();
        for number in 0..count {
            let message = text(&domain(number));
            let begin = Instant::now();
            client.call(procedure::DOMAIN_DEFINE_XML, &message)?;
            times.push(micros(begin));
        }
        self.last = crate::median(&mut times[count - 1000..]);
        Ok(crate::median(&mut times))
    }

    fn defined_memory(&mut self) -> Result<f64> {
        Ok(self.memory("Pss:")? - self.empty)
    }

    /// The median of so many calls, in microseconds.
    fn median(count: usize, mut call: impl FnMut(usize) -> Result<()>) -> Result<f64> {
        let mut times = Vec::new();
        for number in 0..count {
            let begin = Instant::now();
            call(number)?;
            times.push(micros(begin));
        }
        Ok(crate::median(&mut times))
    }

    fn statistics(&mut self) -> Result<f64> {
        let mut client = self.client()?;
        let time = Self::median(7, |_| {
            let answer = client.call(procedure::GET_ALL_DOMAIN_STATS, &words(&[0, 0, 0]))?;
            ensure!(answer[..4] == 1000u32.to_be_bytes(), "not 1,000 domains");
            Ok(())
        })?;
        Ok(time / 1e3)
    }

    fn list(&mut self) -> Result<f64> {
        let mut client = self.client()?;
        Self::median(21, |_| {
            let answer = client.call(procedure::LIST_ALL_DOMAINS, &words(&[1, 0]))?;
            ensure!(answer[..4] == 1000u32.to_be_bytes(), "not 1,000 domains");
            Ok(())
        })
    }

    /// A call about one domain, whose arguments end with so many bytes of 0.
    fn one(&mut self, procedure: u32, zeros: usize) -> Result<f64> {
        let mut client = self.client()?;
        let mut arguments = reference(500);
        arguments.resize(arguments.len() + zeros, 0);
        Self::median(1000, |_| client.call(procedure, &arguments).map(drop))
    }

    fn look_up(&mut self) -> Result<f64> {
        let mut client = self.client()?;
        Self::median(1000, |number| {
            let name = text(&format!("bench-{number}"));
            client.call(procedure::DOMAIN_LOOKUP_BY_NAME, &name).map(drop)
        })
    }

    fn create(&mut self) -> Result<f64> {
        let mut client = self.client()?;
        client.call(procedure::DOMAIN_DEFINE_XML, &text(&domain(0)))?;
        let begin = Instant::now();
        client.call(procedure::DOMAIN_CREATE, &reference(0))?;
        let whole = micros(begin);
        client.call(procedure::DOMAIN_DESTROY, &reference(0))?;
        Ok((whole - qemu()?) / 1e3)
    }

    fn destroy(&mut self) -> Result<f64> {
        let mut client = self.client()?;
        client.call(procedure::DOMAIN_DEFINE_XML, &text(&domain(0)))?;
        client.call(procedure::DOMAIN_CREATE, &reference(0))?;
        let begin = Instant::now();
        client.call(procedure::DOMAIN_DESTROY, &reference(0))?;
        Ok(micros(begin) / 1e3)
    }

    fn running_statistics(&mut self) -> Result<f64> {
        const ACTIVE: u32 = 1;
        let mut client = self.client()?;
        for number in 0..4 {
            client.call(procedure::DOMAIN_DEFINE_XML, &text(&domain(number)))?;
            client.call(procedure::DOMAIN_CREATE, &reference(number))?;
        }
        let time = Self::median(15, |_| {
            let answer = client.call(procedure::GET_ALL_DOMAIN_STATS, &words(&[0, 0, ACTIVE]))?;
            ensure!(answer[..4] == 4u32.to_be_bytes(), "not 4 guests");
            Ok(())
        })?;
        for number in 0..4 {
            client.call(procedure::DOMAIN_DESTROY, &reference(number))?;
        }
        Ok(time)
    }
}

/// Microseconds that QEMU needs until its monitor greets.
fn qemu() -> Result<f64> {
    let begin = Instant::now();
    let mut child = Command::new("qemu-system-x86_64")
        .args(QEMU)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()?;
    let mut greeting = String::new();
    let output = child.stdout.take().context("no pipe")?;
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut greeting)?;
    let time = micros(begin);
    child.kill()?;
    child.wait()?;
    ensure!(greeting.contains("QMP"), "QEMU says {greeting:?}");
    Ok(time)
}
