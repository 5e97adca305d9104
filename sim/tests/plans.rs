//! The plans that are shipped.

use std::path::{Path, PathBuf};

use lensline_sim::plan::{Expect, Plan, Tier, matches};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("plans")
}

fn plans() -> Result<Vec<Plan>, Box<dyn std::error::Error>> {
    let mut plans = Vec::new();
    for entry in std::fs::read_dir(folder())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            plans.push(Plan::read(&path)?);
        }
    }
    Ok(plans)
}

#[test]
fn every_plan_and_every_case_of_its_grid_is_read() -> Outcome {
    let plans = plans()?;
    assert!(plans.len() >= 30, "only {} plans were found", plans.len());
    for plan in &plans {
        let cases = plan.cases(&folder())?;
        let mut names: Vec<_> = cases.iter().map(|case| &case.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), cases.len(), "{}: two cases of one name", plan.name);
    }
    Ok(())
}

#[test]
fn every_expectation_is_of_somebody_there_is_and_within_the_time_that_it_takes() -> Outcome {
    for plan in plans()? {
        let viewers = plan.viewer.iter().flat_map(|viewer| viewer.each()).map(|(name, _)| name);
        let known: Vec<String> = viewers.chain(plan.link.keys().cloned()).collect();
        let right = |expect: &Expect| {
            let somebody = expect.of == "*" || known.iter().any(|name| matches(&expect.of, name));
            let in_time =
                |at: Option<f64>| at.is_none_or(|at| (0.0..=plan.duration_s).contains(&at));
            somebody && in_time(expect.from_s) && in_time(expect.to_s)
        };
        // Of a plan whose grid makes the viewers, the cases were read above.
        let wrong: Vec<_> = plan.expect.iter().filter(|expect| !right(expect)).collect();
        assert!(wrong.is_empty(), "{}: {wrong:?}", plan.name);
        let late = plan.fault.iter().filter(|fault| fault.at_s >= plan.duration_s);
        assert_eq!(late.count(), 0, "{}: a fault after the end", plan.name);
    }
    Ok(())
}

#[test]
fn the_streamer_accepts_what_the_plans_configure() -> Outcome {
    for plan in plans()? {
        let config: Result<lensline::config::Config, _> = plan.streamer.config.clone().try_into();
        assert!(config.is_ok(), "{}: {config:?}", plan.name);
    }
    Ok(())
}

#[test]
fn the_plans_of_ci_are_there_and_take_less_than_five_minutes() -> Outcome {
    let list = std::fs::read_to_string(folder().join("ci.list"))?;
    let mut seconds = 0.0;
    for name in list.lines() {
        let plan = Plan::read(&folder().join(format!("{name}.toml")))?;
        assert!(plan.runs_in(Tier::B), "{name}");
        seconds += plan.duration_s * plan.cases(&folder())?.len() as f64;
    }
    assert!(seconds > 0.0 && seconds < 300.0, "{seconds} s");
    Ok(())
}
