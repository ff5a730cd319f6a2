"""KubeVirt's launcher: the calls that it makes for one virtual machine, in its order; one daemon, one guest.

Its domain is what KubeVirt's converter writes: q35 without automatic devices, disks of PVCs as block and file, a tap that
somebody else made, cloud-init as a second disk, the agent's channel and the console on sockets.
"""

import os
import re
import subprocess
import sys

import libvirt

import common

UUID = "11111111-2222-4333-8444-555555555540"
XML = f"""
<domain type="qemu" xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">
  <name>default_testvmi</name>
  <memory unit="b">67108864</memory>
  <os>
    <type arch="x86_64" machine="q35">hvm</type>
    <smbios mode="sysinfo"></smbios>
  </os>
  <sysinfo type="smbios">
    <system>
      <entry name="uuid">{UUID}</entry>
      <entry name="manufacturer">KubeVirt</entry>
      <entry name="family">KubeVirt</entry>
      <entry name="product">None</entry>
    </system>
  </sysinfo>
  <devices>
    <interface type="ethernet">
      <source></source>
      <target dev="tap0" managed="no"></target>
      <model type="virtio-non-transitional"></model>
      <mac address="52:54:00:00:00:41"></mac>
      <mtu size="1500"></mtu>
      <alias name="ua-default"></alias>
      <rom enabled="no"></rom>
    </interface>
    <channel type="unix">
      <target name="org.qemu.guest_agent.0" type="virtio"></target>
    </channel>
    <controller type="usb" index="0" model="none"></controller>
    <controller type="scsi" index="0" model="virtio-non-transitional"></controller>
    <controller type="virtio-serial" index="0" model="virtio-non-transitional"></controller>
    <video>
      <model type="vga" heads="1" vram="16384"></model>
    </video>
    <graphics type="vnc">
      <listen type="socket" socket="/run/scene/virt-vnc"></listen>
    </graphics>
    <memballoon model="virtio-non-transitional">
      <stats period="10"></stats>
    </memballoon>
    <disk device="disk" type="file" model="virtio-non-transitional">
      <source file="/run/scene/containerdisk.img"></source>
      <target bus="virtio" dev="vda"></target>
      <driver cache="none" error_policy="stop" name="qemu" type="raw" discard="unmap"></driver>
      <alias name="ua-containerdisk"></alias>
      <boot order="1"></boot>
    </disk>
    <disk device="disk" type="file" model="virtio-non-transitional">
      <source file="/run/scene/noCloud.iso"></source>
      <target bus="virtio" dev="vdb"></target>
      <driver cache="none" error_policy="stop" name="qemu" type="raw" discard="unmap"></driver>
      <alias name="ua-cloudinitdisk"></alias>
    </disk>
    <serial type="unix">
      <target port="0"></target>
      <source mode="bind" path="/run/scene/virt-serial0"></source>
    </serial>
    <console type="unix">
      <target type="serial" port="0"></target>
      <source mode="bind" path="/run/scene/virt-serial0"></source>
    </console>
    <rng model="virtio-non-transitional">
      <backend model="random">/dev/urandom</backend>
    </rng>
  </devices>
  <metadata>
    <kubevirt xmlns="http://kubevirt.io">
      <uid>{UUID}</uid>
      <graceperiod>
        <deletionGracePeriodSeconds>30</deletionGracePeriodSeconds>
      </graceperiod>
    </kubevirt>
  </metadata>
  <features>
    <acpi></acpi>
  </features>
  <cpu mode="custom" match="exact">
    <model>qemu64</model>
    <topology sockets="2" cores="1" threads="1"></topology>
  </cpu>
  <vcpu placement="static">2</vcpu>
  <vcpus>
    <vcpu id="0" enabled="yes" hotpluggable="no"></vcpu>
    <vcpu id="1" enabled="no" hotpluggable="yes"></vcpu>
  </vcpus>
  <iothreads>1</iothreads>
</domain>
"""
DISK = """<disk device="disk" type="file">
  <source file="/run/scene/hotplug.img"></source>
  <target bus="scsi" dev="sda"></target>
  <driver cache="none" name="qemu" type="raw"></driver>
  <alias name="ua-hotplug"></alias>
</disk>"""
INTERFACE = """<interface type="ethernet">
  <target dev="tap1" managed="no"></target>
  <model type="virtio-non-transitional"></model>
  <mac address="52:54:00:00:00:42"></mac>
  <alias name="ua-second"></alias>
  <rom enabled="no"></rom>
</interface>"""
# VIR_DOMAIN_STATS_... that its exporter of metrics asks for.
STATISTICS = (
    libvirt.VIR_DOMAIN_STATS_BALLOON | libvirt.VIR_DOMAIN_STATS_CPU_TOTAL | libvirt.VIR_DOMAIN_STATS_VCPU
    | libvirt.VIR_DOMAIN_STATS_INTERFACE | libvirt.VIR_DOMAIN_STATS_BLOCK | libvirt.VIR_DOMAIN_STATS_DIRTYRATE
)


