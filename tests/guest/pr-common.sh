# Two nexuses to one disk: a LIO file behind two tcm_loop targets, /dev/sda and /dev/sdb.
mount -t configfs configfs /sys/kernel/config
T=/sys/kernel/config/target
mkdir -p $T/core/fileio_0/disk
echo "fd_dev_name=/tmp/disk,fd_dev_size=16777216" >$T/core/fileio_0/disk/control
echo 1 >$T/core/fileio_0/disk/enable
mkdir -p /var/target/pr /etc/target/pr
for n in 1 2; do
  P=$T/loopback/naa.600140500000000$n/tpgt_1
  mkdir -p $P
  echo naa.6001405aaaaaaaa$n >$P/nexus
  mkdir $P/lun/lun_0
  ln -s $T/core/fileio_0/disk $P/lun/lun_0/disk
done
usleep 500000
A=/dev/sda B=/dev/sdb

start() {
  program=$1 socket=$2
  shift 2
  # The socket is for everybody.
  (umask 0; exec $program -k $socket "$@" 2>/tmp/messages) &
  helper=$!
  tries=0
  until [ -S $socket ] || [ $tries = 100 ]; do usleep 100000; tries=$((tries + 1)); done
  # The original's path appears before it has dropped its privileges; a first request waits for that.
  pr-client $socket /dev/null in:0:8 >/dev/null
}

stop() {
  kill $helper
  wait $helper
  echo exit $?
  cat /tmp/messages
}

confined() {
  for process in $helper $(sed -n "s/ (.*) . $helper .*//p" /proc/[0-9]*/stat); do
    grep -E '^(CapEff|CapPrm|CapBnd|NoNewPrivs|Seccomp|Uid):' /proc/$process/status | tr '\n' ' '
    echo
  done
}
