//! The part of the capabilities that is about the host.

use crate::node::page_size;
use crate::parse::{list, number, ranges, text};
use crate::{Cell, HostCpu, Topology};
use std::path::Path;
use xml::Writer;

/// A model of security labels.
#[derive(Clone, Debug, Default)]
pub struct SecurityModel {
    /// Its name (`dac`).
    pub name: String,
    /// Its domain of interpretation.
    pub doi: String,
    /// What a domain type's guests are labelled with unless they say otherwise: type and label.
    pub base_labels: Vec<(String, String)>,
}

/// Writes attributes and nothing inside.
fn line(writer: &mut Writer, name: &str, attributes: &[(&str, String)]) {
    let write = |writer: &mut Writer| {
        for (key, value) in attributes {
            writer.attribute(key, value);
        }
    };
    writer.with(name, write, |_| ());
}

fn group(writer: &mut Writer, name: &str, content: impl FnOnce(&mut Writer)) {
    writer.with(name, |_| (), content);
}

/// An element with a unit and a number inside.
fn sized(writer: &mut Writer, name: &str, attributes: &[(&str, String)], value: u64) {
    let write = |writer: &mut Writer| {
        for (key, value) in attributes {
            writer.attribute(key, value);
        }
    };
    writer.with(name, write, |writer| writer.text(&value.to_string()));
}

/// Writes `<host>` of the host below `root`.
pub fn write(writer: &mut Writer, root: &Path, uuid: &str, security: &[SecurityModel]) {
    let cells = Cell::read_all(root);
    let topology = Topology::read(root);
    group(writer, "host", |writer| {
        writer.text_element("uuid", uuid);
        cpu(writer, &HostCpu::read(root), &topology, &cells);
        power_management(writer, root);
        let groups = std::fs::read_dir(root.join("sys/kernel/iommu_groups"));
        let iommu = groups.is_ok_and(|mut groups| groups.next().is_some());
        line(writer, "iommu", &[("support", if iommu { "yes" } else { "no" }.to_owned())]);
        group(writer, "migration_features", |writer| {
            writer.empty("live");
            group(writer, "uri_transports", |writer| {
                writer.text_element("uri_transport", "tcp");
                writer.text_element("uri_transport", "rdma");
            });
        });
        group(writer, "topology", |writer| {
            let count = cells.len().to_string();
            writer.with(
                "cells",
                |writer| writer.attribute("num", &count),
                |writer| cells.iter().for_each(|one| cell(writer, one, &cells, &topology)),
            );
        });
        caches(writer, root, &topology);
        for SecurityModel { name, doi, base_labels } in security {
            group(writer, "secmodel", |writer| {
                writer.text_element("model", name);
                writer.text_element("doi", doi);
                for (kind, label) in base_labels {
                    writer.with(
                        "baselabel",
                        |writer| writer.attribute("type", kind),
                        |writer| writer.text(label),
                    );
                }
            });
        }
    });
}

fn cpu(writer: &mut Writer, cpu: &HostCpu, topology: &Topology, cells: &[Cell]) {
    group(writer, "cpu", |writer| {
        writer.text_element("arch", std::env::consts::ARCH);
        if let Some(model) = &cpu.model {
            writer.text_element("model", model.model.as_deref().unwrap_or_default());
            if let Some(vendor) = &model.vendor {
                writer.text_element("vendor", vendor);
            }
        }
        if let Some(version) = cpu.microcode {
            line(writer, "microcode", &[("version", version.to_string())]);
        }
        if let Some((family, model, stepping)) = cpu.signature {
            let parts = [("family", family), ("model", model), ("stepping", stepping)];
            line(writer, "signature", &parts.map(|(name, value)| (name, value.to_string())));
        }
        if let Some((hertz, scaling)) = cpu.tsc {
            let scaling = if scaling { "yes" } else { "no" };
            let parts = [
                ("name", "tsc".to_owned()),
                ("frequency", hertz.to_string()),
                ("scaling", scaling.to_owned()),
            ];
            line(writer, "counter", &parts);
        }
        let parts = [
            ("sockets", topology.sockets()),
            ("dies", topology.dies()),
            ("cores", topology.cores()),
            ("threads", topology.threads()),
        ];
        line(writer, "topology", &parts.map(|(name, value)| (name, value.to_string())));
        if let Some(bits) = cpu.address_bits {
            line(writer, "maxphysaddr", &[("mode", "emulate".to_owned()), ("bits", bits.to_string())]);
        }
        for feature in cpu.model.iter().flat_map(|model| &model.features) {
            line(writer, "feature", &[("name", feature.name.clone())]);
        }
        let mut sizes = vec![page_size()];
        sizes.extend(cells.first().iter().flat_map(|cell| &cell.huge_pages).map(|pages| pages.size));
        for size in sizes {
            line(writer, "pages", &[("unit", "KiB".to_owned()), ("size", size.to_string())]);
        }
    });
}

