//! Memory: what the guest starts with, and modules.

use crate::command::Builder;
use crate::{Error, Props, Result};
use domain_xml::address::HasInfo as _;
use domain_xml::cpu::NumaCell;
use domain_xml::memory::{Allocate, Memory, MemoryAccess, MemoryModel, MemorySourceType, Page};
use domain_xml::tune::NumaMode;
use domain_xml::words::YesNo;

/// A block of guest memory that needs a back end.
pub(crate) struct Block<'a> {
    /// Size in KiB.
    pub(crate) size: u64,
    /// The node of the guest's that it belongs to.
    pub(crate) node: Option<u32>,
    /// The name of a file for it.
    pub(crate) alias: &'a str,
    pub(crate) access: Option<MemoryAccess>,
    pub(crate) discard: Option<YesNo>,
    /// The module, if it is one.
    pub(crate) module: Option<&'a Memory>,
    /// Whether the guest starts with it, rather than in nodes or modules.
    pub(crate) system: bool,
}

/// A back end, and whether the domain needs one at all.
pub(crate) struct Backend {
    pub(crate) props: Props,
    pub(crate) needed: bool,
}

/// The pages that a block is made of: their size in KiB (0: the host's), whether they are asked for by node or module,
/// and whether they are large.
struct Pages {
    size: u64,
    asked: bool,
    large: bool,
}

/// The host's ordinary pages in KiB.
const ORDINARY: u64 = 4;

impl<'a> Builder<'a> {
    /// `-m`, and the back end of the memory that the guest starts with.
    pub(crate) fn memory(&mut self) -> Result<()> {
        let modules: u64 = self.devices().memory.iter().map(Memory::size).sum();
        // What is in modules is part of the domain's memory, but not of what it starts with.
        let start = self.domain.memory_kib().saturating_sub(modules);
        let cells: u64 = self.cells().iter().map(|cell| domain_xml::cpu::cell_size(cell).0).sum();
        let start = if cells > 0 { cells } else { start };
        match &self.domain.max_memory {
            Some(max) => {
                self.option("-m", format!("size={start}k,slots={},maxmem={}k", max.slots, max.size.0));
            }
            None => self.option("-m", (start / 1024).to_string()),
        }
        if let Some(id) = self.default_ram()
            && self.cells().is_empty()
        {
            let block = Block {
                size: start,
                node: None,
                alias: &id,
                access: None,
                discard: None,
                module: None,
                system: true,
            };
            let backend = self.backend(&block, &id, true)?;
            self.backend_objects(backend.props);
        }
        let locked = self.domain.memory_backing.as_ref().is_some_and(|b| b.locked);
        self.option("-overcommit", if locked { "mem-lock=on" } else { "mem-lock=off" });
        Ok(())
    }

    /// The name that the machine gives the memory that it starts with.
    pub(crate) fn default_ram(&self) -> Option<String> {
        self.caps.machine(self.virt(), self.domain.machine())?.default_ram_id.clone()
    }

