//! Which of the guest's pages a process has mapped: what it faults on comes in, what the TLB drops goes.

use super::frame::Report;
use super::{Helper, SLOT, TOP};
use crate::cpu::Cpu;
use crate::mmu::{Access, Dropped, LeafTable, Seen};
use std::io;

/// Linear addresses below this one cannot be mapped on most hosts (`vm.mmap_min_addr`).
const BOTTOM: u64 = 0x1_0000;
/// Most pages mapped in a process; a host allows 65530 mappings.
const MOST_PAGES: usize = 48 << 10;
/// Pages looked at around one that is missing.
const AROUND: u64 = 64;
/// The same for large pages.
const AROUND_LARGE: u64 = 512;
/// Most runs of pages that are mapped for one that is missing: each is a system call.
const MOST_RUNS: usize = 6;
/// #PF.
pub(super) const PAGE_FAULT: u64 = 14;

/// A page that a process has mapped.
#[derive(Clone, Copy)]
pub(super) struct Mapped {
    host: u64,
    write: bool,
    /// log2 of the bytes of the page in the guest's tables.
    shift: u8,
}

impl Cpu {
    /// Maps the page that a fault is about; false when the interpreter has to see to it.
    pub(super) fn fill_process(&mut self, helper: &mut Helper, report: &Report) -> io::Result<bool> {
        const WRITE: u64 = 2;
        let address = report.address;
        let own = address / SLOT == helper.process.base / SLOT;
        if report.vector != PAGE_FAULT || !(BOTTOM..TOP).contains(&address) || own {
            return Ok(false);
        }
        let write = report.error & WRITE != 0;
        if self.fill(address, if write { Access::Write } else { Access::Read }, 0).is_err() {
            return Ok(false);
        }
        match self.look(address) {
            Some(seen) if seen.write || !write => self.map_around(helper, address, seen),
            _ => Ok(false),
        }
    }

    /// Maps the page of `linear`, which is as `seen`, and what is known around it; false when it is not guest RAM.
    pub(super) fn map_around(&mut self, helper: &mut Helper, linear: u64, seen: Seen) -> io::Result<bool> {
        let page = linear & !0xfff;
        if self.ram_offset(seen.host).is_none() {
            return Ok(false);
        }
        if helper.mapped.len() > MOST_PAGES {
            helper.forget_pages()?;
        }
        let span = 0x1000 * if seen.shift > 12 { AROUND_LARGE } else { AROUND };
        let (from, end) = (page & !(span - 1), (page & !(span - 1)) + span);
        let table = if seen.shift == 12 { self.leaf_table(page) } else { None };
        // What is behind the page is more likely to be wanted than what is ahead of it.
        let places = [(page, end), (from, page)];
        let mut left = MOST_RUNS;
        for (mut at, end) in places {
            // Start, host address, bytes, right to write.
            let mut run: Option<(u64, u64, u64, bool)> = None;
            while at < end && left > 0 {
                let found = match &table {
                    _ if at == page => Some(seen),
                    _ if !(BOTTOM..TOP).contains(&at) || helper.mapped.contains_key(&at) => None,
                    Some(table) => self.look_in(table, at),
                    None => self.look(at),
                };
                let found = found.filter(|f| self.ram_offset(f.host).is_some());
                match (&mut run, &found) {
                    (Some((_, host, len, write)), Some(f)) if f.host == *host + *len && f.write == *write => {
                        *len += 0x1000;
                    }
                    _ => {
                        left -= usize::from(run.is_some());
                        self.map_run(helper, run.take())?;
                        if left == 0 {
                            break;
                        }
                        run = found.map(|f| (at, f.host, 0x1000, f.write));
                    }
                }
                if let Some(f) = found {
                    helper.large |= f.shift > 12;
                    helper.mapped.insert(at, Mapped { host: f.host, write: f.write, shift: f.shift });
                }
                at += 0x1000;
            }
            self.map_run(helper, run)?;
        }
        Ok(true)
    }

