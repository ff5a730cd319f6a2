//! Graphics cards.

use xml::{element, words};

use crate::address::{Info, VirtioOptions};
use crate::words::{OnOff, YesNo};

/// Models of graphics cards.
#[words]
pub enum VideoType {
    Default,
    Vga,
    Cirrus,
    Vmvga,
    Xen,
    Vbox,
    Qxl,
    Parallels,
    Virtio,
    Gop,
    None,
    Bochs,
    Ramfb,
}

/// What draws.
#[element]
pub struct VideoDriver {
    #[attr]
    pub vgaconf: Option<String>,
    #[flatten]
    pub virtio: VirtioOptions,
    #[attr]
    pub name: Option<String>,
}

/// Help of the host's card.
#[element]
pub struct Acceleration {
    #[attr]
    pub accel3d: Option<YesNo>,
    #[attr]
    pub accel2d: Option<YesNo>,
    #[attr]
    pub rendernode: Option<String>,
}

/// The resolution at start.
#[element]
pub struct Resolution {
    #[attr]
    pub x: u32,
    #[attr]
    pub y: u32,
}

/// The card; memory in KiB.
#[element]
pub struct VideoModel {
    #[attr("type")]
    pub kind: VideoType,
    #[attr]
    pub ram: Option<u32>,
    #[attr]
    pub vram: Option<u32>,
    #[attr]
    pub vram64: Option<u32>,
    #[attr]
    pub vgamem: Option<u32>,
    #[attr]
    pub heads: Option<u32>,
    #[attr]
    pub primary: Option<YesNo>,
    #[attr]
    pub blob: Option<OnOff>,
    #[child]
    pub acceleration: Option<Acceleration>,
    #[child]
    pub resolution: Option<Resolution>,
}

/// A graphics card.
#[element]
pub struct Video {
    #[child]
    pub driver: Option<VideoDriver>,
    #[child]
    pub model: Option<VideoModel>,
    #[flatten]
    pub info: Info,
}

impl Video {
    /// The card's model.
    pub fn kind(&self) -> VideoType {
        self.model.as_ref().map_or(VideoType::Default, |model| model.kind)
    }

    /// Whether it is the card that firmware uses.
    pub fn primary(&self) -> bool {
        self.model.as_ref().is_some_and(|model| model.primary == Some(YesNo::Yes))
    }
}
