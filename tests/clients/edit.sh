# virt-xml and virt-clone.
. ./steps.sh
mac=52:54:00:11:22
truncate -s 1M disk.img
mkdir pool
virsh create little.xml >/dev/null
virsh define little.xml >/dev/null

step "update" virt-xml little --add-device --disk /run/scene/pool/more.img,size=0.01,format=raw,target.dev=sdf,target.bus=usb --update
step "update" virt-xml little --add-device --network user,mac=$mac:03 --update
step "update" virt-xml little --edit mac=$mac:03 --network link_state=down --update
step "update" virt-xml little --remove-device --network mac=$mac:03 --update
step "running" virsh dumpxml little
step "destroy" virsh destroy little
step "clone" virt-clone -o little -n clone --file /run/scene/pool/clone.img --mac $mac:04 --check all=off
step "cloned" virsh dumpxml clone
step "edit" virt-xml little --edit --vcpus 3,maxvcpus=4 --print-diff
step "edit" virt-xml little --edit --memory 128 --define
step "edit" virt-xml little --remove-device --memballoon all --define
step "edit" virt-xml nothing --edit --vcpus 3
step "edited" virsh dumpxml little
step "volumes" virsh vol-list pool
