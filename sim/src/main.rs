//! Carries out plans, and says what came of them.

use std::process::ExitCode;

use clap::Parser;
use lensline_sim::people::Person;

#[derive(Debug, Parser)]
#[command(name = "sim", about = "A camera, a network and viewers that do not exist")]
struct Arguments {
    #[command(subcommand)]
    person: Person,
}

fn main() -> ExitCode {
    Arguments::parse().person.live()
}
