"""OpenStack Nova's libvirt driver, as its compute service calls it: an instance from its first start to its deletion.

Images come from memory, networks end at the host, volumes are files; what is behind them (Glance, Neutron,
Cinder, Placement, the database) is not asked. What is printed is equal whatever daemon answers.
"""

import contextlib
import datetime
import json
import os
import re
import sys
import time
import warnings
from unittest import mock

warnings.simplefilter("ignore")
os.environ["OS_NOVA_DISABLE_EVENTLET_PATCHING"] = "true"

from nova import monkey_patch

monkey_patch.patch("threading")

import libvirt
import os_vif
from nova import conf, context, objects
from nova.compute import power_state, provider_tree
from nova.network import model as network
from nova.virt import fake, images
from nova.virt.libvirt import driver
from nova.virt.libvirt.volume import volume
from oslo_log import log as logging
import nova.privsep

CONF = conf.CONF
UUID = "11111111-2222-4333-8444-555555555510"
IMAGE = "11111111-2222-4333-8444-555555555511"
SNAPSHOT = "11111111-2222-4333-8444-555555555512"
VOLUME = "11111111-2222-4333-8444-555555555513"


def boot_sector():
    """Says on the serial line who it is; lets devices go that are unplugged; turns off when asked to."""
    code = bytearray()
    code += bytes.fromhex("fa 31c0 8ed8 ba0206 b80001 ef")
    load = len(code) + 1
    code += bytes.fromhex("be0000")
    code += bytes.fromhex("ac 84c0 7406 baf803 ee ebf5")
    code += bytes.fromhex("fb f4 ba10ae 6631c0 66ef ba04ae 66ed 6685c0 7405 ba08ae 66ef")
    code += bytes.fromhex("ba0006 ed f6c401 74de ba0406 b80020 ef ebd5")
    code[load : load + 2] = (0x7C00 + len(code)).to_bytes(2, "little")
    code += b"here is the instance\r\n\0"
    # A partition, without which Nova takes the image for a forged one.
    partition = bytes.fromhex("80 000200 83 000300 01000000 ff070000")
    return bytes(code).ljust(446, b"\0") + partition.ljust(64, b"\0") + b"\x55\xaa"


class Images:
    """The image service."""

    def __init__(self):
        self.got = {}

    def get(self, context, image, **words):
        return {
            "id": image,
            "name": "an image",
            "status": "active",
            "disk_format": "raw",
            "container_format": "bare",
            "min_disk": 0,
            "min_ram": 0,
            "size": 1 << 20,
            "properties": {},
        }

    def download(self, context, image, dest_path=None, **words):
        with open(dest_path, "wb") as file:
            file.truncate(1 << 20)
            file.write(boot_sector())

    def update(self, context, image, metadata, data=None, **words):
        self.got[image] = (metadata["disk_format"], data.read(512) == boot_sector() if data else None)


class FileVolume(volume.LibvirtBaseVolumeDriver):
    """A volume that is a file, as those of network file systems are once they are mounted."""

    def __init__(self, host):
        super().__init__(host, is_block_dev=False)

    def get_config(self, connection_info, disk_info):
        conf = super().get_config(connection_info, disk_info)
        conf.source_type = "file"
        conf.source_path = connection_info["data"]["device_path"]
        conf.driver_format = "raw"
        return conf

    def extend_volume(self, connection_info, instance, requested_size):
        os.truncate(connection_info["data"]["device_path"], requested_size)
        return requested_size


def mask(text):
    text = re.sub(r"/dev/pts/\d+", "PTS", text)
    text = re.sub(r"virtqemud|libvirtd?-sock", "DAEMON", text)
    return re.sub(r"<nova:creationTime>[^<]*", "<nova:creationTime>", text)


def show(label, value):
    for line in mask(str(value)).splitlines() or [""]:
        print(f"{label}: {line}", flush=True)


def attempt(label, function, *arguments, **words):
    """Shows what a call returns, or what its exception says."""
    try:
        result = function(*arguments, **words)
        show(label, result)
        return result
    except Exception as error:
        show(label, f"{type(error).__name__}: {error}")
        if os.environ.get("VERBOSE"):
            import traceback

            traceback.print_exc()


