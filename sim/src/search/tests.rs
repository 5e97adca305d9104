#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::plan::FaultKind;

const PLAN: &str = r#"
title = "a test"
duration_s = 30
[link.a]
[link.b]
[[viewer]]
name = "crowd"
kind = "light"
count = 9
via = ["b"]
[[traffic]]
name = "bulk"
kind = "tcp-long"
via = ["a"]
[chaos]
viewers_max = 8
faults_max = 6
changes_max = 6
"#;

fn plan() -> Plan {
    Plan::parse("test", PLAN, Path::new(".")).unwrap()
}

/// Three of the crowd with a streamer that is killed break a rule half a second later; a freeze
/// breaks another.
fn planted(plan: &Plan, _: u64) -> Result<Option<Violation>, PlanError> {
    let crowd = plan.viewer.iter().filter(|viewer| viewer.name == "crowd" && viewer.count >= 3);
    let fault = |wanted: fn(&FaultKind) -> bool| {
        let wanted = move |fault: &&crate::plan::Fault| wanted(&fault.kind);
        plan.fault.iter().filter(wanted).map(|fault| fault.at_s + 0.5)
    };
    let killed = fault(|kind| matches!(kind, FaultKind::KillStreamer)).map(|at| (at, Rule::Left));
    let frozen = fault(|kind| matches!(kind, FaultKind::Camera { .. })).map(|at| (at, Rule::Lag));
    let killed = killed.take(crowd.count());
    let first = killed.chain(frozen).min_by(|a, b| a.0.total_cmp(&b.0));
    Ok(first.filter(|(at, _)| *at < plan.duration_s).map(|(at, rule)| Violation {
        at: Duration::from_secs_f64(at),
        rule,
        what: "planted".into(),
    }))
}

#[test]
fn what_is_found_is_shrunk_to_what_it_takes_and_its_command_leads_to_the_same_plan() {
    let plan = plan();
    let search = Search { plan: &plan, from: 0, seeds: 200, jobs: 2, most: 200 };
    let searched = search.run_with(&planted, &|_| {}).unwrap();
    assert_eq!(searched.seeds, 200);
    let mut rules = std::collections::BTreeSet::new();
    for found in &searched.found {
        let Found { seed, cut, plan: left, violation, .. } = found;
        rules.insert(violation.rule);
        let (viewers, kept) = if violation.rule == Rule::Left { (1, 2) } else { (0, 1) };
        assert_eq!((left.viewer.len(), left.fault.len()), (viewers, 1), "{cut}");
        assert_eq!(cut.keep.as_ref().unwrap().0.len(), kept, "{cut}");
        assert!(left.viewer.iter().all(|viewer| viewer.count == 3), "{cut}");
        assert!(left.traffic.is_empty());
        let after = left.duration_s - violation.at.as_secs_f64();
        assert!((0.0..0.21).contains(&after), "{after}");

        let keep = cut.keep.as_ref().unwrap().to_string().parse().unwrap();
        let replay = Cut { keep: Some(keep), until_s: cut.until_s };
        let replayed = replay.apply(&chaos::draw(&plan, *seed));
        assert_eq!(replayed, *left);
        assert_eq!(planted(&replayed, *seed).unwrap().as_ref(), Some(violation));
    }
    assert_eq!(rules.into_iter().collect::<Vec<_>>(), [Rule::Lag, Rule::Left]);
}

#[test]
fn a_search_ends_with_the_first_seed_that_breaks_something_however_many_threads_there_are() {
    let plan = plan();
    let first = |jobs| {
        let search = Search { plan: &plan, from: 10, seeds: 200, jobs, most: 1 };
        search.run_with(&planted, &|_| {}).unwrap().found[0].seed
    };
    assert_eq!(first(1), first(4));
}
