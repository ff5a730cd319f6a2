//! The host's side.

use crate::layout::{CODE_SIZE, Mode, Place, SCRATCH_SIZE, SMALL_LIMIT, SMALL_START, WRITABLE};
use libc::{c_int, c_void, siginfo_t, ucontext_t};
use std::arch::asm;
use std::cell::UnsafeCell;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use x86::reg::flags;

/// Bytes of the XSAVE area that are exchanged: legacy, header, upper halves of YMM.
const XSAVE: usize = 832;
/// RFLAGS bits that a test may set: the arithmetic ones and DF. (Returning from a signal, Linux does not restore ID.)
pub const SETTABLE: u64 = flags::ARITH | flags::DF;
/// What the kernel writes at byte 464 of a signal's FXSAVE area when XSAVE state follows.
const MAGIC: u32 = 0x4650_5853;
/// Linux' selectors of 32-bit code, data and 64-bit code at CPL 3 (arch/x86/include/asm/segment.h).
pub const USER_CS32: u16 = 0x23;
/// As above.
pub const USER_DS: u16 = 0x2b;
/// As above.
pub const USER_CS64: u16 = 0x33;
/// Our code of 16 bits in the local descriptor table.
pub const SMALL_CS: u16 = 0x07;
/// Our data of 16 bits in the local descriptor table.
pub const SMALL_DS: u16 = 0x0f;

/// The registers of AVX-512 that `State::xsave` has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wide {
    /// Bits 511:256 of ZMM0 to ZMM15.
    pub upper: [[u8; 32]; 16],
    /// ZMM16 to ZMM31.
    pub high: [[u8; 64]; 16],
    /// K0 to K7.
    pub masks: [u64; 8],
}

/// Where the host's XSAVE area has the parts of [`Wide`], the mask registers last; `None` where it has no AVX-512.
fn wide_offsets() -> Option<[usize; 3]> {
    static OFFSETS: OnceLock<Option<[usize; 3]>> = OnceLock::new();
    let leaf = |n: u32| std::arch::x86_64::__cpuid_count(0xd, n).ebx as usize;
    *OFFSETS.get_or_init(|| is_x86_feature_detected!("avx512f").then(|| [leaf(6), leaf(7), leaf(5)]))
}

/// Whether the host has AVX-512.
pub fn has_wide() -> bool {
    wide_offsets().is_some()
}

/// The components of [`Wide`] in the second byte of XSTATE_BV.
const WIDE_COMPONENTS: u8 = 0xe0;

impl Wide {
    /// Zeros.
    pub fn new() -> Box<Self> {
        Box::new(Self { upper: [[0; 32]; 16], high: [[0; 64]; 16], masks: [0; 8] })
    }

    fn put(&self, area: &mut [u8]) {
        let Some([upper, high, masks]) =
            wide_offsets().filter(|at| at.iter().all(|at| at + 64 <= area.len()))
        else {
            return;
        };
        for n in 0..16 {
            area[upper + 32 * n..][..32].copy_from_slice(&self.upper[n]);
            area[high + 64 * n..][..64].copy_from_slice(&self.high[n]);
        }
        for (n, mask) in self.masks.iter().enumerate() {
            area[masks + 8 * n..][..8].copy_from_slice(&mask.to_le_bytes());
        }
        area[512] |= WIDE_COMPONENTS;
    }

    fn take(&mut self, area: &[u8]) {
        let Some([upper, high, masks]) =
            wide_offsets().filter(|at| at.iter().all(|at| at + 64 <= area.len()))
        else {
            return;
        };
        *self = Self { upper: [[0; 32]; 16], high: [[0; 64]; 16], masks: [0; 8] };
        let has = |component: u8| area[512] >> component & 1 != 0;
        for n in 0..16 {
            if has(6) {
                self.upper[n].copy_from_slice(&area[upper + 32 * n..][..32]);
            }
            if has(7) {
                self.high[n].copy_from_slice(&area[high + 64 * n..][..64]);
            }
        }
        for (n, mask) in self.masks.iter_mut().enumerate().filter(|_| has(5)) {
            *mask = u64::from_le_bytes(std::array::from_fn(|b| area[masks + 8 * n + b]));
        }
    }
}

