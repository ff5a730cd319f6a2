"""libvirt's Python bindings, used in most ways that there are. What is printed is equal whatever daemon answers."""

import os
import subprocess
import sys
import threading
import time

import libvirt

import common
from common import attempt, show, wait

UUID = "11111111-2222-4333-8444-555555555503"
XML = f"""
<domain type='qemu'>
  <name>echo</name>
  <uuid>{UUID}</uuid>
  <memory unit='MiB'>64</memory>
  <vcpu>2</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <features><acpi/></features>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/><source file='/run/scene/echo.img'/><target dev='vda' bus='virtio'/>
    </disk>
    <interface type='user'><mac address='52:54:00:00:00:21'/><model type='virtio'/></interface>
    <serial type='pty'/>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <channel type='unix'><target type='virtio' name='example.0'/></channel>
    <graphics type='vnc'/>
    <video><model type='vga'/></video>
  </devices>
</domain>
"""
DISK = """
<disk type='file' device='disk'>
  <driver name='qemu' type='raw'/><source file='/run/scene/more.img'/><target dev='sda' bus='usb'/>
</disk>
"""
# Answers each byte on the serial line with the same, and an F with 65535 times f, as fast as the line takes them.
BOOT = bytes.fromhex(
    "31c0 bafd03 ec a801 74fb baf803 ec 3c46 7403 ee ebed"
    "b9ffff bafd03 ec a820 74fb baf803 b066 ee e2f0 ebd8"
)
FLOOD = 65535

NAMES = {
    value: name.removeprefix("VIR_DOMAIN_EVENT_ID_")
    for name, value in vars(libvirt).items()
    if name.startswith("VIR_DOMAIN_EVENT_ID_")
}


class Events(common.Events):
    def show(self):
        for number in sorted(self.lists, key=str):
            # The firmware may reset the machine once more, and memory is gone through as often as need be.
            once = [libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, libvirt.VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION]
            seen = self.lists[number][:1] if number in once else self.lists[number]
            for details in seen:
                print(f"event {NAMES.get(number, number)}: {details}", flush=True)


def console(connection, domain):
    """Both ways: what is sent comes back, and a client that does not read for a while loses nothing."""
    stream = connection.newStream(0)
    domain.openConsole(None, stream, libvirt.VIR_DOMAIN_CONSOLE_SAFE)
    other = connection.newStream(0)
    attempt("a second console", domain.openConsole, None, other, libvirt.VIR_DOMAIN_CONSOLE_SAFE)
    # Until the guest has booted, nothing comes back.
    echo, ended = threading.Event(), threading.Event()

    def knock():
        while not echo.wait(0.2):
            stream.send(b"k")

    knocking = threading.Thread(target=knock)
    knocking.start()
    first = stream.recv(1)
    echo.set()
    knocking.join()
    stream.send(b"over.")
    got = first
    while not got.endswith(b"over."):
        got += stream.recv(100)
    show("echo", (set(got[:-5]), got[-5:]))
    stream.send(b"F")
    time.sleep(1)
    count = 0
    while count < FLOOD:
        count += len(stream.recv(3000))
    show("flood", count)
    stream.finish()
    # Who insists on the console cuts off who has it.
    stream = connection.newStream(0)
    domain.openConsole(None, stream, 0)
    forced = connection.newStream(0)
    attempt("a console by force", domain.openConsole, None, forced, libvirt.VIR_DOMAIN_CONSOLE_FORCE)
    attempt("the other's", stream.recv, 1)
    attempt("a third console", domain.openConsole, None, connection.newStream(0), 0)
    forced.finish()
    # By the event loop, not blocking.
    stream = connection.newStream(libvirt.VIR_STREAM_NONBLOCK)
    domain.openConsole(None, stream, 0)
    got = bytearray()

    def ready(stream, events, opaque):
        if events & libvirt.VIR_STREAM_EVENT_WRITABLE:
            stream.send(b"again.")
            stream.eventUpdateCallback(libvirt.VIR_STREAM_EVENT_READABLE)
        if events & libvirt.VIR_STREAM_EVENT_READABLE:
            piece = stream.recv(100)
            if isinstance(piece, bytes):
                got.extend(piece)

    stream.eventAddCallback(
        libvirt.VIR_STREAM_EVENT_WRITABLE | libvirt.VIR_STREAM_EVENT_READABLE, ready, None
    )
    wait("the event loop's echo", lambda: bytes(got).endswith(b"again."))
    show("echo by the event loop", bytes(got)[-6:])
    stream.eventRemoveCallback()
    stream.abort()


