//! Virtio devices under Debian's kernel: its drivers read, write, discard and check, and the host looks at what came
//! of it.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use blackbox::emulator::{Emulator, Running};
use blackbox::guests;
use blackbox::initramfs::{DISK_MODULES, DONE, Initramfs, Section, sections};

const BOOT: Duration = Duration::from_secs(300);

/// A machine that runs `script` after loading the modules, with more arguments.
fn start(folder: &Path, script: &str, modules: &[&str], console: &str, more: &[&str]) -> Option<Running> {
    let ours = Emulator::ours().expect("the emulator");
    let kernel = match guests::kernel("cloud") {
        Ok(kernel) => kernel,
        Err(reason) => {
            blackbox::note_skip(format_args!("{reason}"));
            return None;
        }
    };
    let initrd = folder.join("initrd");
    let initramfs = Initramfs::new(&kernel).modules(DISK_MODULES).modules(modules).script(script);
    std::fs::write(&initrd, initramfs.build().expect("initramfs")).expect("write");
    let (image, initrd) = (kernel.image.to_string_lossy(), initrd.to_string_lossy());
    let append = format!("{console} quiet");
    let mut arguments = vec!["-nodefaults", "-display", "none", "-m", "256", "-no-reboot"];
    arguments.extend(["-kernel", &image, "-initrd", &initrd, "-append", &append]);
    arguments.extend(more);
    Some(ours.start(&arguments).expect("start"))
}

fn finish(mut running: Running) -> Vec<Section> {
    let text = running.expect(DONE, BOOT).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(running.wait(BOOT).expect("end").code(), Some(0));
    sections(&text)
}

fn text<'a>(found: &'a [Section], name: &str) -> &'a str {
    let section = found.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("{name}: {found:?}"));
    assert_eq!(section.status, 0, "{name}: {}", section.text);
    section.text.trim()
}

fn image(folder: &Path, name: &str, size: u64) -> PathBuf {
    let path = folder.join(name);
    std::fs::File::create(&path).expect("image").set_len(size).expect("size");
    path
}

const DISK: &str = r#"
section serial cat /sys/block/vda/serial
section size cat /sys/block/vda/size
section queues sh -c '[ $(ls /sys/block/vda/mq | wc -w) = $(grep -c ^processor /proc/cpuinfo) ]'
section cache cat /sys/block/vda/cache_type
section readonly cat /sys/block/vdc/ro
section second dd if=/dev/vdc bs=512 count=1 skip=3 status=none
section refused sh -c '! dd if=/dev/zero of=/dev/vdc bs=512 count=1'
section mkfs mke2fs -F /dev/vda
section mount mount -t ext4 /dev/vda /mnt
section fill sh -c 'dd if=/dev/urandom of=/mnt/a bs=64k count=100 status=none; cp /mnt/a /mnt/b; sync; echo 3 > /proc/sys/vm/drop_caches; cmp /mnt/a /mnt/b && rm /mnt/a && fstrim /mnt > /dev/null'
section umount umount /mnt
section again sh -c 'mount -t ext4 /dev/vda /mnt && ls -1 /mnt && umount /mnt'
section writethrough sh -c 'echo "write through" > /sys/block/vda/cache_type; cat /sys/block/vda/cache_type'
section discard sh -c 'dd if=/dev/urandom of=/dev/vdb bs=64k count=16 status=none; sync; blkdiscard /dev/vdb; tr -d "\0" < /dev/vdb | wc -c'
section beyond sh -c '! dd if=/dev/vdb of=/dev/null bs=512 skip=2048 count=1 2>/dev/null || echo end'
"#;