fn power_management(writer: &mut Writer, root: &Path) {
    let states = text(&root.join("sys/power/state"));
    let disk = text(&root.join("sys/power/disk"));
    let has = |word: &str| states.split_whitespace().any(|state| state == word);
    group(writer, "power_management", |writer| {
        let disk_works = has("disk") && !disk.is_empty() && disk != "[disabled]";
        for (name, is) in [
            ("suspend_mem", has("mem")),
            ("suspend_disk", disk_works),
            ("suspend_hybrid", disk_works && disk.contains("suspend")),
        ] {
            if is {
                writer.empty(name);
            }
        }
    });
}

fn cell(writer: &mut Writer, cell: &Cell, cells: &[Cell], topology: &Topology) {
    let kib = |size: u64| [("unit", "KiB".to_owned()), ("size", size.to_string())];
    let id = cell.id.to_string();
    let content = |writer: &mut Writer| {
        sized(writer, "memory", &[("unit", "KiB".to_owned())], cell.memory);
        sized(writer, "pages", &kib(page_size()), cell.small_pages(page_size()));
        for pages in &cell.huge_pages {
            sized(writer, "pages", &kib(pages.size), pages.total);
        }
        if !cell.distances.is_empty() {
            group(writer, "distances", |writer| {
                for (other, value) in cells.iter().zip(&cell.distances) {
                    line(writer, "sibling", &[("id", other.id.to_string()), ("value", value.to_string())]);
                }
            });
        }
        let count = cell.cpus.len().to_string();
        let one = |writer: &mut Writer, id: usize| {
            let found = topology.online.iter().find(|cpu| cpu.id == id);
            let Some(cpu) = found else { return line(writer, "cpu", &[("id", id.to_string())]) };
            let parts = [
                ("id", id.to_string()),
                ("socket_id", cpu.socket.to_string()),
                ("die_id", cpu.die.to_string()),
                ("core_id", cpu.core.to_string()),
                ("siblings", ranges(&cpu.siblings)),
            ];
            line(writer, "cpu", &parts);
        };
        writer.with(
            "cpus",
            |writer| writer.attribute("num", &count),
            |writer| cell.cpus.iter().for_each(|id| one(writer, *id)),
        );
    };
    writer.with("cell", |writer| writer.attribute("id", &id), content);
}

/// The caches of the last level.
fn caches(writer: &mut Writer, root: &Path, topology: &Topology) {
    let mut banks: Vec<(u32, u32, String, u64, Vec<usize>)> = Vec::new();
    for cpu in &topology.online {
        let place = root.join(format!("sys/devices/system/cpu/cpu{}/cache", cpu.id));
        for index in 0..8 {
            let place = place.join(format!("index{index}"));
            if number::<u32>(&place.join("level")) != Some(3) {
                continue;
            }
            let id = number(&place.join("id")).unwrap_or(0);
            let size = text(&place.join("size"));
            let Some(size) = size.strip_suffix('K').and_then(|size| size.parse().ok()) else { continue };
            let kind = match text(&place.join("type")).as_str() {
                "Unified" => "both",
                "Instruction" => "code",
                _ => "data",
            };
            if !banks.iter().any(|bank| bank.0 == id) {
                let cpus = list(&text(&place.join("shared_cpu_list")));
                banks.push((id, 3, kind.to_owned(), size, cpus));
            }
        }
    }
    if banks.is_empty() {
        return;
    }
    banks.sort();
    group(writer, "cache", |writer| {
        for (id, level, kind, size, cpus) in banks {
            let (size, unit) = if size % 1024 == 0 { (size / 1024, "MiB") } else { (size, "KiB") };
            let parts = [
                ("id", id.to_string()),
                ("level", level.to_string()),
                ("type", kind),
                ("size", size.to_string()),
                ("unit", unit.to_owned()),
                ("cpus", ranges(&cpus)),
            ];
            line(writer, "bank", &parts);
        }
    });
}
