//! Mistakes with devices, drives, objects and defaults: what the reference emulator says of them on standard error, and
//! the exit status, ours must say too.

#![forbid(unsafe_code)]

use std::time::Duration;

use blackbox::compare::{Outcome, difference};
use blackbox::emulator::Emulator;

const LATER: Duration = Duration::from_secs(30);

/// Runs both with the rows of arguments (words divided by blanks; `DISK` is an image) and reports every row that
/// differs.
fn compare(rows: &[&str]) {
    let reference = blackbox::or_skip!(Emulator::reference());
    let ours = Emulator::ours().expect("the emulator");
    let disk = blackbox::paths::scratch(&blackbox::current_test()).join("disk");
    std::fs::File::create(&disk).expect("image").set_len(16 << 20).expect("size");
    let disk = disk.to_string_lossy();
    let mut report = String::new();
    for row in rows {
        let row = row.replace("DISK", &disk);
        let mut arguments = vec!["-nodefaults", "-display", "none", "-S"];
        arguments.extend(row.split(' '));
        let expected = Outcome::of(&reference, &arguments, LATER).expect("the reference ends by itself");
        match Outcome::of(&ours, &arguments, LATER) {
            Ok(found) => {
                let difference = difference(&expected.errors, &found.errors);
                if !difference.is_empty() || found.status != expected.status {
                    report.push_str(&format!(
                        "{row}: status {}, expected {}\n{difference}",
                        found.status, expected.status
                    ));
                }
            }
            Err(error) => report.push_str(&format!("{row}: {error}\n")),
        }
    }
    assert!(report.is_empty(), "- is what the reference says, + what ours says:\n{report}");
}

#[test]
fn devices_places_and_properties() {
    compare(&[
        "-device foo",
        "-device virtio-rng-pci,foo=1",
        "-device virtio-rng-pci,max-bytes=x",
        "-device virtio-rng-pci,max-bytes=-1",
        "-device virtio-rng-pci,max-bytes=1k",
        "-device virtio-rng-pci,period=0",
        "-device virtio-rng-pci,rng=nope",
        "-device virtio-rng-pci,disable-modern=foo",
        "-device virtio-rng-pci,disable-legacy=foo",
        "-device virtio-rng-pci,disable-legacy=on,disable-modern=on",
        "-device virtio-rng-pci,addr=foo",
        "-device virtio-rng-pci,addr=20",
        "-device virtio-rng-pci,addr=1f.8",
        "-device virtio-rng-pci,addr=1",
        "-device virtio-rng-pci,addr=1.0",
        "-device virtio-rng-pci,addr=0",
        "-device virtio-rng-pci,addr=5.1 -device virtio-rng-pci,addr=5.0",
        "-device virtio-rng-pci,addr=5.0 -device virtio-rng-pci,addr=5.1",
        "-device virtio-rng-pci,addr=5,id=a -device virtio-rng-pci,addr=5",
        "-device virtio-rng-pci,bus=foo",
        "-device virtio-rng-pci,bus=isa.0",
        "-device virtio-rng-pci,bus=pci.1",
        "-device isa-serial,bus=pci.0",
        "-device virtio-rng-pci,id=a -device virtio-rng-pci,id=a",
        "-device virtio-rng-pci,id=1",
        "-device virtio-rng-pci,id=a/b",
        "-device virtio-rng-pci,multifunction=foo",
        "-device isa-serial,chardev=foo",
        "-device isa-serial,index=7",
        "-device isa-serial,iobase=foo",
        "-chardev null,id=c -device isa-serial,chardev=c,index=9",
        "-chardev null,id=c -device isa-serial,chardev=c -device isa-serial,chardev=c",
        "-device isa-debugcon",
        "-device isa-debugcon,chardev=foo",
        "-device isa-debug-exit,iobase=foo",
        "-device pvpanic,ioport=99999",
        "-device pvpanic,events=300",
        "-device pvpanic-pci,addr=1",
        "-device",
        "-device ,id=a",
        "-device driver=",
        "-device id=a",
        "-device {",
        "-device {}",
        "-device {\"driver\":\"foo\"}",
        "-device {\"driver\":1}",
        "-device {\"driver\":\"virtio-rng-pci\",\"foo\":1}",
        "-device {\"driver\":\"virtio-rng-pci\",\"max-bytes\":\"1\"}",
        "-device {\"driver\":\"virtio-rng-pci\",\"max-bytes\":true}",
        "-device {\"driver\":\"virtio-rng-pci\",\"addr\":5}",
        "-device {\"driver\":\"virtio-rng-pci\",\"addr\":\"0x40\"}",
        "-device {\"driver\":\"virtio-rng-pci\",\"multifunction\":\"on\"}",
        "-device {\"driver\":\"virtio-rng-pci\",\"id\":\"a\"} -device virtio-rng-pci,id=a",
        "-device {\"driver\":\"virtio-rng-pci\",\"rng\":{\"a\":1}}",
        "-device {\"driver\":\"virtio-rng-pci\",\"rng\":null}",
        "-device i440FX",
        "-device PIIX3",
        "-device isa-i8259",
        "-device pci-device",
        "-device device",
        "-M q35 -device virtio-rng-pci,bus=pci.0",
        "-M q35 -device virtio-rng-pci,addr=1f",
        "-device virtio-rng-pci-non-transitional,disable-modern=on",
        "-device virtio-rng-pci-transitional,disable-legacy=on",
    ]);
}

