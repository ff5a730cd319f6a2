//! What host and hypervisor can do.

use crate::driver::QemuDriver;
use crate::error::{Result, internal, unsupported};
use qemu_caps::VirtType;
use rpc::ClientContext;
use rpc::protocol::capabilities::*;

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
