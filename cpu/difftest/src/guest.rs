//! The interpreter's side: the same pages in a guest, at CPL 3.

use crate::layout::{CODE_SIZE, Mode, Place, SCRATCH_SIZE, SMALL_LIMIT, SMALL_START, WRITABLE};
use crate::native::{Fault, SETTABLE, SMALL_CS, SMALL_DS, State, USER_CS32, USER_CS64, USER_DS, has_wide};
use engine::testing::Bench;
use x86::reg::{cr0, cr4, efer, flags, gpr, seg, vector};
use x86::{Segment, X86State};

/// Physical addresses.
const CODE_AT: u64 = 0x10_0000;
const SCRATCH_AT: u64 = 0x11_0000;
const GDT_AT: u64 = 0x8000;
const TABLES: u64 = 0x10000;
/// Linear address of the GDT, where user code cannot get.
const GDT: u64 = 0xffff_8000_0000_0000;

/// Linear addresses of what the kernel has for exceptions: a halt for each vector, gates to them, and a stack.
const HANDLERS: u64 = GDT + 0x1000;
/// As above.
const IDT: u64 = GDT + 0x2000;
/// As above: where the stack begins, from above.
const STACK: u64 = GDT + 0x4000;
/// Bytes between two handlers.
const HANDLER: u64 = 16;
/// Blocks in which code under test ends, or never.
const MOST_BLOCKS: u32 = 200_000;

/// Linear address of the task state.
const TSS: u64 = GDT + 0x800;

/// Linear address of the local descriptor table.
const LDT: u64 = GDT + 0x400;
/// The segments of [`Mode::Small`]; modify_ldt(2) sets the bit that is the system's own (AVL).
const SMALL: [Segment; 2] = [
    Segment { base: Place::LOW.code, limit: CODE_SIZE as u32 - 1, attributes: 0x10fb, selector: SMALL_CS },
    Segment {
        base: Place::LOW.scratch - SMALL_START,
        limit: SMALL_LIMIT,
        attributes: 0x10f3,
        selector: SMALL_DS,
    },
];

/// Page-table bits.
const PRESENT: u64 = 1;
const WRITE: u64 = 2;
const USER: u64 = 4;
const NO_EXECUTE: u64 = 1 << 63;

/// Linux' GDT as far as user code can tell (arch/x86/kernel/cpu/common.c): kernel code and data, user code of 32 bits,
/// data, code of 64 bits.
const DESCRIPTORS: [u64; 7] = [
    0,
    0x00cf_9b00_0000_ffff,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x00cf_fb00_0000_ffff,
    0x00cf_f300_0000_ffff,
    0x00af_fb00_0000_ffff,
];

/// A processor of the engine with a little memory.
pub struct Guest {
    bench: Bench,
    dirty: std::ops::Range<usize>,
    tables: u64,
}

impl Guest {
    /// A guest with `-cpu max`.
    ///
    /// # Errors
    /// The engine's or the host's refusal.
    pub fn new() -> Result<Self, String> {
        Self::with_model("max")
    }

    /// A guest with `-cpu MODEL`.
    ///
    /// # Errors
    /// As for [`Guest::new`]; or there is no such model.
    pub fn with_model(model: &str) -> Result<Self, String> {
        let mut guest = Self::bare(model)?;
        // Where the host does not let it, the interpreter is compared alone.
        let _ = guest.bench.compare_tiers();
        Ok(guest)
    }