def make_instance(ctxt, **extra):
    flavor = objects.Flavor(
        id=1, name="little", memory_mb=64, vcpus=1, root_gb=0, ephemeral_gb=0, flavorid="1", swap=0,
        rxtx_factor=1.0, vcpu_weight=1, disabled=False, is_public=True, extra_specs=extra, projects=[],
    )
    instance = objects.Instance(
        context=ctxt, id=16, uuid=UUID, user_id="user", project_id="project", image_ref=IMAGE, kernel_id="",
        ramdisk_id="", hostname="little", display_name="little", host="here", node="here", launched_on="here",
        vcpus=1, memory_mb=64, root_gb=0, ephemeral_gb=0, flavor=flavor, old_flavor=None, new_flavor=None,
        root_device_name="/dev/vda", default_ephemeral_device=None, default_swap_device=None, config_drive="",
        system_metadata={"image_disk_format": "raw", "image_hw_qemu_guest_agent": "yes"}, metadata={},
        key_name=None, key_data=None, os_type=None, vm_mode=None, architecture="x86_64", vm_state=None,
        task_state=None, power_state=None, user_data=None, auto_disk_config=False, cleaned=False, deleted=False,
        availability_zone="nova", launch_index=0, reservation_id="r-1", access_ip_v4=None, access_ip_v6=None,
        launched_at=datetime.datetime(2020, 1, 1), created_at=datetime.datetime(2020, 1, 1), terminated_at=None,
        ephemeral_key_uuid=None, numa_topology=None, pci_requests=objects.InstancePCIRequests(requests=[]),
        pci_devices=objects.PciDeviceList(objects=[]), vcpu_model=None, device_metadata=None, resources=None,
        trusted_certs=None, migration_context=None, info_cache=objects.InstanceInfoCache(network_info=network.NetworkInfo([interface(1)])), keypairs=objects.KeyPairList(objects=[]),
        tags=objects.TagList(objects=[]), security_groups=objects.SecurityGroupList(objects=[]),
        compute_id=1, progress=0,
    )
    instance.obj_reset_changes(recursive=True)
    return instance


def interface(number):
    """A port whose end on the host is made by Nova and belongs to nothing."""
    return network.VIF(
        id=f"11111111-2222-4333-8444-55555555552{number}",
        address=f"fa:16:3e:00:00:0{number}",
        network=network.Network(
            id=f"11111111-2222-4333-8444-55555555553{number}", label="net", subnets=[],
            meta={"mtu": 1450},
        ),
        type=network.VIF_TYPE_TAP,
        devname=f"tap{number}",
        vnic_type=network.VNIC_TYPE_NORMAL,
        active=True,
        details={},
        profile={},
    )


def configure():
    logging.register_options(CONF)
    conf.neutron.register_dynamic_opts(CONF)
    CONF([], project="nova", default_config_files=[])
    CONF.set_override("log_file", "/run/scene/nova.log")
    logging.setup(CONF, "nova")
    for name, value in [
        ("instances_path", "/run/scene/instances"), ("state_path", "/run/scene/state"), ("host", "here"),
        ("my_ip", "127.0.0.1"), ("force_raw_images", False), ("flat_injected", False),
    ]:
        CONF.set_override(name, value)
    CONF.set_override("lock_path", "/run/scene/locks", group="oslo_concurrency")
    for name, value in [
        ("connection_uri", os.environ["LIBVIRT_DEFAULT_URI"]), ("virt_type", "qemu"), ("cpu_mode", "none"),
        ("images_type", os.environ.get("IMAGES", "flat")), ("inject_partition", -2),
        ("snapshots_directory", "/run/scene/snapshots"), ("hw_machine_type", ["x86_64=pc"]),
        ("device_detach_attempts", 2), ("device_detach_timeout", 10), ("wait_soft_reboot_seconds", 20),
    ]:
        CONF.set_override(name, value, group="libvirt")
    CONF.set_override("enabled", True, group="vnc")
    CONF.set_override("disable_libvirt_livesnapshot", True, group="workarounds")
    for folder in ["instances", "state", "locks", "snapshots"]:
        os.makedirs(f"/run/scene/{folder}", exist_ok=True)
    nova.privsep.sys_admin_pctxt.set_client_mode(False)
    objects.register_all()
    os_vif.initialize()


