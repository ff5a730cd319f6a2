//! What host and hypervisor can do.

use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, error, internal, unsupported};
use crate::{capabilities, cpu_xml};
use cpu_map::{Map, Offered};
use qemu_caps::VirtType;
use rpc::protocol::capabilities::*;
use rpc::{ClientContext, Code};

impl Capabilities for QemuDriver {
    fn connect_get_type(&self, _: &ClientContext) -> Result<ConnectGetTypeRet> {
        Ok(ConnectGetTypeRet { kind: "QEMU".to_owned() })
    }

    fn connect_get_version(&self, _: &ClientContext) -> Result<ConnectGetVersionRet> {
        let arch = std::env::consts::ARCH;
        let emulator = self.core.emulator(arch);
        let emulator =
            emulator.ok_or_else(|| internal(format!("Cannot find suitable emulator for {arch}")))?;
        Ok(ConnectGetVersionRet { hv_ver: self.core.capabilities(&emulator)?.version })
    }

    fn connect_get_capabilities(&self, _: &ClientContext) -> Result<ConnectGetCapabilitiesRet> {
        Ok(ConnectGetCapabilitiesRet { capabilities: self.core.capabilities_xml()? })
    }

    fn connect_get_domain_capabilities(
        &self,
        _: &ClientContext,
        args: ConnectGetDomainCapabilitiesArgs,
    ) -> Result<ConnectGetDomainCapabilitiesRet> {
        const DISABLE_DEPRECATED: u32 = 1;
        check_flags(args.flags, DISABLE_DEPRECATED, "qemuConnectGetDomainCapabilities")?;
        let wanted_virt = match args.virttype.as_deref() {
            None => None,
            Some("kvm") => Some(VirtType::Kvm),
            Some("qemu") => Some(VirtType::Qemu),
            Some(other) => {
                return Err(error(Code::InvalidArg, format!("unknown virttype: {other}")));
            }
        };
        let host = std::env::consts::ARCH;
        let arch = args.arch.as_deref().unwrap_or(host);
        let emulator = match &args.emulatorbin {
            Some(path) => path.into(),
            None => self.core.emulator(arch).ok_or_else(|| {
                error(Code::InvalidArg, format!("unable to find any emulator to serve '{arch}' architecture"))
            })?,
        };
        let caps = self.core.capabilities(&emulator)?;
        if args.arch.is_some() && caps.arch != arch {
            let detail = format!(
                "architecture from emulator '{}' doesn't match given architecture '{arch}'",
                caps.arch
            );
            return Err(error(Code::InvalidArg, detail));
        }
        let virt = wanted_virt.unwrap_or_else(|| caps.default_virt());
        if caps.accelerator(virt).is_none() {
            let detail = format!("KVM is not supported by '{}' on this host", emulator.display());
            return Err(error(Code::InvalidArg, detail));
        }
        let machine = match &args.machine {
            Some(name) => caps.machine(virt, name).ok_or_else(|| {
                let detail =
                    format!("the machine '{name}' is not supported by emulator '{}'", emulator.display());
                error(Code::InvalidArg, detail)
            })?,
            None => {
                caps.default_machine(virt).ok_or_else(|| internal("the emulator has no machine types"))?
            }
        };
        let wanted = capabilities::Wanted { caps: &caps, machine, virt, arch: &caps.arch };
        Ok(ConnectGetDomainCapabilitiesRet { capabilities: capabilities::domain(&wanted) })
    }

    fn connect_get_cpu_model_names(
        &self,
        _: &ClientContext,
        args: ConnectGetCpuModelNamesArgs,
    ) -> Result<ConnectGetCpuModelNamesRet> {
        check_flags(args.flags, 0, "qemuConnectGetCPUModelNames")?;
        let models: Vec<String> = match args.arch.as_str() {
            "x86_64" | "i686" => {
                cpu_map::Map::get().models().iter().map(|model| model.name.to_owned()).collect()
            }
            "ppc64" | "ppc64le" | "aarch64" | "s390x" | "armv7l" | "riscv64" => Vec::new(),
            other => return Err(error(Code::InvalidArg, format!("cannot find architecture {other}"))),
        };
        let ret = models.len() as i32;
        Ok(ConnectGetCpuModelNamesRet {
            models: if args.need_results == 0 { Vec::new() } else { models },
            ret,
        })
    }

    fn connect_compare_cpu(
        &self,
        _: &ClientContext,
        args: ConnectCompareCpuArgs,
    ) -> Result<ConnectCompareCpuRet> {
        check_flags(args.flags, COMPARE_FLAGS, "qemuConnectCompareCPU")?;
        let cpu = cpu_xml::parse(&args.xml)?;
        let host = host::HostCpu::read(std::path::Path::new("/")).model;
        let found = Map::get().compare(host.as_ref(), &cpu).map_err(|error| cpu_xml::map_error(&error))?;
        Ok(ConnectCompareCpuRet { result: cpu_xml::compared(found, args.flags)? })
    }

