# A host with RAPL, as far as the helpers look: the powercap tree's switch, and the real driver of registers.
mount -t tmpfs powercap /sys/class/powercap
mkdir /sys/class/powercap/intel-rapl
E=/sys/class/powercap/intel-rapl/enabled
P=/sys/class/powercap/intel-rapl

start() {
  program=$1 socket=$2
  shift 2
  $program -k $socket "$@" 2>/tmp/messages &
  helper=$!
  tries=0
  until [ -S $socket ] || [ $tries = 50 ]; do usleep 100000; tries=$((tries + 1)); done
  usleep 300000
}

stop() {
  kill $helper
  wait $helper
  echo exit $?
  cat /tmp/messages
}

registers() {
  vmsr-client $1 606:0 610:0 611:0 614:0 606:1
  vmsr-client $1 611:0:1
  vmsr-client $1 611:0 611:99
  vmsr-client $1 619:0
  vmsr-client $1 611:0 0:0 611:0
}

bad() {
  for words in "-k relative" "-k /nonexistent/x" "-k /tmp" "-u no-such" "-g no-such" --foo -z -f "-T enable=x*,bla=1" \
    "-T events=/nonexistent"; do
    echo "$words"
    $1 $words
    echo exit $?
  done
}

# Values: the registers of a plain file overlap, so that the neighbours of one are zero.
fake() {
  mount -t tmpfs fake /dev/cpu
  mkdir /dev/cpu/0 /dev/cpu/1
  dd if=/dev/zero of=/dev/cpu/0/msr bs=1 count=2048 2>/dev/null
  cp /dev/cpu/0/msr /dev/cpu/1/msr
  printf '\001\002\003\004' | dd of=/dev/cpu/0/msr bs=1 seek=1553 conv=notrunc 2>/dev/null
  printf '\011' | dd of=/dev/cpu/1/msr bs=1 seek=1542 conv=notrunc 2>/dev/null
}

confined() {
  grep -E '^(CapEff|CapPrm|CapBnd|NoNewPrivs|Seccomp|Uid):' /proc/$helper/status | tr '\n' ' '
}

refused() {
  $1 -k /tmp/refused.sock
  echo exit $?
  echo 0 >$E
  $1 -k /tmp/refused.sock
  echo exit $?
  rm $E
}

# The driver's limit for files is what a large host needs raised.
limited() {
  (ulimit -Sn 64; exec qemu-vmsr-helper -k /tmp/limited.sock 2>/dev/null) &
  helper=$!
  usleep 500000
  grep 'open files' /proc/$helper/limits
  kill $helper
}

plugged() {
  echo 0 >/sys/devices/system/cpu/cpu1/online
  start qemu-vmsr-helper /tmp/plugged.sock
  echo 1 >/sys/devices/system/cpu/cpu1/online
  usleep 300000
  vmsr-client /tmp/plugged.sock 611:1 611:1 606:1 611:0
  vmsr-client /tmp/plugged.sock 611:1
  stop
}

[ -x /bin/original ] && section original-refused refused original
section refused refused qemu-vmsr-helper
echo 1 >$E
[ -x /bin/original ] && section original-bad bad original
section bad bad qemu-vmsr-helper
section plugged plugged
if [ -x /bin/original ]; then
  start original /tmp/original.sock
  section original registers /tmp/original.sock
  section original-stop stop
fi
start qemu-vmsr-helper /tmp/ours.sock
section ours registers /tmp/ours.sock
section confined confined
section stop stop
section limited limited
fake
if [ -x /bin/original ]; then
  start original /tmp/original.sock
  section original-fake registers /tmp/original.sock
  section original-fake-stop stop
fi
start qemu-vmsr-helper /tmp/nobody.sock --user=65534 --group=65534 --quiet
section fake registers /tmp/nobody.sock
section nobody confined
section nobody-stop stop
