//! Tests of whole domains.

use super::*;

const TEXT: &str = "\
<domain type='kvm' id='1' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>a &lt; b</name>
  <memory unit='KiB'>1024</memory>
  <vcpu placement='static' current='1'>2</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <boot dev='hd'/>
  </os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='/a'/>
      <backingStore/>
      <target dev='vda' bus='virtio'/>
      <boot order='1'/>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x03' function='0x0'/>
    </disk>
    <controller type='pci' index='0' model='pci-root'/>
    <serial type='pty'>
      <target type='isa-serial' port='0'>
        <model name='isa-serial'/>
      </target>
    </serial>
  </devices>
  <qemu:commandline>
    <qemu:arg value='-x'/>
    <qemu:env name='A' value='b'/>
  </qemu:commandline>
</domain>
";

#[test]
fn a_domain_is_written_as_it_was_read() {
    let domain = parse(TEXT).unwrap();
    assert_eq!(domain.name(), "a < b");
    assert_eq!(format(&domain), TEXT);
    let packed = xml::pack(&domain);
    assert!(packed.len() < TEXT.len() / 4, "{}", packed.len());
    assert_eq!(xml::unpack(&packed), Some(domain));
}

#[test]
fn sizes_are_kib() {
    let text = "<domain type='qemu'><memory unit='MB'>1</memory></domain>";
    assert_eq!(parse(text).unwrap().memory_kib(), 977);
}