def channel(connection, domain):
    """The agent's channel is the daemon's, the other one is anybody's."""
    stream = connection.newStream(0)
    attempt("channel of the agent", domain.openChannel, "org.qemu.guest_agent.0", stream, 0)
    attempt("no such channel", domain.openChannel, "nothing", stream, 0)
    attempt("channel", domain.openChannel, "example.0", stream, 0)
    attempt("a second channel", domain.openChannel, "example.0", connection.newStream(0), 0)
    attempt("channel's end", stream.finish)


def screenshot(connection, domain):
    stream = connection.newStream(0)
    show("screenshot", domain.screenshot(stream, 0, 0))
    data = bytearray()

    def take(stream, piece, opaque):
        data.extend(piece)
        return len(piece)

    stream.recvAll(take, None)
    stream.finish()
    show("its format", bytes(data[:4]))
    attempt("another screen", domain.screenshot, connection.newStream(0), 3, 0)
    # A client that stops in the middle.
    stream = connection.newStream(0)
    domain.screenshot(stream, 0, 0)
    stream.recv(10)
    stream.abort()
    show("alive", connection.isAlive())


def register(connection, domain, events):
    """All events, of the one guest and of all; by the oldest way as well."""

    def lifecycle(connection, domain, event, detail, opaque):
        events.note("old", domain.name(), event, detail)

    connection.domainEventRegister(lifecycle, None)
    numbers = []
    for number in sorted(NAMES):

        def callback(connection, domain, *details, number=number):
            # The last one is what was given at the registration; ports and the like are of the moment.
            details = details[:-1]
            if NAMES[number] in ("RTC_CHANGE", "GRAPHICS", "JOB_COMPLETED", "BALLOON_CHANGE"):
                details = ()
            events.note(number, domain.name(), *details)

        for whom in (domain, None) if number == 0 else (domain,):
            numbers.append(connection.domainEventRegisterAny(whom, number, callback, None))
    show("registrations", len(set(numbers)))
    attempt("an unknown event", connection.domainEventRegisterAny, None, 99, lambda *words: None, None)
    return lifecycle, numbers


def facts(connection):
    show("type", connection.getType())
    show("URI", connection.getURI().split("?")[0])
    show("alive", (connection.isAlive(), connection.isEncrypted(), connection.isSecure()))
    show("node", connection.getInfo()[0])
    show("CPU map", connection.getCPUMap()[0] == connection.getInfo()[2])
    show("CPU statistics", sorted(connection.getCPUStats(-1)))
    show("memory statistics", sorted(connection.getMemoryStats(-1)))
    show("security", connection.getSecurityModel())
    show("maximum", connection.getMaxVcpus("qemu"))
    attempt("maximum of another", connection.getMaxVcpus, "warp")
    show("capabilities", connection.getCapabilities()[:20])
    show("features", [connection.getCPUModelNames("x86_64")[:3]])
    show("keepalive", connection.setKeepAlive(5, 3))
    attempt("keepalive", connection.setKeepAlive, -1, 0)


def mistakes(connection):
    attempt("no such name", connection.lookupByName, "nothing")
    attempt("no such number", connection.lookupByID, 99)
    attempt("no such UUID", connection.lookupByUUIDString, UUID)
    attempt("not a UUID", connection.lookupByUUIDString, "nonsense")
    attempt("not XML", connection.defineXML, "<domain")
    attempt("no name", connection.defineXML, "<domain type='qemu'/>")
    attempt("other flags", connection.defineXMLFlags, XML, 1 << 20)
    attempt("no such job", connection.listAllDomains, 1 << 20)


