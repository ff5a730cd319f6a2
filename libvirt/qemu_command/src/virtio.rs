//! What all virtio devices have.

use crate::command::Builder;
use crate::{Error, Props, Result};
use domain_xml::Address;
use domain_xml::address::{HasInfo, VirtioDriver, VirtioOptions};
use domain_xml::disk::VirtioModel;

impl Builder<'_> {
    /// A virtio device: `name` with how it is attached, and the options that its driver has.
    pub(crate) fn virtio(
        &self,
        name: &str,
        model: Option<VirtioModel>,
        info: &impl HasInfo,
        options: Option<VirtioOptions>,
    ) -> Result<Props> {
        let how = match info.address() {
            Some(Address::Pci(_)) => "pci",
            Some(Address::VirtioMmio(_)) => "device",
            _ => return Err(Error::internal(format!("Unexpected address type for '{name}'"))),
        };
        let form = match model {
            Some(VirtioModel::VirtioTransitional) if self.has("virtio-pci-non-transitional") => {
                "-transitional"
            }
            Some(VirtioModel::VirtioNonTransitional) => {
                if !self.has("virtio-pci-non-transitional") {
                    return Err(Error::unsupported(
                        "virtio non-transitional model not supported for this qemu",
                    ));
                }
                "-non-transitional"
            }
            _ => "",
        };
        Ok(Self::virtio_options(Props::device(format!("{name}-{how}{form}")), options))
    }

    /// Adds the options of a virtio driver.
    pub(crate) fn virtio_options(props: Props, options: Option<VirtioOptions>) -> Props {
        let Some(options) = options else { return props };
        props
            .switch("iommu_platform", options.iommu)
            .switch("ats", options.ats)
            .switch("packed", options.packed)
            .switch("page-per-vq", options.page_per_vq)
    }
}

/// The options in `<driver>`.
pub(crate) fn options(driver: &Option<VirtioDriver>) -> Option<VirtioOptions> {
    driver.as_ref().map(|driver| driver.virtio)
}

/// The form that a model's name asks for.
pub(crate) fn form(model: &str) -> Option<VirtioModel> {
    match model {
        "virtio-transitional" => Some(VirtioModel::VirtioTransitional),
        "virtio-non-transitional" => Some(VirtioModel::VirtioNonTransitional),
        _ => None,
    }
}
