use std::path::Path;

use super::{Plan, PlanError};

const PLAN: &str = r#"
title = "one viewer on a narrow link"
duration_s = 10

[link.access.down]
rate_kbps = 1000
delay_ms = 50

[[link.access.change]]
at_s = 5
down = { rate_kbps = 500 }

[[viewer]]
name = "anna"
kind = "light"
count = 2
every_s = 1
via = ["access"]

[[fault]]
at_s = 3
for_s = 1
kind = "blackout"
link = "access"

[[expect]]
what = "frames_share"
of = "anna*"
min = 0.9
"#;

fn parse(text: &str) -> Result<Plan, PlanError> {
    Plan::parse("plan", text, Path::new("."))
}

#[test]
fn a_plan_is_read_and_says_who_joins_when() -> Result<(), PlanError> {
    let plan = parse(PLAN)?;
    let viewers: Vec<_> = plan.viewer.iter().flat_map(|viewer| viewer.each()).collect();
    assert_eq!(viewers, [("anna-1".to_owned(), 0.0), ("anna-2".to_owned(), 1.0)]);
    assert_eq!(plan.link["access"].down.delay_ms, 50.0);
    assert_eq!(plan.cases(Path::new("."))?, [plan]);
    Ok(())
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let broken = [
        ("via = [\"access\"]", "via = [\"acces\"]", "there is no link acces"),
        ("link = \"access\"", "link = \"nowhere\"", "there is no link nowhere"),
        ("rate_kbps = 1000", "rate_kbps = 0", "link.access: rate_kbps is below"),
        ("rate_kbps = 1000", "loss = 2.0", "link.access: loss is a probability"),
        ("min = 0.9", "", "give min, max or both"),
        ("delay_ms = 50", "delay = 50", "unknown field `delay`"),
        ("for_s = 1", "fors = 1", "fors"),
        ("name = \"anna\"", "name = \"../anna\"", "the name \"../anna-1\""),
        ("count = 2", "count = 0", "count: 1 to"),
        ("every_s = 1", "every_s = 1\nleave_s = 0", "leave_s: after at_s"),
        ("at_s = 3", "at_s = 30", "within duration_s"),
        ("delay_ms = 50", "delay_ms = 1e30", "delay_ms is below zero, above"),
        ("duration_s = 10", "duration_s = 0", "duration_s"),
        ("kind = \"light\"", "kind = \"heavy\"", "unknown variant `heavy`"),
    ];
    for (from, to, said) in broken {
        let error = parse(&PLAN.replacen(from, to, 1)).map_err(|error| error.to_string());
        assert!(error.as_ref().is_err_and(|error| error.contains(said)), "{to}: {error:?}");
    }
}

#[test]
fn a_grid_is_a_plan_for_each_combination() -> Result<(), PlanError> {
    let grid = "[grid]\n\"link.access.down.delay_ms\" = [0, 150]\n\"viewer.0.count\" = [1, 2, 3]\n";
    let cases = parse(&format!("{PLAN}{grid}"))?.cases(Path::new("."))?;
    let names: Vec<_> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(
        names[..4],
        [
            "plan-delay-0-count-1",
            "plan-delay-0-count-2",
            "plan-delay-0-count-3",
            "plan-delay-150-count-1"
        ]
    );
    assert_eq!((cases[5].viewer[0].count, cases[5].link["access"].down.delay_ms), (3, 150.0));
    let nowhere =
        parse(&format!("{PLAN}[grid]\n\"viewer.7.count\" = [1]\n"))?.cases(Path::new("."));
    assert!(nowhere.is_err_and(|error| error.to_string().contains("leads nowhere")));
    Ok(())
}

#[test]
fn keys_that_change_together_are_one_value_of_a_grid_with_a_name() -> Result<(), PlanError> {
    let grid = "[grid]\n\"viewer.0.count\" = [1, 2]\nway = [\n\
                { name = \"near\", \"link.access.down.delay_ms\" = 1, \"expect.0.min\" = 1.0 },\n\
                { name = \"far\", \"link.access.down.delay_ms\" = 300, \"expect.0.min\" = 0.5 }]\n";
    let cases = parse(&format!("{PLAN}{grid}"))?.cases(Path::new("."))?;
    let figures = cases.iter().map(|case| {
        let delay_ms = case.link["access"].down.delay_ms;
        (case.name.as_str(), case.viewer[0].count, delay_ms, case.expect[0].min)
    });
    let figures: Vec<_> = figures.collect();
    assert_eq!(
        figures,
        [
            ("plan-count-1-way-near", 1, 1.0, Some(1.0)),
            ("plan-count-1-way-far", 1, 300.0, Some(0.5)),
            ("plan-count-2-way-near", 2, 1.0, Some(1.0)),
            ("plan-count-2-way-far", 2, 300.0, Some(0.5)),
        ]
    );
    Ok(())
}
