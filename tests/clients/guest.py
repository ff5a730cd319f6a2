"""A Linux guest that answers: what libvirt's calls do is seen by the guest, and what the guest does by libvirt's clients.

`guest.py PART` does one of the parts below with a guest of its own. `kernel` and `initrd` lie beside this script;
$EMULATOR is the emulator. What is printed is equal whatever daemon answers.
"""

import os
import re
import socket
import struct
import sys
import time

import libvirt
import libvirt_qemu

from common import Events, attempt, run_loop, show, wait

UUID = "11111111-2222-4333-8444-555555555560"
EMULATOR = os.environ.get("EMULATOR", "/usr/bin/qemu-system-x86_64")
LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE


def xml(devices="", features="", cpus="<vcpu>2</vcpu>", more="", memory=256, arguments=""):
    return f"""
<domain type='{os.environ.get("VIRT", "qemu")}'>
  <name>answering</name>
  <uuid>{UUID}</uuid>
  <memory unit='MiB'>{memory}</memory>
  {cpus}
  {more}
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>/run/scene/kernel</kernel><initrd>/run/scene/initrd</initrd>
    <cmdline>console=ttyS0 quiet loglevel=1 no_timer_check panic=0 {arguments}</cmdline>
  </os>
  <features><acpi/>{features}</features>
  <pm><suspend-to-mem enabled='yes'/><suspend-to-disk enabled='no'/></pm>
  <on_crash>preserve</on_crash>
  <devices>
    <emulator>{EMULATOR}</emulator>
    <controller type='usb' model='none'/>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/><source file='/run/scene/data.img'/><target dev='vda' bus='virtio'/>
      <serial>first</serial>
    </disk>
    <serial type='pty'/>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <channel type='unix'><target type='virtio' name='example.0'/></channel>
    <memballoon model='virtio'/>
    {devices}
  </devices>
</domain>
"""