def facts(nova_driver, ctxt):
    """What the scheduler is told of the host; numbers that change by the moment are left out."""
    resources = nova_driver.get_available_resource("here")
    for name in ["vcpus", "vcpus_used", "hypervisor_type", "hypervisor_hostname", "supported_instances"]:
        show("resources", (name, resources[name]))
    processor = json.loads(resources["cpu_info"])
    show("processor", sorted(processor.pop("features")))
    show("processor", processor)
    show("resources", ("hypervisor_version", resources["hypervisor_version"]))
    show("resources", ("numa", resources["numa_topology"] is not None))
    tree = provider_tree.ProviderTree()
    tree.new_root("here", UUID)
    nova_driver.update_provider_tree(tree, "here")
    data = tree.data("here")
    show("inventory", sorted(data.inventory))
    for trait in sorted(data.traits):
        show("traits", trait)
    show("uptime", "load average" in nova_driver.get_host_uptime())
    show("hostname", bool(nova_driver._host.get_hostname()))
    show("capabilities", sorted((name, value) for name, value in nova_driver.capabilities.items() if value))
    show("domain capabilities", sorted(nova_driver._host.get_domain_capabilities()))
    for model in sorted(nova_driver._host.get_cpu_model_names())[:5]:
        show("models", model)
    show("supports", [
        (name, getattr(nova_driver._host, name))
        for name in sorted(dir(type(nova_driver._host)))
        if name.startswith("supports_") and not callable(getattr(nova_driver._host, name))
    ])


def domain(nova_driver, instance):
    return nova_driver._host.get_guest(instance)


class Seen:
    """What the driver tells the compute manager of the instance's life."""

    def __init__(self):
        self.list = []

    def __call__(self, event):
        self.list.append(event.get_name())

    def show(self, label):
        time.sleep(0.3)
        show(label, self.list)
        self.list = []


def life(nova_driver, ctxt, instance, service, seen):
    first, second = interface(1), interface(2)
    information = network.NetworkInfo([first])
    state = lambda: power_state.STATE_MAP[nova_driver.get_info(instance, use_cache=False).state]
    attempt(
        "spawn", nova_driver.spawn, ctxt, instance, instance.image_meta, [], None, {}, information,
        {"root_device_name": "/dev/vda", "block_device_mapping": [], "ephemerals": [], "swap": None, "image": []},
    )
    show("state", state())
    show("XML", domain(nova_driver, instance).get_xml_desc())
    show("stored", domain(nova_driver, instance).get_xml_desc(dump_inactive=True))
    show("instances", (nova_driver.list_instances(), nova_driver.list_instance_uuids()))
    show("exists", nova_driver.instance_exists(instance))
    seen.show("life")
    wait("output", lambda: b"here is" in nova_driver.get_console_output(ctxt, instance))
    show("output", b"here is the instance" in nova_driver.get_console_output(ctxt, instance))
    console = nova_driver.get_vnc_console(ctxt, instance)
    show("VNC", (console.host, console.port))
    diagnostics = nova_driver.get_instance_diagnostics(instance)
    show("diagnostics", (diagnostics.state, diagnostics.driver, diagnostics.num_cpus, diagnostics.num_nics,
                         diagnostics.num_disks, diagnostics.memory_details.maximum))
    show("diagnostics", sorted(re.sub("tap[0-9]", "tap", name) for name in nova_driver.get_diagnostics(instance)))
    attempt("block statistics", lambda: len(nova_driver.block_stats(instance, "vda")))
    attempt("pause", nova_driver.pause, instance)
    show("state", state())
    attempt("unpause", nova_driver.unpause, instance)
    show("state", state())
    seen.show("life of a pause")
    volumes(nova_driver, ctxt, instance)
    attempt("interface", nova_driver.attach_interface, ctxt, instance, instance.image_meta, second)
    show("interfaces", [one.mac_addr for one in domain(nova_driver, instance).get_all_devices(
        driver.vconfig.LibvirtConfigGuestInterface)])
    attempt("interface again", nova_driver.attach_interface, ctxt, instance, instance.image_meta, second)
    attempt("no interface", nova_driver.detach_interface, ctxt, instance, second)
    attempt("no interface again", nova_driver.detach_interface, ctxt, instance, second)
    show("interfaces", [one.mac_addr for one in domain(nova_driver, instance).get_all_devices(
        driver.vconfig.LibvirtConfigGuestInterface)])
    attempt("password", nova_driver.set_admin_password, instance, "secret")
    attempt("quiesce", nova_driver.quiesce, ctxt, instance, instance.image_meta)
    attempt("crash dump", nova_driver.trigger_crash_dump, instance)
    attempt("suspend", nova_driver.suspend, ctxt, instance)
    show("state", state())
    attempt("resume", nova_driver.resume, ctxt, instance, information, [])
    show("state", state())
    seen.show("life of a suspension")
    attempt("soft reboot", nova_driver.reboot, ctxt, instance, information, "SOFT", [])
    show("state", state())
    attempt("hard reboot", nova_driver.reboot, ctxt, instance, information, "HARD", [])
    show("state", state())
    attempt("snapshot", nova_driver.snapshot, ctxt, instance, SNAPSHOT, lambda **words: None)
    show("snapshot", service.got)
    show("state", state())
    seen.show("life of reboots")
    attempt("rescue", nova_driver.rescue, ctxt, instance, information, instance.image_meta, "secret", None, [])
    show("rescue", [one.target_dev for one in domain(nova_driver, instance).get_all_disks()])
    attempt("unrescue", nova_driver.unrescue, ctxt, instance)
    show("unrescue", [one.target_dev for one in domain(nova_driver, instance).get_all_disks()])
    attempt("power off", nova_driver.power_off, instance, 20, 10)
    show("state", state())
    attempt("power on", nova_driver.power_on, ctxt, instance, information)
    show("state", state())
    attempt("live migration", live_migration, nova_driver, ctxt, instance)
    show("state", state())
    attempt("destroy", nova_driver.destroy, ctxt, instance, information, {"block_device_mapping": []})
    show("exists", nova_driver.instance_exists(instance))
    attempt("state", state)
    show("rest", sorted(os.listdir("/run/scene/instances")))
    seen.show("life of the rest")


