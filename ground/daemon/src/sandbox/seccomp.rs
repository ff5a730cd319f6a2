//! A system-call allow-list as a classic BPF program (seccomp(2)).
//!
//! Own assembler of a few lines because calls differ in their answer: `clone3`, whose flags a filter cannot see, must
//! say `ENOSYS` so that the C library falls back to `clone`, whose flags it can.

use std::io;

/// What may be done with a system call.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// Any use.
    Allow(libc::c_long),
    /// Only when the low 32 bits of an argument (by index) equal a value.
    AllowIf(libc::c_long, u32, u32),
    /// Only when the argument (by index) has all bits of a mask set.
    AllowIfBits(libc::c_long, u32, u32),
    /// Only when the argument (by index) has no bit of a mask set.
    AllowUnlessBits(libc::c_long, u32, u32),
    /// Always refused with this errno.
    Refuse(libc::c_long, i32),
}

/// `AUDIT_ARCH_X86_64`.
const ARCH: u32 = 0xc000_003e;
const RET_ALLOW: u32 = 0x7fff_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_KILL_PROCESS: u32 = 0x8000_0000;
// Codes of linux/bpf_common.h: load word absolute, jump if equal, and with constant, return constant.
const LD: u16 = 0x20;
const JEQ: u16 = 0x15;
const AND: u16 = 0x54;
const RET: u16 = 0x06;
/// Offsets in `struct seccomp_data`.
const NR: u32 = 0;
const ARCH_AT: u32 = 4;
const ARGS: u32 = 16;

fn op(code: u16, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: 0, k }
}
fn skip_unless_equal(k: u32, skip: u8) -> libc::sock_filter {
    libc::sock_filter { code: JEQ, jt: 0, jf: skip, k }
}

/// The filter of `rules`: a call named several times is allowed if one of its rules allows it; one not named gets `EPERM`; another architecture's calls end the process.
#[must_use]
pub fn assemble(rules: &[Rule]) -> Vec<libc::sock_filter> {
    let mut code = vec![
        op(LD, ARCH_AT),
        libc::sock_filter { code: JEQ, jt: 1, jf: 0, k: ARCH },
        op(RET, RET_KILL_PROCESS),
        op(LD, NR),
    ];
    for rule in rules {
        match *rule {
            Rule::Allow(nr) => code.extend([skip_unless_equal(nr as u32, 1), op(RET, RET_ALLOW)]),
            Rule::Refuse(nr, errno) => {
                code.extend([skip_unless_equal(nr as u32, 1), op(RET, RET_ERRNO | errno as u32)]);
            }
            Rule::AllowIf(nr, arg, value) => code.extend([
                skip_unless_equal(nr as u32, 4),
                op(LD, ARGS + 8 * arg),
                skip_unless_equal(value, 1),
                op(RET, RET_ALLOW),
                op(LD, NR),
            ]),
            Rule::AllowIfBits(nr, arg, mask) => code.extend([
                skip_unless_equal(nr as u32, 5),
                op(LD, ARGS + 8 * arg),
                op(AND, mask),
                skip_unless_equal(mask, 1),
                op(RET, RET_ALLOW),
                op(LD, NR),
            ]),
            Rule::AllowUnlessBits(nr, arg, mask) => code.extend([
                skip_unless_equal(nr as u32, 5),
                op(LD, ARGS + 8 * arg),
                op(AND, mask),
                skip_unless_equal(0, 1),
                op(RET, RET_ALLOW),
                op(LD, NR),
            ]),
        }
    }
    code.push(op(RET, RET_ERRNO | libc::EPERM as u32));
    code
}

