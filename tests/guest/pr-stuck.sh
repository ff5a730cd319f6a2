# PREEMPT AND ABORT never returns from this version of tcm_loop: a device that is stuck in the kernel.
stuck() {
  start qemu-pr-helper /tmp/stuck.sock
  pr-client /tmp/stuck.sock $A out:6:0:0:11:0 out:1:1:11:0:0
  pr-client /tmp/stuck.sock $B out:6:0:0:22:0
  pr-client /tmp/stuck.sock $B out:5:1:22:11:0 &
  sleep 3
  kill $helper
  begin=$(cut -d. -f1 /proc/uptime)
  usleep 300000
  [ -e /tmp/stuck.sock ] && echo socket still there || echo socket gone
  # A process with a thread in the kernel that does not come back stays a zombie: what counts is that it has left.
  tries=0
  while [ $tries -lt 100 ]; do
    state=$(sed -n 's/^State:\t\(.\).*/\1/p' /proc/$helper/status)
    [ "$state" = Z ] || [ -z "$state" ] && break
    usleep 100000
    tries=$((tries + 1))
  done
  echo ended after $(($(cut -d. -f1 /proc/uptime) - begin)) s, state "$state"
  cat /tmp/messages
}
section stuck stuck
