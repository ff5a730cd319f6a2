//! The ACPI power-management block of PIIX4 and ICH9: PM1 events and control, the PM timer, GPE0, SMI command port.
//!
//! Source: ACPI specification 6.5, chapter 4.8; Intel 82371AB and ICH9 data sheets. The PCI function that contains it
//! decides where its windows are; GPE0 lies behind the others on ICH9, at 0xafe0 on PIIX4.

use crate::window::{byte, window};
use clock::{Clock, NANOS, Timer, muldiv64};
use guestmem::{IoRules, Region};
use irq::IrqLine;
use parking_lot::Mutex;
use std::sync::{Arc, Weak};

/// The PM timer's frequency in hertz.
pub const PM_TIMER_HZ: u64 = 3_579_545;

const PM1_TIMER: u16 = 1;
const PM1_GLOBAL: u16 = 1 << 5;
const PM1_POWER_BUTTON: u16 = 1 << 8;
const PM1_SLEEP_BUTTON: u16 = 1 << 9;
const PM1_RTC: u16 = 1 << 10;
const PM1_WAKE: u16 = 1 << 15;
/// The status bits that a write of 1 clears.
const PM1_STATUS: u16 =
    PM1_TIMER | 1 << 4 | PM1_GLOBAL | PM1_POWER_BUTTON | PM1_SLEEP_BUTTON | PM1_RTC | 1 << 14 | PM1_WAKE;
const PM1_ENABLED: u16 = PM1_TIMER | PM1_GLOBAL | PM1_POWER_BUTTON | PM1_SLEEP_BUTTON | PM1_RTC;
const CNT_SCI_EN: u16 = 1;
const CNT_SLP_EN: u16 = 1 << 13;

/// The byte at the SMI command port that switches ACPI mode on, and the one that switches it off (as in the FADT).
pub const ACPI_ENABLE: u8 = 0xf1;
/// See [`ACPI_ENABLE`].
pub const ACPI_DISABLE: u8 = 0xf0;

/// What the guest asks of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SleepRequest {
    /// S5: power off.
    Off,
    /// S3: suspend to RAM.
    Suspend,
    /// S4: suspend to disk, which ends like a power-off.
    Hibernate,
}

/// What may differ between boards.
#[derive(Clone, Copy, Debug)]
pub struct PmConfig {
    /// `disable_s3`: S3 is not offered.
    pub disable_s3: bool,
    /// `disable_s4`: S4 is not offered.
    pub disable_s4: bool,
    /// `s4_val`: the sleep type of S4.
    pub s4_val: u8,
    /// Bytes of GPE0: status, then enable, half each (4 on PIIX4, 16 on ICH9).
    pub gpe_len: u8,
}

