//! libmpathpersist, loaded at run time.

use super::convert::{self, Task};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr;

/// The library's name; its ABI is promised to stay.
const NAME: &CStr = c"libmpathpersist.so.0";

type Init = unsafe extern "C" fn() -> c_int;
type ReserveIn = unsafe extern "C" fn(c_int, c_int, *mut c_void, c_int, c_int) -> c_int;
type ReserveOut = unsafe extern "C" fn(c_int, c_int, c_int, c_uint, *mut c_void, c_int, c_int) -> c_int;

/// What the library answers (`MPATH_PR_*`).
pub const SUCCESS: i32 = 0;

/// The loaded library; it is never unloaded.
#[derive(Debug, Clone, Copy)]
pub struct Library {
    init: Init,
    reserve_in: ReserveIn,
    reserve_out: ReserveOut,
    verbosity: *mut c_int,
}

/// The loader's last complaint.
fn complaint() -> String {
    // SAFETY: dlerror answers null or a NUL-terminated string that lives until the next call, which this thread makes.
    unsafe {
        let text = libc::dlerror();
        if text.is_null() {
            "unknown error".to_owned()
        } else {
            CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    }
}

impl Library {
    /// Loads the library from where the loader finds it.
    ///
    /// # Errors
    /// The loader's words.
    pub fn load() -> Result<Self, String> {
        // SAFETY: the name is NUL-terminated. The library's constructors run in this process, which exists for that.
        let handle = unsafe { libc::dlopen(NAME.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        if handle.is_null() {
            return Err(complaint());
        }
        let symbol = |name: &CStr| {
            // SAFETY: `handle` is open and the name is NUL-terminated.
            let found = unsafe { libc::dlsym(handle, name.as_ptr().cast::<c_char>()) };
            if found.is_null() { Err(complaint()) } else { Ok(found) }
        };
        let init = symbol(c"libmpathpersist_init")?;
        let reserve_in = symbol(c"mpath_persistent_reserve_in")?;
        let reserve_out = symbol(c"mpath_persistent_reserve_out")?;
        // Not in all versions.
        let verbosity = symbol(c"libmp_verbosity").unwrap_or(ptr::null_mut()).cast::<c_int>();
        // SAFETY: these are the functions that mpath_persist.h declares with these types.
        unsafe {
            Ok(Self {
                init: std::mem::transmute::<*mut c_void, Init>(init),
                reserve_in: std::mem::transmute::<*mut c_void, ReserveIn>(reserve_in),
                reserve_out: std::mem::transmute::<*mut c_void, ReserveOut>(reserve_out),
                verbosity,
            })
        }
    }

    /// Reads the configuration; once in a process, before [`Self::run`]. Answers whether that went well.
    #[must_use]
    pub fn init(&self, verbosity: u32) -> bool {
        // SAFETY: where it exists, libmp_verbosity is an int of the library's, and nobody else uses it yet. The other
        // takes nothing.
        unsafe {
            if !self.verbosity.is_null() {
                *self.verbosity = verbosity as c_int;
            }
            (self.init)() == 0
        }
    }

    /// Carries `task` out on the multipath device behind `device`; answers what the library says (`MPATH_PR_*`) and,
    /// for PERSISTENT RESERVE IN, its result structure.
    #[must_use]
    pub fn run(&self, device: c_int, task: &Task, verbosity: u32) -> (i32, Vec<u8>) {
        let verbose = verbosity as c_int;
        match task {
            Task::In(action) => {
                let mut result = Aligned::new(vec![0; convert::RESULT_SIZE]);
                // SAFETY: the result has room for every structure of the union and for a list as long as 8 KiB of data
                // can make it, and is aligned.
                let code =
                    unsafe { (self.reserve_in)(device, c_int::from(*action), result.pointer(), 0, verbose) };
                (code, result.into_bytes())
            }
            Task::Out { action, scope, kind, fixed, ids } => {
                let mut ids = ids.clone();
                let mut bytes = convert::parameters(fixed, ids.len());
                for (i, id) in ids.iter_mut().enumerate() {
                    let at = convert::ID_LIST_AT + 8 * i;
                    bytes[at..at + 8].copy_from_slice(&(id.as_mut_ptr().expose_provenance()).to_ne_bytes());
                }
                let mut parameters = Aligned::new(bytes);
                // SAFETY: the parameters are a prout_param_descriptor whose pointers, as many as it says, are to `ids`, which
                // outlive the call.
                let code = unsafe {
                    (self.reserve_out)(
                        device,
                        c_int::from(*action),
                        c_int::from(*scope),
                        c_uint::from(*kind),
                        parameters.pointer(),
                        0,
                        verbose,
                    )
                };
                drop(ids);
                (code, Vec::new())
            }
        }
    }
}

/// Bytes aligned for any C structure.
struct Aligned(Vec<u64>);

impl Aligned {
    fn new(bytes: Vec<u8>) -> Self {
        let words = bytes.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_ne_bytes(word)
        });
        Self(words.collect())
    }

    fn pointer(&mut self) -> *mut c_void {
        self.0.as_mut_ptr().cast()
    }

    fn into_bytes(self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }
}
