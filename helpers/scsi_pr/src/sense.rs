//! SCSI statuses and sense data (SAM-5 5.3, SPC-4 4.5), and which of them an outcome of `SG_IO` becomes.

/// Status GOOD.
pub const GOOD: u8 = 0x00;
/// Status CHECK CONDITION: the sense data tell more.
pub const CHECK_CONDITION: u8 = 0x02;
/// Status BUSY.
pub const BUSY: u8 = 0x08;
/// Status RESERVATION CONFLICT.
pub const RESERVATION_CONFLICT: u8 = 0x18;
/// Status TASK SET FULL.
pub const TASK_SET_FULL: u8 = 0x28;

/// Sense key, additional sense code and its qualifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sense(pub u8, pub u8, pub u8);

/// NO ADDITIONAL SENSE INFORMATION.
pub const NO_SENSE: Sense = Sense(0, 0x00, 0x00);
/// LOGICAL UNIT NOT READY, CAUSE NOT REPORTABLE.
pub const NOT_READY: Sense = Sense(2, 0x04, 0x00);
/// MEDIUM NOT PRESENT.
pub const NO_MEDIUM: Sense = Sense(2, 0x3a, 0x00);
/// UNRECOVERED READ ERROR.
pub const READ_ERROR: Sense = Sense(3, 0x11, 0x00);
/// INTERNAL TARGET FAILURE.
pub const TARGET_FAILURE: Sense = Sense(4, 0x44, 0x00);
/// INVALID COMMAND OPERATION CODE.
pub const INVALID_OPCODE: Sense = Sense(5, 0x20, 0x00);
/// INVALID FIELD IN CDB.
pub const INVALID_FIELD: Sense = Sense(5, 0x24, 0x00);
/// PARAMETER LIST LENGTH ERROR.
pub const PARAMETER_LENGTH: Sense = Sense(5, 0x1a, 0x00);
/// INVALID FIELD IN PARAMETER LIST.
pub const INVALID_PARAMETER: Sense = Sense(5, 0x26, 0x00);
/// SCSI BUS RESET OCCURRED.
pub const BUS_RESET: Sense = Sense(6, 0x29, 0x02);
/// POWER ON, RESET, OR BUS DEVICE RESET OCCURRED.
pub const RESET: Sense = Sense(6, 0x29, 0x00);
/// SPACE ALLOCATION FAILED WRITE PROTECT.
pub const SPACE_FAILED: Sense = Sense(7, 0x27, 0x07);
/// I/O PROCESS TERMINATED.
pub const IO_ERROR: Sense = Sense(0xb, 0x00, 0x06);
/// LOGICAL UNIT DOES NOT RESPOND TO SELECTION.
pub const NO_RESPONSE: Sense = Sense(0xb, 0x05, 0x00);
/// LOGICAL UNIT COMMUNICATION FAILURE.
pub const LUN_COMM_FAILURE: Sense = Sense(0xb, 0x08, 0x00);
/// COMMAND TIMEOUT DURING PROCESSING.
pub const COMMAND_TIMEOUT: Sense = Sense(0xb, 0x2e, 0x02);
/// I_T NEXUS LOSS OCCURRED.
pub const NEXUS_LOSS: Sense = Sense(0xb, 0x29, 0x07);
/// COMMANDS CLEARED BY DEVICE SERVER.
pub const CLEARED: Sense = Sense(0xb, 0x2f, 0x02);

impl Sense {
    /// The 18 bytes of fixed-format sense data, current error.
    #[must_use]
    pub fn fixed(self) -> [u8; 18] {
        let mut bytes = [0; 18];
        bytes[0] = 0x70;
        bytes[2] = self.0;
        bytes[7] = 10;
        bytes[12] = self.1;
        bytes[13] = self.2;
        bytes
    }
}

/// The sense key of sense data in fixed or descriptor format.
#[must_use]
pub fn key(sense: &[u8]) -> Option<u8> {
    match sense.first()? & 0x7f {
        0x70 | 0x71 => Some(sense.get(2)? & 0xf),
        0x72 | 0x73 => Some(sense.get(1)? & 0xf),
        _ => None,
    }
}

/// A status, with sense of our own or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A bare status.
    Status(u8),
    /// CHECK CONDITION with this sense.
    Check(Sense),
    /// Status and sense as the device gave them.
    Device,
}