def show(label, value):
    # The original leaves what stood in this element out, but not its end.
    text = re.sub(r">\s*</graphics>", "/>", str(value).replace("%1$s", "%s"))
    for line in text.splitlines() or [""]:
        print(f"{label}: {line}", flush=True)


def attempt(label, function, *arguments):
    return common.attempt(label, function, *arguments, shown=show)


class Events(common.Events):
    """What the launcher's notifier hears."""

    def register(self, connection):
        def lifecycle(connection, domain, event, detail, opaque):
            self.note("lifecycle", event, detail)

        def added(connection, domain, alias, opaque):
            self.note("added", alias)

        def removed(connection, domain, alias, opaque):
            self.note("removed", alias)

        def agent(connection, domain, state, reason, opaque):
            self.note("agent", state, reason)

        def failed(connection, domain, path, alias, action, reason, opaque):
            self.note("I/O error", path, alias, action, reason)

        def memory(connection, domain, alias, size, opaque):
            self.note("memory", alias, size)

        def job(connection, domain, parameters, opaque):
            self.note("job")

        return [
            connection.domainEventRegisterAny(None, number, callback, None)
            for number, callback in [
                (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle),
                (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, added),
                (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, removed),
                (libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, agent),
                (libvirt.VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON, failed),
                (libvirt.VIR_DOMAIN_EVENT_ID_MEMORY_DEVICE_SIZE_CHANGE, memory),
                (libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, job),
            ]
        ]


def prepare():
    for name in ["containerdisk.img", "noCloud.iso", "hotplug.img"]:
        with open(name, "wb") as file:
            file.truncate(1 << 20)
    for tap in ["tap0", "tap1"]:
        subprocess.check_call(["ip", "tuntap", "add", "mode", "tap", "vnet_hdr", tap])
        subprocess.check_call(["ip", "link", "set", tap, "up"])


def synchronise(connection, events):
    """`SyncVMI`: the domain is defined, defined again with what it knows by then, started, and compared."""
    attempt("lookup", connection.lookupByName, "default_testvmi")
    show("capabilities", "<host>" in connection.getCapabilities())
    attempt("security", connection.getSEVInfo)
    attempt("sysinfo", lambda: connection.getSysinfo(0).splitlines()[0])
    domain = connection.defineXMLFlags(XML, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    show("state", domain.state())
    show("defined", domain.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE))
    domain = connection.defineXMLFlags(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE), 1)
    attempt("start", domain.createWithFlags, libvirt.VIR_DOMAIN_START_PAUSED)
    show("state", domain.state())
    attempt("resume", domain.resume)
    events.wait("lifecycle", libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_UNPAUSED)
    show("state", domain.state())
    return domain