class Guest:
    """The guest that runs, its console and the events of it."""

    def __init__(self, connection, text):
        self.connection = connection
        self.events = Events()
        self.register()
        self.domain = connection.defineXML(text)
        self.domain.create()
        self.stream = None
        self.open()
        self.read(b"answering\n", 60)

    def register(self):
        note = self.events.note
        of = libvirt
        kinds = {
            "lifecycle": (of.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lambda c, d, event, detail, o: note("lifecycle", event, detail)),
            "agent": (of.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, lambda c, d, state, why, o: note("agent", state, why)),
            "added": (of.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, lambda c, d, alias, o: note("added", alias)),
            "removed": (of.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, lambda c, d, alias, o: note("removed", alias)),
            "failed": (of.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, lambda c, d, alias, o: note("failed", alias)),
            "tray": (of.VIR_DOMAIN_EVENT_ID_TRAY_CHANGE, lambda c, d, alias, why, o: note("tray", alias, why)),
            "balloon": (of.VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE, lambda c, d, actual, o: note("balloon", actual)),
            "watchdog": (of.VIR_DOMAIN_EVENT_ID_WATCHDOG, lambda c, d, action, o: note("watchdog", action)),
            "asleep": (of.VIR_DOMAIN_EVENT_ID_PMSUSPEND, lambda c, d, why, o: note("asleep", why)),
            "awake": (of.VIR_DOMAIN_EVENT_ID_PMWAKEUP, lambda c, d, why, o: note("awake", why)),
            "graphics": (
                of.VIR_DOMAIN_EVENT_ID_GRAPHICS,
                lambda c, d, phase, local, remote, scheme, subject, o: note("graphics", phase, scheme, subject),
            ),
            "threshold": (
                of.VIR_DOMAIN_EVENT_ID_BLOCK_THRESHOLD,
                # How far the guest's writing got is of the moment.
                lambda c, d, dev, path, threshold, excess, o: note("threshold", dev, path, threshold, excess > 0),
            ),
            "tune": (of.VIR_DOMAIN_EVENT_ID_TUNABLE, lambda c, d, values, o: note("tune", sorted(values.items()))),
            "reboot": (of.VIR_DOMAIN_EVENT_ID_REBOOT, lambda c, d, o: note("reboot")),
        }
        for number, callback in kinds.values():
            self.connection.domainEventRegisterAny(None, number, callback, None)

    def open(self):
        """The console; it is the guest's only serial line."""
        self.stream = self.connection.newStream(0)
        self.domain.openConsole(None, self.stream, libvirt.VIR_DOMAIN_CONSOLE_FORCE)
        self.seen = b""

    def read(self, mark, seconds=20):
        """What the console says up to a mark, which is a regular expression."""
        end = time.monotonic() + seconds
        while not (found := re.search(mark, self.seen)):
            piece = self.stream.recv(4096)
            if not piece or time.monotonic() > end:
                raise RuntimeError(f"no {mark} but {self.seen!r}")
            self.seen += piece
        text, self.seen = self.seen[: found.start()], self.seen[found.end() :]
        return text.decode(), found

    def run(self, line):
        """What a line of shell prints in the guest; what the kernel says meanwhile stands on lines with brackets."""
        self.stream.send(line.encode() + b"\n")
        text, found = self.read(rb"\[(\d+)\]\n")
        if found[1] != b"0":
            text += f"[{found[1].decode()}]"
        return text.strip()

    def sees(self, label, line, seconds=20):
        """Shows what the guest says, as soon as it says something."""
        end = time.monotonic() + seconds
        while not (said := self.run(line)) and time.monotonic() < end:
            time.sleep(0.1)
        show(label, said)

    def until(self, label, line, wanted, seconds=20):
        """Waits until the guest says what is wanted."""
        end = time.monotonic() + seconds
        while (said := self.run(line)) != wanted and time.monotonic() < end:
            time.sleep(0.1)
        show(label, said)

    def agent(self):
        """Waits until the guest's agent answers."""
        self.events.wait("agent", libvirt.VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED)

    def end(self):
        if self.domain.isActive():
            self.domain.destroy()
        self.events.wait("lifecycle", libvirt.VIR_DOMAIN_EVENT_STOPPED)
        self.domain.undefine()
        self.events.wait("lifecycle", libvirt.VIR_DOMAIN_EVENT_UNDEFINED)
        for kind in sorted(self.events.lists):
            # Several connections to one screen are in no order.
            found = [one for one in self.events.lists[kind] if one[:1] != (libvirt.VIR_DOMAIN_EVENT_SHUTDOWN,) or kind != "lifecycle"]
            # How the balloon gets there is of the moment.
            found = found[-1:] if kind == "balloon" else found
            show(f"events {kind}", sorted(found) if kind == "graphics" else found)


