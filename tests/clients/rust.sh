# libvirt's Rust bindings. The guest answers each byte on its serial line with the same. $CLIENT is the program.
truncate -s 1M disk.img more.img
printf '\x31\xc0\xba\xfd\x03\xec\xa8\x01\x74\xfb\xba\xf8\x03\xec\xee\xeb\xf1' | dd of=disk.img conv=notrunc status=none
printf '\x55\xaa' | dd of=disk.img bs=1 seek=510 conv=notrunc status=none
"$CLIENT" "$(cat little.xml)"
