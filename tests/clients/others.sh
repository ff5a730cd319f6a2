# Networks, storage, secrets and filters: another daemon's, through the same connection.
exec 2>&1
step() {
  local name=$1
  shift
  "$@" 2>&1 | sed -e "s/^/$name: /" -e 's/[0-9a-f]\{8\}-[0-9a-f-]\{27\}/UUID/' -e 's/52:54:00:[0-9a-f:]*/MAC/'
}
mkdir pool
step "pools" virsh pool-list --all
step "pools" virsh pool-define-as scene dir --target /run/scene/pool
step "pools" virsh pool-start scene
step "pools" virsh pool-autostart scene
step "pools" virsh pool-list --all --persistent --autostart
step "pools" virsh pool-dumpxml nothing
step "volumes" virsh vol-create-as scene one.img 1M --format raw
step "volumes" virsh vol-list scene
step "volumes" sh -c "virsh vol-dumpxml one.img scene | grep -v time"
head -c 700000 /dev/urandom >data
step "upload" virsh vol-upload one.img data --pool scene
step "download" virsh vol-download one.img back --pool scene --length 700000
step "same" cmp data back
step "download" virsh vol-download nothing back --pool scene
step "volumes" virsh vol-clone one.img two.img --pool scene
step "volumes" virsh vol-delete one.img --pool scene
step "networks" virsh net-list --all
cat >net.xml <<END
<network><name>closed</name><forward mode='open'/><bridge name='scene0' stp='off'/><mac address='52:54:00:00:00:31'/></network>
END
step "networks" virsh net-define net.xml
step "networks" virsh net-start closed
step "networks" virsh net-info closed
step "networks" virsh net-dumpxml closed
step "networks" virsh net-port-list closed
cat >secret.xml <<END
<secret ephemeral='no' private='no'><uuid>11111111-2222-4333-8444-555555555577</uuid><description>a word</description>
<usage type='ceph'><name>client.one</name></usage></secret>
END
secret=11111111-2222-4333-8444-555555555577
step "secrets" virsh secret-define secret.xml
step "secrets" virsh secret-set-value $secret --base64 c2VjcmV0
step "secrets" virsh secret-get-value $secret
step "secrets" virsh secret-list
step "secrets" virsh secret-undefine $secret
step "filters" virsh nwfilter-list
step "devices" virsh nodedev-list --cap system
# Events of theirs come through as well, and calls of ours in between.
virsh net-event closed --event lifecycle --timeout 20 >events &
sleep 0.5
step "networks" virsh net-destroy closed
wait
step "events" cat events
step "pools" virsh pool-event --list
step "pools" virsh pool-destroy scene
step "pools" virsh pool-undefine scene
step "alive" virsh list --all
