//! What `sim search` is for, on a small scale: hundreds of runs in virtual time that nothing breaks.
//! `ci/mutants` plants bugs in the product that this test must find.

use std::path::Path;

use lensline_sim::cli::search::{Args, search};

#[test]
fn two_hundred_seeds_of_chaos_break_nothing() -> Result<(), lensline_sim::cli::Failure> {
    let plan = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans/chaos.toml");
    let mut said = Vec::new();
    let holds = search(&Args { plan, seeds: 200, from: 0, jobs: 2, all: 1 }, &mut said)?;
    assert!(holds, "{}", String::from_utf8_lossy(&said));
    Ok(())
}
