# collectd's virt plugin: which values it reads of a guest, and what it says.
truncate -s 1M disk.img
virsh create little.xml >/dev/null
cat >collectd.conf <<END
Hostname "here"
BaseDir "/run/scene/collectd"
PIDFile "/run/scene/collectd.pid"
Interval 1
LoadPlugin virt
LoadPlugin csv
LoadPlugin logfile
<Plugin logfile>
  LogLevel info
  File "/run/scene/collectd.log"
</Plugin>
<Plugin csv>
  DataDir "/run/scene/csv"
</Plugin>
<Plugin virt>
  Connection "$LIBVIRT_DEFAULT_URI"
  RefreshInterval 2
  HostnameFormat name
  ExtraStats "cpu_util disk disk_err domain_state fs_info job_stats_background pcpu perf vcpu vcpupin disk_physical disk_allocation disk_capacity memory"
</Plugin>
END
timeout 6 collectd -f -C collectd.conf >/dev/null 2>&1
find csv -type f | sed 's/-20[0-9-]*$//; s/^/value: /' | sort
sed 's/^\[[^]]*\] /log: /' collectd.log | sort | uniq
virsh destroy little >/dev/null
