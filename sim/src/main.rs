//! Carries out plans, and says what came of them.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lensline_sim::cli::{self, Failure};

/// A camera, a network and viewers that do not exist, and faults that do.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(cli::run::Args),
    Search(cli::search::Args),
}

fn main() -> ExitCode {
    let mut out = std::io::stdout();
    let result = match Arguments::parse().command {
        Command::Run(args) => cli::run::run(&args, &mut out),
        Command::Search(args) => cli::search::search(&args, &mut out),
    };
    exit(result)
}

/// 0 where all is well, 1 where something was broken, 2 where it could not be found out.
fn exit(result: Result<bool, Failure>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            // Where not even this can be written, the code says it.
            let _ = writeln!(std::io::stderr(), "sim: {failure}");
            ExitCode::from(2)
        }
    }
}
