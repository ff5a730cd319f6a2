//! The `SG_IO` ioctl (scsi/sg.h, version 3 of its header).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The one ioctl request this program makes.
pub const SG_IO: u32 = 0x2285;

const SG_DXFER_NONE: i32 = -1;
const SG_DXFER_TO_DEV: i32 = -2;
const SG_DXFER_FROM_DEV: i32 = -3;
/// In milliseconds; Linux raises it to its minimum for such commands (7 s).
const TIMEOUT: u32 = 1;

#[repr(C)]
struct SgIoHdr {
    interface_id: i32,
    dxfer_direction: i32,
    cmd_len: u8,
    mx_sb_len: u8,
    iovec_count: u16,
    dxfer_len: u32,
    dxferp: *mut u8,
    cmdp: *const u8,
    sbp: *mut u8,
    timeout: u32,
    flags: u32,
    pack_id: i32,
    usr_ptr: *mut u8,
    status: u8,
    masked_status: u8,
    msg_status: u8,
    sb_len_wr: u8,
    host_status: u16,
    driver_status: u16,
    resid: i32,
    duration: u32,
    info: u32,
}
const _: () = assert!(size_of::<SgIoHdr>() == 88, "struct sg_io_hdr of x86-64");

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// SCSI status.
    pub status: u8,
    /// What the host adapter's driver says (`DID_*`).
    pub host: u16,
    /// What the upper driver says (`DRIVER_*`).
    pub driver: u16,
    /// Bytes of sense data written.
    pub sense: usize,
    /// Bytes of data transferred, at most the buffer's length.
    pub transferred: usize,
}

/// Direction and buffer of the data phase.
#[derive(Debug)]
pub enum Data<'a> {
    /// From the device.
    In(&'a mut [u8]),
    /// To the device.
    Out(&'a [u8]),
    /// There is none.
    None,
}

/// Sends one command to the device behind `device`.
///
/// # Errors
/// What the ioctl reports.
pub fn execute(
    device: BorrowedFd<'_>,
    cdb: &[u8],
    data: Data<'_>,
    sense: &mut [u8; 96],
) -> io::Result<Completion> {
    let (direction, pointer, len) = match data {
        Data::In(buf) => (SG_DXFER_FROM_DEV, buf.as_mut_ptr(), buf.len()),
        Data::Out(buf) => (SG_DXFER_TO_DEV, buf.as_ptr().cast_mut(), buf.len()),
        Data::None => (SG_DXFER_NONE, std::ptr::null_mut(), 0),
    };
    let mut header = SgIoHdr {
        interface_id: i32::from(b'S'),
        dxfer_direction: direction,
        cmd_len: u8::try_from(cdb.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        mx_sb_len: 96,
        iovec_count: 0,
        dxfer_len: u32::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        dxferp: pointer,
        cmdp: cdb.as_ptr(),
        sbp: sense.as_mut_ptr(),
        timeout: TIMEOUT,
        flags: 0,
        pack_id: 0,
        usr_ptr: std::ptr::null_mut(),
        status: 0,
        masked_status: 0,
        msg_status: 0,
        sb_len_wr: 0,
        host_status: 0,
        driver_status: 0,
        resid: 0,
        duration: 0,
        info: 0,
    };
    // SAFETY: the header is the kernel's sg_io_hdr; its pointers are to live buffers of the lengths given, the data
    // buffer is written only in the direction that has it mutable, and the call returns when the device is done with them.
    if unsafe { libc::ioctl(device.as_raw_fd(), libc::c_ulong::from(SG_IO), &raw mut header) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let residual = usize::try_from(header.resid).unwrap_or(0);
    Ok(Completion {
        status: header.status,
        host: header.host_status,
        driver: header.driver_status,
        sense: usize::from(header.sb_len_wr).min(96),
        transferred: len.saturating_sub(residual),
    })
}