def stopped(connection, domain):
    show("numbers", (domain.ID(), domain.name(), domain.UUIDString(), domain.OSType()))
    show("state", domain.state())
    show("info", domain.info())
    show("kinds", (domain.isActive(), domain.isPersistent(), domain.isUpdated(), domain.hasManagedSaveImage()))
    for name in ["destroy", "suspend", "resume", "shutdown", "reboot", "reset", "vcpus", "memoryStats", "jobStats"]:
        attempt(name, getattr(domain, name))
    attempt("screenshot", domain.screenshot, connection.newStream(0), 0, 0)
    attempt("console", domain.openConsole, None, connection.newStream(0), 0)
    attempt("job", domain.jobInfo)
    kind, uri = libvirt.VIR_DOMAIN_METADATA_ELEMENT, "http://example.org/a"
    attempt("metadata", domain.metadata, kind, uri)
    domain.setMetadata(kind, "<note>1 &lt; 2</note>", "a", uri, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    show("metadata", domain.metadata(kind, uri))
    attempt("title", domain.metadata, libvirt.VIR_DOMAIN_METADATA_TITLE, None)
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, "A title", None, None)
    show("title", domain.metadata(libvirt.VIR_DOMAIN_METADATA_TITLE, None))
    show("autostart", (domain.autostart(), domain.setAutostart(1), domain.autostart(), domain.setAutostart(0)))
    show("counts", (domain.maxMemory(), domain.vcpusFlags(libvirt.VIR_DOMAIN_AFFECT_CONFIG)))
    attempt("maximum", domain.maxVcpus)
    show("scheduler", domain.schedulerType())
    show("lists", [one.name() for one in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_INACTIVE)])
    show("lists", (connection.listDefinedDomains(), connection.listDomainsID(), connection.numOfDefinedDomains()))


def running(connection, domain, events):
    attempt("a second start", domain.create)
    show("numbers", (domain.ID(), connection.lookupByID(domain.ID()).name(), connection.listDomainsID()))
    show("state", domain.state())
    show("info", domain.info()[:4])
    show("live", domain.XMLDesc().count("alias name="))
    show("virtual processors", [one[:2] for one in domain.vcpus()[0]])
    show("affinity", domain.emulatorPinInfo())
    show("block", (domain.blockInfo("vda"), len(domain.blockStats("vda"))))
    attempt("no block", domain.blockStats, "vdz")
    show("block flags", sorted(domain.blockStatsFlags("vda")))
    # Memory that the balloon tells of depends on what the guest runs.
    show("memory", sorted(set(domain.memoryStats()) & {"actual", "rss", "last_update"}))
    show("processor", sorted(domain.getCPUStats(True)[0]))
    show("job", (domain.jobInfo(), domain.jobStats()))
    attempt("interfaces", domain.interfaceAddresses, libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT)
    attempt("agent", domain.fsInfo)
    attempt("agent", domain.hostname)
    attempt("time", domain.getTime)
    stats = connection.getAllDomainStats(0, 0)
    show("statistics", sorted(name for name in stats[0][1] if "haltpoll" not in name))
    stats = connection.domainListGetStats([domain], libvirt.VIR_DOMAIN_STATS_STATE)
    show("statistics", [(one.name(), values) for one, values in stats])
    show("unknown statistics", len(connection.getAllDomainStats(1 << 20, 0)))
    attempt("enforced", connection.getAllDomainStats, 1 << 20, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_ENFORCE_STATS)
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_DESCRIPTION, "live", None, None, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    events.wait(23, "echo")
    show("tune", domain.setMemory(48 << 10))
    show("keys", domain.sendKey(0, 50, [29, 30], 2, 0))
    attempt("a key that is none", domain.sendKey, 0, 50, [9999], 1, 0)
    # The ROM below 4 GiB; its copy below 1 MiB is memory that firmware rewrites.
    attempt("peek", domain.memoryPeek, 0xFFFFFFF0, 5, libvirt.VIR_MEMORY_PHYSICAL)
    attempt("block peek", domain.blockPeek, "vda", 0, 4)


