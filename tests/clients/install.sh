# virt-install and virt-xml-validate.
. ./steps.sh
# Addresses that virt-install makes up are given, so that they are equal.
mac=52:54:00:11:22
simple="--memory 64 --import --disk none --graphics none --network none --noautoconsole --osinfo generic --virt-type qemu"
truncate -s 1M disk.img
mkdir pool
truncate -s 1M pool/given.img

step "no disk" virt-install --name simple $simple
step "print" virt-install --name printed --memory 64 --import --disk /run/scene/pool/given.img --osinfo debian11 \
  --network user,mac=$mac:01 --graphics vnc --virt-type qemu --print-xml
step "transient" virt-install --name transient $simple --transient
step "kernel" virt-install --name kernel $simple --boot kernel=/run/scene/disk.img,kernel_args="console=ttyS0" --print-xml
step "made" virt-install --name made --import --memory 64 --disk /run/scene/pool/made.img,size=0.01,format=raw \
  --disk device=cdrom --virt-type qemu --noautoconsole --osinfo debian11 --graphics vnc --network user,mac=$mac:02 \
  --channel unix,target.type=virtio,target.name=org.qemu.guest_agent.0 --check all=off --rng /dev/urandom \
  --watchdog i6300esb --tpm none --vcpus 2,maxvcpus=4 --cpu qemu64 --boot hd,menu=on --serial pty --sound none
virsh dumpxml made --inactive >made.xml
step "valid" virt-xml-validate made.xml
step "list" virsh list --all
step "pools" virsh pool-list --all
step "running" virsh dumpxml made
step "volumes" virsh vol-list pool