    /// Has the process drop what its page tables no longer say, after the TLB has dropped everything.
    pub(super) fn compare_mapped(&mut self, helper: &mut Helper) -> io::Result<()> {
        if !std::mem::take(&mut helper.stale) {
            return Ok(());
        }
        self.jit.identity.statistics.compared += helper.mapped.len() as u64;
        let mut table: Option<LeafTable> = None;
        let mut gone: Vec<u64> = Vec::new();
        let mut protected: Vec<u64> = Vec::new();
        for (&at, m) in &mut helper.mapped {
            if table.as_ref().is_none_or(|t| !t.covers(at)) {
                table = self.leaf_table(at);
            }
            let seen = match &table {
                Some(table) => self.look_in(table, at),
                None => self.look(at),
            };
            match seen {
                Some(seen) if seen.host == m.host && seen.shift == m.shift => {
                    if m.write && !seen.write {
                        m.write = false;
                        protected.push(at);
                    }
                }
                _ => gone.push(at),
            }
        }
        for (at, len) in runs(&gone) {
            helper.process.unmap(at, len)?;
        }
        for (at, len) in runs(&protected) {
            helper.process.protect(at, len)?;
        }
        gone.iter().for_each(|at| {
            helper.mapped.remove(at);
        });
        Ok(())
    }

    fn map_run(&mut self, helper: &mut Helper, run: Option<(u64, u64, u64, bool)>) -> io::Result<()> {
        let Some((linear, host, len, write)) = run else { return Ok(()) };
        let Some(offset) = self.ram_offset(host) else { return Ok(()) };
        helper.process.map(linear, len, write, offset)
    }

    /// Where a page at a host address is in the file of guest RAM.
    fn ram_offset(&self, host: u64) -> Option<u64> {
        let r = self.ram.ranges.iter().find(|r| host.wrapping_sub(r.host) <= r.last - r.start)?;
        r.block.file().map(|_| r.offset + (host - r.host))
    }
}

/// Pages in order as addresses and bytes of what is together.
fn runs(pages: &[u64]) -> impl Iterator<Item = (u64, u64)> {
    pages.chunk_by(|a, b| a + 0x1000 == *b).map(|run| (run[0], 0x1000 * run.len() as u64))
}

impl Helper {
    /// Has the process drop what the TLB has dropped; what all of it may be is left to [`Cpu::compare_mapped`].
    pub(super) fn apply(&mut self, list: &[Dropped]) -> io::Result<()> {
        for what in list {
            match *what {
                Dropped::All => self.drop_all(),
                Dropped::Context(pcid) if pcid == self.pcid => self.drop_all(),
                Dropped::Context(_) => {}
                Dropped::Page(linear) => self.drop_page(linear & !0xfff)?,
                Dropped::Write(host) => self.protect(|m| m.host == host)?,
                Dropped::Writes => self.protect(|_| true)?,
            }
        }
        Ok(())
    }

    pub(super) fn drop_all(&mut self) {
        self.suspect = true;
        self.stale = true;
    }

    pub(super) fn forget_pages(&mut self) -> io::Result<()> {
        self.mapped.clear();
        self.large = false;
        self.stale = false;
        self.process.unmap_all()
    }

    pub(super) fn drop_page(&mut self, page: u64) -> io::Result<()> {
        const GIB: u64 = 1 << 30;
        self.suspect |= self.code.pages.keys().any(|p| p / GIB == page / GIB);
        if self.mapped.remove(&page).is_some() {
            self.process.unmap(page, 0x1000)?;
        }
        if self.large {
            let from = page & !(GIB - 1);
            let same = |at: u64, m: &Mapped| m.shift > 12 && (at ^ page) >> m.shift == 0;
            let gone: Vec<u64> = self
                .mapped
                .range(from..from.saturating_add(GIB))
                .filter(|(at, m)| same(**at, m))
                .map(|(at, _)| *at)
                .collect();
            for at in gone {
                self.mapped.remove(&at);
                self.process.unmap(at, 0x1000)?;
            }
        }
        Ok(())
    }

    pub(super) fn protect(&mut self, which: impl Fn(&Mapped) -> bool) -> io::Result<()> {
        let mut pages = Vec::new();
        for (at, m) in self.mapped.iter_mut().filter(|(_, m)| m.write && which(m)) {
            m.write = false;
            pages.push(*at);
        }
        runs(&pages).try_for_each(|(at, len)| self.process.protect(at, len))
    }
}
