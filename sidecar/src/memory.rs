//! Gives memory back that only the start needed: the schema against which the bootstrap was checked. An idle process
//! frees nothing by itself, because the allocator returns pages only when it is used again.
//!
//! `unsafe` for one reason: the allocator's own function for it has no safe binding.
#![allow(unsafe_code)]

// Links the allocator, whichever program this is part of.
use mimalloc as _;

unsafe extern "C" {
    /// Source: mimalloc's API, "Extended Functions".
    fn mi_collect(force: bool);
}

/// Returns what this thread has freed to the system. Milliseconds; called once, when the start is over.
pub fn give_back() {
    // SAFETY: takes no pointer and may be called at any time by any thread; the allocator is linked in by the program.
    unsafe { mi_collect(true) }
}
