//! Load on `qemu-pr-helper`, the original and ours by turns in one run: requests a second, latency, CPU time, memory, start.
//!
//! `cargo run --release -p blackbox --bin bench-helpers [ROUNDS]`, as root. The requests carry a loop device where there is one (the
//! ioctl is made and fails at once), else `/dev/null`.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail, ensure};
use blackbox::paths;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const CLIENTS: [usize; 3] = [1, 8, 64];
const RUN: Duration = Duration::from_millis(1000);
/// Starts that are timed in a round.
const STARTS: usize = 9;

/// What one round found for one program.
#[derive(Debug, Default, Clone)]
struct Round {
    start_ms: f64,
    memory_kb: [u64; 3],
    loads: Vec<Load>,
}

#[derive(Debug, Clone, Copy)]
struct Load {
    rate: f64,
    p99_us: f64,
    cpu_us: f64,
}

struct Running {
    child: Child,
    socket: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ =
            nix::sys::signal::kill(Pid::from_raw(self.child.id() as i32), nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

fn connect(socket: &Path) -> Result<UnixStream> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let mut hello = [0; 4];
        match UnixStream::connect(socket).and_then(|mut s| {
            s.set_read_timeout(Some(Duration::from_secs(10)))?;
            s.read_exact(&mut hello)?;
            s.write_all(&[0; 4])?;
            Ok(s)
        }) {
            Ok(stream) => return Ok(stream),
            Err(err) if Instant::now() > deadline => bail!("{}: {err}", socket.display()),
            Err(_) => std::thread::sleep(Duration::from_micros(50)),
        }
    }
}

fn start(program: &Path, socket: PathBuf) -> Result<Running> {
    let child = Command::new(program).arg("-k").arg(&socket).stderr(Stdio::null()).spawn()?;
    Ok(Running { child, socket })
}

fn request(stream: &mut UnixStream, device: &File) -> Result<()> {
    let mut cdb = [0; 16];
    (cdb[0], cdb[8]) = (0x5e, 8);
    let fds = [device.as_raw_fd()];
    sendmsg::<()>(
        stream.as_raw_fd(),
        &[IoSlice::new(&cdb)],
        &[ControlMessage::ScmRights(&fds)],
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    let mut reply = [0; 104];
    stream.read_exact(&mut reply)?;
    ensure!(reply[..8] == [0, 0, 0, 2, 0, 0, 0, 0], "unexpected reply");
    Ok(())
}

/// CPU time of the process, in microseconds (counted in ticks of 10 ms).
fn cpu_us(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<_> = stat.rsplit(')').next().context("stat")?.split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) * 10_000.0)
}

/// Resident memory of the process that serves, and PSS and private dirty memory of it and its children.
fn memory(pid: u32) -> Result<[u64; 3]> {
    let mut memory = process_memory(pid)?;
    for child in fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?.split_whitespace() {
        let [_, shared, dirty] = process_memory(child.parse()?)?;
        memory[1] += shared;
        memory[2] += dirty;
    }
    Ok(memory)
}

fn process_memory(pid: u32) -> Result<[u64; 3]> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let field = |name: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(name)).context("smaps_rollup")?;
        Ok::<u64, anyhow::Error>(line.trim().trim_end_matches(" kB").parse()?)
    };
    Ok([field("Rss:")?, field("Pss:")?, field("Private_Dirty:")?])
}

fn load(running: &Running, clients: usize, device: &File) -> Result<Load> {
    let mut streams = (0..clients).map(|_| connect(&running.socket)).collect::<Result<Vec<_>>>()?;
    let (begin, cpu) = (Instant::now(), cpu_us(running.child.id())?);
    let times = std::thread::scope(|scope| {
        let workers: Vec<_> = streams
            .iter_mut()
            .map(|stream| {
                scope.spawn(move || {
                    let mut times = Vec::new();
                    while begin.elapsed() < RUN {
                        let at = Instant::now();
                        request(stream, device)?;
                        times.push(at.elapsed().as_nanos() as u64);
                    }
                    Ok::<_, anyhow::Error>(times)
                })
            })
            .collect();
        workers.into_iter().map(|w| w.join().expect("client thread")).collect::<Result<Vec<_>>>()
    })?;
    let elapsed = begin.elapsed().as_secs_f64();
    let spent = cpu_us(running.child.id())? - cpu;
    let mut times = times.concat();
    times.sort_unstable();
    let count = times.len();
    ensure!(count > 0, "no request was answered");
    Ok(Load {
        rate: count as f64 / elapsed,
        p99_us: times[(count - 1) * 99 / 100] as f64 / 1000.0,
        cpu_us: spent / count as f64,
    })
}

fn pin(cpus: impl Iterator<Item = usize>) -> Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(cpu)?;
    }
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

fn round(program: &Path, folder: &Path, device: &File, cpus: usize) -> Result<Round> {
    let mut round = Round::default();
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let begin = Instant::now();
        let running = start(program, folder.join("s"))?;
        request(&mut connect(&running.socket)?, device)?;
        starts.push(begin.elapsed().as_secs_f64() * 1000.0);
    }
    round.start_ms = median(starts.into_iter());
    let running = start(program, folder.join("s"))?;
    request(&mut connect(&running.socket)?, device)?;
    std::thread::sleep(Duration::from_millis(50));
    round.memory_kb = memory(running.child.id())?;
    drop(running);
    for clients in CLIENTS {
        // One client and the helper share a core.
        pin(if clients == 1 { 0..1 } else { 0..cpus })?;
        let running = start(program, folder.join("s"))?;
        round.loads.push(load(&running, clients, device)?);
        drop(running);
        pin(0..cpus)?;
    }
    Ok(round)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> Result<()> {
    let rounds: usize = std::env::args().nth(1).map_or(Ok(5), |n| n.parse())?;
    // The build of this program's own profile, even if another is newer.
    let ours = match std::env::var_os("TINAMOU_PR_HELPER") {
        Some(path) => path.into(),
        None => std::env::current_exe()?.with_file_name("qemu-pr-helper"),
    };
    ensure!(ours.is_file(), "{} is not built", ours.display());
    let mut programs = vec![("ours", ours)];
    let original = PathBuf::from("/usr/bin/qemu-pr-helper");
    if original.exists() {
        programs.insert(0, ("original", original));
    }
    let open = |path| File::options().read(true).write(true).open(path);
    let device = open("/dev/loop0").or_else(|_| open("/dev/null"))?;
    let folder = paths::scratch("bench-helpers");
    let cpus = std::thread::available_parallelism()?.get();
    let mut results = vec![Vec::new(); programs.len()];
    for _ in 0..rounds.max(1) {
        for (index, (_, program)) in programs.iter().enumerate() {
            results[index].push(round(program, &folder, &device, cpus)?);
        }
    }
    for ((name, _), rounds) in programs.iter().zip(&results) {
        let memory = |i: usize| median(rounds.iter().map(|r| r.memory_kb[i] as f64));
        println!(
            "{name}: start to first answer {:.2} ms, RSS {} kB, PSS {} kB, private dirty {} kB",
            median(rounds.iter().map(|r| r.start_ms)),
            memory(0),
            memory(1),
            memory(2)
        );
        for (index, clients) in CLIENTS.iter().enumerate() {
            let of = |f: fn(&Load) -> f64| median(rounds.iter().map(|r| f(&r.loads[index])));
            println!(
                "{name}: {clients:2} clients: {:7.0} requests/s, p99 {:8.1} us, CPU {:5.2} us a request",
                of(|l| l.rate),
                of(|l| l.p99_us),
                of(|l| l.cpu_us)
            );
        }
    }
    Ok(())
}
