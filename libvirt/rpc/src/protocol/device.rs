//! Devices of domains, and what is sent to or read from them.

use super::limits::{
    DOMAIN_BLKIO_PARAMETERS_MAX, DOMAIN_BLOCK_IO_TUNE_PARAMETERS_MAX, DOMAIN_BLOCK_PEEK_BUFFER_MAX,
    DOMAIN_DISK_ERRORS_MAX, DOMAIN_INTERFACE_PARAMETERS_MAX, DOMAIN_MEMORY_PEEK_BUFFER_MAX,
    DOMAIN_SEND_KEY_MAX,
};
use super::types::{Domain, TypedParam};

derive::protocol! {
    /// Devices of domains, and what is sent to or read from them.
    handler DomainDevices;

    /// A disk in error.
    struct DomainDiskError {
        disk: str,
        error: i32,
    }

    call 8 domain_attach_device(dom: Domain, xml: str): virDomainAttachDevice, write, acl["domain:write"];
    call 13 domain_detach_device(dom: Domain, xml: str): virDomainDetachDevice, write, acl["domain:write"];
    call 103 domain_block_peek(dom: Domain, path: str, offset: u64, size: u32, flags: u32)
        -> (buffer: bytes<DOMAIN_BLOCK_PEEK_BUFFER_MAX>):
        virDomainBlockPeek, write, acl["domain:block_read"];
    call 104 domain_memory_peek(dom: Domain, offset: u64, size: u32, flags: u32)
        -> (buffer: bytes<DOMAIN_MEMORY_PEEK_BUFFER_MAX>):
        virDomainMemoryPeek, write, acl["domain:mem_read"];
    call 160 domain_attach_device_flags(dom: Domain, xml: str, flags: u32):
        virDomainAttachDeviceFlags, write,
        acl[
            "domain:write",
            "domain:save:!VIR_DOMAIN_AFFECT_CONFIG|VIR_DOMAIN_AFFECT_LIVE",
            "domain:save:VIR_DOMAIN_AFFECT_CONFIG",
        ];
    call 161 domain_detach_device_flags(dom: Domain, xml: str, flags: u32):
        virDomainDetachDeviceFlags, write,
        acl[
            "domain:write",
            "domain:save:!VIR_DOMAIN_AFFECT_CONFIG|VIR_DOMAIN_AFFECT_LIVE",
            "domain:save:VIR_DOMAIN_AFFECT_CONFIG",
        ];
    call 174 domain_update_device_flags(dom: Domain, xml: str, flags: u32):
        virDomainUpdateDeviceFlags, write,
        acl[
            "domain:write",
            "domain:save:!VIR_DOMAIN_AFFECT_CONFIG|VIR_DOMAIN_AFFECT_LIVE",
            "domain:save:VIR_DOMAIN_AFFECT_CONFIG",
        ];
    call 194 domain_get_block_info(dom: Domain, path: str, flags: u32)
        -> (allocation: u64, capacity: u64, physical: u64):
        virDomainGetBlockInfo, acl["domain:read"];
    call 201 domain_open_console(dom: Domain, dev_name: str?, flags: u32):
        virDomainOpenConsole, write, read_stream, acl["domain:open_device"];
    call 205 domain_set_blkio_parameters(
        dom: Domain, params: [TypedParam; DOMAIN_BLKIO_PARAMETERS_MAX], flags: u32
    ):
        virDomainSetBlkioParameters, write,
        nonnull(params), acl[
            "domain:write",
            "domain:save:!VIR_DOMAIN_AFFECT_CONFIG|VIR_DOMAIN_AFFECT_LIVE",
            "domain:save:VIR_DOMAIN_AFFECT_CONFIG",
        ];
    call 206 domain_get_blkio_parameters(dom: Domain, nparams: i32, flags: u32)
        -> (params: [TypedParam; DOMAIN_BLKIO_PARAMETERS_MAX], nparams: i32):
        virDomainGetBlkioParameters, acl["domain:read"];
    call 210 domain_inject_nmi(dom: Domain, flags: u32):
        virDomainInjectNMI, write, acl["domain:inject_nmi"];
    call 211 domain_screenshot(dom: Domain, screen: u32, flags: u32) -> (mime: str?):
        virDomainScreenshot, write, read_stream, acl["domain:screenshot"];
    call 226 domain_send_key(
        dom: Domain, codeset: u32, holdtime: u32, keycodes: [u32; DOMAIN_SEND_KEY_MAX], flags: u32
    ):
        virDomainSendKey, write, nonnull(keycodes), acl["domain:send_input"];
    call 249 domain_open_graphics(dom: Domain, idx: u32, flags: u32):
        virDomainOpenGraphics, write, fds_in, acl["domain:open_graphics"];
    call 251 domain_block_resize(dom: Domain, disk: str, size: u64, flags: u32):
        virDomainBlockResize, write, acl["domain:block_write"];
    call 252 domain_set_block_io_tune(
        dom: Domain, disk: str, params: [TypedParam; DOMAIN_BLOCK_IO_TUNE_PARAMETERS_MAX], flags: u32
    ):
        virDomainSetBlockIoTune, write,
        positive(params as nparams), acl[
            "domain:write",
            "domain:save:!VIR_DOMAIN_AFFECT_CONFIG|VIR_DOMAIN_AFFECT_LIVE",
            "domain:save:VIR_DOMAIN_AFFECT_CONFIG",
        ];
    call 253 domain_get_block_io_tune(dom: Domain, disk: str?, nparams: i32, flags: u32)
        -> (params: [TypedParam; DOMAIN_BLOCK_IO_TUNE_PARAMETERS_MAX], nparams: i32):
        virDomainGetBlockIoTune, acl["domain:read"];
    call 256 domain_set_interface_parameters(
        dom: Domain, device: str, params: [TypedParam; DOMAIN_INTERFACE_PARAMETERS_MAX], flags: u32
    ):
        virDomainSetInterfaceParameters, write,
        nonnull(params), acl[
            "domain:write",
            "domain:save:!VIR_DOMAIN_AFFECT_CONFIG|VIR_DOMAIN_AFFECT_LIVE",
            "domain:save:VIR_DOMAIN_AFFECT_CONFIG",
        ];
    call 257 domain_get_interface_parameters(dom: Domain, device: str, nparams: i32, flags: u32)
        -> (params: [TypedParam; DOMAIN_INTERFACE_PARAMETERS_MAX], nparams: i32):
        virDomainGetInterfaceParameters, acl["domain:read"];
    call 263 domain_get_disk_errors(dom: Domain, maxerrors: u32, flags: u32)
        -> (errors: [DomainDiskError; DOMAIN_DISK_ERRORS_MAX], nerrors: i32):
        virDomainGetDiskErrors, acl["domain:read"];
    call 296 domain_open_channel(dom: Domain, name: str?, flags: u32):
        virDomainOpenChannel, write, read_stream, acl["domain:open_device"];
    call 343 domain_open_graphics_fd(dom: Domain, idx: u32, flags: u32):
        virDomainOpenGraphicsFD, write, fds_out, acl["domain:open_graphics"];
    call 386 domain_set_block_threshold(dom: Domain, dev: str, threshold: u64, flags: u32):
        virDomainSetBlockThreshold, write, acl["domain:write"];
    call 392 domain_detach_device_alias(dom: Domain, alias: str, flags: u32):
        virDomainDetachDeviceAlias, write,
        acl[
            "domain:write",
            "domain:save:!VIR_DOMAIN_AFFECT_CONFIG|VIR_DOMAIN_AFFECT_LIVE",
            "domain:save:VIR_DOMAIN_AFFECT_CONFIG",
        ];
    call 443 domain_fd_associate(dom: Domain, name: str, flags: u32):
        virDomainFDAssociate, write, fds_in, acl["domain:write"];
}
