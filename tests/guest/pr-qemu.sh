# A real QEMU, unprivileged, whose helper is started as libvirt starts it: PATH -k SOCKET in a folder of the machine's
# own, used as soon as the path is there, and handed to QEMU's user then.
folder=/var/lib/libvirt/qemu/domain-1-test
socket=$folder/pr-helper0.sock
mkdir -p $folder
chown 65534:65534 $A

managed() {
  qemu-pr-helper -k $socket 2>/tmp/messages &
  helper=$!
  until [ -e $socket ]; do usleep 1000; done
  pr-client $socket /dev/null in:0:8 >/dev/null || echo not listening yet
  chown 65534:65534 $socket
  ls -i $socket >/tmp/inode
}

machine() {
  QEMU_MODULE_DIR=/usr/lib/x86_64-linux-gnu/qemu qemu-scsi 65534 qemu -M pc -m 64 -display none -nodefaults -L /usr/share/qemu \
    -object pr-manager-helper,id=pr-helper0,path=$socket \
    -device virtio-scsi-pci,id=scsi0,disable-modern=on,addr=4 \
    -blockdev driver=host_device,filename=$A,node-name=disk,pr-manager=pr-helper0 \
    -device scsi-block,drive=disk,bus=scsi0.0,scsi-id=0 -- "$@"
}

emulator() {
  managed
  mkfifo /tmp/go
  # The first command only hears that the disk was reset. While it pauses the helper is exchanged.
  machine in:0:2000 in:0:2000 in:2:2000 out:0:0:0:33:0 in:0:2000 out:1:1:33:0:0 in:1:2000 \
    pause out:2:1:33:0:0 in:1:2000 out:0:0:99:0:0 out:1f:0:33:0:0 in:1f:8 out:3:0:33:0:0 in:0:2000 \
    </tmp/go >/tmp/lines &
  machine=$!
  exec 3>/tmp/go
  tries=0
  until grep -q paused /tmp/lines || [ $tries = 300 ]; do usleep 100000; tries=$((tries + 1)); done
  # What QEMU did is there, seen from the other nexus.
  sg_persist -n --out --register --param-sark=22 $B; echo register B $?
  sg_persist -n --in -k $B
  sg_persist -n --out --reserve --param-rk=22 --prout-type=1 $B; echo reserve B $?
  ls -i $socket | cmp - /tmp/inode && echo same socket
  kill $helper
  wait $helper
  echo exit $?
  [ -e $socket ] || echo socket gone
  managed
  echo go >&3
  wait $machine
  echo machine $?
  cat /tmp/lines
  kill $helper
  wait $helper
  cat /tmp/messages
}

section emulator emulator
