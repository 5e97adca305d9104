//! Tests of the distributor.
//!
//! `scenarios` holds bodies that run in two worlds: small under loom, which tries every order of
//! events (`loom`), and large on real threads (`stress`). `model` compares whole histories with an
//! oracle. `rules` pins down single promises.

mod scenarios;
mod world;

#[cfg(feature = "loom")]
mod loom;

#[cfg(not(feature = "loom"))]
mod model;
#[cfg(not(feature = "loom"))]
mod rules;
#[cfg(not(feature = "loom"))]
mod stress;