#[test]
fn serial_ports_of_virtio() {
    compare(&[
        "-device virtserialport",
        "-device virtconsole",
        "-device virtserialport,chardev=foo",
        "-device virtio-serial-pci -device virtserialport,chardev=foo",
        "-device virtio-serial-pci -device virtserialport,nr=0",
        "-device virtio-serial-pci -device virtserialport,nr=40",
        "-device virtio-serial-pci,max_ports=0",
        "-device virtio-serial-pci,max_ports=600",
        "-device virtio-serial-pci -device virtserialport,nr=2 -device virtserialport,nr=2",
        "-device virtio-serial-pci -device virtserialport,name=a -device virtserialport,name=a",
        "-device virtio-serial-pci,max_ports=1 -device virtserialport",
        "-device virtio-serial-pci,max_ports=2 -device virtserialport -device virtserialport",
        "-device virtio-serial-pci,id=v -device virtserialport,bus=w.0",
        "-device virtio-serial-pci,id=v -device virtserialport,bus=v",
    ]);
}

#[test]
fn defaults_for_all_devices_of_a_type() {
    compare(&[
        "-global virtio-rng-pci.foo=1 -device virtio-rng-pci",
        "-global virtio-rng-pci.period=x -device virtio-rng-pci",
        "-global virtio-rng-pci.period=0 -device virtio-rng-pci",
        "-global foo",
        "-global foo=1",
        "-global driver=virtio-rng-pci",
        "-global driver=virtio-rng-pci,property=period",
        "-global driver=virtio-rng-pci,property=period,value=0 -device virtio-rng-pci",
        "-global PIIX4_PM.foo=1",
        "-global virtio-blk-pci.bootindex=x -drive file=DISK,if=virtio,format=raw",
        "-global virtio-blk-pci.config-wce=x -drive file=DISK,if=virtio,format=raw",
        "-global virtio-blk-pci.rerror=x -drive file=DISK,if=virtio,format=raw",
    ]);
}

#[test]
fn objects() {
    compare(&[
        "-object foo,id=a",
        "-object foo",
        "-object rng-builtin",
        "-object rng-builtin,id=1",
        "-object rng-builtin,id=a -object rng-builtin,id=a",
        "-object rng-builtin,id=a,foo=1",
        "-object rng-random,id=a,filename=/nonexistent",
        "-object rng-random,id=a,filename=/dev/urandom,foo=1",
        "-object memory-backend-ram,id=m",
        "-object memory-backend-ram,id=m,size=0",
        "-object memory-backend-ram,id=m,size=foo",
        "-object memory-backend-ram,id=m,size=64M -machine memory-backend=m -m 128",
        "-machine memory-backend=nope",
        "-object memory-backend-ram,id=m,size=64M,prealloc=foo",
        "-object memory-backend-ram,id=m,size=64M -object rng-builtin,id=m",
        "-object {\"qom-type\":\"rng-builtin\"}",
        "-object {\"qom-type\":\"foo\",\"id\":\"a\"}",
        "-object {\"qom-type\":\"rng-builtin\",\"id\":\"a\",\"foo\":1}",
        "-object {\"id\":\"a\"}",
        "-object {\"qom-type\":\"memory-backend-ram\",\"id\":\"a\",\"size\":\"1M\"}",
        "-object {\"qom-type\":\"memory-backend-ram\",\"id\":\"a\",\"size\":1048576,\"share\":\"on\"}",
        "-object id=a",
    ]);
}

