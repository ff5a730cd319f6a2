//! Keyboards, mice and the like.

use crate::command::Builder;
use crate::{Props, Result};
use domain_xml::address::HasInfo as _;
use domain_xml::input::{InputBus, InputType};

impl Builder<'_> {
    pub(crate) fn inputs(&mut self) -> Result<()> {
        for input in &self.devices().input {
            let alias = input.info.name();
            let source = input.source.as_ref();
            if input.kind == InputType::Evdev {
                let props = Props::object("input-linux", alias)
                    .put("evdev", source.and_then(|s| s.dev.clone()).unwrap_or_default())
                    .switch("repeat", source.and_then(|s| s.repeat))
                    .if_true("grab_all", source.and_then(|s| s.grab.as_deref()) == Some("all"))
                    .some("grab-toggle", source.and_then(|s| s.grab_toggle.clone()));
                self.object(&props);
                continue;
            }
            let props = match input.bus {
                Some(InputBus::Usb) => {
                    let driver = match input.kind {
                        InputType::Mouse => "usb-mouse",
                        InputType::Tablet => "usb-tablet",
                        _ => "usb-kbd",
                    };
                    Props::device(driver).put("id", alias)
                }
                Some(InputBus::Virtio) => {
                    let name = match input.kind {
                        InputType::Mouse => "virtio-mouse",
                        InputType::Tablet => "virtio-tablet",
                        InputType::Keyboard => "virtio-keyboard",
                        _ => "virtio-input-host",
                    };
                    let form = input.model.as_deref().and_then(crate::virtio::form);
                    let evdev = (input.kind == InputType::Passthrough)
                        .then(|| source.and_then(|s| s.evdev.clone()).unwrap_or_default());
                    self.virtio(name, form, &input.info, crate::virtio::options(&input.driver))?
                        .put("id", alias)
                        .some("evdev", evdev)
                }
                // The board has these.
                _ => continue,
            };
            let props = self.place(props, &input.info)?;
            self.device(props)?;
        }
        Ok(())
    }
}
