//! Chores of this repository: guests for the tests, checks, measurements. `cargo xtask help` lists them.

#![forbid(unsafe_code)]

use std::process::ExitCode;

mod boot_all;
mod figures;
mod figures_code;
mod figures_guest;
mod guests;
mod initramfs;
mod layers;
mod stress_boots;
mod suites;

const HELP: &str = "\
usage: cargo xtask TASK [ARGUMENT...]

  guests [SET...]   fetch and unpack guest systems into the build directory; sets: basic (default), kernels,
                    userspace, workloads, suites, helpers, disk, oracle, firmware, libvirt,
                    nova, all;
                    --refresh asks the mirrors for newer packages
  boot-all [NAME...]
                    boot every kernel on every board, run dynamic programs, boot and check a whole Debian disk;
                    names choose the cases that contain one of them; --program PATH chooses the emulator
  figures [--runs N] [--tier N] [--disk]
                    measure start, boot, processor time and memory beside the reference emulator
  figures guest [short|scale|fresh|vcpus|smp] [--runs N] [--only NAME]... [--tier1] [--lane-a]
                    measure programs inside guests beside the reference emulators and natively
  figures code      how much code guests' code becomes, how fast, and what memory it takes, beside the references
  suites [NAME...] [--program PATH] [--options TEXT]
                    others' test suites, just-in-time compilers and stressors inside a guest of the translator; what they
                    write is compared with a run on the host where it is the same everywhere
  stress-boots N [--options TEXT] [--program PATH]
                    boot the cloud kernel N times with translations of everything and a TLB of two entries
  initramfs PROFILE KERNEL shell|poweroff
                    build an initial file system; prints the paths of the emulator, the kernel and the file
  difftest [--seconds N] [--seed N] [--filter TEXT] [-v] | --blocks [--instructions N] [--attack] ...
                    compare the engine with the host processor, instruction by instruction
  layers            check the dependencies between the folders, and that unsafe code is forbidden
  help              this text
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((task, rest)) = arguments.split_first() else {
        eprint!("{HELP}");
        return ExitCode::from(2);
    };
    let result = match task.as_str() {
        "guests" => guests::main(rest),
        "boot-all" => boot_all::main(rest),
        "figures" if rest.first().is_some_and(|word| word == "guest") => figures_guest::main(&rest[1..]),
        "figures" if rest.first().is_some_and(|word| word == "code") => figures_code::main(&rest[1..]),
        "figures" => figures::main(rest),
        "initramfs" => initramfs::main(rest),
        "difftest" => difftest(rest),
        "layers" => layers::main(rest),
        "suites" => suites::main(rest),
        "stress-boots" => stress_boots::main(rest),
        "help" | "-h" | "--help" => {
            print!("{HELP}");
            Ok(())
        }
        _ => {
            eprint!("xtask: no task is named {task}\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {task}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the comparison of the engine with the host, optimised.
fn difftest(arguments: &[String]) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = std::process::Command::new(cargo)
        .args(["run", "--quiet", "--profile", "quick", "--package", "difftest", "--bin", "difftest", "--"])
        .args(arguments)
        .status()?;
    anyhow::ensure!(status.success(), "the comparison ended with {status}");
    Ok(())
}