def agent(connection):
    """What the guest's agent is asked for."""
    guest = Guest(connection, xml(cpus="<vcpu current='2'>3</vcpu>"))
    domain = guest.domain
    guest.agent()
    guest.run("mke2fs -q /dev/vda >/dev/null && mount -t ext4 /dev/vda /mnt && hostname answering")
    attempt("command", libvirt_qemu.qemuAgentCommand, domain, '{"execute":"guest-ping"}', 10, 0)
    attempt("wrong command", libvirt_qemu.qemuAgentCommand, domain, '{"execute":"guest-nothing"}', 10, 0)
    attempt("hostname", domain.hostname)
    attempt("agent's XML", lambda: domain.XMLDesc().count("state='connected'"))
    show("information", {name: value for name, value in domain.guestInfo(0, 0).items()
                         if "kernel" not in name and "bytes" not in name})
    for kind in ["USERS", "OS", "TIMEZONE", "HOSTNAME", "FILESYSTEM", "DISKS", "INTERFACES"]:
        try:
            found = domain.guestInfo(getattr(libvirt, "VIR_DOMAIN_GUEST_INFO_" + kind), 0)
            show("information", (kind, {name: value for name, value in found.items()
                                        if "kernel" not in name and "bytes" not in name}))
        except libvirt.libvirtError as error:
            show("information", (kind, error.err))
    attempt("unknown information", domain.guestInfo, 1 << 20, 0)
    attempt("file systems", domain.fsInfo)
    attempt("interfaces", domain.interfaceAddresses, libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT)
    show("time", abs(domain.getTime()["seconds"] - time.time()) < 20)
    attempt("time", domain.setTime, {"seconds": 1600000000, "nseconds": 0}, 0)
    show("time seen", int(guest.run("date +%s")) - 1600000000 < 60)
    # Without RTC the hour of the guest's clock chip is what it was; the agent writes it.
    attempt("time of the chip", domain.setTime, None, libvirt.VIR_DOMAIN_TIME_SYNC)
    show("clock chip seen", guest.run("cat /run/hwclock"))
    attempt("processors", domain.guestVcpus)
    attempt("processor off", domain.setGuestVcpus, "1", 0)
    guest.until("processor off seen", "cat /sys/devices/system/cpu/online", "0")
    attempt("processors", domain.guestVcpus)
    attempt("first processor off", domain.setGuestVcpus, "0", 0)
    attempt("no such processor", domain.setGuestVcpus, "7", 1)
    attempt("count", domain.vcpusFlags, libvirt.VIR_DOMAIN_VCPU_GUEST)
    attempt("processor on", domain.setVcpusFlags, 2, libvirt.VIR_DOMAIN_VCPU_GUEST)
    guest.until("processor on seen", "cat /sys/devices/system/cpu/online", "0-1")
    attempt("too many", domain.setVcpusFlags, 4, libvirt.VIR_DOMAIN_VCPU_GUEST)
    # What is written now waits until the file system thaws.
    attempt("freeze", domain.fsFreeze)
    guest.run("(echo frozen >/mnt/file; sync; echo written >/run/done) & sleep 1")
    show("frozen seen", guest.run("cat /run/done 2>&1"))
    attempt("frozen again", domain.fsFreeze)
    attempt("thaw", domain.fsThaw)
    guest.until("thawed seen", "cat /run/done 2>/dev/null", "written")
    attempt("thaw again", domain.fsThaw)
    show("script seen", guest.run("cat /run/frozen"))
    attempt("freeze one", domain.fsFreeze, ["/mnt"], 0)
    attempt("thaw one", domain.fsThaw)
    attempt("freeze another", domain.fsFreeze, ["/nothing"], 0)
    attempt("trim", domain.fSTrim, None, 0, 0)
    attempt("password", domain.setUserPassword, "root", "se:cret", 0)
    show("password seen", guest.run("cat /run/password /run/password-options"))
    attempt("crypted password", domain.setUserPassword, "user", "$6$a$b", libvirt.VIR_DOMAIN_PASSWORD_ENCRYPTED)
    show("password seen", guest.run("cat /run/password /run/password-options"))
    attempt("keys", domain.authorizedSSHKeysSet, "root", ["ssh-rsa AAAA one", "ssh-rsa BBBB two"], 0)
    attempt("keys", domain.authorizedSSHKeysGet, "root", 0)
    show("keys seen", guest.run("cat /root/.ssh/authorized_keys"))
    attempt("fewer keys", domain.authorizedSSHKeysSet, "root", ["ssh-rsa AAAA one"],
            libvirt.VIR_DOMAIN_AUTHORIZED_SSH_KEYS_SET_REMOVE)
    attempt("keys", domain.authorizedSSHKeysGet, "root", 0)
    attempt("nobody's keys", domain.authorizedSSHKeysGet, "nobody", 0)
    attempt("waiting", domain.agentSetResponseTimeout, 2, 0)
    # An agent that has stopped.
    guest.run("kill -STOP $(pidof qemu-ga)")
    attempt("no answer", domain.hostname)
    attempt("no answer", domain.fsInfo)
    guest.run("kill -CONT $(pidof qemu-ga)")
    wait("answers again", lambda: quiet(domain.hostname))
    attempt("answers again", domain.hostname)
    channel(connection, guest)
    attempt("shutdown", domain.shutdownFlags, libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT)
    guest.events.wait("lifecycle", libvirt.VIR_DOMAIN_EVENT_STOPPED)
    show("state", domain.state())
    guest.end()