#[test]
fn drives() {
    compare(&[
        "-drive file=DISK,if=virtio,format=raw,addr=5",
        "-drive file=DISK,if=none,format=raw,id=a,file.locking=foo",
        "-drive file=DISK,if=none,format=raw,file.driver=foo",
        "-drive driver=raw,if=none,id=a",
        "-drive file=/nonexistent/X",
        "-drive file=/nonexistent/X,if=none",
        "-drive file=DISK,if=none,id=d,format=foo",
        "-drive file=DISK,if=none,id=d,format=raw,foo=1",
        "-drive file=DISK,if=foo",
        "-drive if=virtio",
        "-drive foo",
        "-drive file=DISK,if=none,id=d,format=raw,cache=foo",
        "-drive file=DISK,if=none,id=d,format=raw,aio=foo",
        "-drive file=DISK,if=none,id=d,format=raw,discard=foo",
        "-drive file=DISK,if=none,id=d,format=raw,media=foo",
        "-drive file=DISK,if=none,id=d,format=raw,readonly=foo",
        "-drive file=DISK,if=none,id=d,format=raw,werror=foo",
        "-drive file=DISK,if=none,id=d,format=raw,rerror=foo",
        "-drive file=DISK,if=none,id=d,format=raw,rerror=enospc",
        "-drive file=DISK,if=none,id=d,format=raw,detect-zeroes=foo",
        "-drive file=DISK,if=none,id=d,format=raw,copy-on-read=foo",
        "-drive file=DISK,if=none,id=d,format=raw,index=foo",
        "-drive file=DISK,if=none,id=d,format=raw,bus=foo",
        "-drive file=DISK,if=none,id=d,format=raw,index=1,bus=1",
        "-drive file=DISK,if=none,id=1,format=raw",
        "-drive file=DISK,if=none,id=d,format=raw,cache.direct=foo",
        "-drive file=DISK,if=none,id=d,format=raw,snapshot=foo",
        "-drive file=DISK,if=none,id=d,format=raw,driver=raw",
        "-drive file=DISK,if=none,id=d,format=raw,offset=1G",
        "-drive file=DISK,if=none,id=d,format=raw,force-share=on",
        "-drive file=DISK,if=none,id=d,format=raw,serial=abc",
        "-drive file=DISK,if=sd,format=raw",
        "-drive file=DISK,if=xen,format=raw",
    ]);
}

#[test]
fn block_nodes() {
    compare(&[
        "-blockdev foo,node-name=a",
        "-blockdev raw",
        "-blockdev raw,node-name=a",
        "-blockdev raw,node-name=a,file=nope",
        "-blockdev file,node-name=a",
        "-blockdev file,filename=DISK",
        "-blockdev file,filename=DISK,node-name=1",
        "-blockdev file,filename=DISK,node-name=abcdefghijklmnopqrstuvwxyz0123456789",
        "-blockdev file,filename=/nonexistent/x,node-name=f",
        "-blockdev raw,file=f,node-name=r -blockdev file,filename=DISK,node-name=f",
        "-blockdev file,filename=DISK,node-name=f,foo=1",
        "-blockdev file,filename=DISK,node-name=f,read-only=foo",
        "-blockdev file,filename=DISK,node-name=f,discard=foo",
        "-blockdev file,filename=DISK,node-name=f,locking=foo",
        "-blockdev file,filename=DISK,node-name=f,aio=foo",
        "-blockdev file,filename=DISK,node-name=f,cache.foo=on",
        "-blockdev file,filename=DISK,node-name=f,detect-zeroes=foo",
        "-blockdev file,filename=DISK,node-name=f,force-share=on",
        "-blockdev raw,node-name=r,file.driver=file,file.filename=DISK,offset=1G",
        "-blockdev raw,node-name=r,file.driver=file,file.filename=DISK,offset=1M,size=1G",
        "-blockdev {\"driver\":\"file\",\"filename\":\"DISK\"}",
        "-blockdev {\"driver\":\"file\",\"node-name\":\"f\"}",
        "-blockdev {\"driver\":\"file\",\"filename\":5,\"node-name\":\"f\"}",
        "-blockdev {\"driver\":\"file\",\"filename\":\"DISK\",\"node-name\":\"f\",\"foo\":1}",
        "-blockdev {\"driver\":\"file\",\"filename\":\"DISK\",\"node-name\":\"f\",\"read-only\":\"on\"}",
        "-blockdev {\"driver\":\"raw\",\"file\":5,\"node-name\":\"r\"}",
        "-blockdev {\"driver\":\"raw\",\"file\":\"f\",\"node-name\":\"r\"}",
        "-blockdev {",
        "-blockdev {}",
        "-blockdev []",
        "-blockdev node-name=f",
        "-blockdev help",
    ]);
}

