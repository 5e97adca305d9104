//! The people of tier B.

pub mod line;
