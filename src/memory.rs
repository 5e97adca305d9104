//! The C allocator's policy, set once at the start.
//!
//! glibc gives threads that contend an arena of their own, up to eight for each core, and memory that
//! was freed in one serves no other. Each pipeline brings new threads, so a camera that is rebuilt, and
//! each RTSP or webrtcbin viewer, leaves its peak behind in yet another arena (a peer's 1,791 MB were
//! 178 MB with two arenas). What was measured here, and what one arena costs, is in ARCHITECTURE.md.
#![expect(unsafe_code, reason = "the allocator is told by a call of C's")]

/// Keeps the process to one arena, unless whoever started it chose a number by `MALLOC_ARENA_MAX` or
/// `GLIBC_TUNABLES`. To be called before there is a second thread. False where the C library knows no
/// such thing.
pub fn use_one_arena() -> bool {
    let says = |name: &str| std::env::var(name).unwrap_or_default();
    let chosen = !says("MALLOC_ARENA_MAX").is_empty()
        || says("GLIBC_TUNABLES").contains("glibc.malloc.arena_max");
    chosen || limit_arenas()
}

#[cfg(target_env = "gnu")]
fn limit_arenas() -> bool {
    // SAFETY: mallopt(3) reads its two integers and takes glibc's own lock.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) == 1 }
}

#[cfg(not(target_env = "gnu"))]
fn limit_arenas() -> bool {
    false
}
