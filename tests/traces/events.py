"""A domain's life, watched by the one who leads it."""

import sys
import threading
import time

import libvirt

libvirt.virEventRegisterDefaultImpl()
libvirt.registerErrorHandler(lambda *_: None, None)


def run():
    while True:
        libvirt.virEventRunDefaultImpl()


threading.Thread(target=run, daemon=True).start()
connection = libvirt.open(sys.argv[1])
seen = []
for event in (0, 5, 21):
    connection.domainEventRegisterAny(None, event, lambda *_: seen.append(1), None)
domain = connection.defineXML(open("tiny.xml").read())


def wait(count):
    end = time.monotonic() + 10
    while len(seen) < count and time.monotonic() < end:
        time.sleep(0.01)


wait(1)
domain.create()
wait(3)
domain.suspend()
wait(4)
domain.resume()
wait(5)
domain.coreDump("dump", 0)
wait(6)
domain.save("saved")
wait(8)
connection.restore("saved")
wait(9)
domain.reset(0)
domain.destroy()
domain.undefine()
for wrong in (domain.info, domain.create, lambda: connection.lookupByID(77)):
    try:
        wrong()
    except libvirt.libvirtError:
        pass
time.sleep(0.2)
connection.close()
