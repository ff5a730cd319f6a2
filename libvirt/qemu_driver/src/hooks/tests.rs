use super::*;

/// A directory of scripts, and what is written in the log about them.
struct Scene {
    directory: PathBuf,
    hooks: Hooks,
    logged: Arc<Mutex<Vec<String>>>,
}

impl Scene {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("hooks-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(directory.join("qemu.d")).expect("a directory");
        let logged = Arc::new(Mutex::new(Vec::new()));
        let lines = logged.clone();
        let log: Log = Box::new(move |_, text| lines.lock().push(text.to_owned()));
        Self { hooks: Hooks::new(directory.clone(), Arc::new(log)), directory, logged }
    }

    /// A shell script, in which `NOTED` stands for a file. Another process writes it: what a thread of this one starts at
    /// the same time must not have it open.
    fn put(&self, name: &str, body: &str, mode: u32) {
        let path = self.directory.join(name);
        let noted = self.directory.join("noted");
        let text = format!("#!/bin/sh\n{}\n", body.replace("NOTED", &noted.to_string_lossy()));
        let mut shell = Command::new("sh");
        shell.args(["-c", "printf %s \"$1\" >\"$2\" && chmod $3 \"$2\"", "sh", &text]);
        let status = shell.arg(&path).arg(format!("{mode:o}")).status().expect("a shell");
        assert!(status.success());
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.join(name)).unwrap_or_default()
    }

    fn call(&self) -> Result<()> {
        self.hooks.call(About::Qemu, ["guest", "start", "begin", "-"], Some("<domain/>"))
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// What a script notes that is called: its name, its arguments and its input.
const NOTE: &str = "{ echo \"${0##*/} $*\"; cat; echo; } >>NOTED";

#[test]
fn all_are_called_by_name_with_words_and_input() {
    let scene = Scene::new("all");
    for (name, mode) in [("qemu.d/b", 0o755), ("qemu", 0o755), ("qemu.d/a", 0o755), ("qemu.d/c", 0o644)] {
        scene.put(name, NOTE, mode);
    }
    std::fs::create_dir(scene.directory.join("qemu.d/d")).expect("a directory");
    scene.call().expect("called");
    let called = |name: &str| format!("{name} guest start begin -\n<domain/>\n");
    assert_eq!(scene.read("noted"), ["qemu", "a", "b"].map(called).concat());
    let warned =
        |name: &str| format!("Non-executable hook script {}/qemu.d/{name}", scene.directory.display());
    assert_eq!(*scene.logged.lock(), ["c", "d"].map(warned));
    // The daemon has none.
    assert!(!scene.hooks.present(About::Daemon));
}

#[test]
fn whether_there_are_any_is_looked_at_once() {
    let scene = Scene::new("once");
    scene.call().expect("nothing to call");
    scene.put("qemu", NOTE, 0o755);
    scene.call().expect("nothing to call");
    assert_eq!(scene.read("noted"), "");
    scene.hooks.look();
    scene.call().expect("called");
    assert_eq!(scene.read("noted"), "qemu guest start begin -\n<domain/>\n");
}

#[test]
fn a_failure_is_told_after_all_were_called() {
    let scene = Scene::new("failure");
    scene.put("qemu", "echo first >&2; exit 3", 0o755);
    scene.put("qemu.d/a", "kill -9 $$", 0o755);
    scene.put("qemu.d/b", NOTE, 0o755);
    let error = scene.call().expect_err("refused");
    let path = scene.directory.join("qemu.d/a");
    let text = error.to_string();
    assert!(
        text.starts_with("Hook script execution failed: internal error: Child process (LC_ALL=C "),
        "{text}"
    );
    let end = format!(" {} guest start begin -) unexpected fatal signal 9", path.display());
    assert!(text.ends_with(&end), "{text}");
    assert!(
        scene.logged.lock()[0].ends_with("unexpected exit status 3: first\n"),
        "{:?}",
        scene.logged.lock()
    );
    assert_eq!(scene.read("noted"), "b guest start begin -\n<domain/>\n");
    let missing = run(Path::new("/nowhere/script"), ["a", "b", "c", "d"], None, 0, LIMIT).expect_err("none");
    let end = "unexpected exit status 127: libvirt:  error : cannot execute binary /nowhere/script: \
               No such file or directory\n";
    assert!(missing.to_string().ends_with(end), "{missing}");
}

#[test]
fn filters_get_what_the_one_before_has_answered() {
    let scene = Scene::new("filter");
    let filter = || scene.hooks.filter(About::Qemu, ["guest", "restore", "begin", "-"], "<domain/>");
    scene.put("qemu", "cat >/dev/null", 0o755);
    assert_eq!(filter(), Ok(None));
    scene.put("qemu.d/a", "sed s/domain/first/", 0o755);
    scene.put("qemu.d/b", "exit 0", 0o755);
    scene.put("qemu.d/c", "sed s/first/second/", 0o755);
    assert_eq!(filter(), Ok(Some("<second/>".to_owned())));
    // Who is only told of something has no say.
    scene.put("qemu.d/b", NOTE, 0o755);
    scene.call().expect("called");
    assert_eq!(scene.read("noted"), "b guest start begin -\n<domain/>\n");
}

#[test]
fn a_script_holds_up_nobody_for_ever() {
    let scene = Scene::new("bounds");
    let script = scene.directory.join("qemu");
    let call = |body: &str, input: Option<&str>, limit: Duration| {
        scene.put("qemu", body, 0o755);
        run(&script, ["guest", "start", "begin", "-"], input, 1000, limit)
    };
    let short = Duration::from_millis(200);
    let late = call("exec sleep 100", None, short).expect_err("too long");
    assert!(late.to_string().ends_with("unexpected end: it took too long"), "{late}");
    // What it leaves behind with its pipes is not waited for.
    let begin = Instant::now();
    assert_eq!(call("sleep 5 & echo $!", None, LIMIT).map(|said| said.len() > 1), Ok(true));
    assert!(begin.elapsed() < Duration::from_secs(4));
    // It need not read.
    let long = "x".repeat(1 << 20);
    assert_eq!(call("exit 0", Some(&long), LIMIT), Ok(String::new()));
    assert_eq!(call("cat | wc -c", Some(&long), LIMIT).as_deref().map(str::trim), Ok("1048576"));
    let error = call("yes words | head -c 100000 >&2; exit 1", None, LIMIT).expect_err("refused").to_string();
    assert!(error.contains("words\nwords") && error.len() < MAX_WORDS + 1000, "{}", error.len());
    let error = call("yes | head -c 100000", None, LIMIT).expect_err("refused").to_string();
    assert!(error.ends_with("unexpected answer of more than 1000 bytes"), "{error}");
}
