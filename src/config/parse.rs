//! From file, environment and command line to a [`Config`], or to everything that is wrong.
//!
//! serde stops at the first fault. So the faulty value is taken out of what was written and the
//! rest is read again, until nothing is wrong with it; each round takes one value out, so there
//! are at most as many rounds as values.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path as FilePath;

use serde::Deserialize;

use super::check::{self, Certificates, Finding};
use super::de::{Fault, FaultKind};
use super::problem::{Problem, Problems};
use super::tree::{Node, Origin, Path, Step, Value};
use super::{Camera, Config, LogFormat, Simulated, Source};

/// The file that is read, if it exists, where none is named.
pub const DEFAULT_PATH: &str = "/etc/lensline/config.toml";

/// A file that is larger is no configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What every variable of ours begins with.
const PREFIX: &str = "LENSLINE_";

/// What the command line lays over the file and the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--simulate`
    pub simulate: bool,
    /// `--listen`
    pub listen: Option<SocketAddr>,
    /// `--rtsp-listen`
    pub rtsp_listen: Option<SocketAddr>,
    /// `--log-format`
    pub log_format: Option<LogFormat>,
}

/// A configuration that was found right, and what it was made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The file that was read; none where the defaults were taken.
    pub file: Option<String>,
    /// Names of the variables that were taken from the environment.
    pub variables: Vec<String>,
    /// What `lensline check` objects to and `lensline run` goes on with, saying so in the log: a
    /// certificate that has expired, a key that everybody can read.
    pub warnings: Vec<Problem>,
}

/// Reads the file at `path` (or [`DEFAULT_PATH`], where there is one), lays the `environment` and
/// the command line's `overrides` over it, and checks the outcome.
///
/// # Errors
/// Everything that is wrong, with the place where it was written and what to do about it.
pub fn load(
    path: Option<&FilePath>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    overrides: &Overrides,
) -> Result<Loaded, Problems> {
    let (file, text) = read(path)?;
    understand(file, &text, environment, overrides)
}

/// The same of a file's `text`.
///
/// # Errors
/// Everything that is wrong, with the place where it was written and what to do about it.
pub fn load_text(
    text: &str,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    overrides: &Overrides,
) -> Result<Loaded, Problems> {
    understand(None, text, environment, overrides)
}

fn understand(
    file: Option<String>,
    text: &str,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    overrides: &Overrides,
) -> Result<Loaded, Problems> {
    let mut reading = Reading::new(file, text);
    let variables = reading.overlay_environment(environment);
    reading.overlay_arguments(overrides);
    let config = reading.finish(overrides.simulate)?;
    Ok(Loaded { config, file: reading.file, variables, warnings: reading.warnings })
}

/// The name and the text of the file.
fn read(path: Option<&FilePath>) -> Result<(Option<String>, String), Problems> {
    let given = path.is_some();
    let path = path.unwrap_or(FilePath::new(DEFAULT_PATH));
    if !given && matches!(path.try_exists(), Ok(false)) {
        return Ok((None, String::new()));
    }
    let name = path.display().to_string();
    let problem = |message: String, remedy: &str| {
        Problems(vec![Problem {
            file: Some(name.clone()),
            origin: Origin::Default,
            path: String::new(),
            message,
            remedy: remedy.into(),
        }])
    };
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| {
            problem(
                format!("cannot be read: {error}"),
                "name a file that this user may read with --config",
            )
        })?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(problem("is larger than 1 MiB".into(), "name a configuration with --config"));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..good].iter().filter(|byte| **byte == b'\n').count() + 1;
        problem(format!("is not UTF-8 on line {line}"), "save it as UTF-8 text")
    })?;
    Ok((Some(name), text))
}

/// What was written, and what was found wrong with it so far.
struct Reading {
    file: Option<String>,
    root: Node,
    /// Like `root`, but nothing is taken out of it: it knows where everything was written.
    written: Node,
    problems: Vec<Problem>,
    /// What is not as it should be, and keeps nothing from running.
    warnings: Vec<Problem>,
    /// Values that were taken out; what is said about them otherwise is not their writer's word.
    faulty: BTreeSet<String>,
}

impl Reading {
    fn new(file: Option<String>, text: &str) -> Self {
        let (root, wrong) = Node::from_toml(text);
        let problems = wrong
            .into_iter()
            .map(|(line, message)| Problem {
                file: file.clone(),
                origin: Origin::Line(line),
                path: String::new(),
                message: format!("is not TOML: {message}"),
                remedy: "write `key = value`, text in \"quotes\"; see `lensline config`".into(),
            })
            .collect();
        let written = Node::table(Origin::Default);
        Self { file, root, written, problems, warnings: Vec::new(), faulty: BTreeSet::new() }
    }

