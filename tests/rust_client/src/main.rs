//! libvirt's Rust bindings on a guest. What is printed is equal whatever daemon answers.

use std::cell::RefCell;
use std::fmt::Debug;
use std::rc::Rc;
use std::time::{Duration, Instant};

use virt::connect::Connect;
use virt::domain::{Domain, MemoryParameters};
use virt::error::Error;
use virt::stream::Stream;
use virt::{event, sys};

fn show(label: &str, value: impl Debug) {
    println!("{label}: {value:?}");
}

/// Shows what a call returns, or its error.
fn attempt<T: Debug>(label: &str, result: Result<T, Error>) {
    match result {
        Ok(value) => show(label, value),
        Err(error) => show(label, (error.code(), error.domain(), error.message())),
    }
}

fn facts(connection: &Connect) -> Result<(), Error> {
    show("type", connection.get_type()?);
    show("alive", (connection.is_alive()?, connection.is_encrypted()?, connection.is_secure()?));
    show("models", connection.get_cpu_models_names("x86_64", 0)?.len());
    show("maximum", connection.get_max_vcpus(Some("qemu"))?);
    show("capabilities", connection.get_capabilities()?.len() > 1000);
    show("node", connection.get_node_info()?.cpus > 0);
    show("memory", connection.get_free_memory()? > 0);
    show("cells", connection.get_cells_free_memory(0, 4)?.len());
    let own = connection.get_domain_capabilities(None, Some("x86_64"), Some("pc"), Some("qemu"), 0)?;
    show("machine", own.contains("<machine>pc-i440fx-7.2</machine>"));
    attempt(
        "no emulator",
        connection.get_domain_capabilities(Some("/nowhere"), None, None, None, 0).map(drop),
    );
    attempt("name", Domain::lookup_by_name(connection, "nothing").map(drop));
    Ok(())
}

