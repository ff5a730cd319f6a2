//! A host of files, and this one.

use crate::{Cell, HostCpu, NodeHost, Topology, capabilities};
use rpc::protocol::host::*;
use rpc::{ClientContext, Identity, TypedParam};
use std::path::{Path, PathBuf};

struct Fake(PathBuf);

impl Fake {
    /// Two nodes, two sockets of two cores with two threads each; processor 7 is offline.
    fn new(name: &str) -> Self {
        let fake = Self(std::env::temp_dir().join(format!("host-{name}-{}", std::process::id())));
        fake.file("sys/devices/system/cpu/present", "0-7");
        fake.file("sys/devices/system/cpu/online", "0-6");
        for id in 0..7 {
            let place = format!("sys/devices/system/cpu/cpu{id}");
            let siblings =
                if id == 6 { "6".to_owned() } else { format!("{}-{}", id / 2 * 2, id / 2 * 2 + 1) };
            for (file, text) in [
                ("topology/physical_package_id", (id / 4).to_string()),
                ("topology/core_id", (id / 2 % 2).to_string()),
                ("topology/thread_siblings_list", siblings),
                ("cache/index3/level", "3".to_owned()),
                ("cache/index3/type", "Unified".to_owned()),
                ("cache/index3/size", "12345K".to_owned()),
                ("cache/index3/id", (id / 4).to_string()),
                ("cache/index3/shared_cpu_list", if id < 4 { "0-3" } else { "4-6" }.to_owned()),
            ] {
                fake.file(&format!("{place}/{file}"), &text);
            }
        }
        fake.file("sys/devices/system/node/online", "0-1");
        for id in 0..2 {
            let place = format!("sys/devices/system/node/node{id}");
            fake.file(
                &format!("{place}/meminfo"),
                &format!("Node {id} MemTotal: 4096 kB\nNode {id} MemFree: 3000 kB\n"),
            );
            fake.file(&format!("{place}/cpulist"), if id == 0 { "0-3" } else { "4-6" });
            fake.file(&format!("{place}/distance"), if id == 0 { "10 20" } else { "20 10" });
            fake.file(&format!("{place}/hugepages/hugepages-2048kB/nr_hugepages"), "1");
            fake.file(&format!("{place}/hugepages/hugepages-2048kB/free_hugepages"), "1");
        }
        fake.file("proc/meminfo", "MemTotal: 9000 kB\nMemFree: 5000 kB\nBuffers: 1 kB\nCached: 2 kB\n");
        fake.file("proc/stat", "cpu  10 1 20 30 40 2 3\ncpu0 1 0 2 3 4 0 0\n");
        fake.file("sys/kernel/mm/ksm/pages_to_scan", "100");
        fake
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("directory");
        std::fs::write(path, format!("{text}\n")).expect("file");
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn client() -> ClientContext {
    ClientContext::new(1, Identity::default(), false)
}

#[test]
fn groups_of_processors() {
    let fake = Fake::new("groups");
    let topology = Topology::read(&fake.0);
    assert_eq!((topology.sockets(), topology.dies(), topology.cores(), topology.threads()), (2, 1, 2, 2));
    let info = NodeHost::at(&fake.0).node_get_info(&client()).expect("info");
    // Seven processors are no product of these.
    assert_eq!((info.nodes, info.sockets, info.cores, info.threads, info.cpus), (1, 1, 7, 1, 7));
    assert_eq!(info.memory, 8192);
    let args = NodeGetCpuMapArgs { need_map: 1, need_online: 1, flags: 0 };
    let map = NodeHost::at(&fake.0).node_get_cpu_map(&client(), args).expect("map");
    assert_eq!((map.cpumap, map.online, map.ret), (vec![0x7f], 7, 8));
}

#[test]
fn memory_of_nodes() {
    let fake = Fake::new("memory");
    let host = NodeHost::at(&fake.0);
    let free = |start_cell, maxcells| {
        host.node_get_cells_free_memory(&client(), NodeGetCellsFreeMemoryArgs { start_cell, maxcells })
    };
    assert_eq!(free(0, 5).expect("free").cells, [3000 << 10, 3000 << 10]);
    assert_eq!(free(1, 1).expect("free").cells.len(), 1);
    assert_eq!(free(2, 1).expect_err("range").to_string(), "internal error: start cell 2 out of range (0-1)");
    let pages = NodeGetFreePagesArgs { pages: vec![4, 2048], start_cell: 1, cell_count: 1, flags: 0 };
    assert_eq!(host.node_get_free_pages(&client(), pages).expect("pages").counts, [750, 1]);
    // The whole host comes before its first node.
    let all = NodeGetFreePagesArgs { pages: vec![4], start_cell: -1, cell_count: 2, flags: 0 };
    assert_eq!(host.node_get_free_pages(&client(), all).expect("pages").counts, [1250, 750]);
    let odd = NodeGetFreePagesArgs { pages: vec![64], start_cell: 0, cell_count: 1, flags: 0 };
    let error = host.node_get_free_pages(&client(), odd).expect_err("no such size").to_string();
    assert!(error.ends_with("page size 64 is not available on node 0"), "{error}");
    let stats = |cell_num| {
        host.node_get_memory_stats(&client(), NodeGetMemoryStatsArgs { nparams: 8, cell_num, flags: 0 })
    };
    assert_eq!(stats(-1).expect("all").params.len(), 4);
    assert_eq!(stats(1).expect("node").params.iter().map(|it| it.value).collect::<Vec<_>>(), [4096, 3000]);
    assert!(stats(9).is_err());
}

#[test]
fn times_and_settings() {
    let fake = Fake::new("times");
    let host = NodeHost::at(&fake.0);
    let stats =
        |cpu_num| host.node_get_cpu_stats(&client(), NodeGetCpuStatsArgs { cpu_num, nparams: 4, flags: 0 });
    let all = stats(-1).expect("all");
    let names: Vec<_> = all.params.iter().map(|it| (it.field.as_str(), it.value / 10_000_000)).collect();
    assert_eq!(names, [("kernel", 25), ("user", 11), ("idle", 30), ("iowait", 40)]);
    assert_eq!(stats(0).expect("one").params[1].value / 10_000_000, 1);
    assert!(stats(3).is_err());
    let set = |param| {
        host.node_set_memory_parameters(
            &client(),
            NodeSetMemoryParametersArgs { params: vec![param], flags: 0 },
        )
    };
    set(TypedParam::new("shm_pages_to_scan", 7u32)).expect("set");
    assert_eq!(std::fs::read_to_string(fake.0.join("sys/kernel/mm/ksm/pages_to_scan")).expect("file"), "7");
    assert!(set(TypedParam::new("shm_pages_to_scan", 7u64)).is_err());
    assert!(set(TypedParam::new("shm_full_scans", 7u32)).is_err());
}

#[test]
fn the_xml() {
    let fake = Fake::new("xml");
    let mut writer = xml::Writer::indented(2);
    capabilities::write(&mut writer, &fake.0, "u", &[]);
    let text = writer.finish();
    for part in [
        "    <topology>\n      <cells num='2'>\n        <cell id='0'>\n          <memory unit='KiB'>4096</memory>\n",
        "          <pages unit='KiB' size='4'>512</pages>\n          <pages unit='KiB' size='2048'>1</pages>\n",
        "            <sibling id='1' value='20'/>\n",
        "            <cpu id='6' socket_id='1' die_id='0' core_id='1' siblings='6'/>\n",
        "      <bank id='1' level='3' type='both' size='12345' unit='KiB' cpus='4-6'/>\n",
        "    <iommu support='no'/>\n",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn this_host() {
    let root = Path::new("/");
    assert!(!Topology::read(root).online.is_empty());
    assert!(Cell::read_all(root).iter().any(|cell| cell.memory > 0));
    assert!(HostCpu::read(root).model.is_some_and(|cpu| cpu.model.is_some()));
    assert!(!NodeHost::default().connect_get_hostname(&client()).expect("name").hostname.is_empty());
}