/// Confines this thread and all it will start. [`super::no_new_privileges`] must have run.
///
/// # Errors
/// What `seccomp` reports.
pub fn install(rules: &[Rule]) -> io::Result<()> {
    let mut code = assemble(rules);
    let len = u16::try_from(code.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = libc::sock_fprog { len, filter: code.as_mut_ptr() };
    // SAFETY: `program` points at `len` instructions that live until the call has copied them.
    if unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// What the runtime of a threaded server needs: memory, threads (never processes or namespaces), clocks, waiting,
/// reading, writing and closing of what is open, the socket calls on sockets it has, and ending.
#[must_use]
pub fn server_rules() -> Vec<Rule> {
    let mut rules: Vec<Rule> = [
        libc::SYS_recvmsg,
        libc::SYS_recvfrom,
        libc::SYS_sendto,
        libc::SYS_close,
        libc::SYS_fstat,
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_pread64,
        libc::SYS_poll,
        libc::SYS_ppoll,
        libc::SYS_futex,
        libc::SYS_eventfd2,
        libc::SYS_pidfd_open,
        libc::SYS_accept4,
        libc::SYS_getsockopt,
        libc::SYS_shutdown,
        libc::SYS_lseek,
        libc::SYS_newfstatat,
        libc::SYS_statx,
        libc::SYS_openat,
        libc::SYS_unlink,
        libc::SYS_unlinkat,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_set_robust_list,
        libc::SYS_rseq,
        libc::SYS_gettid,
        libc::SYS_getpid,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_nanosleep,
        libc::SYS_getrandom,
        libc::SYS_restart_syscall,
        libc::SYS_exit,
        libc::SYS_exit_group,
        // To be able to die of a bug.
        libc::SYS_tgkill,
    ]
    .into_iter()
    .map(Rule::Allow)
    .collect();
    rules.extend([
        Rule::AllowIfBits(libc::SYS_clone, 0, (libc::CLONE_THREAD | libc::CLONE_VM) as u32),
        Rule::Refuse(libc::SYS_clone3, libc::ENOSYS),
        // Memory never becomes code.
        Rule::AllowIf(libc::SYS_mmap, 2, 0),
        Rule::AllowIf(libc::SYS_mmap, 2, libc::PROT_READ as u32),
        Rule::AllowIf(libc::SYS_mmap, 2, (libc::PROT_READ | libc::PROT_WRITE) as u32),
        Rule::AllowIf(libc::SYS_mprotect, 2, 0),
        Rule::AllowIf(libc::SYS_mprotect, 2, libc::PROT_READ as u32),
        Rule::AllowIf(libc::SYS_mprotect, 2, (libc::PROT_READ | libc::PROT_WRITE) as u32),
        Rule::AllowIf(libc::SYS_prctl, 0, libc::PR_SET_NAME as u32),
        Rule::AllowIf(libc::SYS_fcntl, 1, libc::F_GETFL as u32),
        Rule::AllowIf(libc::SYS_fcntl, 1, libc::F_GETFD as u32),
    ]);
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program over one call's number and arguments, as the kernel would.
    fn run(code: &[libc::sock_filter], arch: u32, nr: libc::c_long, args: [u32; 6]) -> u32 {
        let (mut at, mut a) = (0, 0u32);
        loop {
            let i = &code[at];
            at += 1;
            match i.code {
                LD => {
                    a = match i.k {
                        NR => nr as u32,
                        ARCH_AT => arch,
                        k => args[((k - ARGS) / 8) as usize],
                    }
                }
                AND => a &= i.k,
                JEQ => at += usize::from(if a == i.k { i.jt } else { i.jf }),
                RET => return i.k,
                other => panic!("code {other}"),
            }
        }
    }

    #[test]
    fn verdicts() {
        let code = assemble(&[
            Rule::AllowIf(libc::SYS_ioctl, 1, 0x2285),
            Rule::AllowIf(libc::SYS_ioctl, 1, 0x1234),
            Rule::AllowIfBits(libc::SYS_clone, 0, 0x10100),
            Rule::Refuse(libc::SYS_clone3, libc::ENOSYS),
            Rule::Allow(libc::SYS_close),
            Rule::AllowUnlessBits(libc::SYS_unshare, 0, 0x30),
        ]);
        let eperm = RET_ERRNO | libc::EPERM as u32;
        let verdict = |nr, arg0, arg1| run(&code, ARCH, nr, [arg0, arg1, 0, 0, 0, 0]);
        assert_eq!(verdict(libc::SYS_ioctl, 0, 0x2285), RET_ALLOW);
        assert_eq!(verdict(libc::SYS_ioctl, 0, 0x1234), RET_ALLOW);
        assert_eq!(verdict(libc::SYS_ioctl, 0, 0x5413), eperm);
        assert_eq!(verdict(libc::SYS_clone, 0x3d0f00, 0), RET_ALLOW);
        assert_eq!(verdict(libc::SYS_clone, 0x100, 0), eperm);
        assert_eq!(verdict(libc::SYS_clone3, 0, 0), RET_ERRNO | libc::ENOSYS as u32);
        assert_eq!(verdict(libc::SYS_close, 0, 0), RET_ALLOW);
        assert_eq!(verdict(libc::SYS_unshare, 0x40, 0), RET_ALLOW);
        assert_eq!(verdict(libc::SYS_unshare, 0x20, 0), eperm);
        assert_eq!(verdict(libc::SYS_execve, 0, 0), eperm);
        assert_eq!(run(&code, 0x4000_0003, libc::SYS_close, [0; 6]), RET_KILL_PROCESS);
    }
}