fn numbers(domain: &Domain) -> Result<(), Error> {
    show("id", (domain.get_id(), domain.get_name()?, domain.get_uuid_string()?, domain.get_os_type()?));
    show("state", domain.get_state()?);
    let info = domain.get_info()?;
    show("info", (info.state, info.max_mem, info.memory, info.nr_virt_cpu));
    let block = domain.get_block_info("vda", 0)?;
    show("block", (block.capacity, block.physical));
    show("statistics", domain.get_block_stats("vda")?.errs);
    show(
        "balloon",
        domain
            .memory_stats(0)?
            .iter()
            .filter(|stat| stat.tag == sys::VIR_DOMAIN_MEMORY_STAT_ACTUAL_BALLOON)
            .map(|stat| stat.val)
            .collect::<Vec<_>>(),
    );
    attempt("job", domain.get_job_info().map(|job| job.r#type));
    let limits = domain.get_memory_parameters(0);
    attempt("limits", limits.map(|limits| (limits.hard_limit, limits.soft_limit, limits.swap_hard_limit)));
    attempt("nodes", domain.get_numa_parameters(0).map(|nodes| (nodes.node_set, nodes.mode)));
    attempt("scheduler", domain.get_scheduler_type());
    attempt("agent", domain.qemu_agent_command("{\"execute\":\"guest-ping\"}", 1, 0));
    let reply = domain.qemu_monitor_command("{\"execute\":\"query-status\"}", 0)?;
    show("monitor", reply.contains("\"status\":\"running\""));
    Ok(())
}

fn changes(connection: &Connect, domain: &Domain) -> Result<(), Error> {
    const LIVE: u32 = sys::VIR_DOMAIN_AFFECT_LIVE;
    let disk =
        "<disk type='file'><source file='/run/scene/more.img'/><target dev='vdb' bus='virtio'/></disk>";
    show("attach", domain.attach_device_flags(disk, LIVE)?);
    attempt("attach again", domain.attach_device_flags(disk, LIVE));
    attempt("threshold", domain.set_block_threshold("vdb", 1 << 19, 0));
    attempt("resize", domain.block_resize("vdb", 2 << 20, sys::VIR_DOMAIN_BLOCK_RESIZE_BYTES));
    show("size", domain.get_block_info("vdb", 0)?.capacity);
    attempt("pin", domain.pin_vcpu_flags(0, &[1], LIVE));
    attempt("pin", domain.pin_vcpu_flags(7, &[1], LIVE));
    attempt("pin emulator", domain.pin_emulator(&[1], LIVE));
    attempt("memory", domain.set_memory_flags(48 << 10, LIVE));
    attempt("keys", domain.send_key(0, 10, [30, 31].as_mut_ptr(), 2, 0));
    let limits = MemoryParameters { hard_limit: Some(1 << 20), ..MemoryParameters::default() };
    attempt("limit", domain.set_memory_parameters(limits, sys::VIR_DOMAIN_AFFECT_CONFIG));
    attempt("metadata", domain.set_metadata(1, Some("a title"), None, None, sys::VIR_DOMAIN_AFFECT_CONFIG));
    attempt("metadata", domain.get_metadata(1, None, sys::VIR_DOMAIN_AFFECT_CONFIG));
    show("suspend", (domain.suspend()?, domain.get_state()?));
    show("resume", (domain.resume()?, domain.get_state()?));
    let all = connection.get_all_domain_stats(sys::VIR_DOMAIN_STATS_STATE | sys::VIR_DOMAIN_STATS_VCPU, 0)?;
    show("all", all.len());
    show("list", connection.list_all_domains(sys::VIR_CONNECT_LIST_DOMAINS_RUNNING)?.len());
    Ok(())
}

/// What is sent to the guest comes back, in small pieces and by the event loop.
fn console(connection: &Connect, domain: &Domain) -> Result<(), Error> {
    const WORDS: &[u8] = b"to the guest and back";
    let mut stream = Stream::new(connection, sys::VIR_STREAM_NONBLOCK)?;
    domain.open_console(None, &stream, 0)?;
    let got = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&got);
    let wishes = sys::VIR_STREAM_EVENT_READABLE | sys::VIR_STREAM_EVENT_WRITABLE;
    stream.event_add_callback(wishes, move |stream, events| {
        if events & sys::VIR_STREAM_EVENT_WRITABLE != 0 {
            // Before the guest has booted, it hears nothing.
            let _ = stream.send(WORDS);
            std::thread::sleep(Duration::from_millis(100));
        }
        let mut piece = [0; 8];
        if events & sys::VIR_STREAM_EVENT_READABLE != 0
            && let Ok(count) = stream.recv(&mut piece)
        {
            seen.borrow_mut().extend_from_slice(&piece[..count]);
        }
    })?;
    let deadline = Instant::now() + Duration::from_secs(20);
    let whole = || got.borrow().windows(WORDS.len()).any(|window| window == WORDS);
    while !whole() && Instant::now() < deadline {
        event::event_run_default_impl()?;
    }
    show("echo", whole());
    // With the stream its callback ends too.
    Ok(())
}

fn main() -> Result<(), Error> {
    virt::error::clear_error_callback();
    event::event_register_default_impl()?;
    // The loop turns at least so often.
    event::event_add_timeout(100, |_, _| {}, std::ptr::null_mut())?;
    let connection = Connect::open(None)?;
    facts(&connection)?;
    let text = std::env::args().nth(1).expect("a definition");
    let domain = Domain::define_xml(&connection, &text)?;
    attempt("stopped", domain.destroy());
    show("autostart", (domain.get_autostart()?, domain.set_autostart(true)?, domain.get_autostart()?));
    domain.set_autostart(false)?;
    show("create", domain.create()?);
    numbers(&domain)?;
    changes(&connection, &domain)?;
    console(&connection, &domain)?;
    attempt("save", domain.managed_save(0));
    show("saved", domain.has_managed_save(0)?);
    show("create", domain.create_with_flags(sys::VIR_DOMAIN_START_PAUSED)?);
    show("state", domain.get_state()?);
    attempt("rename", domain.rename("other", 0));
    domain.destroy()?;
    attempt("rename", domain.rename("other", 0));
    attempt("undefine", domain.undefine_flags(sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE));
    attempt("undefine", domain.undefine());
    Ok(())
}
