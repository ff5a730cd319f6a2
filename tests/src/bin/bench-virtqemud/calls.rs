//! Every call that takes no action, timed by turns on both daemons: about the host, a domain that does not run, and a
//! paused guest.

use crate::client::{Client, text, words};
use anyhow::{Context, Result, bail};
use blackbox::virtqemud::Daemon;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Name, number and arguments, separated by blanks: a number, `=TEXT`, `+TEXT` (one that may be missing), `-` (which is), `dom`
/// (the domain), `cpu` and `cpus` (descriptions of processors), `xml` (of a domain).
const CALLS: &[(&str, u32, &str)] = &[
    ("connect_get_type", 3, ""),
    ("connect_get_version", 4, ""),
    ("connect_get_max_vcpus", 5, "+qemu"),
    ("node_get_info", 6, ""),
    ("connect_get_capabilities", 7, ""),
    ("connect_list_defined_domains", 21, "100"),
    ("domain_lookup_by_name", 23, "name"),
    ("domain_lookup_by_uuid", 24, "uuid"),
    ("connect_num_of_defined_domains", 25, ""),
    ("connect_list_domains", 37, "100"),
    ("connect_num_of_domains", 51, ""),
    ("connect_get_hostname", 59, ""),
    ("connect_supports_feature", 60, "15"),
    ("auth_list", 66, ""),
    ("node_get_cells_free_memory", 101, "0 8"),
    ("node_get_free_memory", 102, ""),
    ("connect_get_uri", 110, ""),
    ("node_get_security_model", 122, ""),
    ("connect_domain_xml_to_native", 136, "=qemu-argv xml 0"),
    ("connect_is_secure", 149, ""),
    ("connect_get_lib_version", 157, ""),
    ("connect_compare_cpu", 158, "cpu 0"),
    ("connect_baseline_cpu", 162, "cpus 0"),
    ("connect_baseline_cpu, expanded", 162, "cpus 1"),
    ("connect_get_sysinfo", 203, "0"),
    ("node_get_cpu_stats", 227, "-1 0 0"),
    ("node_get_cpu_stats, values", 227, "-1 4 0"),
    ("node_get_memory_stats", 228, "4 -1 0"),
    ("connect_list_all_domains", 273, "1 0"),
    ("node_get_memory_parameters", 289, "0 0"),
    ("node_get_memory_parameters, values", 289, "8 0"),
    ("node_get_cpu_map", 293, "1 1 0"),
    ("connect_get_cpu_model_names", 312, "=x86_64 1 0"),
    ("node_get_free_pages", 340, "1 4 0 1 0"),
    ("connect_get_domain_capabilities", 342, "- - - - 0"),
    ("connect_get_domain_capabilities, of q35", 342, "- +x86_64 +q35 +qemu 0"),
    ("connect_get_all_domain_stats", 344, "0 0 0"),
    ("connect_compare_hypervisor_cpu", 393, "- - - - cpu 0"),
    ("connect_baseline_hypervisor_cpu", 394, "- - - - cpus 0"),
    ("domain_get_xml_desc", 14, "dom 0"),
    ("domain_get_xml_desc, inactive", 14, "dom 2"),
    ("domain_get_xml_desc, migratable", 14, "dom 8"),
    ("domain_get_autostart", 15, "dom"),
    ("domain_get_info", 16, "dom"),
    ("domain_get_max_memory", 17, "dom"),
    ("domain_get_max_vcpus", 18, "dom"),
    ("domain_get_os_type", 19, "dom"),
    ("domain_get_vcpus", 20, "dom 2 1"),
    ("domain_get_scheduler_type", 56, "dom"),
    ("domain_get_scheduler_parameters", 57, "dom 16"),
    ("domain_block_stats", 64, "dom =vda"),
    ("domain_interface_stats", 65, "dom =tap-bench"),
    ("domain_block_peek", 103, "dom =vda 0 0 512 0"),
    ("domain_memory_peek", 104, "dom 0 0 512 2"),
    ("domain_get_security_label", 121, "dom"),
    ("domain_is_active", 150, "dom"),
    ("domain_is_persistent", 151, "dom"),
    ("domain_memory_stats", 159, "dom 14 0"),
    ("domain_get_job_info", 163, "dom"),
    ("domain_has_managed_save_image", 183, "dom 0"),
    ("domain_snapshot_num", 187, "dom 0"),
    ("domain_snapshot_list_names", 188, "dom 10 0"),
    ("domain_has_current_snapshot", 190, "dom 0"),
    ("domain_get_block_info", 194, "dom =vda 0"),
    ("domain_get_memory_parameters", 198, "dom 4 0"),
    ("domain_get_vcpus_flags", 200, "dom 0"),
    ("domain_is_updated", 202, "dom"),
    ("domain_get_blkio_parameters", 206, "dom 6 0"),
    ("domain_get_state", 212, "dom 0"),
    ("domain_get_scheduler_parameters_flags", 223, "dom 16 0"),
    ("domain_get_control_info", 229, "dom 0"),
    ("domain_get_vcpu_pin_info", 230, "dom 2 1 0"),
    ("domain_get_block_job_info", 238, "dom =vda 0"),
    ("domain_block_stats_flags", 243, "dom =vda 0 0"),
    ("domain_block_stats_flags, values", 243, "dom =vda 8 0"),
    ("domain_get_block_io_tune", 253, "dom +vda 0 0"),
    ("domain_get_block_io_tune, values", 253, "dom +vda 20 0"),
    ("domain_get_numa_parameters", 255, "dom 2 0"),
    ("domain_get_interface_parameters", 257, "dom =tap-bench 7 0"),
    ("domain_get_cpu_stats", 262, "dom 2 -1 1 0"),
    ("domain_get_disk_errors", 263, "dom 4 0"),
    ("domain_get_metadata", 265, "dom 0 - 0"),
    ("domain_list_all_snapshots", 274, "dom 1 0"),
    ("domain_get_security_label_list", 278, "dom"),
    ("domain_get_emulator_pin_info", 280, "dom 1 0"),
    ("domain_get_job_stats", 298, "dom 0"),
    ("domain_get_job_stats, completed", 298, "dom 1"),
    ("domain_get_iothread_info", 351, "dom 0"),
    ("domain_interface_addresses", 353, "dom 2 0"),
    ("domain_get_perf_events", 365, "dom 0"),
    ("domain_get_guest_vcpus", 367, "dom 0"),
    ("domain_list_all_checkpoints", 413, "dom 1 0"),
    ("domain_get_messages", 426, "dom 0"),
];

