# Prometheus' exporter: what it finds of a guest; what changes by the moment is a number.
export LD_LIBRARY_PATH=$CLIENTS/usr/lib/x86_64-linux-gnu
truncate -s 1M disk.img
virsh create little.xml --paused >/dev/null
"$CLIENTS/usr/bin/prometheus-libvirt-exporter" --web.listen-address=127.0.0.1:9177 \
  --libvirt.uri="$LIBVIRT_DEFAULT_URI" >/dev/null 2>exporter.log &
for i in $(seq 100); do
  /usr/bin/python3 -c 'import urllib.request as u; print(u.urlopen("http://127.0.0.1:9177/metrics").read().decode())' \
    >metrics 2>/dev/null && break
  sleep 0.1
done
grep '^libvirt' metrics | grep -v '_seconds\|_rss_\|duration' | sed 's/^\([a-z_]*\)\(.*\)$/\1: \2/'
grep '^libvirt' metrics | sed -n 's/^\([a-z_]*\(_seconds\|_rss_\)[a-z_]*\)\({.*}\)\{0,1\} .*$/\1: \3/p'
kill $(jobs -p)
exit 0