    /// The memory and what is in it.
    fn bare(model: &str) -> Result<Self, String> {
        let bench = Bench::new(model, 4 << 20)?;
        let mut guest = Self { bench, dirty: 0..0, tables: 1 };
        for place in [Place::HIGH, Place::LOW] {
            for page in (0..CODE_SIZE as u64).step_by(4096) {
                guest.map(place.code + page, (CODE_AT + page) | PRESENT | WRITE | USER);
            }
            for page in (0..SCRATCH_SIZE as u64).step_by(4096) {
                let write = if page < WRITABLE as u64 { WRITE } else { 0 };
                guest.map(place.scratch + page, (SCRATCH_AT + page) | PRESENT | write | USER | NO_EXECUTE);
            }
        }
        guest.map(GDT, GDT_AT | PRESENT | WRITE | NO_EXECUTE);
        let memory = guest.bench.memory();
        for (n, descriptor) in DESCRIPTORS.into_iter().enumerate() {
            memory.write_int(GDT_AT + 8 * n as u64, 8, descriptor);
        }
        for segment in SMALL {
            let (base, limit) = (segment.base, u64::from(segment.limit));
            let descriptor = limit & 0xffff
                | (base & 0xff_ffff) << 16
                | u64::from(segment.attributes) << 40
                | (limit >> 16 & 15) << 48
                | (base >> 24 & 0xff) << 56;
            memory.write_int(GDT_AT + LDT - GDT + u64::from(segment.selector & !7), 8, descriptor);
        }
        // A task state without an I/O permission map.
        memory.write_int(GDT_AT + TSS - GDT + 102, 2, 0x68);
        memory.write(CODE_AT, &[0xcc; CODE_SIZE]);
        guest.bench.set_state(&registers(&State::new(Mode::Long)));
        Ok(guest)
    }

    /// A guest whose exceptions are delivered, to gates behind which it halts, for [`Guest::run_block`]; in tier 2 with
    /// `options`, or in tier 1.
    ///
    /// # Errors
    /// As for [`Guest::new`]; or what the host lacks for tier 2.
    pub fn delivering(options: Option<&engine::Options>) -> Result<Self, String> {
        let mut guest = Self::bare("max")?;
        if let Some(options) = options {
            guest.bench.translate(options)?;
        }
        for page in 1..4 {
            let access = if page == 1 { 0 } else { WRITE | NO_EXECUTE };
            guest.map(GDT + 4096 * page, (GDT_AT + 4096 * page) | PRESENT | access);
        }
        let at = |linear: u64| linear - GDT + GDT_AT;
        let memory = guest.bench.memory();
        memory.write_int(at(TSS) + 4, 8, STACK);
        for vector in 0..256 {
            let handler = HANDLERS + HANDLER * vector;
            memory.write(at(handler), &[0xf4]);
            // A gate of 64-bit mode (SDM volume 3, 6.14.1); only the breakpoint's may be used by INT3.
            let kind = if vector == u64::from(vector::BP) { 0xee00 } else { 0x8e00 };
            let low = handler & 0xffff | 0x10 << 16 | kind << 32 | (handler >> 16 & 0xffff) << 48;
            memory.write_int(at(IDT) + 16 * vector, 8, low);
            memory.write_int(at(IDT) + 16 * vector + 8, 8, handler >> 32);
        }
        guest.bench.set_state(&registers(&State::new(Mode::Long)));
        Ok(guest)
    }

    /// Maps the page at `linear` by the entry `leaf`.
    fn map(&mut self, linear: u64, leaf: u64) {
        let mut table = TABLES;
        for level in [39, 30, 21] {
            let at = table + (linear >> level & 511) * 8;
            let entry = self.bench.memory().read_int(at, 8);
            table = if entry & PRESENT != 0 {
                entry & !0xfff
            } else {
                let fresh = TABLES + self.tables * 4096;
                self.tables += 1;
                self.bench.memory().write_int(at, 8, fresh | PRESENT | WRITE | USER);
                fresh
            };
        }
        self.bench.memory().write_int(table + (linear >> 12 & 511) * 8, 8, leaf);
    }

    /// Fills the writable data pages.
    pub fn set_scratch(&mut self, bytes: &[u8]) {
        self.bench.memory().write(SCRATCH_AT, &bytes[..bytes.len().min(WRITABLE)]);
    }

    /// What the writable data pages hold.
    pub fn read_scratch(&self, bytes: &mut [u8]) {
        self.bench.memory().read(SCRATCH_AT, bytes);
    }