def watch(connection, domain):
    """What is asked every few seconds."""
    for one in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE | libvirt.VIR_CONNECT_LIST_DOMAINS_INACTIVE):
        show("domains", one.name())
    for _, values in connection.getAllDomainStats(STATISTICS, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_RUNNING):
        for name in sorted(name for name in values if "haltpoll" not in name):
            show("statistics", name)
    show("memory", sorted(set(domain.memoryStats()) & {"actual", "rss", "last_update"}))
    attempt("job", domain.jobStats)
    show("job", domain.jobInfo()[0])
    attempt("guest", domain.guestInfo, 0, 0)
    attempt("guest", domain.guestInfo, libvirt.VIR_DOMAIN_GUEST_INFO_INTERFACES, 0)
    attempt("freeze", domain.fsFreeze)
    attempt("thaw", domain.fsThaw)
    attempt("time", domain.setTime, {"seconds": 1600000000, "nseconds": 0}, 0)
    attempt("password", domain.setUserPassword, "root", "secret", 0)
    attempt("keys", domain.authorizedSSHKeysSet, "root", ["ssh-rsa AAAA"], 0)
    attempt("pin", domain.vcpuPinInfo)
    attempt("dirty", domain.startDirtyRateCalc, 1, 0)
    attempt("launch", domain.launchSecurityInfo)
    stream = connection.newStream(0)
    attempt("screenshot", domain.screenshot, stream, 0, 0)
    stream.abort()


def change(connection, domain, events):
    """Volumes, interfaces and processors are plugged, pinned and resized."""
    both = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG
    attempt("volume", domain.attachDeviceFlags, DISK, both)
    events.wait("added", "ua-hotplug")
    attempt("volume", domain.attachDeviceFlags, DISK, both)
    attempt("resize", domain.blockResize, "vda", 2 << 20, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
    attempt("no volume", domain.detachDeviceFlags, DISK, both)
    attempt("interface", domain.attachDeviceFlags, INTERFACE, both)
    attempt("link", domain.updateDeviceFlags, INTERFACE.replace("<rom", '<link state="down"></link><rom'), both)
    attempt("vCPU", domain.setVcpusFlags, 2, both)
    attempt("vCPU", domain.setVcpusFlags, 3, both)
    attempt("pin", domain.pinVcpuFlags, 0, (True,), both)
    attempt("pin emulator", domain.pinEmulator, (True,), both)
    show("plugged", domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))


def end(connection, domain, events):
    attempt("pause", domain.suspend)
    show("state", domain.state())
    attempt("unpause", domain.resume)
    attempt("dump", domain.coreDumpWithFormat, "/run/scene/core", libvirt.VIR_DOMAIN_CORE_DUMP_FORMAT_RAW,
            libvirt.VIR_DUMP_MEMORY_ONLY)
    attempt("reset", domain.reset)
    attempt("reboot", domain.reboot, libvirt.VIR_DOMAIN_REBOOT_DEFAULT)
    attempt("soft reboot", domain.reboot, libvirt.VIR_DOMAIN_REBOOT_GUEST_AGENT)
    attempt("abort", domain.abortJob)
    attempt("downtime", domain.migrateSetMaxDowntime, 300)
    attempt("postcopy", domain.migrateStartPostCopy)
    # The end of the grace period: ask, then kill.
    attempt("shutdown", domain.shutdownFlags, libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
    attempt("kill", domain.destroyFlags, libvirt.VIR_DOMAIN_DESTROY_GRACEFUL)
    events.wait("lifecycle", libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED)
    show("state", domain.state())
    attempt("undefine", domain.undefineFlags, libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM)
    events.wait("lifecycle", libvirt.VIR_DOMAIN_EVENT_UNDEFINED, libvirt.VIR_DOMAIN_EVENT_UNDEFINED_REMOVED)
    attempt("gone", domain.state)


def main():
    common.run_loop()
    prepare()
    connection = libvirt.open()
    show("keepalive", connection.setKeepAlive(5, 3))
    show("version", connection.getVersion())
    events = Events()
    numbers = events.register(connection)
    domain = synchronise(connection, events)
    watch(connection, domain)
    change(connection, domain, events)
    end(connection, domain, events)
    for number in numbers:
        connection.domainEventDeregisterAny(number)
    for kind, seen in events.lists.items():
        for words in seen:
            show(f"event {kind}", words)
    sys.stdout.flush()
    os._exit(0)


main()