#[test]
fn a_disk_is_formatted_filled_and_checked() {
    let folder = blackbox::paths::scratch(&blackbox::current_test());
    let disk = image(&folder, "disk", 64 << 20);
    let second = image(&folder, "second", 1 << 20);
    let third = image(&folder, "third", 1 << 20);
    let mut bytes = vec![b'x'; 1 << 20];
    bytes[3 * 512..4 * 512].fill(b'y');
    std::fs::write(&second, &bytes).expect("write");
    let (disk, second, third) = (disk.to_string_lossy(), second.to_string_lossy(), third.to_string_lossy());
    let first = format!("file={disk},if=none,id=d,format=raw,discard=unmap");
    let file = format!("{{'driver':'file','filename':'{second}','node-name':'f','read-only':true}}");
    let last = format!("file={third},if=virtio,format=raw,cache=writethrough,discard=on");
    let Some(running) = start(
        &folder,
        DISK,
        &[],
        "console=ttyS0",
        &[
            "-serial",
            "stdio",
            "-smp",
            "2",
            "-drive",
            &first,
            "-device",
            "virtio-blk-pci,drive=d,serial=tinamou-disk,id=disk",
            "-blockdev",
            &file,
            "-blockdev",
            "driver=raw,node-name=r,file=f,read-only=on",
            "-device",
            "{'driver':'virtio-blk-pci','drive':'r','num-queues':1,'disable-modern':true}",
            "-drive",
            &last,
        ],
    ) else {
        return;
    };
    let found = finish(running);
    assert_eq!(text(&found, "serial"), "tinamou-disk");
    assert_eq!(text(&found, "size"), "131072");
    assert_eq!(text(&found, "cache"), "write back");
    assert_eq!(text(&found, "readonly"), "1");
    assert_eq!(text(&found, "second"), "y".repeat(512));
    for name in ["queues", "refused", "mkfs", "mount", "fill", "umount", "beyond"] {
        text(&found, name);
    }
    assert_eq!(text(&found, "again"), "b\nlost+found");
    assert_eq!(text(&found, "writethrough"), "write through");
    assert_eq!(text(&found, "discard"), "0");
    assert!(std::fs::read(&*second).expect("second").eq(&bytes), "a read-only image was written");
    let checked = Command::new("e2fsck").args(["-fn", &disk]).output();
    match checked {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        Err(error) => blackbox::note_skip(format_args!("e2fsck: {error}")),
    }
}

const PORTS: &str = r#"
exec > /dev/hvc0 2>&1
section names sh -c 'cd /sys/class/virtio-ports; for p in *; do echo "$p $(cat $p/name 2> /dev/null)"; done'
section rng sh -c 'cat /sys/class/misc/hw_random/rng_current; dd if=/dev/hwrng bs=64 count=1 status=none | wc -c'
section echo sh -c 'until read line < /dev/vport0p1; do usleep 100000; done; echo "got $line"; echo "answer to $line" > /dev/vport0p1'
section many sh -c 'dd if=/dev/zero bs=1000 count=300 status=none | tr "\0" z > /dev/vport0p7'
"#;

#[test]
fn a_console_and_named_ports_carry_bytes() {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    let folder = blackbox::paths::scratch(&blackbox::current_test());
    let (socket, file) = (folder.join("port"), folder.join("file"));
    let agent = format!("socket,id=agent,path={},server=on,wait=off", socket.display());
    let log = format!("file,id=log,path={}", file.display());
    let Some(mut running) = start(
        &folder,
        PORTS,
        &["virtio_console", "virtio_rng"],
        "console=ttyS0 console=hvc0",
        &[
            "-serial",
            "null",
            "-chardev",
            "stdio,id=con",
            "-chardev",
            &agent,
            "-chardev",
            &log,
            "-device",
            "virtio-serial-pci,id=vser,max_ports=16",
            "-device",
            "virtconsole,chardev=con",
            "-device",
            "virtserialport,bus=vser.0,nr=1,chardev=agent,name=org.tinamou.agent.0",
            "-device",
            "{'driver':'virtserialport','nr':7,'chardev':'log','name':'log'}",
            "-object",
            "rng-random,id=r,filename=/dev/urandom",
            "-device",
            "virtio-rng-pci,rng=r,max-bytes=1024,period=100",
        ],
    ) else {
        return;
    };
    running.expect("begin echo", BOOT).unwrap_or_else(|error| panic!("{error}"));
    let mut agent = std::os::unix::net::UnixStream::connect(&socket).expect("connect");
    agent.write_all(b"hello\n").expect("write");
    let mut answer = String::new();
    BufReader::new(agent.try_clone().expect("clone")).read_line(&mut answer).expect("read");
    assert_eq!(answer, "answer to hello\n");
    running.expect("end many 0", BOOT).unwrap_or_else(|error| panic!("{error}"));
    let found = sections(&running.console.log());
    let mut names: Vec<_> = text(&found, "names").lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["vport0p0 ", "vport0p1 org.tinamou.agent.0", "vport0p7 log"]);
    assert_eq!(text(&found, "rng"), "virtio_rng.0\n64");
    assert_eq!(text(&found, "echo"), "got hello");
    let mut bytes = Vec::new();
    std::fs::File::open(&file).expect("file").read_to_end(&mut bytes).expect("read");
    assert_eq!(bytes.len(), 300_000);
    assert!(bytes.iter().all(|byte| *byte == b'z'));
}