    /// Runs the instruction in `code` from `state`, as [`crate::Native::run`] does.
    pub fn run(&mut self, code: &[u8], state: &mut State) -> Option<Fault> {
        let at = state.rip.wrapping_sub(Place::of(state.mode).code) as usize % CODE_SIZE;
        self.load(at, &code[..code.len().min(16)]);
        self.bench.set_registers(&registers(state));
        let mut result = self.bench.step();
        let after = self.bench.state();
        let linear = after.seg[seg::CS].base.wrapping_add(after.rip);
        let outside = |place: &Place| linear.wrapping_sub(place.code) >= CODE_SIZE as u64;
        if result.is_ok() && [Place::HIGH, Place::LOW].iter().all(outside) {
            // A branch to where no code is: the host shows the fault of the fetch.
            result = self.bench.step();
        }
        self.take(state);
        let after = self.bench.state();
        let raised = result.err()?;
        let address = if raised.vector == vector::PF { after.cr2 } else { 0 };
        Some(Fault { vector: raised.vector, code: raised.code.unwrap_or(0).into(), address })
    }

    /// Writes `code` at offset `at` of the code pages, breakpoints over what was there before.
    fn load(&mut self, at: usize, code: &[u8]) {
        let memory = self.bench.memory();
        memory.write(CODE_AT + self.dirty.start as u64, &vec![0xcc; self.dirty.len()]);
        self.dirty = at..CODE_SIZE.min(at + code.len());
        memory.write(CODE_AT + at as u64, &code[..self.dirty.len()]);
    }

    /// Writes the block that [`Guest::run_block`] will run, at offset `at` of the code pages.
    pub fn load_block(&mut self, at: usize, code: &[u8]) {
        self.load(at, code);
    }

    /// Runs what is at `state.rip` up to the breakpoint behind it or an exception, which is delivered. `None` in an
    /// outcome is the breakpoint. For guests made by [`Guest::delivering`].
    ///
    /// # Errors
    /// It went on for too long, or ended otherwise.
    pub fn run_block(&mut self, state: &mut State) -> Result<Option<Fault>, &'static str> {
        let mut from = registers(state);
        (from.idtr.base, from.idtr.limit) = (IDT, 0xfff);
        if !self.bench.run_until_halted(&from, MOST_BLOCKS) {
            return Err("no exception ended it");
        }
        self.take(state);
        let after = self.bench.state();
        let number = after.rip.wrapping_sub(HANDLERS) / HANDLER;
        if number > 255 || after.cpl != 0 {
            return Err("it halted elsewhere");
        }
        let (number, at, address) = (number as u8, after.gpr[gpr::RSP], after.cr2);
        let memory = self.bench.memory();
        let word = |n: u64| memory.read_int(at - GDT + GDT_AT + 8 * n, 8);
        // Vectors with an error code (SDM volume 3, table 6-1).
        let coded = matches!(number, 8 | 10..=14 | 17);
        let first = u64::from(coded);
        if at != STACK - 8 * (5 + first) {
            return Err("the kernel's stack is not where an exception leaves it");
        }
        state.rip = word(first);
        state.rflags = word(first + 2) & SETTABLE | flags::FIXED;
        state.gpr[gpr::RSP] = word(first + 3);
        state.code_and_stack = [word(first + 1) as u16, word(first + 4) as u16];
        if number == vector::BP {
            state.rip -= 1;
            return Ok(None);
        }
        let address = if number == vector::PF { address } else { 0 };
        Ok(Some(Fault { vector: number, code: if coded { word(0) } else { 0 }, address }))
    }

    /// As [`Guest::run_block`], an instruction at a time and without delivery; gives also how many were executed.
    ///
    /// # Errors
    /// It went on for too long.
    pub fn step_block(&mut self, state: &mut State) -> Result<(Option<Fault>, u64), &'static str> {
        self.bench.set_registers(&registers(state));
        for count in 0..MOST_BLOCKS {
            let Err(raised) = self.bench.step() else { continue };
            self.take(state);
            // The breakpoint behind the block.
            let done = raised.vector == vector::GP && raised.code == Some(u16::from(vector::BP) * 8 + 2);
            if done {
                return Ok((None, count.into()));
            }
            let address = if raised.vector == vector::PF { self.bench.state().cr2 } else { 0 };
            let code = raised.code.unwrap_or(0).into();
            return Ok((Some(Fault { vector: raised.vector, code, address }), count.into()));
        }
        Err("no exception ended it")
    }

    /// What the translator did so far.
    pub fn status(&self) -> String {
        let status = self.bench.status();
        let (made, left, pieces, stays) = (status.made, status.interpreted, status.pieces, status.stays.0);
        format!(
            "{made} blocks translated, {left} instructions left to tier 1; lane B: {pieces} pieces, entered {stays} times"
        )
    }

    /// The guest's registers as the host's side has them.
    fn take(&mut self, state: &mut State) {
        let after = self.bench.state();
        state.gpr = after.gpr;
        state.rip = after.rip;
        state.rflags = after.rflags & SETTABLE | flags::FIXED;
        let mut legacy = [0; 160];
        engine::fpu::legacy_area(&after.x87, true, &mut legacy);
        legacy[24..28].copy_from_slice(&after.mxcsr.to_le_bytes());
        state.xsave[..160].copy_from_slice(&legacy);
        for (n, value) in after.zmm.iter().enumerate() {
            state.set_vector(n, value);
        }
        state.wide.masks = after.opmask;
        state.selectors = [seg::ES, seg::DS, seg::FS, seg::GS].map(|n| after.seg[n].selector);
        state.code_and_stack = [seg::CS, seg::SS].map(|n| after.seg[n].selector);
        (state.fs_base, state.gs_base) = (after.seg[seg::FS].base, after.seg[seg::GS].base);
    }

    /// How many instructions the translator executed, with the interpreter's result.
    pub fn translated(&self) -> u64 {
        self.bench.translated()
    }
}

