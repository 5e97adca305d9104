//! The rules of the house, as tests. Each rule is a function over a path and a text, and has a
//! test of its own that it catches what it is for.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/tree.rs"]
mod tree;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use source::{Source, Violation};

/// Lines of a file at most.
const FILE_LINES_MAX: usize = 600;

/// Lines of a function at most, from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// What gives a GStreamer resource back; only `guard` does it, in a drop.
const GUARD_ONLY: [&[&str]; 5] = [
    &[".", "release_request_pad"],
    &[".", "remove_probe"],
    &[".", "disconnect"],
    &[".", "unset_sync_handler"],
    &[".", "remove_watch"],
];

/// What neither the distributor nor admission may know: GStreamer, a runtime, a clock.
const SANS_IO_BANNED: [&str; 10] = [
    "gst",
    "gstreamer",
    "glib",
    "gio",
    "tokio",
    "Instant",
    "SystemTime",
    "Timestamp",
    "rustix",
    "rand",
];

/// What the top level may hold, beside dotfiles.
const TOP_LEVEL: [&str; 12] = [
    "ARCHITECTURE.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "benches",
    "ci",
    "sim",
    "soak",
    "src",
    "target",
    "tests",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of ours, by its path from the root.
fn sources() -> Vec<Source> {
    let folders = ["src", "tests", "sim", "soak", "benches"];
    let mut paths: Vec<PathBuf> = folders.iter().flat_map(|folder| rust_files(folder)).collect();
    paths.sort();
    let tests = tree::test_only(&read_all(&paths));
    paths.iter().map(|path| Source::new(path, &read(path), tests.contains(path))).collect()
}

fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

fn read_all(paths: &[PathBuf]) -> Vec<(PathBuf, String)> {
    paths.iter().map(|path| (path.clone(), read(path))).collect()
}

/// A file is short enough to be read in one go.
fn short_file(source: &Source) -> Vec<Violation> {
    let lines = source.text.lines().count();
    match lines > FILE_LINES_MAX {
        true => vec![source.violation(lines, "the file is too long; split it by what it does")],
        false => Vec::new(),
    }
}

/// A function is short enough to be seen at once.
fn short_functions(source: &Source) -> Vec<Violation> {
    let long = source.functions.iter().filter(|one| one.lines() > FUNCTION_LINES_MAX);
    long.map(|one| {
        source.violation(one.first, &format!("{} has {} lines; split it", one.name, one.lines()))
    })
    .collect()
}

/// Only `guard` gives GStreamer resources back.
fn guards_only(source: &Source) -> Vec<Violation> {
    if source.module() == Some("guard") || !source.is_product() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for pattern in GUARD_ONLY {
        let message = format!("only guard/ calls `{}`; use its type", pattern.join(""));
        found.extend(source.product_matches(pattern).map(|line| source.violation(line, &message)));
    }
    // `set_state(gst::State::Null)`, however the path to Null is written.
    for line in source.calls_with("set_state", "Null") {
        found.push(source.violation(line, "only guard/ sets a state to Null; use guard::Pipeline"));
    }
    found
}

/// The distributor and admission are told the time and the chance, and do no input or output.
fn sans_io(source: &Source) -> Vec<Violation> {
    if !matches!(source.module(), Some("distributor" | "admission")) {
        return Vec::new();
    }
    let banned = |name: &str| SANS_IO_BANNED.contains(&name) || name.starts_with("gst_");
    let words = source.product_words().filter(|(name, _)| banned(name));
    words
        .map(|(name, line)| source.violation(line, &format!("`{name}` is not for this module")))
        .collect()
}

/// Unsafe code stands where loom covers it, and in calls of C's that no binding has.
fn safe(source: &Source) -> Vec<Violation> {
    let allowed = ["src/distributor/slot.rs", "src/memory.rs", "src/egress/rtsp/request.rs"];
    if allowed.iter().any(|path| source.path == Path::new(path)) {
        return Vec::new();
    }
    // The word for the block, and the lint's name with which it would be allowed.
    let words = source.words().filter(|(name, _)| matches!(*name, "unsafe" | "unsafe_code"));
    words
        .map(|(_, line)| {
            source.violation(line, "unsafe code is for distributor/slot.rs, and for calls of C's in memory.rs and rtsp/request.rs")
        })
        .collect()
}

/// Nothing is left lying about: no dead code, no test that never runs, no note to self.
fn finished(source: &Source) -> Vec<Violation> {
    let mut found = Vec::new();
    for (name, line) in source.words() {
        let message = match name {
            "dead_code" => "delete dead code",
            "todo" | "unimplemented" => "write it, or leave it out",
            _ => continue,
        };
        found.push(source.violation(line, message));
    }
    for line in source.matches(&["#", "[", "ignore", "]"]) {
        found.push(source.violation(line, "a test that cannot run is deleted, or says why"));
    }
    let notes = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    for (index, line) in source.text.lines().enumerate() {
        let mut words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        if words.any(|word| notes.contains(&word)) {
            found.push(source.violation(index + 1, "do it now, or file an issue"));
        }
    }
    found
}

/// Every file of `src` is part of the program.
fn reachable(files: &[(PathBuf, String)]) -> Vec<Violation> {
    let reached = tree::reached(files);
    let dead = files.iter().filter(|(path, _)| path.starts_with("src") && !reached.contains(path));
    dead.map(|(path, _)| Violation::new(path, 1, "no `mod` leads to this file; delete it"))
        .collect()
}

/// The top level holds what the design allows.
fn top_level<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<Violation> {
    let strange = |name: &&str| !name.starts_with('.') && !TOP_LEVEL.contains(name);
    let names = names.into_iter().filter(strange);
    names.map(|name| Violation::new(Path::new(name), 0, "has no place at the top level")).collect()
}

/// `lib.rs` declares every module, each public and in the layer map.
fn declared(lib: &str, modules: &BTreeSet<String>) -> Vec<Violation> {
    let path = Path::new("src/lib.rs");
    let mut found = Vec::new();
    for module in modules {
        if !lib.lines().any(|line| line == format!("pub mod {module};")) {
            found.push(Violation::new(path, 1, &format!("lacks `pub mod {module};`")));
        }
        if layers::rank(module).is_none() {
            let message = format!("{module} has no place in the layers (tests/tidy/layers.rs)");
            found.push(Violation::new(path, 1, &message));
        }
    }
    found
}

/// Fails with every violation there is.
#[track_caller]
fn assert_tidy(violations: Vec<Violation>) {
    let lines: Vec<_> = violations.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}

#[track_caller]
fn assert_each_tidy(rule: fn(&Source) -> Vec<Violation>) {
    let sources = sources();
    assert!(sources.len() > 20, "only {} files were found", sources.len());
    assert_tidy(sources.iter().flat_map(rule).collect());
}

#[test]
fn files_are_short() {
    assert_each_tidy(short_file);
}

#[test]
fn functions_are_short() {
    assert_each_tidy(short_functions);
}

#[test]
fn only_guards_give_resources_back() {
    assert_each_tidy(guards_only);
}

#[test]
fn distributor_and_admission_are_sans_io() {
    assert_each_tidy(sans_io);
}

#[test]
fn unsafe_code_stands_in_three_files() {
    assert_each_tidy(safe);
}

#[test]
fn nothing_is_left_lying_about() {
    assert_each_tidy(finished);
}

#[test]
fn every_file_is_part_of_the_program() {
    assert_tidy(reachable(&read_all(&rust_files("src"))));
}

#[test]
fn the_top_level_is_the_design_s() {
    let entries = std::fs::read_dir(root()).unwrap();
    let names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    assert_tidy(top_level(names.iter().map(String::as_str)));
}

#[test]
fn every_module_is_declared_and_has_a_layer() {
    let modules = tree::top_modules(&rust_files("src"));
    assert!(modules.len() > 10, "{modules:?}");
    assert_tidy(declared(&read(Path::new("src/lib.rs")), &modules));
}

#[test]
fn imports_go_downwards_and_never_round() {
    let sources = sources();
    let edges: Vec<_> = sources.iter().flat_map(layers::edges).collect();
    assert!(edges.len() > 20, "only {} imports were found", edges.len());
    assert_tidy(layers::violations(&edges));
}

/// The rules against planted violations.
mod rules {
    use super::*;

    fn plant(path: &str, text: &str) -> Source {
        Source::new(Path::new(path), text, false)
    }

    #[track_caller]
    fn assert_caught(rule: fn(&Source) -> Vec<Violation>, path: &str, text: &str) {
        assert_eq!(rule(&plant(path, text)).len(), 1, "{text}");
    }

    #[track_caller]
    fn assert_allowed(rule: fn(&Source) -> Vec<Violation>, path: &str, text: &str) {
        let found: Vec<_> = rule(&plant(path, text)).iter().map(ToString::to_string).collect();
        assert!(found.is_empty(), "{text}: {found:?}");
    }

    #[test]
    fn a_long_file_is_caught() {
        assert_caught(short_file, "src/a.rs", &"//\n".repeat(FILE_LINES_MAX + 1));
        assert_allowed(short_file, "src/a.rs", &"//\n".repeat(FILE_LINES_MAX));
    }

    #[test]
    fn a_long_function_is_caught_wherever_it_stands() {
        let function = |lines: usize| format!("fn f() {{\n{}}}", "let _ = 1;\n".repeat(lines - 2));
        assert_allowed(short_functions, "src/a.rs", &function(FUNCTION_LINES_MAX));
        let long = function(FUNCTION_LINES_MAX + 1);
        assert_caught(short_functions, "src/a.rs", &long);
        assert_caught(short_functions, "src/a.rs", &format!("impl A {{ mod b {{ {long} }} }}"));
        assert_caught(short_functions, "tests/a.rs", &format!("proptest! {{ {long} }}"));
        let generic = long.replace("fn f()", "fn f<T: Fn() -> [u8; 3]>(f: T) -> Option<fn()>\n");
        assert_caught(short_functions, "src/a.rs", &generic);
    }

    #[test]
    fn giving_a_resource_back_by_hand_is_caught() {
        for call in [
            "fn f() { pipeline.set_state(gst::State::Null); }",
            "fn f() { element.set_state(State::Null).unwrap(); }",
            "fn f() { tokio::select! { _ = x => { p.set_state(Null); } } }",
            "fn f() { element.release_request_pad(&pad); }",
            "fn f() { pad.remove_probe(id); }",
            "fn f() { object\n.disconnect(id); }",
            "fn f() { bus.unset_sync_handler(); }",
            "fn f() { bus.remove_watch(); }",
        ] {
            assert_caught(guards_only, "src/egress/webrtc/session.rs", call);
            assert_allowed(guards_only, "src/guard/pad.rs", call);
            assert_allowed(guards_only, "tests/a.rs", call);
            let test = format!("#[cfg(test)] mod tests {{ {call} }}");
            assert_allowed(guards_only, "src/camera/tap.rs", &test);
        }
        let text = "/// `.disconnect(` is for guards.\nfn f() { p.set_state(Playing); g(\".disconnect(\") }";
        assert_allowed(guards_only, "src/camera/tap.rs", text);
    }

    #[test]
    fn a_runtime_or_a_clock_in_the_distributor_is_caught() {
        for text in [
            "use gst::prelude as _;",
            "use gst_app as _;",
            "fn f() { tokio::spawn(g()); }",
            "use std::time::{Duration, Instant};",
            "fn f(at: crate::clock::Timestamp) {}",
        ] {
            assert_caught(sans_io, "src/distributor/ring.rs", text);
            assert_caught(sans_io, "src/admission.rs", text);
            assert_allowed(sans_io, "src/camera/tap.rs", text);
        }
        let test = "#[cfg(test)] mod tests { use tokio::test as _; }";
        assert_allowed(sans_io, "src/distributor/ring.rs", test);
    }

    #[test]
    fn unsafe_code_and_its_permission_are_caught() {
        assert_caught(safe, "src/frame.rs", "fn f() { unsafe { g() } }");
        assert_caught(safe, "src/frame.rs", "#![allow(unsafe_code, reason = \"x\")]");
        assert_caught(safe, "tests/a.rs", "unsafe impl Send for A {}");
        assert_allowed(safe, "src/distributor/slot.rs", "unsafe impl Send for A {}");
        assert_allowed(safe, "src/frame.rs", "// unsafe\nfn f() { g(\"unsafe\") }");
    }

    #[test]
    fn dead_code_idle_tests_and_notes_to_self_are_caught() {
        assert_caught(finished, "src/a.rs", "#[allow(dead_code)] fn f() {}");
        assert_caught(finished, "tests/a.rs", "#[test]\n#[ignore]\nfn f() {}");
        assert_allowed(finished, "tests/a.rs", "#[test]\n#[ignore = \"needs a Pi\"]\nfn f() {}");
        assert_caught(finished, "src/a.rs", &format!("fn f() {{ {}!() }}", "todo"));
        for note in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")] {
            assert_caught(finished, "src/a.rs", &format!("// {note}: later"));
        }
        assert_allowed(finished, "src/a.rs", concat!("const A: &str = \"mkXX", "XX\";"));
    }

    #[test]
    fn a_file_that_no_module_leads_to_is_caught() {
        let file = |path: &str, text: &str| (PathBuf::from(path), text.to_owned());
        let files = [
            file("src/main.rs", "fn main() {}"),
            file("src/lib.rs", "pub mod a; mod b { mod c; } #[path = \"odd.rs\"] mod d;"),
            file("src/a/mod.rs", "#[cfg(test)] mod tests; mod x;"),
            file("src/a/tests.rs", "mod deep;"),
            file("src/a/tests/deep.rs", ""),
            file("src/a/x.rs", ""),
            file("src/b/c.rs", ""),
            file("src/odd.rs", ""),
            file("src/dead.rs", "// mod dead;"),
        ];
        let found = reachable(&files);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].path, Path::new("src/dead.rs"));
        let tests = tree::test_only(&files);
        let expected = ["src/a/tests.rs", "src/a/tests/deep.rs"].map(PathBuf::from);
        assert_eq!(tests, BTreeSet::from(expected));
    }

    #[test]
    fn a_stray_entry_at_the_top_is_caught() {
        assert!(top_level([".ci", ".gitignore", "src", "Cargo.toml"]).is_empty());
        assert_eq!(top_level(["notes.md", "src", "docs"]).len(), 2);
    }

    #[test]
    fn a_private_or_unplaced_module_is_caught() {
        let modules = BTreeSet::from(["camera".to_owned(), "frame".to_owned()]);
        assert_eq!(declared("pub mod camera;\nmod frame;", &modules).len(), 1);
        let strange = BTreeSet::from(["helpers".to_owned()]);
        assert_eq!(declared("pub mod helpers;", &strange).len(), 1);
    }

    #[track_caller]
    fn imports(path: &str, text: &str) -> Vec<(String, String)> {
        let edges = layers::edges(&plant(path, text));
        edges.into_iter().map(|edge| (edge.from, edge.to)).collect()
    }

    #[test]
    fn imports_are_seen_in_every_form() {
        let edge = |to: &str| ("camera".to_owned(), to.to_owned());
        let file = "src/camera/tap.rs";
        assert_eq!(imports(file, "use crate::frame::Frame;"), [edge("frame")]);
        assert_eq!(
            imports(file, "use crate::{clock, guard::{Probe, Signal}, error::Error as E};"),
            [edge("clock"), edge("guard"), edge("error")]
        );
        assert_eq!(imports(file, "fn f() { crate::http::serve() }"), [edge("http")]);
        assert_eq!(imports(file, "use super::super::egress::End;"), [edge("egress")]);
        assert_eq!(
            imports(file, "mod a { use super::super::super::egress as _; }"),
            [edge("egress")]
        );
        assert_eq!(imports(file, "use super::{source, tap}; use crate::camera::tap as _;"), []);
        assert_eq!(imports(file, "#[cfg(test)] mod tests { use crate::app; }"), []);
        assert_eq!(
            imports("src/main.rs", "use lensline::{cli, config::Config};"),
            [("main".into(), "cli".into()), ("main".into(), "config".into())]
        );
    }

    #[track_caller]
    fn assert_edges(edges: &[(&str, &str)], violations: usize) {
        let edges: Vec<_> = edges.iter().map(|(from, to)| layers::Edge::new(from, to)).collect();
        let found = layers::violations(&edges);
        assert_eq!(found.len(), violations, "{found:?}");
    }

    #[test]
    fn imports_upwards_across_and_round_are_caught() {
        assert_edges(&[("app", "http"), ("http", "egress"), ("egress", "catalog")], 0);
        assert_edges(&[("frame", "clock"), ("metrics", "guard")], 0);
        assert_edges(&[("catalog", "egress")], 1);
        assert_edges(&[("camera", "egress")], 1);
        assert_edges(&[("egress", "camera")], 1);
        assert_edges(&[("distributor", "clock")], 1);
        assert_edges(&[("frame", "clock"), ("clock", "frame")], 1);
        assert_edges(&[("guard", "metrics"), ("metrics", "log"), ("log", "guard")], 1);
    }
}
