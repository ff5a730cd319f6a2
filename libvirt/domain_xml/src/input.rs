//! Keyboards, mice and the like.

use xml::{element, words};

use crate::address::{Info, VirtioDriver};
use crate::words::OnOff;

/// Kinds of input devices.
#[words]
pub enum InputType {
    Mouse,
    Tablet,
    Keyboard,
    Passthrough,
    Evdev,
}

/// What an input device is attached to.
#[words]
pub enum InputBus {
    Ps2,
    Usb,
    Xen,
    Parallels,
    Virtio,
    None,
}

/// The host's device.
#[element]
pub struct InputSource {
    #[attr]
    pub dev: Option<String>,
    #[attr]
    pub evdev: Option<String>,
    #[attr]
    pub grab: Option<String>,
    #[attr("grabToggle")]
    pub grab_toggle: Option<String>,
    #[attr]
    pub repeat: Option<OnOff>,
}

/// An input device.
#[element]
pub struct Input {
    #[attr("type")]
    pub kind: InputType,
    #[attr]
    pub bus: Option<InputBus>,
    #[attr]
    pub model: Option<String>,
    #[child]
    pub driver: Option<VirtioDriver>,
    #[child]
    pub source: Option<InputSource>,
    #[flatten]
    pub info: Info,
}
