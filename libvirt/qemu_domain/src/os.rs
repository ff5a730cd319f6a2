//! Firmware.

use domain_xml::os::{FirmwareFeature, LoaderType, Nvram};
use domain_xml::words::{YesNo, yes};
use domain_xml::{Code, Domain, Error, Result};

use crate::Settings;

/// Completes what the guest boots with.
pub fn complete(domain: &mut Domain, settings: &Settings) -> Result<()> {
    let name = domain.name().to_owned();
    let os = &mut domain.os;
    if let Some(menu) = &mut os.bootmenu
        && menu.enable == YesNo::No
    {
        menu.timeout = None;
    }
    if os.features.is_some() && os.firmware.is_none() {
        return Err(Error {
            code: Code::Detail,
            detail: "cannot use feature-based firmware autoselection when firmware autoselection is disabled"
                .to_owned(),
        });
    }
    if let Some(features) = &mut os.features {
        let state = |features: &[FirmwareFeature], name: &str| {
            features.iter().find(|feature| feature.name == name).map(|feature| feature.enabled)
        };
        if state(&features.feature, "enrolled-keys") == Some(YesNo::Yes) {
            match state(&features.feature, "secure-boot") {
                Some(YesNo::No) => {
                    return Err(Error {
                        code: Code::Detail,
                        detail: "firmware feature 'enrolled-keys' cannot be enabled when firmware feature 'secure-boot' is disabled".to_owned(),
                    });
                }
                Some(YesNo::Yes) => {}
                None => features
                    .feature
                    .push(FirmwareFeature { enabled: YesNo::Yes, name: "secure-boot".to_owned() }),
            }
        }
        features.feature.sort_by_key(|feature| feature.name.clone());
    }
    if let Some(loader) = &mut os.loader {
        if loader.path.is_some() && loader.kind.is_none() {
            loader.kind = Some(LoaderType::Rom);
        }
        let old_style = loader.kind == Some(LoaderType::Pflash) && yes(loader.read_only);
        if os.firmware.is_none() && old_style && !yes(loader.stateless) {
            let nvram = os.nvram.get_or_insert_with(Nvram::default);
            if nvram.source.is_none() {
                nvram.path.get_or_insert_with(|| format!("{}/{name}_VARS.fd", settings.nvram));
            }
        }
    }
    Ok(())
}
