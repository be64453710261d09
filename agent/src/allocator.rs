//! The C library's allocator, told to be small.
//!
//! It gives each thread a heap of its own, so that threads do not wait for each other. The agent has one
//! thread that allocates much and a few that do now and then: what these leave in their heaps is a fifth
//! of the memory of a node with many files, and waiting was not seen to cost anything
//! (docs/profile-agent.md).

/// Keeps everything in one heap. To be called before there are threads.
pub fn use_one_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[expect(unsafe_code, reason = "there is no safe way to say it")]
        // SAFETY: the call changes a number inside the allocator and touches no memory of ours.
        let said = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
        debug_assert_eq!(said, 1, "glibc knows this number");
    }
}
