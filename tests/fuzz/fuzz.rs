//! libFuzzer's program: hands the bytes it makes up to the target that `WEIR_FUZZ_TARGET` names.

#![no_main]

use std::alloc::{GlobalAlloc, Layout, System};
use std::process::exit;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

/// Memory asked for at once, at most: what a request may take when it is decoded.
const ALLOCATION_BYTES: usize = 256 << 20;

/// Refuses what bytes of a few KiB must not make anybody ask for; the program then ends with a finding.
struct Bounded;

#[global_allocator]
static BOUNDED: Bounded = Bounded;

// SAFETY: it hands out what the system's allocator does, or nothing.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > ALLOCATION_BYTES {
            return std::ptr::null_mut();
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() > ALLOCATION_BYTES {
            return std::ptr::null_mut();
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        if bytes > ALLOCATION_BYTES {
            return std::ptr::null_mut();
        }
        // SAFETY: as the caller promises.
        unsafe { System.realloc(memory, layout, bytes) }
    }
}

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

fuzz_target!(
    init: {
        let targets = || {
            let all = weir_collector::fuzzing::TARGETS.into_iter().chain(weir_storage::fuzzing::TARGETS);
            all.chain(weir_query::fuzzing::TARGETS).chain(weir_proxy_tap::fuzzing::TARGETS)
        };
        let wanted = std::env::var("WEIR_FUZZ_TARGET").unwrap_or_default();
        let Some((_, target)) = targets().find(|(name, _)| *name == wanted) else {
            let names: Vec<_> = targets().map(|(name, _)| name).collect();
            eprintln!("WEIR_FUZZ_TARGET is `{wanted}`, not one of {}", names.join(", "));
            exit(2);
        };
        TARGET.get_or_init(|| target);
    },
    |bytes: &[u8]| {
        if let Some(target) = TARGET.get() {
            target(bytes);
        }
    }
);