#[test]
fn disks_on_drives() {
    compare(&[
        "-device virtio-blk-pci",
        "-device virtio-blk-pci,drive=none",
        "-drive file=DISK,if=virtio,format=raw,id=v -device virtio-blk-pci,drive=v",
        "-drive file=DISK,if=none,format=raw,id=a -drive file=DISK,if=none,format=raw,id=b -device virtio-blk-pci,drive=a -device virtio-blk-pci,drive=b",
        "-drive file=DISK,if=none,format=raw,id=a -drive file=DISK,if=none,format=raw,id=b,readonly=on -device virtio-blk-pci,drive=a -device virtio-blk-pci,drive=b",
        "-blockdev file,filename=DISK,node-name=f,read-only=on -blockdev raw,file=f,node-name=r -device virtio-blk-pci,drive=r",
        "-blockdev file,filename=DISK,node-name=f,read-only=on,auto-read-only=on -blockdev raw,file=f,node-name=r,read-only=off -device virtio-blk-pci,drive=r",
        "-drive file=DISK,if=none,format=raw,id=a -device virtio-blk-pci,drive=a,logical_block_size=x",
        "-drive file=DISK,if=none,format=raw,id=a -device {\"driver\":\"virtio-blk-pci\",\"drive\":\"a\",\"logical_block_size\":\"4k\"}",
        "-drive file=DISK,if=none,format=raw,id=a -device {\"driver\":\"virtio-blk-pci\",\"drive\":\"a\",\"bootindex\":\"1\"}",
        "-drive file=DISK,if=none,format=raw,id=a -device {\"driver\":\"virtio-blk-pci\",\"drive\":\"a\",\"num-queues\":70000}",
        "-drive file=DISK,if=none,format=raw,id=a -device {\"driver\":\"virtio-blk-pci\",\"drive\":\"a\",\"write-cache\":true}",
        "-drive file=DISK,if=none,format=raw,id=a -device {\"driver\":\"virtio-blk-pci\",\"drive\":5}",
        "-drive file=DISK,if=none,format=raw,id=a -device {\"driver\":\"virtio-blk-pci\",\"drive\":\"a\",\"ioeventfd\":\"off\"}",
        "-drive file=DISK,if=none,id=d,format=raw -device virtio-blk-pci,drive=d -device virtio-blk-pci,drive=d",
        "-drive file=DISK,if=none,id=d,format=raw -device virtio-blk-pci,drive=d,num-queues=0",
        "-drive file=DISK,if=none,id=d,format=raw -device virtio-blk-pci,drive=d,queue-size=3",
        "-drive file=DISK,if=none,id=d,format=raw -device virtio-blk-pci,drive=d,queue-size=2",
        "-drive file=DISK,if=none,id=d,format=raw -device virtio-blk-pci,drive=d,queue-size=2048",
        "-drive file=DISK,if=none,id=d,format=raw -device virtio-blk-pci,drive=d,logical_block_size=513",
        "-drive file=DISK,if=none,id=d,format=raw -device virtio-blk-pci,drive=d,logical_block_size=256",
        "-drive file=DISK,if=none,id=d,format=raw -device virtio-blk-pci,drive=d,logical_block_size=4096,physical_block_size=512",
        "-drive file=DISK,if=none,id=d,format=raw -device virtio-blk-pci,drive=d,physical_block_size=4M",
        "-drive file=DISK,if=none,id=d,format=raw -device virtio-blk-pci,drive=d,min_io_size=513",
        "-drive file=DISK,if=none,id=d,format=raw -device virtio-blk-pci,drive=d,opt_io_size=513",
        "-drive file=DISK,if=none,id=d,format=raw -device virtio-blk-pci,drive=d,discard_granularity=513",
        "-drive file=DISK,if=none,id=d,format=raw -device virtio-blk-pci,drive=d,cyls=70000",
        "-drive file=DISK,if=none,id=d,format=raw -device virtio-blk-pci,drive=d,cyls=70000,heads=1,secs=1",
        "-drive file=DISK,if=none,id=d,format=raw -device virtio-blk-pci,drive=d,max-discard-sectors=0",
        "-drive file=DISK,if=none,id=d,format=raw -device virtio-blk-pci,drive=d,max-discard-sectors=4294967295",
        "-drive file=DISK,if=none,id=d,format=raw -device virtio-blk-pci,drive=d,max-write-zeroes-sectors=0",
        "-drive file=DISK,if=none,id=d,format=raw -device virtio-blk-pci,drive=d,rerror=foo",
        "-drive file=DISK,if=none,id=d,format=raw -device virtio-blk-pci,drive=d,bootindex=x",
        "-drive file=DISK,if=none,id=d,format=raw -device virtio-blk-pci,drive=d,addr=1",
        "-drive file=DISK,if=none,id=d,format=raw -device virtio-blk-pci,drive=d,scsi=on",
        "-drive file=DISK,if=none,id=d,format=raw -device virtio-blk-pci,drive=d,write-cache=foo",
        "-blockdev raw,node-name=r,file.driver=file,file.filename=DISK,offset=1M,size=2M -device virtio-blk-pci,drive=r",
    ]);
}
