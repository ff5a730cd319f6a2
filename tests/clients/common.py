"""What the scripts in Python share: showing what calls return, and waiting for events."""

import threading
import time

import libvirt

SECONDS = 30


def show(label, value):
    # Newer libvirt counts the places in its messages.
    print(f"{label}: {value!r}".replace("%1$s", "%s"), flush=True)


def attempt(label, function, *arguments, shown=show):
    """Shows what a call returns, or all that its exception says."""
    try:
        value = function(*arguments)
        shown(label, value)
        return value
    except libvirt.libvirtError as error:
        shown(label, error.err)
        return None


def wait(label, condition, seconds=SECONDS):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            print(f"{label}: waited in vain", flush=True)
            return False
        time.sleep(0.02)
    return True


def run_loop():
    """Events are handled by a thread, errors are shown by who makes the call."""

    def loop():
        while True:
            libvirt.virEventRunDefaultImpl()

    libvirt.registerErrorHandler(lambda context, error: None, None)
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=loop, daemon=True).start()


class Events:
    """What came, by kind: each list is in order, the lists among themselves are not."""

    def __init__(self):
        self.lists = {}
        self.changed = threading.Condition()

    def note(self, kind, *details):
        with self.changed:
            self.lists.setdefault(kind, []).append(details)
            self.changed.notify_all()

    def wait(self, kind, *details, count=1):
        """Waits until an event began with these details; shows it if it does not come."""

        def come():
            return [seen[: len(details)] for seen in self.lists.get(kind, [])].count(details) >= count

        with self.changed:
            if not self.changed.wait_for(come, SECONDS):
                print(f"{kind} {details}: waited in vain: {self.lists.get(kind)}", flush=True)