/// Domains, by whether they run.
const NAMES: [&str; 2] = ["idle", "guest"];

fn uuid(at: usize) -> String {
    format!("11111111-2222-4333-8444-00000000000{at}")
}

fn domain(at: usize) -> String {
    format!(
        "<domain type='qemu'><name>{}</name><uuid>{}</uuid><title>bench</title><memory unit='MiB'>64</memory>\
         <vcpu>2</vcpu><iothreads>1</iothreads><os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>\
         <devices><disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/run/scene/{at}.img'/>\
         <target dev='vda' bus='virtio'/></disk><interface type='ethernet'><target dev='{}'/>\
         <model type='virtio'/></interface><serial type='pty'/><graphics type='vnc' port='-1' autoport='yes'/>\
         <video><model type='vga'/></video><memballoon model='virtio'/></devices></domain>",
        NAMES[at],
        uuid(at),
        if at == 0 { "tap-idle" } else { "tap-bench" },
    )
}

/// A processor of a host.
fn processor(model: &str) -> String {
    format!("<cpu><arch>x86_64</arch><model>{model}</model><vendor>Intel</vendor><feature name='vmx'/></cpu>")
}

fn identity(at: usize) -> Vec<u8> {
    let digits: String = uuid(at).chars().filter(char::is_ascii_hexdigit).collect();
    (0..16).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).expect("a digit")).collect()
}

/// The arguments as they are sent.
fn arguments(specification: &str, at: usize, id: u32) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for word in specification.split_whitespace() {
        match word {
            "dom" => {
                bytes.extend(text(NAMES[at]));
                bytes.extend(identity(at));
                bytes.extend(words(&[id]));
            }
            "name" => bytes.extend(text(NAMES[at])),
            "uuid" => bytes.extend(identity(at)),
            "xml" => bytes.extend(text(&domain(0))),
            "cpu" => bytes.extend(text(&processor("Nehalem"))),
            "cpus" => {
                bytes.extend(words(&[2]));
                bytes.extend(text(&processor("Haswell")));
                bytes.extend(text(&processor("Westmere")));
            }
            "-" => bytes.extend(words(&[0])),
            word => match word.split_at(1) {
                ("=", rest) => bytes.extend(text(rest)),
                ("+", rest) => {
                    bytes.extend(words(&[1]));
                    bytes.extend(text(rest));
                }
                _ => bytes.extend(words(&[word.parse::<i32>().context(word.to_owned())?.cast_unsigned()])),
            },
        }
    }
    Ok(bytes)
}

