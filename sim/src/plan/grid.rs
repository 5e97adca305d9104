//! A plan with a grid is one plan for each combination of the values.

use std::path::Path;

use toml::Value;

use super::{Plan, PlanError};

pub fn cases(plan: &Plan, folder: &Path) -> Result<Vec<Plan>, PlanError> {
    if plan.grid.is_empty() {
        return Ok(vec![plan.clone()]);
    }
    let wrong = |what: String| PlanError::Wrong(plan.name.clone(), what);
    let mut bare = plan.clone();
    bare.grid.clear();
    let bare = Value::try_from(&bare).map_err(|error| wrong(error.to_string()))?;
    let mut cases = vec![(plan.name.clone(), bare)];
    for (path, values) in &plan.grid {
        let mut more = Vec::new();
        for (name, case) in &cases {
            for value in values {
                let mut case = case.clone();
                let (label, places) = together(path, value);
                for (path, value) in places {
                    let place = place(&mut case, path)
                        .ok_or_else(|| wrong(format!("grid: {path} leads nowhere")))?;
                    *place = value.clone();
                }
                more.push((format!("{name}-{label}"), case));
            }
        }
        cases = more;
    }
    let finish = |(name, case): (String, Value)| {
        let mut plan: Plan =
            case.try_into().map_err(|error: toml::de::Error| wrong(error.to_string()))?;
        plan.name = name;
        plan.prepare(folder)?;
        Ok(plan)
    };
    cases.into_iter().map(finish).collect()
}

/// What a value is called, and where it goes: to the key's path; or, where it is a table with a
/// `name`, each value in it to its own.
fn together<'a>(path: &'a str, value: &'a Value) -> (String, Vec<(&'a str, &'a Value)>) {
    let table = value.as_table().and_then(|table| Some((table, table.get("name")?)));
    let Some((table, name)) = table else { return (short(path, value), vec![(path, value)]) };
    let places = table.iter().filter(|(path, _)| *path != "name");
    (short(path, name), places.map(|(path, value)| (path.as_str(), value)).collect())
}

/// Where the path leads: keys, and numbers into lists, between dots. The last key may be new.
fn place<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').try_fold(value, |value, key| match value {
        Value::Table(table) => Some(table.entry(key).or_insert(Value::Integer(0))),
        Value::Array(list) => list.get_mut(key.parse::<usize>().ok()?),
        _ => None,
    })
}

/// The value with the last part of its key, fit for a file's name.
fn short(path: &str, value: &Value) -> String {
    let key = path.rsplit('.').next().unwrap_or(path);
    let key = key.trim_end_matches("_ms").trim_end_matches("_kbps");
    let value = match value {
        Value::Table(table) if table.contains_key("bad_loss") => "bursts".to_owned(),
        value => value.to_string(),
    };
    let value: String =
        value.chars().filter(|c| c.is_ascii_alphanumeric() || ".-".contains(*c)).collect();
    format!("{key}-{value}")
}
