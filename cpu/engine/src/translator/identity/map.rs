//! Which of the guest's pages a process has mapped: what it faults on comes in, what the TLB drops goes.

use super::frame::Report;
use super::{Helper, SLOT, TOP};
use crate::cpu::Cpu;
use crate::mmu::{Access, Dropped, Seen};
use std::io;

/// Linear addresses below this one cannot be mapped on most hosts (`vm.mmap_min_addr`).
const BOTTOM: u64 = 0x1_0000;
/// Most pages mapped in a process; a host allows 65530 mappings.
const MOST_PAGES: usize = 48 << 10;
/// Pages looked at around one that is missing.
const AROUND: u64 = 16;
/// The same for large pages.
const AROUND_LARGE: u64 = 128;
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
        let (mut at, end) = (page & !(span - 1), (page & !(span - 1)) + span);
        // Start, host address, bytes, right to write.
        let mut run: Option<(u64, u64, u64, bool)> = None;
        while at < end {
            let found = match at {
                _ if at == page => Some(seen),
                _ if !(BOTTOM..TOP).contains(&at) || helper.mapped.contains_key(&at) => None,
                _ => self.look(at),
            };
            let found = found.filter(|f| self.ram_offset(f.host).is_some());
            if let (Some((_, host, len, write)), Some(f)) = (&mut run, &found)
                && f.host == *host + *len
                && f.write == *write
            {
                *len += 0x1000;
            } else {
                self.map_run(helper, run.take())?;
                run = found.map(|f| (at, f.host, 0x1000, f.write));
            }
            if let Some(f) = found {
                helper.large |= f.shift > 12;
                helper.mapped.insert(at, Mapped { host: f.host, write: f.write, shift: f.shift });
            }
            at += 0x1000;
        }
        self.map_run(helper, run)?;
        Ok(true)
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

impl Helper {
    /// Has the process drop what the TLB has dropped.
    pub(super) fn apply(&mut self, list: &[Dropped]) -> io::Result<()> {
        for what in list {
            match *what {
                Dropped::All => self.drop_all()?,
                Dropped::Context(pcid) if pcid == self.pcid => self.drop_all()?,
                Dropped::Context(_) => {}
                Dropped::Page(linear) => self.drop_page(linear & !0xfff)?,
                Dropped::Write(host) => self.protect(|m| m.host == host)?,
                Dropped::Writes => self.protect(|_| true)?,
            }
        }
        Ok(())
    }

    pub(super) fn drop_all(&mut self) -> io::Result<()> {
        self.suspect = true;
        if self.mapped.is_empty() { Ok(()) } else { self.forget_pages() }
    }

    pub(super) fn forget_pages(&mut self) -> io::Result<()> {
        self.mapped.clear();
        self.large = false;
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
        for (at, m) in self.mapped.iter_mut().filter(|(_, m)| m.write && which(m)) {
            m.write = false;
            self.process.protect(*at, 0x1000)?;
        }
        Ok(())
    }
}