struct Side {
    client: Client,
    id: u32,
    _daemon: Daemon,
}

fn prepared(program: &Path) -> Result<Side> {
    const CREATE_WITH_FLAGS: u32 = 196;
    const PAUSED: u32 = 1;
    const DEFINE: u32 = 11;
    let daemon = Daemon::alone(program);
    let made = daemon.shell("truncate -s 1M 0.img 1.img");
    if !made.status.success() {
        bail!("{}", String::from_utf8_lossy(&made.stderr));
    }
    let mut client = Client::open(&daemon.socket("-sock"))?;
    for at in 0..2 {
        client.call(DEFINE, &text(&domain(at)))?;
    }
    let mut start = arguments("dom", 1, u32::MAX)?;
    start.extend(words(&[PAUSED]));
    let answer = client.call(CREATE_WITH_FLAGS, &start)?;
    let id = u32::from_be_bytes(answer[answer.len() - 4..].try_into().context("an id")?);
    Ok(Side { client, id, _daemon: daemon })
}

/// The time of one call in microseconds; what it answered, or its error.
fn time(side: &mut Side, number: u32, arguments: &[u8]) -> (f64, Result<usize, String>) {
    let begin = Instant::now();
    let answer = side.client.call(number, arguments).map(<[u8]>::len);
    (begin.elapsed().as_secs_f64() * 1e6, answer.map_err(|error| error.to_string()))
}

/// Prints the calls, those first where the second daemon is slowest beside the first.
pub fn compare(programs: &[PathBuf], rounds: usize, only: Option<&str>) -> Result<()> {
    let mut sides = programs.iter().map(|program| prepared(program)).collect::<Result<Vec<_>>>()?;
    let mut rows = Vec::new();
    for (name, number, specification) in CALLS {
        let about_domain = specification.starts_with("dom");
        for (at, kind) in NAMES.iter().enumerate().skip(usize::from(!about_domain)) {
            let name = if about_domain { format!("{name} ({kind})") } else { (*name).to_owned() };
            if only.is_some_and(|only| !name.contains(only)) {
                continue;
            }
            let mut times = [Vec::new(), Vec::new()];
            let mut answers = [Ok(0), Ok(0)];
            for _ in 0..rounds {
                for ((side, times), answer) in sides.iter_mut().zip(&mut times).zip(&mut answers) {
                    let id = if at == 0 { u32::MAX } else { side.id };
                    let arguments = arguments(specification, at, id)?;
                    let (time, result) = time(side, *number, &arguments);
                    times.push(time);
                    *answer = result;
                }
            }
            let [theirs, ours] = times.each_mut().map(|times| crate::median(times));
            let note = match &answers {
                [Ok(_), Ok(_)] => String::new(),
                [Err(_), Err(_)] => "  (refused by both)".to_owned(),
                [Ok(_), Err(error)] => format!("  OURS REFUSES: {error}"),
                [Err(error), Ok(_)] => format!("  THE ORIGINAL REFUSES: {error}"),
            };
            rows.push((theirs / ours, theirs, ours, name, note));
        }
    }
    rows.sort_by(|left, right| left.0.total_cmp(&right.0));
    println!("ratio     theirs, us       ours, us  call   (load {})", crate::load());
    for (ratio, theirs, ours, name, note) in &rows {
        println!(
            "{ratio:5.2} {theirs:14.1} {ours:14.1}  {name}{}",
            note.replace(|c: char| c.is_control(), " ")
        );
    }
    let mut ratios: Vec<f64> = rows.iter().map(|row| row.0).collect();
    let slower = ratios.iter().filter(|ratio| **ratio < 1.0).count();
    println!("{} calls, {slower} slower; median ratio {:.2}", rows.len(), crate::median(&mut ratios));
    Ok(())
}
