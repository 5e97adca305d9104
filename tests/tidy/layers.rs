//! Who may know whom: the layers of `src/lib.rs`, imports only downwards.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::source::{Source, Token, Violation};

/// The layers from the top. Within one, imports are allowed as long as they do not go round.
const LAYERS: [&[&str]; 7] = [
    &["main"],
    &["app", "cli"],
    &["http", "probe"],
    &["camera", "egress"],
    &["catalog"],
    &["distributor", "admission", "auth", "guard", "metrics", "log"],
    &[
        "config",
        "password",
        "elements",
        "workarounds",
        "frame",
        "packets",
        "nal",
        "clock",
        "rate",
        "descriptors",
        "error",
        "memory",
        "shutdown",
        "tls",
    ],
];

/// Pairs that never meet, although their layers would let them: they are joined elsewhere, or time
/// is an argument.
const STRANGERS: [(&str, &str); 5] = [
    ("camera", "egress"),
    ("egress", "camera"),
    ("distributor", "clock"),
    ("admission", "clock"),
    ("auth", "clock"),
];

/// One module names another.
#[derive(Clone, Debug)]
pub struct Edge {
    pub from: String,
    pub to: String,
    pub path: PathBuf,
    pub line: usize,
}

impl Edge {
    /// An edge from nowhere in particular, for tests.
    pub fn new(from: &str, to: &str) -> Self {
        Self { from: from.into(), to: to.into(), path: Path::new("src").join(from), line: 1 }
    }
}

/// The layer of a module, 0 the highest.
pub fn rank(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The modules that the product code of `source` names, other than its own.
pub fn edges(source: &Source) -> Vec<Edge> {
    let Some(from) = source.module().filter(|module| *module != "lib" && source.is_product())
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for index in 0..source.tokens.len() {
        if source.tokens[index].test {
            continue;
        }
        if let Some(after) = crate_root(source, index, from) {
            for (to, line) in names(&source.tokens[after..]) {
                if to != from && rank(to).is_some() {
                    let to = to.to_owned();
                    found.push(Edge { from: from.into(), to, path: source.path.clone(), line });
                }
            }
        }
    }
    found
}

/// Where the path that begins at `index` goes on below the root of the crate, if it gets there:
/// `crate::`, in `main` also `lensline::`, and as many `super::` as it takes.
fn crate_root(source: &Source, index: usize, from: &str) -> Option<usize> {
    let colons = |at: usize| source.text_at(at) == ":" && source.text_at(at + 1) == ":";
    let token = &source.tokens[index];
    let begins = index < 2 || !colons(index - 2);
    match token.text.as_str() {
        "crate" if colons(index + 1) => Some(index + 3),
        "lensline" if from == "main" && begins && colons(index + 1) => Some(index + 3),
        "super" if begins && colons(index + 1) => {
            let mut after = index;
            let mut climbed = 0;
            while source.text_at(after) == "super" && colons(after + 1) {
                (after, climbed) = (after + 3, climbed + 1);
            }
            (climbed == module_depth(&source.path) + token.depth).then_some(after)
        }
        _ => None,
    }
}

/// How many modules deep the file lies below the root of the crate.
fn module_depth(path: &Path) -> usize {
    let below = path.strip_prefix("src").unwrap_or(path);
    below.components().count() - usize::from(below.ends_with("mod.rs"))
}

/// The first names of a path: one, or those at the top of a list in braces.
fn names(tokens: &[Token]) -> Vec<(&str, usize)> {
    let Some(first) = tokens.first() else { return Vec::new() };
    if first.text != "{" {
        return vec![(&first.text, first.line)];
    }
    let mut found = Vec::new();
    let mut depth = 0;
    for pair in tokens.windows(2) {
        match pair[0].text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && matches!(pair[0].text.as_str(), "{" | ",") {
            found.push((pair[1].text.as_str(), pair[1].line));
        }
    }
    found
}

/// The edges that go upwards, between strangers, or round.
pub fn violations(edges: &[Edge]) -> Vec<Violation> {
    let mut found = Vec::new();
    for edge in edges {
        let strangers = STRANGERS.contains(&(&edge.from, &edge.to));
        if strangers || rank(&edge.to) < rank(&edge.from) {
            let message = format!("{} must not know {}", edge.from, edge.to);
            found.push(Violation::new(&edge.path, edge.line, &message));
        }
    }
    found.extend(found.is_empty().then(|| cycle(edges)).flatten());
    found
}

/// A way that leads from a module back to it.
fn cycle(edges: &[Edge]) -> Option<Violation> {
    let mut next: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for edge in edges {
        next.entry(&edge.from).or_default().insert(&edge.to);
    }
    edges.iter().find_map(|edge| {
        let mut seen = BTreeSet::new();
        let mut open = vec![edge.to.as_str()];
        while let Some(module) = open.pop() {
            if module == edge.from {
                let message = format!("{} and {} need each other", edge.from, edge.to);
                return Some(Violation::new(&edge.path, edge.line, &message));
            }
            if seen.insert(module) {
                open.extend(next.get(module).into_iter().flatten());
            }
        }
        None
    })
}