def quiet(function, *arguments):
    try:
        return function(*arguments)
    except libvirt.libvirtError:
        return None


def channel(connection, guest):
    """Another channel, on whose other side the guest answers."""
    stream = connection.newStream(0)
    attempt("channel", guest.domain.openChannel, "example.0", stream, 0)
    stream.send(b"one\ntwo\n")
    got = b""
    while got.count(b"\n") < 2:
        got += stream.recv(100)
    show("channel's answer", got)
    stream.finish()


DISK = """<disk type='file' device='disk'>
  <driver name='qemu' type='raw'/><source file='/run/scene/more.img'/><target dev='vdb' bus='virtio'/>
  <serial>second</serial>
</disk>"""
SCSI = DISK.replace("vdb' bus='virtio", "sda' bus='scsi").replace("second", "third").replace("more", "scsi")
INTERFACE = """<interface type='user'><mac address='52:54:00:00:00:62'/><model type='virtio'/></interface>"""
RANDOM = """<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"""
KEYBOARD = """<input type='keyboard' bus='virtio'/>"""
MEMORY = """<memory model='dimm'><target><size unit='MiB'>128</size><node>0</node></target></memory>"""


def plug(connection):
    """What is plugged and unplugged comes and goes in the guest."""
    for name in ["more.img", "scsi.img", "one.iso", "two.iso"]:
        with open("/run/scene/" + name, "wb") as file:
            file.write(name.encode() + b"\n")
            file.truncate(4 << 20)
    guest = Guest(connection, xml(
        """<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='/run/scene/one.iso'/>
           <target dev='hda' bus='ide'/><readonly/></disk><controller type='scsi' model='virtio-scsi'/>""",
        more="<maxMemory slots='4' unit='MiB'>1024</maxMemory>",
        cpus="<vcpu current='1'>2</vcpu><cpu><numa><cell id='0' cpus='0-1' memory='256' unit='MiB'/></numa></cpu>",
    ))
    domain, events = guest.domain, guest.events

    def come(label, device, alias, line, wanted):
        attempt(label, domain.attachDeviceFlags, device, LIVE)
        events.wait("added", alias)
        guest.until(label + " seen", line, wanted)

    def go(label, device, alias, line):
        attempt(label + " away", domain.detachDeviceFlags, device, LIVE)
        events.wait("removed", alias)
        guest.until(label + " gone", line, "")
        attempt(label + " away again", domain.detachDeviceFlags, device, LIVE)

    disk = "cat /sys/block/vdb/serial 2>/dev/null; true"
    come("disk", DISK, "virtio-disk1", disk, "second")
    show("disk read", guest.run("head -n1 /dev/vdb"))
    show("disk written", guest.run("echo written >/dev/vdb; sync"))
    show("disk's file", open("/run/scene/more.img", "rb").read(7))
    attempt("disk larger", domain.blockResize, "vdb", 8 << 20, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
    guest.until("disk larger seen", "cat /sys/block/vdb/size", "16384")
    scsi = "cat /sys/block/sda/device/model 2>/dev/null; true"
    come("SCSI disk", SCSI, "scsi0-0-0-0", scsi, "QEMU HARDDISK")
    show("SCSI disk read", guest.run("head -n1 /dev/sda"))
    go("SCSI disk", SCSI, "scsi0-0-0-0", "ls -d /sys/block/sda 2>/dev/null; true")
    go("disk", DISK, "virtio-disk1", "ls -d /sys/block/vdb 2>/dev/null; true")
    network = "cat /sys/class/net/eth*/address 2>/dev/null; true"
    come("interface", INTERFACE, "net0", network, "52:54:00:00:00:62")
    guest.run("ifconfig eth0 up")
    guest.until("carrier", "cat /sys/class/net/eth0/carrier", "1")
    down = INTERFACE.replace("</interface>", "<link state='down'/></interface>")
    attempt("link down", domain.updateDeviceFlags, down, LIVE)
    guest.until("link down seen", "cat /sys/class/net/eth0/carrier", "0")
    attempt("link up", domain.updateDeviceFlags, down.replace("down", "up"), LIVE)
    guest.until("link up seen", "cat /sys/class/net/eth0/carrier", "1")
    go("interface", INTERFACE, "net0", network)
    come("random", RANDOM, "rng0", "cat /sys/class/misc/hw_random/rng_available", "virtio_rng.0")
    show("random read", guest.run("head -c 4 /dev/hwrng | wc -c"))
    go("random", RANDOM, "rng0", "cat /sys/class/misc/hw_random/rng_available")
    keyboard = "grep -c 'QEMU Virtio Keyboard' /proc/bus/input/devices; true"
    come("keyboard", KEYBOARD, "input2", keyboard, "1")
    go("keyboard", KEYBOARD, "input2", "grep 'QEMU Virtio Keyboard' /proc/bus/input/devices; true")
    memory(guest)
    # A processor's number is the guest's to find.
    attempt("processor", domain.setVcpusFlags, 2, LIVE)
    guest.until("processor seen", "cat /sys/devices/system/cpu/present", "0-1")
    guest.run("echo 1 >/sys/devices/system/cpu/cpu1/online; true")
    guest.until("processor used", "cat /sys/devices/system/cpu/online", "0-1")
    show("processors", [one[:2] for one in domain.vcpus()[0]])
    # The guest may take longer than the daemon waits.
    quiet(domain.setVcpusFlags, 1, LIVE)
    guest.until("processor gone", "cat /sys/devices/system/cpu/present", "0")
    media(guest)
    guest.end()


def memory(guest):
    total = "awk '/MemTotal/ {print int($2 / 65536)}' /proc/meminfo"
    before = int(guest.run(total))
    attempt("memory", guest.domain.attachDeviceFlags, MEMORY, LIVE)
    guest.events.wait("added", "memdimm0")
    online = "for m in /sys/devices/system/memory/memory*/state; do echo online_movable >$m; done 2>/dev/null; " + total
    guest.until("memory seen", online, str(before + 2))
    attempt("maximum", guest.domain.maxMemory)
    attempt("memory away", guest.domain.detachDeviceFlags, MEMORY, LIVE)
    guest.until("memory gone", total, str(before))


def media(guest):
    """Another medium is in the drive, none, and one that the guest holds fast."""
    domain = guest.domain
    drive = "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>{}<target dev='hda' bus='ide'/><readonly/></disk>"
    source = "<source file='/run/scene/{}.iso'/>"
    guest.until("medium", "head -n1 /dev/sr0", "one.iso")
    attempt("change", domain.updateDeviceFlags, drive.format(source.format("two")), LIVE)
    guest.until("medium", "head -n1 /dev/sr0 2>/dev/null; true", "two.iso")
    attempt("eject", domain.updateDeviceFlags, drive.format(""), LIVE)
    guest.until("no medium", "head -n1 /dev/sr0 2>&1 | grep -o 'No medium found'", "No medium found")
    attempt("insert", domain.updateDeviceFlags, drive.format(source.format("one")), LIVE)
    guest.until("medium", "head -n1 /dev/sr0 2>/dev/null; true", "one.iso")
    guest.run("sleep 1000 </dev/sr0 & echo $! >/run/holder; sleep 0.2")
    attempt("locked", domain.updateDeviceFlags, drive.format(source.format("two")), LIVE)
    guest.run("kill $(cat /run/holder); sleep 0.2")
    attempt("force", domain.updateDeviceFlags, drive.format(source.format("two")), LIVE | libvirt.VIR_DOMAIN_DEVICE_MODIFY_FORCE)
    guest.until("medium", "head -n1 /dev/sr0 2>/dev/null; true", "two.iso")


def power(connection):
    """Sleep, saved states, balloons, keys, pictures, watchdogs and panic."""
    guest = Guest(connection, xml(
        """<graphics type='vnc' passwd='secret'/><video><model type='vga'/></video>
           <panic model='isa'/>""",
        features="<pae/>", cpus="<vcpu>1</vcpu><iothreads>1</iothreads>",
    ))
    domain, events = guest.domain, guest.events
    guest.agent()
    guest.run("counter=7; (while :; do read u x </proc/uptime; echo $u >/run/uptime; usleep 100000; done) &")
    sleep(guest)
    saved(guest)
    balloon(guest)
    keys(connection, guest)
    screen(connection, guest)
    threshold(guest)
    threads(guest)
    dumps(guest)
    # The button.
    guest.run("mkdir -p /etc/acpi/PWRF && printf '#!/busybox/sh\\necho pressed >/run/button' >/etc/acpi/PWRF/00000080 && "
              "chmod +x /etc/acpi/PWRF/00000080 && acpid -d >/dev/null 2>&1 & sleep 1")
    attempt("button", domain.shutdownFlags, libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
    guest.until("button seen", "cat /run/button 2>/dev/null; true", "pressed")
    guest.stream.send(b"echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger\n")
    events.wait("lifecycle", libvirt.VIR_DOMAIN_EVENT_CRASHED, libvirt.VIR_DOMAIN_EVENT_CRASHED_PANICKED)
    wait("crashed", lambda: domain.state()[0] == libvirt.VIR_DOMAIN_CRASHED)
    show("state", domain.state())
    attempt("resume", domain.resume)
    attempt("dump", domain.coreDumpWithFormat, "/run/scene/crashed", 0, libvirt.VIR_DUMP_MEMORY_ONLY)
    attempt("reset", domain.reset)
    show("state", domain.state())
    guest.end()


def watchdogs(connection):
    """What happens when a guest lets its watchdog alone, as the boot sector of this one does at once."""
    # mov dx, 0x443; mov al, 0xf; out dx, al; hlt; jmp $
    with open("/run/scene/boot.img", "wb") as file:
        file.write(bytes.fromhex("ba4304 b00f ee fb f4 ebfd").ljust(510, b"\0") + b"\x55\xaa")
        file.truncate(1 << 20)
    events = Events()

    def lifecycle(connection, domain, event, detail, opaque):
        events.note(domain.name(), event, detail)

    def watchdog(connection, domain, action, opaque):
        events.note(domain.name() + " watchdog", action)

    connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle, None)
    connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_WATCHDOG, watchdog, None)
    for action in ["none", "reset", "poweroff", "shutdown", "pause", "dump", "inject-nmi"]:
        domain = connection.createXML(f"""<domain type='qemu'><name>{action}</name><memory unit='MiB'>64</memory>
          <os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features><devices>
          <emulator>{EMULATOR}</emulator><controller type='usb' model='none'/><disk type='file' device='disk'>
          <driver name='qemu' type='raw'/><source file='/run/scene/boot.img'/><target dev='hda' bus='ide'/></disk>
          <watchdog model='ib700' action='{action}'/></devices></domain>""", 0)
        events.wait(action + " watchdog")
        ends = {"poweroff": libvirt.VIR_DOMAIN_EVENT_STOPPED, "pause": libvirt.VIR_DOMAIN_EVENT_SUSPENDED,
                "dump": libvirt.VIR_DOMAIN_EVENT_RESUMED}
        if action in ends:
            events.wait(action, ends[action])
        if action != "poweroff":
            wanted = libvirt.VIR_DOMAIN_PAUSED if action == "pause" else libvirt.VIR_DOMAIN_RUNNING
            wait("state", lambda: domain.state()[0] == wanted)
            show(f"state {action}", domain.state())
            domain.destroy()
        events.wait(action, libvirt.VIR_DOMAIN_EVENT_STOPPED)
        # Whether the emulator's own end is told of before the domain's is of the moment.
        seen = [one for one in events.lists[action] if one[0] != libvirt.VIR_DOMAIN_EVENT_SHUTDOWN]
        show(f"events {action}", (seen, sorted(set(events.lists[action + " watchdog"]))))
    show("dumps", len(os.listdir("/var/lib/libvirt/qemu/dump")))


