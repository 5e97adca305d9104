//! Carries out plans, and says what came of them.

fn main() {}
