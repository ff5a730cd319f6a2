//! `-smp`: a CPU count and a topology that belong together.

use crate::parse::{Stop, refuse};
use crate::{MachineRow, Smp};

const KEYS: &[&str] =
    &["cpus", "maxcpus", "sockets", "dies", "cores", "threads", "clusters", "drawers", "books", "modules"];

/// Fills in what was not given, cores before sockets, and checks the whole.
pub(crate) fn complete(given: &[(String, String)], machine: &MachineRow) -> Result<Smp, Stop> {
    let get = |key: &str| -> Result<Option<u32>, Stop> {
        let Some((_, value)) = given.iter().rev().find(|(name, _)| name == key) else { return Ok(None) };
        match value.parse() {
            Ok(0) => refuse("Invalid CPU topology: CPU topology parameters must be greater than zero"),
            Ok(number) => Ok(Some(number)),
            Err(_) => refuse(format!("Parameter 'smp.{key}' expects integer")),
        }
    };
    if let Some((key, _)) = given.iter().find(|(key, _)| !KEYS.contains(&key.as_str())) {
        return refuse(format!("Parameter 'smp.{key}' is unexpected"));
    }
    for key in ["clusters", "modules", "drawers", "books"] {
        if get(key)?.is_some_and(|count| count > 1) {
            return refuse(format!("{key} > 1 not supported by this machine's CPU topology"));
        }
    }
    let cpus = get("cpus")?;
    let max_cpus = get("maxcpus")?;
    let dies = get("dies")?.unwrap_or(1);
    let (sockets, cores, threads) = (get("sockets")?, get("cores")?, get("threads")?);
    let product = |parts: &[u32]| parts.iter().try_fold(1u32, |product, &part| product.checked_mul(part));
    let per = |total: u32, parts: &[u32]| product(parts).map_or(0, |product| total / product.max(1));
    let (sockets, cores, threads) = match max_cpus.or(cpus) {
        None => (sockets.unwrap_or(1), cores.unwrap_or(1), threads.unwrap_or(1)),
        Some(total) => match (sockets, cores, threads) {
            (_, None, _) => {
                let (sockets, threads) = (sockets.unwrap_or(1), threads.unwrap_or(1));
                (sockets, per(total, &[sockets, dies, threads]), threads)
            }
            (None, Some(cores), _) => {
                let threads = threads.unwrap_or(1);
                (per(total, &[dies, cores, threads]), cores, threads)
            }
            (Some(sockets), Some(cores), None) => (sockets, cores, per(total, &[sockets, dies, cores])),
            (Some(sockets), Some(cores), Some(threads)) => (sockets, cores, threads),
        },
    };
    let whole = product(&[sockets, dies, cores, threads]);
    let max_cpus = match max_cpus.or(cpus) {
        Some(total) => total,
        None => whole.unwrap_or(u32::MAX),
    };
    let cpus = cpus.unwrap_or(max_cpus);
    let hierarchy = format!("sockets ({sockets}) * dies ({dies}) * cores ({cores}) * threads ({threads})");
    if whole != Some(max_cpus) {
        return refuse(format!(
            "Invalid CPU topology: product of the hierarchy must match maxcpus: {hierarchy} != maxcpus ({max_cpus})"
        ));
    }
    if max_cpus < cpus {
        return refuse(format!(
            "Invalid CPU topology: maxcpus must be equal to or greater than smp: {hierarchy} == maxcpus ({max_cpus}) \
             < smp_cpus ({cpus})"
        ));
    }
    if max_cpus > machine.max_cpus {
        let what = if cpus > machine.max_cpus { ("CPUs", cpus) } else { ("CPUs", max_cpus) };
        return refuse(format!(
            "Invalid SMP {} {}. The max CPUs supported by machine '{}' is {}",
            what.0, what.1, machine.name, machine.max_cpus
        ));
    }
    Ok(Smp { cpus, max_cpus, sockets, dies, cores, threads })
}
