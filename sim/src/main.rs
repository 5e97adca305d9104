//! Carries out plans, and says what came of them.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser;
use lensline_sim::carry_out::{self, carry_out};
use lensline_sim::people::Person;
use lensline_sim::report::{CompareArgs, SummaryArgs, cli_compare, cli_summary};

#[derive(Parser)]
#[command(about = "A camera, a network and viewers that do not exist, and faults that do")]
enum Command {
    /// Carry out plans, and write a report of each
    Run(carry_out::Arguments),
    /// All runs of a folder on one page: summary.html and summary.json
    Summary(SummaryArgs),
    /// Two versions side by side
    Compare(CompareArgs),
    #[command(flatten)]
    Person(Person),
}

fn main() -> ExitCode {
    let page = match Command::parse() {
        Command::Run(arguments) => return carry_out(&arguments),
        Command::Person(person) => return person.live(),
        Command::Summary(args) => cli_summary(&args),
        Command::Compare(args) => cli_compare(&args),
    };
    let said = match &page {
        Ok(page) => writeln!(std::io::stdout().lock(), "{}", page.display()),
        Err(error) => writeln!(std::io::stderr().lock(), "sim: {error}"),
    };
    match (page, said) {
        (Ok(_), Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