impl Default for PmConfig {
    fn default() -> Self {
        Self { disable_s3: false, disable_s4: false, s4_val: 2, gpe_len: 4 }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct State {
    status: u16,
    enable: u16,
    control: u16,
    gpe_status: [u8; 8],
    gpe_enable: [u8; 8],
    apm_command: u8,
    apm_status: u8,
    /// Guest time at which the timer's top bit changes next.
    overflow: Option<u64>,
}

impl State {
    fn reset() -> Self {
        Self {
            status: 0,
            enable: 0,
            control: 0,
            gpe_status: [0; 8],
            gpe_enable: [0; 8],
            apm_command: 0,
            apm_status: 0,
            overflow: None,
        }
    }
}

/// The block.
pub struct AcpiPm {
    config: PmConfig,
    clock: Clock,
    sci: IrqLine,
    sleep: Box<dyn Fn(SleepRequest) + Send + Sync>,
    timer: Timer,
    state: Mutex<State>,
    /// Held while the line is driven, so that levels arrive in the order they were computed.
    wire: Mutex<bool>,
}

impl AcpiPm {
    /// A block in its reset state that drives `sci` and hands the guest's sleep requests to `sleep`.
    pub fn new(
        clock: &Clock,
        sci: IrqLine,
        config: PmConfig,
        sleep: impl Fn(SleepRequest) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new_cyclic(|weak: &Weak<Self>| {
            let me = weak.clone();
            Self {
                config,
                clock: clock.clone(),
                sci,
                sleep: Box::new(sleep),
                timer: clock.timer(move || {
                    if let Some(pm) = me.upgrade() {
                        pm.update();
                    }
                }),
                state: Mutex::new(State::reset()),
                wire: Mutex::new(false),
            }
        })
    }

    /// PM1 event (offset 0), PM1 control (4) and the PM timer (8): the first 12 bytes at PMBASE.
    pub fn pm1_regions(self: &Arc<Self>) -> [(u64, Region); 3] {
        let rules = IoRules { valid_max: 4, impl_min: 1, impl_max: 4, ..IoRules::ANY };
        let event =
            window("acpi-evt", 4, rules, self, |p, o, s| p.read_pm1(o, s), |p, o, s, v| p.write_pm1(o, s, v));
        let control = window(
            "acpi-cnt",
            2,
            rules,
            self,
            |p, o, s| p.read_pm1(4 + o, s),
            |p, o, s, v| p.write_pm1(4 + o, s, v),
        );
        let timer = window(
            "acpi-tmr",
            4,
            rules,
            self,
            |p, o, s| p.read_pm1(8 + o, s),
            |p, o, s, v| p.write_pm1(8 + o, s, v),
        );
        [(0, event), (4, control), (8, timer)]
    }

    /// GPE0: status, then enable.
    pub fn gpe_region(self: &Arc<Self>) -> Region {
        window(
            "acpi-gpe0",
            self.config.gpe_len.into(),
            IoRules::BYTES,
            self,
            |p, o, _| p.read_gpe(o).into(),
            |p, o, _, v| p.write_gpe(o, byte(v)),
        )
    }

    /// The SMI command and status ports, 0xb2 and 0xb3.
    pub fn apm_region(self: &Arc<Self>) -> Region {
        window(
            "apm-io",
            2,
            IoRules::BYTES,
            self,
            |p, o, _| {
                let state = p.state.lock();
                if o == 0 { state.apm_command.into() } else { state.apm_status.into() }
            },
            |p, o, _, v| p.write_apm(o, byte(v)),
        )
    }

    /// System reset.
    pub fn reset(&self) {
        *self.state.lock() = State::reset();
        self.update();
    }

    /// Presses the power button (`system_powerdown`).
    pub fn power_button(&self) {
        self.state.lock().status |= PM1_POWER_BUTTON;
        self.update();
    }

    /// Records a wake-up from S3 by the given cause's status bit (power button or RTC alarm).
    pub fn wake(&self, by_rtc: bool) {
        self.state.lock().status |= PM1_WAKE | if by_rtc { PM1_RTC } else { PM1_POWER_BUTTON };
        self.update();
    }

    /// Raises a general-purpose event.
    pub fn raise_gpe(&self, number: u8) {
        if number < self.config.gpe_len * 4 {
            self.state.lock().gpe_status[usize::from(number / 8)] |= 1 << (number % 8);
            self.update();
        }
    }

    /// Whether the guest has switched ACPI mode on.
    pub fn is_acpi_mode(&self) -> bool {
        self.state.lock().control & CNT_SCI_EN != 0
    }

    /// Switches ACPI mode on, as firmware that hands over directly does.
    pub fn enable_acpi(&self) {
        self.state.lock().control |= CNT_SCI_EN;
        self.update();
    }

    /// The PM timer's 24 bits.
    fn ticks(&self) -> u64 {
        muldiv64(self.clock.now(), PM_TIMER_HZ, NANOS)
    }

    /// Drives the SCI and waits for the PM timer's next carry where that interrupts.
    fn update(&self) {
        let mut wire = self.wire.lock();
        let level = {
            let mut state = self.state.lock();
            let now = self.clock.now();
            self.check_timer(&mut state, now);
            if state.enable & PM1_TIMER != 0 && state.status & PM1_TIMER == 0 {
                if let Some(at) = state.overflow {
                    self.timer.arm(at);
                }
            } else {
                self.timer.disarm();
            }
            let gpe = state.gpe_status.iter().zip(&state.gpe_enable).any(|(s, e)| s & e != 0);
            state.status & state.enable & PM1_ENABLED != 0 || gpe
        };
        if *wire != level {
            *wire = level;
            self.sci.set(level);
        }
    }

    /// Sets the timer's status bit when its top bit has changed.
    fn check_timer(&self, state: &mut State, now: u64) {
        if state.overflow.is_some_and(|at| at <= now) {
            state.status |= PM1_TIMER;
        }
        if state.overflow.is_none_or(|at| at <= now) {
            let next = (self.ticks() | 0x7f_ffff) + 1;
            state.overflow = Some(muldiv64(next, NANOS, PM_TIMER_HZ) + 1);
        }
    }

    fn read_pm1(&self, offset: u64, size: u8) -> u64 {
        let now = self.clock.now();
        let words = {
            let mut state = self.state.lock();
            self.check_timer(&mut state, now);
            [state.status, state.enable, state.control, 0].map(u16::to_le_bytes)
        };
        let timer = u32::try_from(self.ticks() & 0xff_ffff).unwrap_or(0).to_le_bytes();
        let bytes = words.as_flattened().iter().chain(&timer);
        bytes
            .skip(usize::try_from(offset).unwrap_or(12))
            .take(size.into())
            .enumerate()
            .fold(0, |value, (i, &b)| value | u64::from(b) << (8 * i))
    }

    fn write_pm1(&self, offset: u64, size: u8, value: u64) {
        let mut request = None;
        {
            let now = self.clock.now();
            let mut state = self.state.lock();
            self.check_timer(&mut state, now);
            // Where a byte of a register is written, the others keep their value (or clear no status).
            let part = |register: u64, old: u16| {
                let mut bytes = old.to_le_bytes();
                let mut hit = false;
                for i in 0..u64::from(size) {
                    if let Some(at) = (offset + i).checked_sub(register)
                        && at < 2
                    {
                        bytes[usize::try_from(at).unwrap_or(0)] = byte(value >> (8 * i));
                        hit = true;
                    }
                }
                hit.then_some(u16::from_le_bytes(bytes))
            };
            if let Some(clear) = part(0, 0) {
                state.status &= !(clear & PM1_STATUS);
            }
            if let Some(enable) = part(2, state.enable) {
                state.enable = enable;
            }
            if let Some(control) = part(4, state.control) {
                // SLP_EN is write-only; SCI_EN changes through the SMI command port alone.
                state.control = control & !(CNT_SLP_EN | CNT_SCI_EN) | state.control & CNT_SCI_EN;
                if control & CNT_SLP_EN != 0 {
                    request = self.sleep_type(byte(u64::from(control >> 10 & 7)));
                }
                if request == Some(SleepRequest::Suspend) {
                    state.status |= PM1_WAKE;
                }
            }
        }
        self.update();
        if let Some(request) = request {
            (self.sleep)(request);
        }
    }

    fn sleep_type(&self, value: u8) -> Option<SleepRequest> {
        match value {
            0 => Some(SleepRequest::Off),
            1 if !self.config.disable_s3 => Some(SleepRequest::Suspend),
            v if v == self.config.s4_val && !self.config.disable_s4 => Some(SleepRequest::Hibernate),
            _ => None,
        }
    }

    fn read_gpe(&self, offset: u64) -> u8 {
        let half = u64::from(self.config.gpe_len / 2);
        let at = |offset: u64| usize::try_from(offset & 7).unwrap_or(0);
        let state = self.state.lock();
        if offset < half { state.gpe_status[at(offset)] } else { state.gpe_enable[at(offset - half)] }
    }

    fn write_gpe(&self, offset: u64, value: u8) {
        let half = u64::from(self.config.gpe_len / 2);
        let at = |offset: u64| usize::try_from(offset & 7).unwrap_or(0);
        {
            let mut state = self.state.lock();
            if offset < half {
                state.gpe_status[at(offset)] &= !value;
            } else {
                state.gpe_enable[at(offset - half)] = value;
            }
        }
        self.update();
    }

    fn write_apm(&self, offset: u64, value: u8) {
        {
            let mut state = self.state.lock();
            if offset != 0 {
                state.apm_status = value;
                return;
            }
            state.apm_command = value;
            match value {
                ACPI_ENABLE | 2 => state.control |= CNT_SCI_EN,
                ACPI_DISABLE | 3 => state.control &= !CNT_SCI_EN,
                _ => {}
            }
        }
        self.update();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Wire, hammer, port_space};

    type Requests = Arc<Mutex<Vec<SleepRequest>>>;

    fn pm() -> (Clock, Arc<AcpiPm>, Arc<Wire>, guestmem::AddressSpace, Requests) {
        let clock = Clock::manual();
        let wire = Wire::new();
        let requests = Requests::default();
        let log = requests.clone();
        let config = PmConfig { disable_s3: true, ..PmConfig::default() };
        let pm = AcpiPm::new(&clock, wire.line(), config, move |r| log.lock().push(r));
        let mut windows = pm.pm1_regions().map(|(offset, region)| (0x600 + offset, region)).to_vec();
        windows.extend([(0xafe0, pm.gpe_region()), (0xb2, pm.apm_region())]);
        let io = port_space(windows);
        (clock, pm, wire, io, requests)
    }

    #[test]
    fn acpi_mode_is_switched_by_the_smi_command_port() {
        let (_clock, _pm, _wire, io, _) = pm();
        assert_eq!(io.read_int(0x604, 2), 0);
        io.write_int(0xb2, 1, ACPI_ENABLE.into());
        assert_eq!(io.read_int(0x604, 2), 1);
        io.write_int(0xb2, 1, ACPI_DISABLE.into());
        assert_eq!(io.read_int(0x604, 2), 0);
    }

    #[test]
    fn the_power_button_raises_the_sci_until_it_is_cleared() {
        let (_clock, pm, wire, io, _) = pm();
        pm.power_button();
        assert!(!wire.level());
        io.write_int(0x602, 2, 0x100);
        assert!(wire.level());
        assert_eq!(io.read_int(0x600, 4), 0x100_0100);
        io.write_int(0x600, 2, 0x100);
        assert!(!wire.level());
    }

    #[test]
    fn the_timer_counts_and_reports_its_carry() {
        let (clock, _pm, wire, io, _) = pm();
        clock.advance(NANOS);
        assert_eq!(io.read_int(0x608, 4), 3_579_545);
        io.write_int(0x602, 2, 1);
        assert!(!wire.level());
        clock.advance(2 * NANOS);
        assert!(wire.level());
        io.write_int(0x600, 2, 1);
        assert!(!wire.level());
        clock.advance(3 * NANOS);
        assert!(wire.level());
    }

    #[test]
    fn sleep_types_become_requests() {
        let (_clock, _pm, _wire, io, requests) = pm();
        io.write_int(0x604, 2, 0x400 | 0x2000);
        io.write_int(0x604, 2, 0x800);
        io.write_int(0x604, 2, 0x800 | 0x2000);
        io.write_int(0x604, 2, 0x2001);
        assert_eq!(*requests.lock(), [SleepRequest::Hibernate, SleepRequest::Off]);
        assert_eq!(io.read_int(0x604, 2), 0);
    }

    #[test]
    fn general_purpose_events() {
        let (_clock, pm, wire, io, _) = pm();
        pm.raise_gpe(1);
        io.write_int(0xafe2, 2, 0xffff);
        assert!(wire.level());
        assert_eq!(io.read_int(0xafe0, 4), 0xffff_0002);
        io.write_int(0xafe0, 1, 2);
        assert!(!wire.level());
        pm.raise_gpe(200);
        assert!(!wire.level());
    }

    #[test]
    fn any_access_is_harmless_and_reset_is_complete() {
        let (clock, pm, wire, io, _) = pm();
        let ports: Vec<u64> = (0x5fe..0x60e).chain(0xafde..0xafe6).chain(0xb1..0xb5).collect();
        for _ in 0..10 {
            hammer(&io, &ports, 1_000);
            clock.advance(NANOS);
        }
        pm.reset();
        let once = pm.state.lock().clone();
        assert!(!wire.level());
        pm.reset();
        assert_eq!(once, *pm.state.lock());
    }
}