    /// Lays the variables whose names begin with [`PREFIX`] over the file; their names.
    fn overlay_environment(
        &mut self,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Vec<String> {
        let mut variables = Vec::new();
        for (name, value) in environment {
            let name = name.to_string_lossy();
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
            let origin = Origin::Variable(name.to_string());
            match value.into_string() {
                Ok(value) => variables.push((variable_path(rest), origin, value)),
                Err(_) => self.add(origin, "", "is not UTF-8", "give it as UTF-8 text"),
            }
        }
        // So that `CAMERA__0` comes before `CAMERA__0__ID`, and `CAMERA__2` before `CAMERA__10`.
        variables.sort_by(|one, other| one.0.cmp(&other.0));
        let mut names = Vec::new();
        for (path, origin, value) in variables {
            if let Origin::Variable(name) = &origin {
                names.push(name.clone());
            }
            let leaf = Node {
                origin: origin.clone(),
                value: Value::from_variable(&value),
                raw: Some(value),
            };
            if let Err(message) = self.root.set(&path, leaf) {
                let remedy = "name an existing entry, or the one after the last";
                self.add(origin, &path.to_string(), &message, remedy);
            }
        }
        names
    }

    fn overlay_arguments(&mut self, overrides: &Overrides) {
        let format = overrides.log_format.map(|format| match format {
            LogFormat::Text => "text".to_owned(),
            LogFormat::Json => "json".to_owned(),
        });
        let listen = overrides.listen.map(|address| address.to_string());
        let rtsp_listen = overrides.rtsp_listen.map(|address| address.to_string());
        for (path, option, value) in [
            ("server.listen", "--listen", listen),
            ("rtsp.listen", "--rtsp-listen", rtsp_listen),
            ("log.format", "--log-format", format),
        ] {
            let Some(text) = value else { continue };
            let origin = Origin::Argument(option);
            let leaf = Node { origin: origin.clone(), value: Value::Text(text), raw: None };
            if let Err(message) = self.root.set(&Path::parse(path), leaf) {
                self.add(origin, path, &message, "write it as a table in the file");
            }
        }
    }

    /// The configuration, if nothing is wrong.
    fn finish(&mut self, simulate: bool) -> Result<Config, Problems> {
        self.written = self.root.clone();
        let config = self.types();
        if let Some(mut config) = config {
            if simulate {
                simulate_all(&mut config);
            } else {
                self.sources_are_written(&config);
            }
            self.meaning(&config);
            if self.problems.is_empty() {
                return Ok(config);
            }
        }
        let line = |problem: &Problem| match problem.origin {
            Origin::Line(line) => line,
            _ => usize::MAX,
        };
        self.problems.sort_by_key(line);
        Err(Problems(std::mem::take(&mut self.problems)))
    }

    /// Reads the types, taking out what is faulty.
    fn types(&mut self) -> Option<Config> {
        loop {
            let fault = match Config::deserialize(&self.root) {
                Ok(config) => return Some(config),
                Err(fault) => fault,
            };
            let path = fault.path();
            if !self.is_known(&path) {
                let (message, remedy) = explain(&fault, &self.root);
                let origin = self.written.nearest(&path).origin.clone();
                self.add(origin, &path.to_string(), &message, &remedy);
            }
            // Entries behind one that was taken out of a list have other numbers now.
            let lost = match path.0.split_last() {
                Some((Step::Index(_), list)) => Path(list.to_vec()),
                _ => path.clone(),
            };
            self.faulty.insert(lost.to_string());
            // Nothing at that path would mean to read the same again for ever.
            self.root.remove(&path)?;
        }
    }

    /// Whether the fault at `path` follows from a problem that was reported: a value in it that was
    /// taken out, or a line that is not TOML.
    fn is_known(&self, path: &Path) -> bool {
        let text = path.to_string();
        let origin = &self.written.nearest(path).origin;
        let same_line = matches!(origin, Origin::Line(_))
            && self.problems.iter().any(|one| one.path.is_empty() && one.origin == *origin);
        same_line || self.faulty.iter().any(|faulty| lies_in(faulty, &text))
    }

    /// A camera must say where its pictures come from: nobody should get simulated ones by
    /// forgetting a line.
    fn sources_are_written(&mut self, config: &Config) {
        for index in 0..config.camera.len() {
            let path = Path::parse(&format!("camera[{index}].source"));
            if !self.written.has(&path) && !self.is_faulty(&path.to_string()) {
                let origin = self.written.nearest(&path).origin.clone();
                self.add(
                    origin,
                    &path.to_string(),
                    "is not given",
                    "say where the pictures come from, like source = { kind = \"libcamera\" }",
                );
            }
        }
    }

    fn meaning(&mut self, config: &Config) {
        let Certificates { flaws, remarks } = check::certificates(config);
        for finding in check::findings(config).into_iter().chain(flaws) {
            if finding.paths.iter().any(|path| self.is_faulty(path)) {
                continue;
            }
            let Some(path) = finding.paths.first() else { continue };
            let origin = self.origin_of(&finding.paths);
            self.add(origin, path, &finding.message, &finding.remedy);
        }
        for Finding { paths, message, remedy } in remarks {
            let origin = self.origin_of(&paths);
            let path = paths.into_iter().next().unwrap_or_default();
            self.warnings.push(self.problem(origin, path, message, remedy));
        }
    }

    /// Where the first of these that was written at all was written.
    fn origin_of(&self, paths: &[String]) -> Origin {
        let mut paths = paths.iter().map(|path| Path::parse(path));
        let first = paths.next().unwrap_or_default();
        let place = match self.written.has(&first) {
            true => first,
            false => paths.find(|path| self.written.has(path)).unwrap_or(first),
        };
        match self.written.nearest(&place) {
            root if std::ptr::eq(root, &self.written) => Origin::Default,
            node => node.origin.clone(),
        }
    }

    fn is_faulty(&self, path: &str) -> bool {
        self.faulty.iter().any(|faulty| lies_in(path, faulty))
    }

    fn add(&mut self, origin: Origin, path: &str, message: &str, remedy: &str) {
        let problem = self.problem(origin, path.into(), message.into(), remedy.into());
        self.problems.push(problem);
    }

    fn problem(&self, origin: Origin, path: String, message: String, remedy: String) -> Problem {
        let file = match origin {
            Origin::Line(_) | Origin::Default => self.file.clone(),
            Origin::Variable(_) | Origin::Argument(_) => None,
        };
        Problem { file, origin, path, message, remedy }
    }
}

/// Whether the value at `inner` is, or lies in, the one at `outer`.
fn lies_in(inner: &str, outer: &str) -> bool {
    let rest = inner.strip_prefix(outer);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The path that the rest of a variable's name means: `CAMERA__0__ID` is `camera[0].id`.
fn variable_path(rest: &str) -> Path {
    let steps = rest.split("__").map(|part| match part.parse() {
        Ok(index) => Step::Index(index),
        Err(_) => Step::Key(part.to_lowercase()),
    });
    Path(steps.collect())
}

/// Puts the simulated camera in the place of every camera; one where there is none.
fn simulate_all(config: &mut Config) {
    for camera in &mut config.camera {
        if !matches!(camera.source, Source::Simulated(_)) {
            camera.source = Source::Simulated(Simulated::default());
        }
    }
    if config.camera.is_empty() {
        config.camera.push(Camera { id: "sim".into(), ..Camera::default() });
    }
}

/// What is wrong, and what to do about it.
fn explain(fault: &Fault, root: &Node) -> (String, String) {
    let path = fault.path();
    let text = path.to_string();
    match &fault.kind {
        FaultKind::UnknownKey { known } => unknown_key(&path, known),
        FaultKind::UnknownName { name, known } => {
            (format!("there is no \"{name}\""), choose(name, known, '"'))
        }
        FaultKind::MissingKey { key } => (format!("`{key}` is missing"), format!("add {key} = …")),
        FaultKind::Kind { expected } => (
            format!("is {}", root.nearest(&path).value.kind()),
            format!("write {}", in_words(expected, &text)),
        ),
        FaultKind::Value { value, expected } => {
            (format!("cannot be {value}"), format!("write {}", in_words(expected, &text)))
        }
        FaultKind::Other(message) if text.ends_with("listen") => {
            (message.clone(), "write address and port, like \"127.0.0.1:8080\"".into())
        }
        FaultKind::Other(message) => (message.clone(), "see `lensline config`".into()),
    }
}

fn unknown_key(path: &Path, known: &[&str]) -> (String, String) {
    const LATER: [&str; 2] = ["sensor", "telemetry"];
    if LATER.contains(&path.to_string().as_str()) {
        let remedy = "take it out until a version that has it";
        return ("this version does not have it yet".into(), remedy.into());
    }
    match path.0.last() {
        Some(Step::Key(key)) => ("there is no such key".into(), choose(key, known, '`')),
        _ => ("has no number".into(), "take the number out".into()),
    }
}

/// The name among `known` that was probably meant, or all of them.
fn choose(name: &str, known: &[&str], quote: char) -> String {
    let lower = name.to_lowercase();
    let nearest = known
        .iter()
        .map(|known| (strsim::normalized_damerau_levenshtein(&lower, known), known))
        .max_by(|one, other| one.0.total_cmp(&other.0));
    match nearest {
        Some((likeness, known)) if likeness >= 0.6 => {
            format!("did you mean {quote}{known}{quote}?")
        }
        _ => {
            let all: Vec<_> = known.iter().map(|known| format!("{quote}{known}{quote}")).collect();
            format!("use one of {}", all.join(", "))
        }
    }
}

/// What serde expects, in the words of a configuration file.
fn in_words(expected: &str, path: &str) -> String {
    match expected {
        "u16" | "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "u64" | "usize" => "a whole number, 0 or more".into(),
        "f64" => "a number".into(),
        "a sequence" => "a list, like [ … ]".into(),
        "a boolean" => "true or false".into(),
        text if text.contains("socket address") => {
            "address and port in quotes, like \"127.0.0.1:8080\"".into()
        }
        text if text.starts_with("struct") => match path {
            "camera" => "it as [[camera]]".into(),
            _ => "a table, like { key = … }".into(),
        },
        _ => "text in \"quotes\"".into(),
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