def live_migration(nova_driver, ctxt, instance):
    """To this very host, which is refused."""
    guest = domain(nova_driver, instance)
    guest.migrate(
        os.environ["LIBVIRT_DEFAULT_URI"], flags=libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER,
        migrate_uri="tcp://127.0.0.1", destination_xml=guest.get_xml_desc(),
    )


def volumes(nova_driver, ctxt, instance):
    for name in ["one", "two"]:
        with open(f"/run/scene/{name}.volume", "wb") as file:
            file.truncate(1 << 20)
    connection = {
        "driver_volume_type": "local", "serial": VOLUME, "multiattach": False,
        "data": {"device_path": "/run/scene/one.volume", "qos_specs": {"total_iops_sec": "1000"}},
    }
    nova_driver.volume_drivers["local"] = FileVolume(nova_driver._host)
    attempt("volume", nova_driver.attach_volume, ctxt, connection, instance, "/dev/vdb", disk_bus="virtio")
    guest = domain(nova_driver, instance)
    disk = guest.get_disk("vdb")
    show("volume", disk.to_xml())
    attempt("volume again", nova_driver.attach_volume, ctxt, connection, instance, "/dev/vdb", disk_bus="virtio")
    attempt("volume's size", nova_driver.extend_volume, ctxt, connection, instance, 2 << 20)
    show("volume's size", guest.get_block_device("vdb")._guest._domain.blockInfo("vdb")[0])
    usage = nova_driver.get_all_volume_usage(ctxt, [{
        "instance": instance,
        "instance_bdms": [objects.BlockDeviceMapping(device_name="/dev/vdb", volume_id=VOLUME)],
    }])
    show("usage", [sorted(one) for one in usage])
    attempt("no volume", nova_driver.detach_volume, ctxt, connection, instance, "/dev/vdb")
    show("disks", [one.target_dev for one in guest.get_all_disks()])
    attempt("no volume again", nova_driver.detach_volume, ctxt, connection, instance, "/dev/vdb")


def wait(label, condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            show(label, "waited in vain")
            return
        time.sleep(0.1)


def main():
    configure()
    ctxt = context.get_admin_context()
    service = Images()
    patches = [
        mock.patch.object(images, "IMAGE_API", service),
        mock.patch.object(objects.Instance, "save", lambda *words, **more: None),
        mock.patch.object(objects.BlockDeviceMappingList, "bdms_by_instance_uuid", lambda *words: {}),
        mock.patch("nova.virt.node.get_local_node_uuid", lambda: UUID),
    ]
    for kind in [objects.BlockDeviceMappingList, objects.VirtualInterfaceList, objects.ShareMappingList]:
        patches.append(mock.patch.object(kind, "get_by_instance_uuid", lambda *words, kind=kind: kind(objects=[])))
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        nova_driver = driver.LibvirtDriver(fake.FakeVirtAPI())
        nova_driver._image_api = service
        attempt("start", nova_driver.init_host, "here")
        seen = Seen()
        nova_driver.register_event_listener(seen)
        attempt("facts", facts, nova_driver, ctxt)
        instance = make_instance(ctxt)
        attempt("life", life, nova_driver, ctxt, instance, service, seen)
        show("statistics", nova_driver._host.list_guests() == [])
        attempt("end", nova_driver.cleanup_host, "here")
    sys.stdout.flush()
    os._exit(0)


main()