def sleep(guest):
    domain, events = guest.domain, guest.events
    attempt("wrong sleep", domain.pMSuspendForDuration, libvirt.VIR_NODE_SUSPEND_TARGET_DISK, 0, 0)
    attempt("sleep for a while", domain.pMSuspendForDuration, libvirt.VIR_NODE_SUSPEND_TARGET_MEM, 5, 0)
    attempt("wake who is awake", domain.pMWakeup, 0)
    attempt("sleep", domain.pMSuspendForDuration, libvirt.VIR_NODE_SUSPEND_TARGET_MEM, 0, 0)
    events.wait("asleep", 0)
    wait("asleep", lambda: domain.state()[0] == libvirt.VIR_DOMAIN_PMSUSPENDED)
    show("state", domain.state())
    attempt("suspend who sleeps", domain.suspend)
    attempt("resume who sleeps", domain.resume)
    attempt("agent of who sleeps", domain.hostname)
    attempt("wake", domain.pMWakeup, 0)
    events.wait("awake", 0)
    wait("awake", lambda: domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING)
    show("state", domain.state())
    # What came for the line while it slept is lost.
    for _ in range(5):
        guest.stream.send(b"\n")
        time.sleep(0.2)
    guest.stream.send(b"echo awake\n")
    guest.read(rb"awake\n\[0\]\n")
    show("goes on", guest.run("echo $counter"))


