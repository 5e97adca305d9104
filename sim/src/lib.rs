//! Lensline's other face: a camera, a network and viewers that do not exist, and faults that do.
//!
//! A [`plan`] says who watches, over which links, and what goes wrong when; a tier carries it out;
//! a [`report`] says what came of it.
//!
//! ```text
//!                    ┌ tier A: tier_a   virtual time, deterministic: the real distributor, admission and
//! plan ─ chaos(seed) ┤                  session states, models of camera and viewers
//!                    └ tier B: tier_b   real time: the real binary and real clients in network
//!                            │          namespaces, a router in this process between them
//!          link: one model ──┘                     │
//!                                                  └─▶ record ─▶ report: verdict, JSON, HTML
//! ```
//!
//! Both tiers send every packet through the same [`link`], and fill the same [`record`]. [`search`]
//! carries many seeds out in tier A, and shrinks what breaks.

pub mod chaos;
pub mod cli;
pub mod link;
pub mod people;
pub mod plan;
pub mod record;
pub mod report;
pub mod search;
pub mod tier_a;
pub mod tier_b;
