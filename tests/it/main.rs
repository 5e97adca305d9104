//! What Lensline promises, shown through its public faces with clients that others wrote.
//!
//! One file a scenario. Where a scenario can fail by load alone it runs by itself (`alone`);
//! latencies are printed, never asserted. Seeds are printed, and taken from `LENSLINE_SEED`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test says what went wrong by panicking, and prints what it measured"
)]

mod common;
mod doors;

mod address_in_use;
mod camera_faults;
mod churn;
mod clean_stop;
mod descriptors;
mod health;
mod hostile;
mod isolation;
mod limits;
mod memory;
mod mixed_viewers;
mod negotiation_timeout;
mod operate;
mod rtsp_clients;
mod tls;
mod viewer_page;
mod whep_clients;
mod whep_draft;
mod whep_foreign;