def changes(connection, domain, events):
    """Suspends, plugs, reboots, dumps, saves and ends the guest, and waits for the events of each."""
    domain.suspend()
    events.wait(0, "echo", libvirt.VIR_DOMAIN_EVENT_SUSPENDED)
    show("state", domain.state())
    domain.coreDumpWithFormat("/run/scene/core", 0, libvirt.VIR_DUMP_MEMORY_ONLY)
    show("core", open("/run/scene/core", "rb").read(4))
    attempt("core nowhere", domain.coreDump, "/nowhere/core", libvirt.VIR_DUMP_MEMORY_ONLY)
    domain.resume()
    events.wait(0, "echo", libvirt.VIR_DOMAIN_EVENT_RESUMED)
    domain.attachDeviceFlags(DISK, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    events.wait(libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, "echo", "usb-disk0")
    attempt("once more", domain.attachDevice, DISK)
    domain.detachDeviceFlags(DISK, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    events.wait(libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, "echo", "usb-disk0")
    attempt("by alias", domain.detachDeviceAlias, "usb-disk0", libvirt.VIR_DOMAIN_AFFECT_LIVE)
    domain.reset()
    events.wait(libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, "echo")
    domain.save("/run/scene/state")
    events.wait(0, "echo", libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED)
    connection.restoreFlags("/run/scene/state", None, libvirt.VIR_DOMAIN_SAVE_PAUSED)
    events.wait(0, "echo", libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_RESTORED)
    show("state", domain.state())
    domain.managedSave()
    show("saved", (domain.hasManagedSaveImage(), domain.state()))
    attempt("undefine", domain.undefine)
    show("removed", domain.managedSaveRemove())
    domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    events.wait(0, "echo", libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_PAUSED, count=2)
    domain.destroyFlags(libvirt.VIR_DOMAIN_DESTROY_GRACEFUL)
    events.wait(0, "echo", libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED)
    # One that ends with its connection.
    other = libvirt.open()
    other.lookupByName("echo").createWithFlags(libvirt.VIR_DOMAIN_START_AUTODESTROY)
    show("active", domain.isActive())
    other.close()
    wait("the end with the connection", lambda: not domain.isActive())


def main():
    common.run_loop()
    for name, size in [("echo.img", 1 << 20), ("more.img", 1 << 20)]:
        with open(name, "wb") as image:
            image.truncate(size)
            if name == "echo.img":
                image.write(BOOT.ljust(510, b"\0") + b"\x55\xaa")
    connection = libvirt.open()
    closed = []
    connection.registerCloseCallback(lambda connection, reason, opaque: closed.append(reason), None)
    facts(connection)
    mistakes(connection)
    events = Events()
    domain = connection.defineXML(XML)
    lifecycle, numbers = register(connection, domain, events)
    stopped(connection, domain)
    domain.create()
    events.wait(0, "echo", libvirt.VIR_DOMAIN_EVENT_STARTED)
    running(connection, domain, events)
    console(connection, domain)
    channel(connection, domain)
    screenshot(connection, domain)
    changes(connection, domain, events)
    domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)
    events.wait(0, "echo", libvirt.VIR_DOMAIN_EVENT_UNDEFINED, count=2)
    for number in numbers:
        connection.domainEventDeregisterAny(number)
    connection.domainEventDeregister(lifecycle)
    attempt("deregistered", connection.domainEventDeregisterAny, numbers[0])
    transient = connection.createXML(XML, libvirt.VIR_DOMAIN_START_PAUSED)
    show("transient", (transient.isPersistent(), transient.state()))
    attempt("transient", transient.setAutostart, 1)
    transient.destroy()
    attempt("gone", transient.info)
    events.show()
    reader = libvirt.openReadOnly()
    attempt("reader", reader.defineXML, XML)
    show("reader", reader.listAllDomains())
    reader.close()
    attempt("closed", reader.getHostname)
    # The daemon sends this client away.
    clients = subprocess.check_output(f"virt-admin srv-clients-list {os.environ['SERVER']}", shell=True, text=True)
    for line in clients.splitlines()[2:]:
        if line.strip():
            subprocess.check_call(
                f"virt-admin client-disconnect {os.environ['SERVER']} {line.split()[0]} >/dev/null", shell=True
            )
    wait("the end of the connection", lambda: closed)
    show("reason", (closed, connection.isAlive()))
    attempt("a call", connection.getHostname)
    sys.stdout.flush()
    os._exit(0)


main()
