# A guest that does what the serial line says: each line is run, and what it prints ends with its status between two marks.
# It has the guest agent, and a channel that answers each line. Printed as it is, without echo.
mkdir -p /etc /run /var/run /var/lock /sbin /mnt /usr/var/run
printf 'root:x:0:0::/root:/busybox/sh\nuser:x:1000:1000::/root:/busybox/sh\n' >/etc/passwd
hostname answering
ln -sf /proc/mounts /etc/mtab
# What the agent runs: who is asked to stop does, and passwords are kept.
printf '#!/busybox/sh\necho "$@" >/run/shutdown\nsync\nexec poweroff -f\n' >/sbin/shutdown
printf '#!/busybox/sh\ncat >/run/password\necho "$@" >/run/password-options\n' >/sbin/chpasswd
printf '#!/busybox/sh\necho "$@" >>/run/hwclock\n' >/sbin/hwclock
printf '#!/busybox/sh\necho "$@" >>/run/frozen\n' >/sbin/freeze
chmod +x /sbin/shutdown /sbin/chpasswd /sbin/hwclock /sbin/freeze
# Ports are announced one after the other.
port() {
  for i in $(seq 100); do
    for p in /sys/class/virtio-ports/*; do [ "$(cat "$p/name")" = "$1" ] && echo "/dev/${p##*/}" && return; done
    usleep 50000
  done 2>/dev/null
}
agent() {
  PATH=/sbin:$PATH exec /usr/sbin/qemu-ga --method=virtio-serial --path="$(port org.qemu.guest_agent.0)" \
    --statedir=/run --fsfreeze-hook=/sbin/freeze
}
channel() {
  exec 3<>"$(port example.0)"
  # While nobody is on the other side, there is an end of the file.
  while :; do read -r line <&3 && echo "heard $line" >&3 || usleep 50000; done
}
agent >/run/agent.log 2>&1 &
channel &
stty -F /dev/ttyS0 raw -echo
exec </dev/ttyS0 >/dev/ttyS0 2>&1
echo 'answering'
while read -r line; do
  eval "$line" </dev/null
  echo "[$?]"
done