    /// The nodes of the guest's memory.
    pub(crate) fn cells(&self) -> &'a [NumaCell] {
        self.domain.cpu.as_ref().and_then(|cpu| cpu.numa.as_ref()).map_or(&[], |numa| &numa.cell)
    }

    fn pages(&self, block: &Block<'_>) -> Result<Pages> {
        let own = block.module.and_then(|m| m.source.as_ref()).and_then(|s| s.pagesize).map_or(0, |p| p.0);
        let mut pages = Pages { size: own, asked: own != 0, large: own != 0 };
        if own == 0
            && let Some(huge) = self.domain.memory_backing.as_ref().and_then(|b| b.hugepages.as_ref())
        {
            let of_node = |page: &&Page| match (&page.nodeset, block.node) {
                (Some(set), Some(node)) => crate::numa::in_set(set, node),
                _ => false,
            };
            let by_node = huge.page.iter().find(of_node);
            let general = huge.page.iter().find(|page| page.nodeset.is_none());
            if huge.page.is_empty() {
                pages.large = true;
            } else if let Some(page) = by_node.or(general) {
                pages.size = page.kib().unwrap_or(0);
                (pages.large, pages.asked) = (true, by_node.is_some());
            }
        }
        if pages.size == ORDINARY {
            return Ok(Pages { size: 0, asked: false, large: false });
        }
        if pages.large && pages.size == 0 {
            let mounts = &self.settings.huge_pages;
            let mount = mounts.iter().find(|m| m.default).or(mounts.first()).ok_or_else(|| {
                Error::internal("hugetlbfs filesystem is not mounted or disabled by administrator config")
            })?;
            pages.size = mount.size;
        }
        Ok(pages)
    }

    fn huge_page_path(&self, size: u64) -> Result<String> {
        let mount = self.settings.huge_pages.iter().find(|m| m.size == size);
        let mount = mount.ok_or_else(|| {
            Error::internal(format!("Unable to find any usable hugetlbfs mount for {size} KiB"))
        })?;
        Ok(format!("{}/{}", mount.directory, self.settings.huge_page_part))
    }

    /// The back end of a block. `forced`: whether there is one even if nothing asks for it.
    pub(crate) fn backend(&mut self, block: &Block<'_>, alias: &str, forced: bool) -> Result<Backend> {
        let backing = self.domain.memory_backing.as_ref();
        let cell = block.node.and_then(|node| self.cells().iter().find(|cell| cell.id == Some(node)));
        let access = block
            .access
            .or(cell.and_then(|c| c.mem_access))
            .or(backing.and_then(|b| b.access.as_ref()).map(|a| a.mode))
            .filter(|mode| *mode != MemoryAccess::Default);
        let discard = block
            .discard
            .or(cell.and_then(|c| c.discard))
            .or(backing.filter(|b| b.discard).map(|_| YesNo::Yes));
        let source = backing.and_then(|b| b.source.as_ref()).map_or(MemorySourceType::None, |s| s.kind);
        let pages = self.pages(block)?;
        let module_source = block.module.and_then(|m| m.source.as_ref());
        let file = module_source.and_then(|s| s.path.as_ref());
        let model = block.module.map(|m| m.model);
        let allocation = backing.and_then(|b| b.allocation.as_ref());
        let mut prealloc = allocation.is_some_and(|a| a.mode == Some(Allocate::Immediate));
        let pmem = module_source.is_some_and(|s| s.pmem);
        if file.is_some() {
            prealloc |= !pmem && model != Some(MemoryModel::VirtioPmem);
        } else {
            prealloc |= pages.large;
        }

        let mut props = Props::default();
        let share = |props: Props| props.some("share", access.map(|a| a == MemoryAccess::Shared));
        let mut shared_memory = false;
        let kind = if model == Some(MemoryModel::SgxEpc) {
            prealloc = true;
            "memory-backend-epc"
        } else if file.is_none() && source == MemorySourceType::Memfd {
            if pages.large {
                props = props.put("hugetlb", true).put("hugetlbsize", pages.size << 10);
            }
            props = share(props);
            shared_memory = block.system;
            "memory-backend-memfd"
        } else if pages.large || file.is_some() || access.is_some() || source == MemorySourceType::File {
            let path = match file {
                Some(path) => path.clone(),
                None if pages.large => self.huge_page_path(pages.size)?,
                None => format!("{}/{}", self.settings.memory_folder, block.alias),
            };
            props = props.put("mem-path", path);
            if file.is_none() {
                props = props.answer("discard-data", discard);
            }
            props = share(props);
            shared_memory = block.system;
            "memory-backend-file"
        } else {
            "memory-backend-ram"
        };
        if shared_memory && self.has("memory-backend-file.x-use-canonical-path-for-ramblock-id") {
            props = props.put("x-use-canonical-path-for-ramblock-id", false);
        }
        if model == Some(MemoryModel::VirtioMem) {
            if self.has("memory-backend-file.reserve") {
                props = props.put("reserve", false);
            }
        } else {
            let threads = allocation.and_then(|a| a.threads).unwrap_or(0);
            props = props.if_true("prealloc", prealloc).positive("prealloc-threads", threads);
        }
        props = props.put("size", block.size * 1024);
        let align = module_source.and_then(|s| s.alignsize).map_or(0, |a| a.0 * 1024);
        props = props.positive("align", align);
        if pmem {
            if !self.has("memory-backend-file.pmem") {
                return Err(Error::unsupported(
                    "nvdimm pmem property is not available with this QEMU binary",
                ));
            }
            props = props.put("pmem", true);
        }
        let (nodes, mode, by_node) = self.host_nodes(block);
        let own_nodes = module_source.and_then(|s| s.nodemask.clone());
        let from_module = own_nodes.is_some();
        let list = own_nodes.or(nodes).map(|set| crate::numa::members(&set)).transpose()?;
        if let Some(list) = &list {
            self.host.nodes_are_there(list)?;
        }
        if let Some(list) = list.filter(|_| mode != NumaMode::Restrictive) {
            let policy = match mode {
                NumaMode::Strict | NumaMode::Restrictive => "bind",
                NumaMode::Preferred => "preferred",
                NumaMode::Interleave => "interleave",
            };
            props = props.put("host-nodes", list).put("policy", policy);
        }
        let needed = pages.asked
            || from_module
            || by_node
            || file.is_some()
            || access.is_some()
            || matches!(source, MemorySourceType::File | MemorySourceType::Memfd)
            || forced;
        if kind == "memory-backend-memfd" && !self.has("memory-backend-memfd") {
            return Err(Error::unsupported("this qemu doesn't support the memory-backend-memfd object"));
        }
        Ok(Backend { props: Props::object(kind, alias).and(props), needed })
    }

    /// The host's nodes that a block's memory comes from, how, and whether its node says so.
    fn host_nodes(&self, block: &Block<'_>) -> (Option<String>, NumaMode, bool) {
        let tune = self.domain.numatune.as_ref();
        let own = tune.and_then(|t| t.memnode.iter().find(|n| block.node == Some(n.cellid)));
        if let Some(own) = own {
            return (Some(own.nodeset.clone()), own.mode, true);
        }
        let general = tune.and_then(|t| t.memory.as_ref());
        let mode = general.and_then(|m| m.mode).unwrap_or(NumaMode::Strict);
        (general.and_then(|m| m.nodeset.clone()), mode, false)
    }

    /// Adds a back end; one that is filled at once from certain nodes has threads that run there.
    pub(crate) fn backend_objects(&mut self, mut props: Props) {
        if self.has("thread-context")
            && props.get("prealloc").and_then(json::Value::as_bool) == Some(true)
            && let Some(nodes) = props.get("host-nodes").cloned()
        {
            let name = format!("tc-{}", props.text("id"));
            self.object(&Props::object("thread-context", name.clone()).put("node-affinity", nodes));
            props = props.put("prealloc-context", name);
        }
        self.object(&props);
    }

    /// Memory modules.
    pub(crate) fn memory_devices(&mut self) -> Result<()> {
        for module in &self.devices().memory {
            let alias = module.info.name();
            let block = Block {
                size: module.size(),
                node: module.node(),
                alias,
                access: module.access,
                discard: module.discard,
                module: Some(module),
                system: false,
            };
            let backend = self.backend(&block, &format!("mem{alias}"), true)?;
            self.backend_objects(backend.props);
            let driver = match module.model {
                MemoryModel::Dimm => "pc-dimm",
                MemoryModel::Nvdimm => "nvdimm",
                MemoryModel::VirtioPmem => "virtio-pmem-pci",
                MemoryModel::VirtioMem => "virtio-mem-pci",
                MemoryModel::SgxEpc => continue,
            };
            let target = module.target.as_ref();
            let kib = |size: Option<domain_xml::units::Kib>| size.map_or(0, |s| s.0 * 1024);
            let prealloc = module.model == MemoryModel::VirtioMem
                && self.has("virtio-mem-pci.prealloc")
                && self.fills_at_once(&block)?;
            let props = Props::device(driver)
                .some("node", module.node())
                .positive("label-size", kib(target.and_then(|t| t.label.as_ref()).and_then(|l| l.size)))
                .positive("block-size", kib(target.and_then(|t| t.block)))
                .positive("requested-size", kib(target.and_then(|t| t.requested)))
                .some("uuid", module.uuid.clone())
                .if_true("unarmed", target.is_some_and(|t| t.read_only))
                .put("memdev", format!("mem{alias}"))
                .if_true("prealloc", prealloc)
                .put("id", alias);
            let props = self.place(props, &module.info)?;
            self.device(props)?;
        }
        Ok(())
    }

    fn fills_at_once(&self, block: &Block<'_>) -> Result<bool> {
        let allocation = self.domain.memory_backing.as_ref().and_then(|b| b.allocation.as_ref());
        Ok(allocation.is_some_and(|a| a.mode == Some(Allocate::Immediate)) || self.pages(block)?.large)
    }
}
