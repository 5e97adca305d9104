//! Carries out plans, and says what came of them.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use lensline_sim::cli::{self, Failure};
use lensline_sim::people::Person;
use lensline_sim::report::{CompareArgs, SummaryArgs, cli_compare, cli_summary};

#[derive(Parser)]
#[command(about = "A camera, a network and viewers that do not exist, and faults that do")]
enum Command {
    /// Carry out plans, and write a report of each
    Run(cli::run::Args),
    /// Look for a seed that breaks something in virtual time
    Search(cli::search::Args),
    /// All runs of a folder on one page: summary.html and summary.json
    Summary(SummaryArgs),
    /// Two versions side by side
    Compare(CompareArgs),
    #[command(flatten)]
    Person(Person),
}

fn main() -> ExitCode {
    let code = match Command::parse() {
        Command::Person(person) => return person.live(),
        Command::Run(args) => cli::run::run(&args),
        Command::Search(args) => cli::search::search(&args, &mut std::io::stdout()).map(code),
        Command::Summary(args) => cli_summary(&args).map_err(Failure::from).and_then(page),
        Command::Compare(args) => cli_compare(&args).map_err(Failure::from).and_then(page),
    };
    code.unwrap_or_else(|failure| {
        // Where not even this can be written, the code says it.
        let _ = writeln!(std::io::stderr(), "sim: {failure}");
        ExitCode::from(2)
    })
}

/// 0 where all is well, 1 where something was broken; 2 is for what could not be found out.
fn code(holds: bool) -> ExitCode {
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn page(path: std::path::PathBuf) -> Result<ExitCode, Failure> {
    writeln!(std::io::stdout().lock(), "{}", path.display())?;
    Ok(ExitCode::SUCCESS)
}