/// The registers that user code can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// What kind of code it is.
    pub mode: Mode,
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15. In compatibility mode the low halves of the first eight.
    pub gpr: [u64; 16],
    /// Where the instruction is in its segment; afterwards, where the next or the faulting one is.
    pub rip: u64,
    /// RFLAGS: the arithmetic flags and DF; other bits are the host's.
    pub rflags: u64,
    /// The XSAVE area in standard format: x87, SSE, AVX (SDM vol. 1, 13.4). Bytes 28 to 31 (MXCSR_MASK) and the header are
    /// not used.
    pub xsave: Box<[u8; XSAVE]>,
    /// What AVX-512 adds.
    pub wide: Box<Wide>,
    /// ES, DS, FS, GS after the run; before it they are those of the mode.
    pub selectors: [u16; 4],
    /// CS and SS after the run; before it they are those of the mode.
    pub code_and_stack: [u16; 2],
    /// Base of FS. Before the run always [`Native::fs_base`].
    pub fs_base: u64,
    /// Base of GS.
    pub gs_base: u64,
}

impl State {
    /// Zeros, x87 and SSE as after reset, the instruction at the start of the code page.
    pub fn new(mode: Mode) -> Self {
        let mut xsave = Box::new([0; XSAVE]);
        xsave[0..2].copy_from_slice(&0x37fu16.to_le_bytes());
        xsave[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
        let (code, data) = match mode {
            Mode::Long => (USER_CS64, USER_DS),
            Mode::Flat => (USER_CS32, USER_DS),
            Mode::Small => (SMALL_CS, SMALL_DS),
        };
        let (selectors, code_and_stack) = ([data, data, 0, 0], [code, data]);
        let rip = Place::of(mode).code;
        let rflags = flags::FIXED;
        let wide = Wide::new();
        Self {
            mode,
            gpr: [0; 16],
            rip,
            rflags,
            xsave,
            wide,
            selectors,
            code_and_stack,
            fs_base: 0,
            gs_base: 0,
        }
    }

    /// Vector register `n` of 32.
    pub fn vector(&self, n: usize) -> [u8; 64] {
        let n = n & 31;
        if n >= 16 {
            return self.wide.high[n - 16];
        }
        let mut all = [0; 64];
        all[..16].copy_from_slice(&self.xsave[160 + 16 * n..][..16]);
        all[16..32].copy_from_slice(&self.xsave[576 + 16 * n..][..16]);
        all[32..].copy_from_slice(&self.wide.upper[n]);
        all
    }

    /// Replaces vector register `n` of 32.
    pub fn set_vector(&mut self, n: usize, value: &[u8; 64]) {
        let n = n & 31;
        if n >= 16 {
            self.wide.high[n - 16] = *value;
            return;
        }
        self.xsave[160 + 16 * n..][..16].copy_from_slice(&value[..16]);
        self.xsave[576 + 16 * n..][..16].copy_from_slice(&value[16..32]);
        self.wide.upper[n].copy_from_slice(&value[32..]);
    }
}

/// An exception that the instruction raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its vector.
    pub vector: u8,
    /// Its error code, as the kernel shows it.
    pub code: u64,
    /// CR2, for page faults; else 0.
    pub address: u64,
}

/// What the handlers work on.
struct Exchange {
    /// The registers to load, then those that came out.
    state: State,
    /// The context to go back to. (Not all of `ucontext_t`: the kernel's is shorter than the C library's.)
    home: Option<[libc::greg_t; 23]>,
    home_xsave: Vec<u8>,
    fault: Option<Fault>,
}

struct Shared(UnsafeCell<Option<Exchange>>);

// SAFETY: only the thread that holds `OWNER` touches it, and the handlers that run on that thread meanwhile.
unsafe impl Sync for Shared {}

