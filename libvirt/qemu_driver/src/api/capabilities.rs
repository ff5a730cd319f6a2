//! What host and hypervisor can do.

use super::cpus::{self, Emulator};
use crate::capabilities;
use crate::driver::QemuDriver;
use crate::error::{Result, check_flags, error, internal};
use qemu_caps::VirtType;
use rpc::protocol::capabilities::*;
use rpc::{ClientContext, Code, TypedParam};

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

    fn node_get_sev_info(&self, _: &ClientContext, args: NodeGetSevInfoArgs) -> Result<NodeGetSevInfoRet> {
        const TYPED_STRING: u32 = 4;
        let emulator = Emulator::find(&self.core, [&None, &None, &None, &None])?;
        let none = || error(Code::OperationUnsupported, "QEMU does not support SEV guest");
        let sev = emulator.caps.sev.as_ref().ok_or_else(none)?;
        check_flags(args.flags, TYPED_STRING, "qemuGetSEVInfoToParams")?;
        let most = host::sev_guests();
        let mut params = vec![
            TypedParam::new("pdh", sev.pdh.as_str()),
            TypedParam::new("cert-chain", sev.cert_chain.as_str()),
        ];
        params.extend(sev.cpu0_id.as_deref().map(|id| TypedParam::new("cpu0-id", id)));
        params.extend([
            TypedParam::new("cbitpos", sev.cbitpos),
            TypedParam::new("reduced-phys-bits", sev.reduced_phys_bits),
            TypedParam::new("max-guests", most.plain),
            TypedParam::new("max-es-guests", most.encrypted_state),
        ]);
        // The original never sets the number that stands beside the list.
        Ok(NodeGetSevInfoRet { params, nparams: 0 })
    }

    fn connect_get_domain_capabilities(
        &self,
        _: &ClientContext,
        args: ConnectGetDomainCapabilitiesArgs,
    ) -> Result<ConnectGetDomainCapabilitiesRet> {
        const DISABLE_DEPRECATED: u32 = 1;
        check_flags(args.flags, DISABLE_DEPRECATED, "qemuConnectGetDomainCapabilities")?;
        let emulator =
            Emulator::find(&self.core, [&args.emulatorbin, &args.arch, &args.machine, &args.virttype])?;
        let (caps, virt) = (&emulator.caps, emulator.virt);
        let machine = match &emulator.machine {
            Some(name) => caps.machine(virt, name),
            None => caps.default_machine(virt),
        };
        let machine = machine.ok_or_else(|| internal("the emulator has no machine types"))?;
        let wanted = capabilities::Wanted {
            caps,
            machine,
            virt,
            arch: &caps.arch,
            firmware: self.core.firmware_for(&caps.arch, &machine.name),
            host_model: self.core.host_models.get(caps, virt),
        };
        Ok(ConnectGetDomainCapabilitiesRet { capabilities: capabilities::domain(&wanted) })
    }

    fn connect_domain_xml_to_native(
        &self,
        _: &ClientContext,
        args: ConnectDomainXmlToNativeArgs,
    ) -> Result<ConnectDomainXmlToNativeRet> {
        check_flags(args.flags, 0, "qemuConnectDomainXMLToNative")?;
        if args.native_format != "qemu-argv" {
            let detail = format!("unsupported config type {}", args.native_format);
            return Err(error(Code::InvalidArg, detail));
        }
        let mut complete = self.core.read_definition(&args.domain_xml)?;
        Ok(ConnectDomainXmlToNativeRet {
            native_config: crate::process::command_line(&self.core, &mut complete)?,
        })
    }

    fn connect_compare_cpu(
        &self,
        _: &ClientContext,
        args: ConnectCompareCpuArgs,
    ) -> Result<ConnectCompareCpuRet> {
        check_flags(args.flags, cpus::flags::COMPARE, "qemuConnectCompareCPU")?;
        let result = cpus::compare_with_host(&args.xml, args.flags)?;
        Ok(ConnectCompareCpuRet { result })
    }

    fn connect_compare_hypervisor_cpu(
        &self,
        _: &ClientContext,
        args: ConnectCompareHypervisorCpuArgs,
    ) -> Result<ConnectCompareHypervisorCpuRet> {
        check_flags(args.flags, cpus::flags::COMPARE, "qemuConnectCompareHypervisorCPU")?;
        let emulator =
            Emulator::find(&self.core, [&args.emulator, &args.arch, &args.machine, &args.virttype])?;
        let result = cpus::compare_with_guests(&self.core, &emulator, &args.xml_cpu, args.flags)?;
        Ok(ConnectCompareHypervisorCpuRet { result })
    }

    fn connect_baseline_cpu(
        &self,
        _: &ClientContext,
        args: ConnectBaselineCpuArgs,
    ) -> Result<ConnectBaselineCpuRet> {
        let known = cpus::flags::EXPAND_FEATURES | cpus::flags::MIGRATABLE;
        check_flags(args.flags, known, "qemuConnectBaselineCPU")?;
        Ok(ConnectBaselineCpuRet { cpu: cpus::baseline_of_hosts(&args.xml_cp_us, args.flags)? })
    }

    fn connect_baseline_hypervisor_cpu(
        &self,
        _: &ClientContext,
        args: ConnectBaselineHypervisorCpuArgs,
    ) -> Result<ConnectBaselineHypervisorCpuRet> {
        let known = cpus::flags::EXPAND_FEATURES | cpus::flags::MIGRATABLE;
        check_flags(args.flags, known, "qemuConnectBaselineHypervisorCPU")?;
        let emulator =
            Emulator::find(&self.core, [&args.emulator, &args.arch, &args.machine, &args.virttype])?;
        let cpu = cpus::baseline_of_guests(&emulator, &args.xml_cp_us, args.flags)?;
        Ok(ConnectBaselineHypervisorCpuRet { cpu })
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

    fn connect_get_uri(&self, _: &ClientContext) -> Result<ConnectGetUriRet> {
        Ok(ConnectGetUriRet { uri: self.uri().to_owned() })
    }

    fn connect_get_max_vcpus(
        &self,
        _: &ClientContext,
        args: ConnectGetMaxVcpusArgs,
    ) -> Result<ConnectGetMaxVcpusRet> {
        /// What the original answers where the host sets no limit.
        const EMULATED: i32 = 16;
        let virt = match args.kind.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("qemu") => return Ok(ConnectGetMaxVcpusRet { max_vcpus: EMULATED }),
            Some("kvm") => VirtType::Kvm,
            Some(other) => return Err(error(Code::InvalidArg, format!("unknown type '{other}'"))),
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
