//! Which files are part of the program, and which of them only of its tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::source::is_cfg_test;

/// The files that `mod` leads to from `src/lib.rs` and `src/main.rs`.
pub fn reached(files: &[(PathBuf, String)]) -> BTreeSet<PathBuf> {
    walk(files).into_keys().collect()
}

/// Those of them that only tests see.
pub fn test_only(files: &[(PathBuf, String)]) -> BTreeSet<PathBuf> {
    walk(files).into_iter().filter_map(|(path, test)| test.then_some(path)).collect()
}

/// The names of the modules at the top of `src`.
pub fn top_modules(files: &[PathBuf]) -> BTreeSet<String> {
    let names = files.iter().filter_map(|path| {
        let first = path.strip_prefix("src").ok()?.components().next()?;
        let name = first.as_os_str().to_str()?;
        Some(name.strip_suffix(".rs").unwrap_or(name).to_owned())
    });
    names.filter(|name| name != "main" && name != "lib" && name != "bin").collect()
}

/// Every file that is reached, with whether only tests see it.
fn walk(files: &[(PathBuf, String)]) -> BTreeMap<PathBuf, bool> {
    let texts: BTreeMap<&Path, &str> =
        files.iter().map(|(path, text)| (path.as_path(), text.as_str())).collect();
    let mut reached = BTreeMap::new();
    let mut open: Vec<(PathBuf, bool)> =
        ["src/lib.rs", "src/main.rs"].map(|path| (path.into(), false)).into();
    while let Some((path, test)) = open.pop() {
        let Some(text) = texts.get(path.as_path()) else { continue };
        let stream: TokenStream =
            text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut modules = Vec::new();
        let folder = path.parent().unwrap();
        let own = own_folder(&path);
        declarations(stream, &Place { folder, own: &own, test }, &mut modules);
        reached.insert(path, test);
        open.extend(modules.into_iter().filter(|(path, _)| texts.contains_key(path.as_path())));
    }
    reached
}

/// Where the modules of the file at `path` lie.
fn own_folder(path: &Path) -> PathBuf {
    match path.file_name().and_then(|name| name.to_str()) {
        Some("lib.rs" | "main.rs" | "mod.rs") => path.parent().unwrap().to_owned(),
        _ => path.with_extension(""),
    }
}

struct Place<'a> {
    /// The folder of the file, to which `#[path]` is relative.
    folder: &'a Path,
    /// The folder of its modules.
    own: &'a Path,
    test: bool,
}

/// The files that the `mod` items of `stream` may mean.
fn declarations(stream: TokenStream, place: &Place<'_>, found: &mut Vec<(PathBuf, bool)>) {
    let trees: Vec<_> = stream.into_iter().collect();
    let (mut test, mut path) = (place.test, None);
    for (index, tree) in trees.iter().enumerate() {
        match tree {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => {
                test |= is_cfg_test(group);
                path = path.or_else(|| path_attribute(&group.stream().to_string()));
            }
            TokenTree::Ident(word) if word == "mod" => {
                let Some(TokenTree::Ident(name)) = trees.get(index + 1) else { continue };
                let name = name.to_string();
                match (trees.get(index + 2), path.take()) {
                    (Some(TokenTree::Group(body)), _) => {
                        let own = place.own.join(&name);
                        let inner = Place { folder: &own, own: &own, test };
                        declarations(body.stream(), &inner, found);
                    }
                    (_, Some(path)) => found.push((place.folder.join(path), test)),
                    (_, None) => found.extend([
                        (place.own.join(&name).with_extension("rs"), test),
                        (place.own.join(&name).join("mod.rs"), test),
                    ]),
                }
            }
            TokenTree::Punct(mark) if mark.as_char() == ';' => (test, path) = (place.test, None),
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                (test, path) = (place.test, None);
            }
            _ => {}
        }
    }
}

/// The file that `path = "…"` names.
fn path_attribute(attribute: &str) -> Option<String> {
    let value = attribute.strip_prefix("path")?.trim_start().strip_prefix('=')?;
    Some(value.trim().trim_matches('"').to_owned())
}