    fn connect_compare_hypervisor_cpu(
        &self,
        _: &ClientContext,
        args: ConnectCompareHypervisorCpuArgs,
    ) -> Result<ConnectCompareHypervisorCpuRet> {
        check_flags(args.flags, COMPARE_FLAGS, "qemuConnectCompareHypervisorCPU")?;
        let cpu = cpu_xml::parse(&args.xml_cpu)?;
        let (caps, virt) =
            self.hypervisor(args.emulator.as_deref(), args.arch.as_deref(), args.virttype.as_deref())?;
        let host = caps.accelerator(virt).and_then(|it| capabilities::host_model(it, true));
        let found = Map::get().compare(host.as_ref(), &cpu).map_err(|error| cpu_xml::map_error(&error))?;
        Ok(ConnectCompareHypervisorCpuRet { result: cpu_xml::compared(found, args.flags)? })
    }

    fn connect_baseline_cpu(
        &self,
        _: &ClientContext,
        args: ConnectBaselineCpuArgs,
    ) -> Result<ConnectBaselineCpuRet> {
        check_flags(args.flags, BASELINE_FLAGS, "qemuConnectBaselineCPU")?;
        Ok(ConnectBaselineCpuRet { cpu: baseline(&args.xml_cp_us, None, args.flags)? })
    }

    fn connect_baseline_hypervisor_cpu(
        &self,
        _: &ClientContext,
        args: ConnectBaselineHypervisorCpuArgs,
    ) -> Result<ConnectBaselineHypervisorCpuRet> {
        check_flags(args.flags, BASELINE_FLAGS, "qemuConnectBaselineHypervisorCPU")?;
        let (caps, virt) =
            self.hypervisor(args.emulator.as_deref(), args.arch.as_deref(), args.virttype.as_deref())?;
        let offered = caps.accelerator(virt).map(capabilities::offered).unwrap_or_default();
        Ok(ConnectBaselineHypervisorCpuRet { cpu: baseline(&args.xml_cp_us, Some(&offered), args.flags)? })
    }

    fn connect_get_uri(&self, _: &ClientContext) -> Result<ConnectGetUriRet> {
        Ok(ConnectGetUriRet { uri: self.uri().to_owned() })
    }

    fn connect_get_max_vcpus(
        &self,
        _: &ClientContext,
        args: ConnectGetMaxVcpusArgs,
    ) -> Result<ConnectGetMaxVcpusRet> {
        let virt = match args.kind.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("qemu") => VirtType::Qemu,
            Some("kvm") => VirtType::Kvm,
            Some(other) => return Err(unsupported(format!("unknown type '{other}'"))),
        };
        let arch = std::env::consts::ARCH;
        let emulator = self.core.emulator(arch).ok_or_else(|| internal("no emulator"))?;
        let caps = self.core.capabilities(&emulator)?;
        let machine = caps.default_machine(virt).or_else(|| caps.default_machine(caps.default_virt()));
        let machine = machine.ok_or_else(|| internal("the emulator has no machine types"))?;
        Ok(ConnectGetMaxVcpusRet { max_vcpus: machine.max_cpus as i32 })
    }

    fn node_get_security_model(&self, _: &ClientContext) -> Result<NodeGetSecurityModelRet> {
        Ok(NodeGetSecurityModelRet { model: b"none\0".to_vec(), doi: b"0\0".to_vec() })
    }
}

/// Refuse with an error what the host cannot do, and check the XML against the schema.
const COMPARE_FLAGS: u32 = 3;
/// Name all features, and leave out what cannot migrate.
const BASELINE_FLAGS: u32 = 3;

/// The best processor that all of these can run.
fn baseline(texts: &[String], offered: Option<&[Offered]>, flags: u32) -> Result<String> {
    const EXPAND: u32 = 1;
    const MIGRATABLE: u32 = 2;
    let cpus = texts.iter().map(|text| cpu_xml::parse(text)).collect::<Result<Vec<_>>>()?;
    let map = Map::get();
    let mut found = map
        .baseline(&cpus, offered, None, flags & MIGRATABLE != 0)
        .map_err(|error| cpu_xml::map_error(&error))?;
    // These two say what the guest's own system has switched on.
    found.features.retain(|feature| !matches!(feature.name.as_str(), "osxsave" | "ospke"));
    if flags & EXPAND != 0 {
        map.expand(&mut found).map_err(|error| cpu_xml::map_error(&error))?;
    }
    Ok(cpu_xml::format(&found))
}

impl QemuDriver {
    /// The emulator that a client means, and how it executes guests.
    fn hypervisor(
        &self,
        emulator: Option<&str>,
        arch: Option<&str>,
        virt: Option<&str>,
    ) -> Result<(std::sync::Arc<qemu_caps::QemuCaps>, VirtType)> {
        let arch = arch.unwrap_or(std::env::consts::ARCH);
        let emulator = match emulator {
            Some(path) => path.into(),
            None => self.core.emulator(arch).ok_or_else(|| {
                error(Code::InvalidArg, format!("unable to find any emulator to serve '{arch}' architecture"))
            })?,
        };
        let caps = self.core.capabilities(&emulator)?;
        let virt = match virt {
            None => caps.default_virt(),
            Some("kvm") => VirtType::Kvm,
            Some("qemu") => VirtType::Qemu,
            Some(other) => return Err(error(Code::InvalidArg, format!("unknown virttype: {other}"))),
        };
        Ok((caps, virt))
    }
}