/// What a failed `ioctl` becomes. Errnos as Linux's block layer makes them of SCSI results.
#[must_use]
pub fn of_errno(errno: i32) -> Verdict {
    match errno {
        libc::EBADE => Verdict::Status(RESERVATION_CONFLICT),
        libc::EDOM => Verdict::Status(TASK_SET_FULL),
        libc::EREMOTEIO | libc::ENOMEM | libc::ENODEV => Verdict::Check(TARGET_FAILURE),
        libc::ENODATA => Verdict::Check(READ_ERROR),
        libc::ENOMEDIUM => Verdict::Check(NO_MEDIUM),
        libc::EINVAL => Verdict::Check(INVALID_FIELD),
        libc::ENOSPC => Verdict::Check(SPACE_FAILED),
        _ => Verdict::Check(IO_ERROR),
    }
}

/// What the three statuses of a completed `SG_IO` become. Host statuses are Linux's `DID_*` (scsi/scsi_status.h); one
/// without a row of its own is a failure, for a lost reservation must never look granted.
#[must_use]
pub fn of_completion(host: u16, driver: u16) -> Verdict {
    /// `DRIVER_TIMEOUT` among the low bits.
    const DRIVER_TIMEOUT: u16 = 0x06;
    match host {
        0x00 => {}
        0x01 => return Verdict::Check(NO_RESPONSE),
        0x02 => return Verdict::Status(BUSY),
        0x03 => return Verdict::Check(COMMAND_TIMEOUT),
        0x04 => return Verdict::Check(LUN_COMM_FAILURE),
        0x05 => return Verdict::Check(CLEARED),
        0x08 => return Verdict::Check(RESET),
        0x0e => return Verdict::Check(NEXUS_LOSS),
        0x10 => return Verdict::Check(TARGET_FAILURE),
        0x11 => return Verdict::Status(RESERVATION_CONFLICT),
        0x12 => return Verdict::Check(SPACE_FAILED),
        0x13 => return Verdict::Check(READ_ERROR),
        _ => return Verdict::Check(LUN_COMM_FAILURE),
    }
    if driver & 0x0f == DRIVER_TIMEOUT { Verdict::Status(BUSY) } else { Verdict::Device }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_format() {
        assert_eq!(INVALID_OPCODE.fixed(), [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn keys() {
        assert_eq!(key(&INVALID_OPCODE.fixed()), Some(5));
        assert_eq!(key(&[0xf1, 0, 0x63]), Some(3));
        assert_eq!(key(&[0x72, 0x0b]), Some(0xb));
        assert_eq!((key(&[]), key(&[0x70, 5]), key(&[0, 0, 1])), (None, None, None));
    }

    #[test]
    fn every_errno_and_host_status() {
        for (errno, want) in [
            (libc::EBADE, Verdict::Status(0x18)),
            (libc::EDOM, Verdict::Status(0x28)),
            (libc::EREMOTEIO, Verdict::Check(Sense(4, 0x44, 0))),
            (libc::ENODEV, Verdict::Check(Sense(4, 0x44, 0))),
            (libc::ENODATA, Verdict::Check(Sense(3, 0x11, 0))),
            (libc::ENOMEDIUM, Verdict::Check(Sense(2, 0x3a, 0))),
            (libc::EINVAL, Verdict::Check(Sense(5, 0x24, 0))),
            (libc::ENOSPC, Verdict::Check(Sense(7, 0x27, 7))),
            (libc::ENOTTY, Verdict::Check(Sense(0xb, 0, 6))),
            (libc::EPERM, Verdict::Check(Sense(0xb, 0, 6))),
        ] {
            assert_eq!(of_errno(errno), want, "{errno}");
        }
        for (host, want) in [
            (0, Verdict::Device),
            (1, Verdict::Check(Sense(0xb, 5, 0))),
            (2, Verdict::Status(8)),
            (3, Verdict::Check(Sense(0xb, 0x2e, 2))),
            (4, Verdict::Check(Sense(0xb, 8, 0))),
            (5, Verdict::Check(Sense(0xb, 0x2f, 2))),
            (8, Verdict::Check(Sense(6, 0x29, 0))),
            (0x0e, Verdict::Check(Sense(0xb, 0x29, 7))),
            (0x10, Verdict::Check(Sense(4, 0x44, 0))),
            (0x11, Verdict::Status(0x18)),
            (0x12, Verdict::Check(Sense(7, 0x27, 7))),
            (0x13, Verdict::Check(Sense(3, 0x11, 0))),
        ] {
            assert_eq!(of_completion(host, 0), want, "{host}");
        }
        for unknown in [6, 7, 9, 0x0a, 0x0b, 0x0c, 0x0d, 0x0f, 0x14, 0xff] {
            assert_eq!(of_completion(unknown, 0), Verdict::Check(LUN_COMM_FAILURE), "{unknown}");
        }
        assert_eq!(of_completion(0, 6), Verdict::Status(BUSY));
        assert_eq!(of_completion(0, 8), Verdict::Device);
    }
}
