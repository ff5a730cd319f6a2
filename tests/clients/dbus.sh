# libvirt-dbus on a bus of its own: what it answers and signals of the connection and of guests.
# $CLIENTS is where its package was unpacked.
mount --bind "$CLIENTS/usr/share/dbus-1/interfaces" /usr/share/dbus-1/interfaces
export LD_LIBRARY_PATH=$CLIENTS/usr/lib/x86_64-linux-gnu
export DBUS_SESSION_BUS_ADDRESS=unix:path=/run/scene/bus
dbus-daemon --session --address=$DBUS_SESSION_BUS_ADDRESS --nofork --nopidfile >/dev/null 2>&1 &
while ! [ -S bus ]; do sleep 0.05; done
"$CLIENTS/usr/sbin/libvirt-dbus" --session --threads 2 2>/dev/null >/dev/null &
call() {
  local path=$1 method=$2
  shift 2
  { dbus-send --session --print-reply=literal --reply-timeout=20000 --dest=org.libvirt "$path" "$method" "$@" 2>&1
    echo; } | sed "s/^/${label:-${method##*.}}: /"
}
for i in $(seq 100); do
  dbus-send --session --print-reply --dest=org.libvirt /org/libvirt/QEMU org.freedesktop.DBus.Peer.Ping >/dev/null 2>&1 && break
  sleep 0.1
done
dbus-monitor --session "type='signal',sender='org.libvirt'" >signals 2>/dev/null &
get() { label=$3 call $1 org.freedesktop.DBus.Properties.Get string:$2 string:$3; }
truncate -s 1M disk.img
connect=/org/libvirt/QEMU
prefix=org.libvirt.Connect
get $connect $prefix Hostname
get $connect $prefix Encrypted
get $connect $prefix Secure
call $connect $prefix.ListDomains uint32:0
call $connect $prefix.DomainLookupByName string:nothing
call $connect $prefix.DomainDefineXML string:"$(cat little.xml)"
guest=$connect/domain/_11111111_2222_3333_4444_555555555555
call $connect $prefix.DomainLookupByName string:little
call $connect $prefix.ListDomains uint32:0
call $guest org.libvirt.Domain.Create uint32:0
for name in Active Autostart Id Name OSType Persistent SchedulerType State UUID Updated; do get $guest org.libvirt.Domain $name; done
call $guest org.libvirt.Domain.GetState uint32:0
call $guest org.libvirt.Domain.Suspend
call $guest org.libvirt.Domain.GetState uint32:0
call $guest org.libvirt.Domain.Resume
call $guest org.libvirt.Domain.GetJobInfo
call $guest org.libvirt.Domain.GetXMLDesc uint32:2
call $guest org.libvirt.Domain.SendKey uint32:0 uint32:10 array:uint32:30,31 uint32:0
call $guest org.libvirt.Domain.Destroy uint32:0
call $guest org.libvirt.Domain.Destroy uint32:0
call $guest org.libvirt.Domain.Undefine uint32:0
sleep 0.5
# A signal has its domain's path as its object, or as an argument.
sed -n 's/^signal .*path=\([^;]*\);.*member=\([A-Za-z]*\)$/signal \2: \1/p' signals
# The bus and what is on it end with this script.
kill $(jobs -p)
exit 0