/// The guest's registers for `state`.
fn registers(state: &State) -> X86State {
    let mut registers = X86State {
        gpr: state.gpr,
        rip: state.rip,
        rflags: state.rflags | flags::FIXED | flags::IF,
        cr0: cr0::PE | cr0::MP | cr0::ET | cr0::NE | cr0::WP | cr0::AM | cr0::PG,
        cr3: TABLES,
        cr4: cr4::PAE | cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::OSXSAVE | cr4::FSGSBASE | cr4::UMIP,
        efer: efer::LME | efer::LMA | efer::SCE | efer::NXE,
        xcr0: if has_wide() { 0xe7 } else { 7 },
        cpl: 3,
        ..X86State::default()
    };
    (registers.gdtr.base, registers.gdtr.limit) = (GDT, DESCRIPTORS.len() as u16 * 8 - 1);
    registers.tr = Segment { base: TSS, limit: 0x67, attributes: 0x8b, selector: 0x40 };
    // No gates: INT raises #GP, as it does in Linux for vectors that user code may not use.
    (registers.idtr.base, registers.idtr.limit) = (GDT, 0);
    registers.ldtr = Segment { base: LDT, limit: 15, attributes: Segment::PRESENT | 2, selector: 0x50 };
    registers.seg = [Segment { base: 0, limit: u32::MAX, attributes: 0xc0f3, selector: USER_DS }; 6];
    let flat = |selector, attributes| Segment { base: 0, limit: u32::MAX, attributes, selector };
    registers.seg[seg::CS] = match state.mode {
        Mode::Long => flat(USER_CS64, 0xa0fb),
        Mode::Flat => flat(USER_CS32, 0xc0fb),
        Mode::Small => {
            registers.seg = [SMALL[1]; 6];
            SMALL[0]
        }
    };
    registers.seg[seg::FS] = Segment { base: state.fs_base, ..Segment::default() };
    registers.seg[seg::GS] = Segment { base: state.gs_base, ..Segment::default() };
    let mut legacy = [0; 160];
    legacy.copy_from_slice(&state.xsave[..160]);
    engine::fpu::load_legacy_area(&mut registers.x87, true, &legacy);
    registers.mxcsr = u32::from_le_bytes([legacy[24], legacy[25], legacy[26], legacy[27]]);
    for (n, value) in registers.zmm.iter_mut().enumerate() {
        *value = state.vector(n);
    }
    registers.opmask = state.wide.masks;
    registers
}