def saved(guest):
    domain = guest.domain
    attempt("save", domain.save, "/run/scene/state")
    show("state", domain.state())
    attempt("restore", guest.connection.restore, "/run/scene/state")
    guest.open()
    show("goes on", guest.run("echo $counter"))
    attempt("managed save", domain.managedSave, 0)
    show("has it", domain.hasManagedSaveImage())
    attempt("start", domain.create)
    guest.open()
    show("goes on", guest.run("echo $counter"))
    guest.until("time goes on", "cat /run/uptime >/run/then; sleep 1; cmp -s /run/then /run/uptime || echo yes", "yes")


def balloon(guest):
    domain, events = guest.domain, guest.events
    before = int(guest.run("awk '/MemTotal/ {print $2}' /proc/meminfo"))
    attempt("less memory", domain.setMemory, 160 << 10)
    events.wait("balloon", 160 << 10)
    less = int(guest.run("awk '/MemTotal/ {print $2}' /proc/meminfo"))
    show("less memory seen", before - less)
    show("information", domain.info()[2])
    attempt("more memory", domain.setMemory, 256 << 10)
    events.wait("balloon", 256 << 10)
    show("more memory seen", before - int(guest.run("awk '/MemTotal/ {print $2}' /proc/meminfo")))
    attempt("period", domain.setMemoryStatsPeriod, 1, LIVE)
    wait("statistics", lambda: "available" in domain.memoryStats())
    show("statistics", sorted(domain.memoryStats()))
    show("statistics", abs(domain.memoryStats()["available"] - before) < 4096)


