//! Configurations, with a variable of the environment laid over: the text up to the first NUL is the
//! file, then come the variable's name and, after another NUL, its value. Whatever is wrong is said
//! with a remedy.
#![no_main]

use lensline::config::{Overrides, load_text};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut parts = text.splitn(3, '\0');
    let file = parts.next().unwrap_or_default();
    let name = parts.next().map(|name| format!("LENSLINE_{name}").into());
    let value = parts.next().unwrap_or_default().into();
    let overrides = Overrides { simulate: text.len() % 2 == 0, ..Overrides::default() };
    if let Err(problems) = load_text(file, name.map(|name| (name, value)), &overrides) {
        assert!(!problems.0.is_empty());
        for problem in &problems.0 {
            assert!(!problem.message.is_empty() && !problem.remedy.is_empty(), "{problem:?}");
        }
        assert!(!problems.to_string().is_empty());
    }
});
