# One map over both nexuses, made as multipathd makes it, and the distribution's libmpathpersist.
mkdir -p /run/udev/data /dev/mapper
# What udev would have noted about the paths.
for number in 8:0 8:16; do
  printf 'I:1\nE:ID_SERIAL=36001405000000000000000000000001\nE:ID_WWN=0x6001405000000000\n' >/run/udev/data/b$number
done
cat >/etc/multipath.conf <<END
defaults {
  find_multipaths no
  user_friendly_names yes
  reservation_key 0x11
}
END
mknod /dev/mapper/control c 10 $(sed -n 's/ device-mapper$//p' /proc/misc | tr -d ' ') 2>/dev/null
size=$(cat /sys/block/sda/size)
dmsetup create plain --noudevsync --table "0 $size linear /dev/sda 0"
paths="2 1 round-robin 0 1 1 8:0 1 round-robin 0 1 1 8:16 1"
dmsetup create hand --noudevsync --table "0 $size multipath 0 0 $paths"
dmsetup mknodes
M=/dev/mapper/hand L=/dev/mapper/plain

mapped() {
  dmsetup ls
  dmsetup table
}

through_multipath() {
  m="pr-client $1 $M"
  $m in:0:2000 in:1:2000 in:2:2000
  $m out:0:0:0:11:0
  $m in:0:2000
  pr-client $1 /dev/sda in:0:2000
  $m in:3:2000
  $m out:1:5:11:0:0 in:1:2000
  $m out:2:5:11:0:0 in:1:2000
  $m out:3:0:11:0:0 in:0:2000
  $m in:4:8 out:7:0:11:0:0 fixed:0:17
  [ ! -b $L ] || pr-client $1 $L in:0:2000
}

section by-hand mapped
start qemu-pr-helper /tmp/without.sock
section without through_multipath /tmp/without.sock
section stop-without stop

dmsetup remove plain
dmsetup remove hand
mv /mpath/* /lib/x86_64-linux-gnu/
(multipathd -d -v2 >/tmp/multipathd.log 2>&1 &)
tries=0
until dmsetup ls --target multipath | grep -q ^mpath || [ $tries = 100 ]; do
  usleep 100000
  tries=$((tries + 1))
done
sleep 1
dmsetup mknodes
M=/dev/mapper/$(dmsetup ls --target multipath | sed -n 's/^\(mpath[a-z]*\).*/\1/p')
section mapped mapped
start qemu-pr-helper /tmp/mp.sock
section multipath through_multipath /tmp/mp.sock
section multipath-processes confined
section stop-multipath stop
section multipathd cat /tmp/multipathd.log
