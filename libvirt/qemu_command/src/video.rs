//! Graphics cards.

use crate::command::Builder;
use crate::{Error, Props, Result};
use domain_xml::address::HasInfo as _;
use domain_xml::video::{Video, VideoType};
use domain_xml::words::{YesNo, yes};

impl Builder<'_> {
    pub(crate) fn videos(&mut self) -> Result<()> {
        for video in &self.devices().video {
            if video.kind() == VideoType::None {
                continue;
            }
            self.video(video)?;
        }
        Ok(())
    }

    fn video(&mut self, video: &Video) -> Result<()> {
        let alias = video.info.name();
        let kind = video.kind();
        let user = video.driver.as_ref().is_some_and(|d| d.name.as_deref() == Some("vhostuser"));
        let model = video.model.as_ref();
        let acceleration = model.and_then(|m| m.acceleration.as_ref());
        let three = acceleration.and_then(|a| a.accel3d);
        if user {
            let fd = self.host.vhost_user(alias)?;
            self.option("-chardev", format!("socket,id=chr-vu-{alias},fd={fd}"));
        }
        // Cards that work as VGA too are first choice for the card that firmware uses.
        let primary = video.primary();
        let (name, virtio, suffix) = match (user, kind, primary) {
            (true, _, true) => ("vhost-user-vga", false, false),
            (true, _, false) => ("vhost-user-gpu", true, true),
            (_, VideoType::Virtio, first) => {
                let gl = yes(three);
                let name = match (first, gl) {
                    (true, true) if self.has("virtio-vga-gl") => "virtio-vga-gl",
                    (true, _) => "virtio-vga",
                    (false, true) if self.has("virtio-gpu-gl-pci") => "virtio-gpu-gl",
                    (false, _) => "virtio-gpu",
                };
                (name, true, !first)
            }
            (_, VideoType::Qxl, false) => ("qxl", false, false),
            (_, VideoType::Vga, true) => ("VGA", false, false),
            (_, VideoType::Cirrus, true) => ("cirrus-vga", false, false),
            (_, VideoType::Vmvga, true) => ("vmware-svga", false, false),
            (_, VideoType::Qxl, true) => ("qxl-vga", false, false),
            (_, VideoType::Bochs, true) => ("bochs-display", false, false),
            (_, VideoType::Ramfb, true) => ("ramfb", false, false),
            _ => return Err(Error::internal(format!("invalid model for video type '{kind}'"))),
        };
        let options = video.driver.as_ref().map(|d| d.virtio);
        let mut props = match (virtio, suffix) {
            (true, true) => self.virtio(name, None, &video.info, options)?,
            (true, false) => Self::virtio_options(Props::device(name), options),
            _ => Props::device(name),
        };
        let virgl = three.filter(|_| !user && kind == VideoType::Virtio && self.has("virtio-gpu.virgl"));
        let heads = model.and_then(|m| m.heads).unwrap_or(0);
        let shows_heads = matches!(kind, VideoType::Qxl | VideoType::Virtio);
        props = props
            .put("id", alias)
            .some("virgl", virgl.map(|v| v == YesNo::Yes))
            .positive("max_outputs", if shows_heads { heads } else { 0 });
        let kib = |size: Option<u32>| u64::from(size.unwrap_or(0));
        let vram = kib(model.and_then(|m| m.vram));
        props = match kind {
            VideoType::Qxl => {
                let mut props = props
                    .positive("ram_size", kib(model.and_then(|m| m.ram)) * 1024)
                    .positive("vram_size", vram * 1024);
                if self.has("qxl.vram64_size_mb") {
                    props = props.put("vram64_size_mb", kib(model.and_then(|m| m.vram64)) / 1024);
                }
                if self.has("qxl.vgamem_mb") {
                    props = props.put("vgamem_mb", kib(model.and_then(|m| m.vgamem)) / 1024);
                }
                props
            }
            _ if user => props.put("chardev", format!("chr-vu-{alias}")),
            VideoType::Vga if self.has("VGA.vgamem_mb") => props.positive("vgamem_mb", vram / 1024),
            VideoType::Vmvga if self.has("vmware-svga.vgamem_mb") => props.positive("vgamem_mb", vram / 1024),
            VideoType::Bochs => props.positive("vgamem", vram * 1024),
            _ => props,
        };
        if let Some(resolution) = model.and_then(|m| m.resolution.as_ref()) {
            props = props.positive("xres", resolution.x).positive("yres", resolution.y);
        }
        let props = self.place(props, &video.info)?;
        self.device(props)
    }
}