def keys(connection, guest):
    """Pressed and released, as the guest's kernel tells of it."""
    guest.run("cat $(echo /dev/input/event0) >/run/keys & echo $! >/run/reader; sleep 0.3")
    show("keyboard", guest.run("cat /sys/class/input/event0/device/name"))
    attempt("keys", guest.domain.sendKey, libvirt.VIR_KEYCODE_SET_LINUX, 100, [29, 30], 2, 0)
    guest.until("keys seen", "[ $(wc -c </run/keys) -ge 240 ] && echo yes", "yes")
    guest.run("kill $(cat /run/reader)")
    numbers = [int(word, 16) for word in guest.run("hexdump -v -e '1/1 \"%02x \"' /run/keys").split()]
    events = struct.iter_unpack("<qqHHi", bytes(numbers[: len(numbers) // 24 * 24]))
    show("keys seen", [(code, value) for _, _, kind, code, value in events if kind == 1])


def screen(connection, guest):
    """A picture of the screen, and the server itself by a descriptor."""
    stream = connection.newStream(0)
    show("screenshot", guest.domain.screenshot(stream, 0, 0))
    data = bytearray()
    stream.recvAll(lambda stream, piece, opaque: data.extend(piece), None)
    stream.finish()
    show("picture", (bytes(data[:15]).split(b"\n")[:2], len(set(data)) > 2))
    attempt("other screen", guest.domain.openGraphics, 1, 0, 0)
    for label, flags in [("graphics", 0), ("graphics without password", libvirt.VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH)]:
        ours, theirs = socket.socketpair()
        attempt(label, guest.domain.openGraphics, 0, theirs.fileno(), flags)
        theirs.close()
        kinds(label, ours)
        number = attempt(label + " by descriptor", lambda: guest.domain.openGraphicsFD(0, flags) > 2 or None)
        ours = None
        number = guest.domain.openGraphicsFD(0, flags)
        kinds(label + " by descriptor", socket.socket(fileno=number))


def kinds(label, end):
    """What kinds of authentication a VNC server offers."""
    end.settimeout(10)
    version = end.recv(12)
    end.sendall(version)
    count = end.recv(1)[0]
    show(label, (version, list(end.recv(count))))
    end.close()


def threshold(guest):
    domain, events = guest.domain, guest.events
    attempt("threshold", domain.setBlockThreshold, "vda", 1 << 20, 0)
    attempt("threshold of none", domain.setBlockThreshold, "vdz", 1 << 20, 0)
    stats = guest.connection.domainListGetStats([domain], libvirt.VIR_DOMAIN_STATS_BLOCK)[0][1]
    show("threshold", stats.get("block.0.threshold"))
    guest.run("dd if=/dev/zero of=/dev/vda bs=1M count=4 conv=fsync 2>/dev/null")
    events.wait("threshold", "vda")
    stats = guest.connection.domainListGetStats([domain], libvirt.VIR_DOMAIN_STATS_BLOCK)[0][1]
    show("threshold", stats.get("block.0.threshold"))


def threads(guest):
    domain = guest.domain
    show("threads", [one[0] for one in domain.ioThreadInfo(LIVE)])
    attempt("thread", domain.addIOThread, 3, LIVE)
    attempt("thread again", domain.addIOThread, 3, LIVE)
    attempt("polling", domain.setIOThreadParams, 3, {"poll_max_ns": 1000, "poll_grow": 2, "poll_shrink": 3}, LIVE)
    stats = guest.connection.domainListGetStats([domain], libvirt.VIR_DOMAIN_STATS_IOTHREAD)[0][1]
    show("polling", sorted(stats.items()))
    attempt("pin", domain.pinIOThread, 3, (True, False), LIVE)
    show("threads", [one[0] for one in domain.ioThreadInfo(LIVE)])
    attempt("thread away", domain.delIOThread, 3, LIVE)
    attempt("thread away again", domain.delIOThread, 3, LIVE)


def dumps(guest):
    domain = guest.domain
    for number, name in enumerate(["raw", "zlib", "lzo", "snappy", "win", "nothing"]):
        path = f"/run/scene/core.{name}"
        attempt(f"dump {name}", domain.coreDumpWithFormat, path, number, libvirt.VIR_DUMP_MEMORY_ONLY)
        if os.path.exists(path):
            show(f"dump {name}", open(path, "rb").read(8))
            os.remove(path)
    attempt("dump whole", domain.coreDump, "/run/scene/core", libvirt.VIR_DUMP_LIVE)
    show("dump whole", open("/run/scene/core", "rb").read(16))
    os.remove("/run/scene/core")
    attempt("compressed without the guest's memory alone", domain.coreDumpWithFormat, "/run/scene/core", 1,
            libvirt.VIR_DUMP_LIVE)
    show("goes on", guest.run("echo $counter"))
    show("state", domain.state())


def main():
    run_loop()
    with open("/run/scene/data.img", "wb") as file:
        file.truncate(16 << 20)
    PARTS[sys.argv[1]](libvirt.open())
    sys.stdout.flush()
    os._exit(0)


PARTS = {"agent": agent, "watchdogs": watchdogs, "plug": plug, "power": power}
main()