static SHARED: Shared = Shared(UnsafeCell::new(None));
static OWNER: Mutex<()> = Mutex::new(());
/// The thread's own FS base, which an instruction under test may have changed when a handler starts; 0 where RDFSBASE
/// does not exist.
static HOME_FS: AtomicU64 = AtomicU64::new(0);

/// gregs indices of `State::gpr`, in its order.
const ORDER: [c_int; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// The XSAVE area of a signal's context, and its size.
///
/// # Safety
/// `context` is what the kernel gave to a handler that is still running.
unsafe fn xsave_area<'a>(context: &ucontext_t) -> &'a mut [u8] {
    let start = context.uc_mcontext.fpregs.cast::<u8>();
    // SAFETY: 512 bytes are there always; the kernel's own note in them says how many more (Linux, sigcontext.h).
    unsafe {
        let word = |at: usize| start.add(at).cast::<u32>().read_unaligned();
        let size = if word(464) == MAGIC { word(480) as usize } else { 512 };
        std::slice::from_raw_parts_mut(start, size)
    }
}

/// The signal that starts a run: keeps the context and loads the wanted one.
extern "C" fn start(_: c_int, _: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel gives a valid context; `run` has filled SHARED on this thread, and waits in `raise`.
    let (context, shared) = unsafe { (&mut *context.cast::<ucontext_t>(), &mut *SHARED.0.get()) };
    let Some(exchange) = shared else { return };
    // SAFETY: the context is this handler's.
    let area = unsafe { xsave_area(context) };
    exchange.home = Some(context.uc_mcontext.gregs);
    exchange.home_xsave.clear();
    exchange.home_xsave.extend_from_slice(area);
    let gregs = &mut context.uc_mcontext.gregs;
    for (value, index) in exchange.state.gpr.iter().zip(ORDER) {
        gregs[index as usize] = *value as i64;
    }
    gregs[libc::REG_RIP as usize] = exchange.state.rip as i64;
    let own = gregs[libc::REG_EFL as usize] as u64;
    gregs[libc::REG_EFL as usize] = (own & !SETTABLE | exchange.state.rflags & SETTABLE) as i64;
    // CS is in the low and SS in the high 16 bits of this word (Linux, sigcontext.h).
    let [cs, ss] = exchange.state.code_and_stack;
    let selectors = &mut gregs[libc::REG_CSGSFS as usize];
    *selectors = *selectors & 0xffff_ffff_0000 | i64::from(cs) | (u64::from(ss) << 48) as i64;
    load_data_segments(ss);
    // The kernel's note at 464 and what lies behind the AVX part stay.
    let from = &exchange.state.xsave;
    area[..416].copy_from_slice(&from[..416]);
    if area.len() >= XSAVE {
        area[576..XSAVE].copy_from_slice(&from[576..]);
        area[512] |= 7;
        exchange.state.wide.put(area);
    }
    if HOME_FS.load(Ordering::Relaxed) != 0 {
        // SAFETY: nobody uses GS in this process.
        unsafe { asm!("wrgsbase {}", in(reg) exchange.state.gs_base, options(nostack, preserves_flags)) };
    }
}

/// The segment registers that came out; afterwards they are as the rest of the program needs them.
///
/// # Safety
/// Called first in a handler, before anything uses FS.
#[inline(always)]
unsafe fn take_segments() -> ([u16; 4], u64, u64) {
    let home = HOME_FS.load(Ordering::Relaxed);
    let (es, ds, fs, gs): (u64, u64, u64, u64);
    let (mut fs_base, mut gs_base) = (0, 0);
    // SAFETY: reads the registers, then loads flat data segments and the thread's own FS base.
    unsafe {
        asm!("mov {0:e}, es", "mov {1:e}, ds", "mov {2:e}, fs", "mov {3:e}, gs",
            out(reg) es, out(reg) ds, out(reg) fs, out(reg) gs, options(nostack, preserves_flags));
        if home != 0 {
            asm!("rdfsbase {0}", "rdgsbase {1}", out(reg) fs_base, out(reg) gs_base,
                options(nostack, preserves_flags));
            asm!("mov fs, {0:e}", "mov gs, {0:e}", "wrfsbase {1}", in(reg) 0u64, in(reg) home,
                options(nostack, preserves_flags));
        }
        load_data_segments(USER_DS);
    }
    ([es as u16, ds as u16, fs as u16, gs as u16], fs_base, gs_base)
}

/// Loads DS and ES, which compatibility mode needs and 64-bit mode does not look at.
fn load_data_segments(selector: u16) {
    // SAFETY: 64-bit code does not use these registers.
    unsafe {
        asm!("mov ds, {0:e}", "mov es, {0:e}", in(reg) u32::from(selector), options(nostack, preserves_flags));
    }
}

/// One entry of the local descriptor table, as modify_ldt(2) takes it.
#[repr(C)]
struct UserDescriptor {
    number: u32,
    base: u32,
    limit: u32,
    flags: u32,
}

/// Installs the segments of [`Mode::Small`]. Where the kernel does not allow it, that mode does not run.
fn install_small_segments() {
    // Contents 2: code; bit 6: usable (Linux, asm/ldt.h).
    let code = UserDescriptor {
        number: u32::from(SMALL_CS >> 3),
        base: Place::LOW.code as u32,
        limit: CODE_SIZE as u32 - 1,
        flags: 0x44,
    };
    let data = UserDescriptor {
        number: u32::from(SMALL_DS >> 3),
        base: (Place::LOW.scratch - SMALL_START) as u32,
        limit: SMALL_LIMIT,
        flags: 0x40,
    };
    for descriptor in [code, data] {
        // SAFETY: the kernel reads 16 bytes; nobody else uses these entries.
        unsafe {
            libc::syscall(libc::SYS_modify_ldt, 0x11, &raw const descriptor, size_of::<UserDescriptor>());
        }
    }
}

/// The signal that ends it: keeps the result and goes back.
extern "C" fn finish(signal: c_int, _: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the first thing in the handler.
    let (selectors, fs_base, gs_base) = unsafe { take_segments() };
    // SAFETY: as in `start`.
    let (context, shared) = unsafe { (&mut *context.cast::<ucontext_t>(), &mut *SHARED.0.get()) };
    let home = shared.as_mut().and_then(|exchange| exchange.home.take().map(|home| (exchange, home)));
    let Some((exchange, home)) = home else {
        // A fault of our own code: the default action when the instruction runs again.
        // SAFETY: plain call.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    };
    // SAFETY: the context is this handler's.
    let area = unsafe { xsave_area(context) };
    let gregs = &mut context.uc_mcontext.gregs;
    let state = &mut exchange.state;
    for (value, index) in state.gpr.iter_mut().zip(ORDER) {
        *value = gregs[index as usize] as u64;
    }
    state.rip = gregs[libc::REG_RIP as usize] as u64;
    state.rflags = gregs[libc::REG_EFL as usize] as u64 & SETTABLE | flags::FIXED;
    (state.selectors, state.fs_base, state.gs_base) = (selectors, fs_base, gs_base);
    let words = gregs[libc::REG_CSGSFS as usize] as u64;
    state.code_and_stack = [words as u16, (words >> 48) as u16];
    let to = &mut state.xsave;
    // A component that is not marked has its initial value and need not be written.
    let marked = if area.len() >= XSAVE { area[512] } else { 3 };
    let mut initial = [0; XSAVE];
    initial[0..2].copy_from_slice(&0x37fu16.to_le_bytes());
    let parts = [(0..24, 1), (24..28, 2), (32..160, 1), (160..416, 2), (576..XSAVE, 4)];
    for (range, bit) in parts {
        let from = if marked & bit != 0 && range.end <= area.len() { &*area } else { &initial[..] };
        let kept_mxcsr = range.start == 24;
        let from = if kept_mxcsr { &*area } else { from };
        to[range.clone()].copy_from_slice(&from[range]);
    }
    state.wide.take(area);
    let vector = gregs[libc::REG_TRAPNO as usize] as u8;
    let paging = vector == x86::reg::vector::PF;
    exchange.fault = (vector != x86::reg::vector::BP).then_some(Fault {
        vector,
        code: gregs[libc::REG_ERR as usize] as u64,
        address: if paging { gregs[libc::REG_CR2 as usize] as u64 } else { 0 },
    });
    area.copy_from_slice(&exchange.home_xsave);
    *gregs = home;
}

/// The host processor, ready to run instructions. One at a time in a process.
pub struct Native {
    owner: MutexGuard<'static, ()>,
    stack: Vec<u8>,
    /// Where the last instruction was written in the code pages.
    dirty: std::ops::Range<usize>,
    fs_base: u64,
}

/// A shared memory of `size` bytes.
fn memory(name: &std::ffi::CStr, size: usize) -> io::Result<File> {
    // SAFETY: plain call; the descriptor is fresh and owned by nobody else.
    let file = unsafe {
        let fd = libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC);
        check(fd)?;
        File::from_raw_fd(fd)
    };
    file.set_len(size as u64)?;
    Ok(file)
}

impl Native {
    /// Maps the pages and installs the handlers.
    ///
    /// # Errors
    /// The system call that failed.
    pub fn new() -> io::Result<Self> {
        let owner = OWNER.lock().unwrap_or_else(PoisonError::into_inner);
        let (code, scratch) = (memory(c"code", CODE_SIZE)?, memory(c"scratch", SCRATCH_SIZE)?);
        let all = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        for place in [Place::HIGH, Place::LOW] {
            for (at, size) in [(place.code, CODE_SIZE), (place.scratch, SCRATCH_SIZE)] {
                // Guard pages, so that nothing else lands next to ours.
                map(at - 0x2000, size + 0x4000, libc::PROT_NONE, None)?;
            }
            map(place.code, CODE_SIZE, all, Some(&code))?;
            map(place.scratch, SCRATCH_SIZE, libc::PROT_READ | libc::PROT_WRITE, Some(&scratch))?;
            // SAFETY: mapped just now.
            unsafe {
                std::slice::from_raw_parts_mut(place.code as *mut u8, CODE_SIZE).fill(0xcc);
                std::slice::from_raw_parts_mut(place.scratch as *mut u8, SCRATCH_SIZE).fill(0);
                let locked = (place.scratch + WRITABLE as u64) as *mut c_void;
                check(libc::mprotect(locked, SCRATCH_SIZE - WRITABLE, libc::PROT_READ))?;
                // Present in the page tables, so that error codes do not depend on history.
                std::ptr::read_volatile(locked.cast::<u8>());
                for page in (0..CODE_SIZE).step_by(4096) {
                    std::ptr::read_volatile((place.code as usize + page) as *const u8);
                }
            }
        }
        let mut stack = vec![0u8; 256 << 10];
        let alternative =
            libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
        // SAFETY: the stack lives as long as the runner, which takes it away when dropped.
        check(unsafe { libc::sigaltstack(&raw const alternative, std::ptr::null_mut()) })?;
        // SAFETY: plain call. Bit 1 of AT_HWCAP2: user code may use RDFSBASE (Linux, asm/hwcap2.h).
        let has_bases = unsafe { libc::getauxval(libc::AT_HWCAP2) } & 2 != 0;
        let mut fs_base = 0;
        if has_bases {
            // SAFETY: the kernel allows it.
            unsafe { asm!("rdfsbase {}", out(reg) fs_base, options(nostack, preserves_flags)) };
        }
        HOME_FS.store(fs_base, Ordering::Relaxed);
        // Before a handler asks.
        wide_offsets();
        load_data_segments(USER_DS);
        install_small_segments();
        install(libc::SIGUSR1, start)?;
        for signal in [libc::SIGSEGV, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGBUS] {
            install(signal, finish)?;
        }
        Ok(Self { owner, stack, dirty: 0..0, fs_base })
    }

    /// The thread's FS base; `None` where user code may not read it.
    pub fn fs_base(&self) -> Option<u64> {
        (self.fs_base != 0).then_some(self.fs_base)
    }

    /// The writable data pages.
    pub fn scratch(&mut self) -> &mut [u8] {
        // SAFETY: mapped in `new`, and only reached through `self`.
        unsafe { std::slice::from_raw_parts_mut(Place::HIGH.scratch as *mut u8, WRITABLE) }
    }

    /// Runs the instruction in `code` from `state`, at `state.rip`; gives its exception. What does not fit into the code
    /// pages is left out.
    ///
    /// # Safety
    /// The instruction must not leave the code pages, enter the kernel, or write outside the data pages.
    pub unsafe fn run(&mut self, code: &[u8], state: &mut State) -> Option<Fault> {
        let place = Place::of(state.mode);
        let at = state.rip.wrapping_sub(place.code) as usize % CODE_SIZE;
        // SAFETY: the code pages, which only this function uses. The breakpoints behind the instruction end it.
        let page = unsafe { std::slice::from_raw_parts_mut(Place::LOW.code as *mut u8, CODE_SIZE) };
        let place = at..CODE_SIZE.min(at + code.len());
        if place != self.dirty || page[place.clone()] != code[..place.len()] {
            page[self.dirty.clone()].fill(0xcc);
            page[place.clone()].copy_from_slice(&code[..place.len()]);
            self.dirty = place;
        }
        let exchange = Exchange {
            state: state.clone(),
            home: None,
            home_xsave: Vec::with_capacity(16 << 10),
            fault: None,
        };
        // SAFETY: this thread holds OWNER, and no handler runs yet.
        unsafe { *SHARED.0.get() = Some(exchange) };
        // SAFETY: the handlers come back here with all registers as they were.
        unsafe { libc::raise(libc::SIGUSR1) };
        // SAFETY: no handler runs any more.
        let exchange = unsafe { (*SHARED.0.get()).take() }?;
        *state = exchange.state;
        if exchange.fault.is_none() {
            // Back from behind the breakpoint.
            state.rip -= 1;
        }
        exchange.fault
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        let _ = (&self.owner, &self.stack);
        let none = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        // SAFETY: the handlers do not run now; nobody else refers to the pages once `self` is gone.
        unsafe {
            for signal in
                [libc::SIGUSR1, libc::SIGSEGV, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGBUS]
            {
                libc::signal(signal, libc::SIG_DFL);
            }
            libc::sigaltstack(&raw const none, std::ptr::null_mut());
            for place in [Place::HIGH, Place::LOW] {
                for (at, size) in [(place.code, CODE_SIZE), (place.scratch, SCRATCH_SIZE)] {
                    libc::munmap((at - 0x2000) as *mut c_void, size + 0x4000);
                }
            }
        }
    }
}

fn check(result: c_int) -> io::Result<()> {
    if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Maps `file`, or nothing accessible where there must be nothing yet.
fn map(at: u64, size: usize, protection: c_int, file: Option<&File>) -> io::Result<()> {
    let (kind, fd) = match file {
        Some(file) => (libc::MAP_SHARED | libc::MAP_FIXED, file.as_raw_fd()),
        None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE, -1),
    };
    // SAFETY: replaces nothing but what this module mapped before.
    let result = unsafe { libc::mmap(at as *mut c_void, size, protection, kind, fd, 0) };
    if result == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn install(signal: c_int, handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void)) -> io::Result<()> {
    // SAFETY: all zeros is a valid sigaction; the handler has the signature that SA_SIGINFO asks for.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        check(libc::sigaction(signal, &raw const action, std::ptr::null_mut()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x86::reg::{gpr, vector};

    fn run(native: &mut Native, code: &[u8], state: &mut State) -> Option<Fault> {
        // SAFETY: the tests' instructions keep to the rules.
        unsafe { native.run(code, state) }
    }

    #[test]
    fn registers_go_in_and_come_out() {
        let mut native = Native::new().unwrap();
        let mut state = State { gpr: std::array::from_fn(|n| 0x1000 + n as u64), ..State::new(Mode::Long) };
        let before = state.clone();
        state.gpr[gpr::RAX] = u64::MAX;
        state.gpr[gpr::RCX] = 1;
        assert_eq!(run(&mut native, &[0x48, 0x01, 0xc8], &mut state), None); // add rax, rcx
        assert_eq!(state.gpr[gpr::RAX], 0);
        assert_eq!(state.rflags & flags::ARITH, flags::CF | flags::PF | flags::AF | flags::ZF);
        assert_eq!((state.rip, &state.gpr[4..]), (Place::HIGH.code + 3, &before.gpr[4..]));
    }

    #[test]
    fn vectors_and_x87_go_in_and_come_out() {
        let mut native = Native::new().unwrap();
        let mut state = State::new(Mode::Long);
        state.xsave[160..176].copy_from_slice(&[3; 16]);
        state.xsave[176..192].copy_from_slice(&[4; 16]);
        assert_eq!(run(&mut native, &[0x66, 0x0f, 0xfc, 0xc1], &mut state), None); // paddb xmm0, xmm1
        assert_eq!(state.xsave[160..192], [[7; 16], [4; 16]].concat());
        assert_eq!(run(&mut native, &[0xd9, 0xe8], &mut state), None); // fld1
        assert_eq!(
            (state.xsave[4], &state.xsave[32..42]),
            (0x80, &[0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f][..])
        );
        assert_eq!(state.xsave[160..176], [7; 16]);
        if is_x86_feature_detected!("avx2") {
            state.xsave[576..592].copy_from_slice(&[5; 16]);
            assert_eq!(run(&mut native, &[0xc5, 0xfd, 0xfc, 0xc0], &mut state), None); // vpaddb ymm0, ymm0, ymm0
            assert_eq!((&state.xsave[160..176], &state.xsave[576..592]), (&[14; 16][..], &[10; 16][..]));
        }
    }

    #[test]
    fn faults_are_caught() {
        let mut native = Native::new().unwrap();
        let mut state = State::new(Mode::Long);
        let end = Place::HIGH.scratch + SCRATCH_SIZE as u64;
        state.gpr[gpr::RBX] = end - 4;
        let before = state.clone();
        let fault = run(&mut native, &[0x48, 0x8b, 0x03], &mut state).unwrap(); // mov rax, [rbx]
        assert_eq!((fault.vector, fault.code, fault.address), (vector::PF, 4, end));
        assert_eq!(state.gpr, before.gpr);
        let fault = run(&mut native, &[0x89, 0x03], &mut state).unwrap(); // mov [rbx], eax
        assert_eq!((fault.vector, fault.code, fault.address), (vector::PF, 7, end - 4));
        assert_eq!(run(&mut native, &[0x0f, 0x0b], &mut state).unwrap().vector, vector::UD);
        assert_eq!(run(&mut native, &[0x48, 0xf7, 0xf1], &mut state).unwrap().vector, vector::DE); // div rcx
        state.gpr[gpr::RBX] = Place::HIGH.scratch;
        state.gpr[gpr::RAX] = 0x1122_3344;
        assert_eq!(run(&mut native, &[0x89, 0x03], &mut state), None);
        assert_eq!(native.scratch()[..4], [0x44, 0x33, 0x22, 0x11]);
        state.gpr[gpr::RBX] = 1 << 63;
        assert_eq!(run(&mut native, &[0x89, 0x03], &mut state).unwrap().vector, vector::GP);
    }

    #[test]
    fn code_of_32_bits_runs() {
        let mut native = Native::new().unwrap();
        let mut state = State::new(Mode::Flat);
        state.gpr[gpr::RAX] = 0x0009;
        state.gpr[gpr::RBX] = Place::LOW.scratch;
        assert_eq!(run(&mut native, &[0x40], &mut state), None); // inc eax
        assert_eq!((state.gpr[gpr::RAX] as u32, state.rip), (10, Place::LOW.code + 1));
        state.rip = Place::LOW.code;
        assert_eq!(run(&mut native, &[0x37], &mut state), None); // aaa
        assert_eq!(state.gpr[gpr::RAX] as u32, 0x100);
        state.rip = Place::LOW.code;
        assert_eq!(run(&mut native, &[0x89, 0x03], &mut state), None); // mov [ebx], eax
        assert_eq!(native.scratch()[..2], [0, 1]);
    }
}
