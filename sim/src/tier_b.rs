//! Tier B: the real binary and real clients, in real time, across a network that this process is.
//!
//! ```text
//! sim (outside) ── cell: user, mount, pid and net namespaces of their own ───────────────────────┐
//!   waits, tidies      streamer: netns, tun0 ─┐                                                   │
//!                      viewer:   netns, tun0 ─┼─ router (a thread): links, translation, routes     │
//!                      TURN, traffic, …       ─┘                                                  │
//!                      run: schedule, people's lines, metrics ─▶ record                          │
//! ```
//!
//! Nothing of it has a name outside: namespaces, devices, mounts and processes go with the cell,
//! whose first process is pid 1 of its pid namespace, however it ends. What cannot go with it, a
//! cgroup, the outer process removes.

mod cell;
mod crowd;
mod faults;
mod host;
mod machine;
mod nat;
mod observe;
mod roles;
mod router;
mod run;
mod schedule;
mod streamer;

pub use cell::{CellError, inside, outside, told_to_stop};
pub use run::{Options, RunError, run};

#[cfg(test)]
mod conformance;
