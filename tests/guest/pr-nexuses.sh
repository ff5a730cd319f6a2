# sg_persist on the device itself.
direct() {
  sg_persist -n --out --register --param-sark=11 $A; echo register A $?
  sg_persist -n --out --register --param-sark=22 $B; echo register B $?
  sg_persist -n --in -k $A
  sg_persist -n --out --reserve --param-rk=11 --prout-type=1 $A; echo reserve A $?
  sg_persist -n --out --reserve --param-rk=22 --prout-type=1 $B; echo reserve B $?
  sg_persist -n --in -r $B
  sg_persist -n --out --preempt --param-rk=22 --param-sark=11 --prout-type=1 $B; echo preempt $?
  sg_persist -n --in -r $B
  sg_persist -n --out --release --param-rk=22 --prout-type=1 $B; echo release $?
  sg_persist -n --out --clear --param-rk=22 $B; echo clear $?
  sg_persist -n --in -k $A
}

# The same and more through a helper, by a client without any privilege.
through() {
  a="pr-client $1 --user 65534 $A"
  b="pr-client $1 --user 65534 $B"
  $b in:0:2000
  $b in:0:2000 in:2:2000 in:0:4 in:0:0
  $a out:0:0:0:11:0
  $b out:0:0:0:22:0
  $a in:0:2000 in:0:10 in:3:2000
  $a out:0:0:99:0:0
  $a out:1:1:11:0:0 in:1:2000
  $b in:1:2000 out:1:1:22:0:0 in:3:2000
  $b out:4:1:22:11:0 in:1:2000 in:0:2000
  $a in:0:2000 in:0:2000
  $a out:1:1:11:0:0
  $a out:6:0:0:11:0
  $a out:4:1:11:22:0 in:1:2000
  $b in:0:2000 in:0:2000
  $a out:2:3:11:0:0 out:2:1:11:0:0 in:1:2000
  $a out:6:0:0:11:1 in:0:2000
  $a out:3:0:11:0:0 in:0:2000
  $a out:1f:0:11:0:0 in:1f:8
  $a fixed:0:17
  pr-client $1 --read-only $A out:0:0:0:11:0
  pr-client $1 /dev/sg0 in:0:2000 out:0:0:0:11:0 out:3:0:11:0:0
}

section disks ls $A $B /dev/sg0
section direct direct
if [ -x /bin/original ]; then
  start original /tmp/original.sock
  section original through /tmp/original.sock
  stop
fi
start qemu-pr-helper /tmp/root.sock
section ours through /tmp/root.sock
section stop stop
start qemu-pr-helper /tmp/nobody.sock -u 65534 -g 65534
section nobody through /tmp/nobody.sock
section confined confined
section stop-nobody stop
