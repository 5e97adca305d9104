//! What was written, before it means anything: tables, lists and scalars, each with its origin.
//!
//! The file, the environment and the command line are laid over each other here, so that every
//! later problem can be traced to the line, the variable or the option it came from.

use std::collections::BTreeMap;
use std::fmt;

use toml::de::{DeTable, DeValue};

/// More entries than this in one list are refused where a variable would make them.
const LIST_MAX: usize = 64;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the file, on this line; the first is 1.
    Line(usize),
    /// In this variable of the environment.
    Variable(String),
    /// In this option of the command line.
    Argument(&'static str),
    /// Nowhere: it is the default.
    Default,
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) origin: Origin,
    pub(super) value: Value,
    /// The text as it stands in the environment, where a value has quotes only if it needs them.
    pub(super) raw: Option<String>,
}

/// What can be written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Table(BTreeMap<String, Node>),
    List(Vec<Node>),
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    /// Anything that no key of ours takes, by what it is called.
    Unfit(&'static str),
}

/// One step on the way to a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// A way to a value, printed like `camera[0].encoder.bitrate_kbps`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Path(pub(super) Vec<Step>);

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if position == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

impl Path {
    /// The path that is printed like `text`.
    pub(super) fn parse(text: &str) -> Self {
        let mut steps = Vec::new();
        for part in text.split(['.', '[']).filter(|part| !part.is_empty()) {
            steps.push(match part.strip_suffix(']').and_then(|index| index.parse().ok()) {
                Some(index) => Step::Index(index),
                None => Step::Key(part.into()),
            });
        }
        Self(steps)
    }
}

impl Node {
    /// An empty table.
    pub(super) fn table(origin: Origin) -> Self {
        Self { origin, value: Value::Table(BTreeMap::new()), raw: None }
    }

    /// What `text`, a TOML document, says; and what is wrong with its form, as line and message.
    pub(super) fn from_toml(text: &str) -> (Self, Vec<(usize, String)>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let lines = Lines::of(text);
        let wrong = errors
            .iter()
            .map(|error| {
                let offset = error.span().map_or(0, |span| span.start);
                (lines.line(offset), error.message().to_owned())
            })
            .collect();
        let mut root = Self::table(Origin::Line(1));
        root.value = table_value(table.get_ref(), &lines);
        (root, wrong)
    }

    /// The value at `path`; where there is none, the nearest one above it.
    pub(super) fn nearest(&self, path: &Path) -> &Self {
        let mut node = self;
        for step in &path.0 {
            match node.child(step) {
                Some(child) => node = child,
                None => break,
            }
        }
        node
    }

    /// Whether there is a value at `path`.
    pub(super) fn has(&self, path: &Path) -> bool {
        path.0.iter().try_fold(self, |node, step| node.child(step)).is_some()
    }

    /// Takes the value at `path` out.
    pub(super) fn remove(&mut self, path: &Path) -> Option<Self> {
        let (last, way) = path.0.split_last()?;
        let parent = way.iter().try_fold(self, |node, step| node.child_mut(step))?;
        match (&mut parent.value, last) {
            (Value::Table(table), Step::Key(key)) => table.remove(key),
            (Value::List(list), Step::Index(index)) if *index < list.len() => {
                Some(list.remove(*index))
            }
            _ => None,
        }
    }

    /// Writes `leaf` at `path` over what is there, making the tables and list entries on the way.
    ///
    /// # Errors
    /// Why there can be no value at that path.
    pub(super) fn set(&mut self, path: &Path, leaf: Self) -> Result<(), String> {
        let mut node = self;
        for step in &path.0 {
            node = node.child_or_new(step, &leaf.origin)?;
        }
        *node = leaf;
        Ok(())
    }

    fn child(&self, step: &Step) -> Option<&Self> {
        match (&self.value, step) {
            (Value::Table(table), Step::Key(key)) => table.get(key),
            (Value::List(list), Step::Index(index)) => list.get(*index),
            _ => None,
        }
    }

    fn child_mut(&mut self, step: &Step) -> Option<&mut Self> {
        match (&mut self.value, step) {
            (Value::Table(table), Step::Key(key)) => table.get_mut(key),
            (Value::List(list), Step::Index(index)) => list.get_mut(*index),
            _ => None,
        }
    }

    fn child_or_new(&mut self, step: &Step, origin: &Origin) -> Result<&mut Self, String> {
        match step {
            Step::Key(key) => {
                if !matches!(self.value, Value::Table(_)) {
                    self.replace_new(Value::Table(BTreeMap::new()), "a table")?;
                }
                let Value::Table(table) = &mut self.value else {
                    return Err("is not a table".into());
                };
                Ok(table.entry(key.clone()).or_insert_with(|| Self::new(origin)))
            }
            Step::Index(index) => {
                if !matches!(self.value, Value::List(_)) {
                    self.replace_new(Value::List(Vec::new()), "a list")?;
                }
                let Value::List(list) = &mut self.value else {
                    return Err("is not a list".into());
                };
                if *index > list.len() || *index >= LIST_MAX {
                    return Err(format!("has {} entries, so there is no [{index}]", list.len()));
                }
                if *index == list.len() {
                    list.push(Self::new(origin));
                }
                list.get_mut(*index).ok_or_else(|| format!("there is no [{index}]"))
            }
        }
    }

    /// A value of which nothing is known yet but that it will be there.
    fn new(origin: &Origin) -> Self {
        Self { origin: origin.clone(), value: Value::Unfit(""), raw: None }
    }

    fn replace_new(&mut self, value: Value, what: &str) -> Result<(), String> {
        if self.value != Value::Unfit("") {
            return Err(format!("is {}, not {what}", self.value.kind()));
        }
        self.value = value;
        Ok(())
    }
}

impl Value {
    /// What it is called in messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Table(_) => "a table",
            Self::List(_) => "a list",
            Self::Text(_) => "text",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number with a fraction",
            Self::Boolean(_) => "true or false",
            Self::Unfit(kind) => kind,
        }
    }

    /// The value that `text`, as it stands in a variable, is: TOML where it is that, else text.
    pub(super) fn from_variable(text: &str) -> Self {
        match DeValue::parse(text) {
            Ok(value) => scalar_or_more(value.get_ref(), &Lines::of("")),
            Err(_) => Self::Text(text.into()),
        }
    }
}

fn table_value(table: &DeTable<'_>, lines: &Lines) -> Value {
    let entries = table.iter().map(|(key, value)| {
        let origin = Origin::Line(lines.line(key.span().start));
        let value = scalar_or_more(value.get_ref(), lines);
        (key.get_ref().to_string(), Node { origin, value, raw: None })
    });
    Value::Table(entries.collect())
}

fn scalar_or_more(value: &DeValue<'_>, lines: &Lines) -> Value {
    match value {
        DeValue::Table(table) => table_value(table, lines),
        DeValue::Array(list) => Value::List(
            list.iter()
                .map(|item| Node {
                    origin: Origin::Line(lines.line(item.span().start)),
                    value: scalar_or_more(item.get_ref(), lines),
                    raw: None,
                })
                .collect(),
        ),
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Unfit("a whole number beyond 64 bits"), Value::Integer),
        DeValue::Float(number) => {
            number.as_str().parse().map_or(Value::Unfit("not a number"), Value::Float)
        }
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Datetime(_) => Value::Unfit("a date or time"),
    }
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(breaks.map(|(offset, _)| offset).collect())
    }

    /// The line on which the byte at `offset` lies; the first is 1.
    fn line(&self, offset: usize) -> usize {
        self.0.partition_point(|newline| *newline < offset) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_parsed_as_it_is_printed() {
        for text in ["server.listen", "camera[0].encoder.bitrate_kbps", "camera[3]", "log"] {
            assert_eq!(Path::parse(text).to_string(), text);
        }
    }

    #[test]
    fn every_value_knows_its_line() {
        let (root, wrong) = Node::from_toml("\n[log]\nlevel = 'info'\n\n[[camera]]\n\nid='a'\n");
        assert!(wrong.is_empty(), "{wrong:?}");
        let line = |path: &str| root.nearest(&Path::parse(path)).origin.clone();
        assert_eq!(line("log"), Origin::Line(2));
        assert_eq!(line("log.level"), Origin::Line(3));
        assert_eq!(line("camera[0]"), Origin::Line(5));
        assert_eq!(line("camera[0].id"), Origin::Line(7));
        assert_eq!(line("camera[0].width"), Origin::Line(5), "the nearest above it");
    }

    #[test]
    fn errors_of_form_are_all_found_with_their_lines() {
        let (_, wrong) = Node::from_toml("[log]\nlevel = \nformat = 'text'\n= 3\n");
        let lines: Vec<_> = wrong.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 4], "{wrong:?}");
    }

    #[test]
    fn a_variable_cannot_leave_gaps_in_a_list_nor_grow_it_without_bound() {
        let leaf = || Node { value: Value::Boolean(true), ..Node::table(Origin::Default) };
        let mut root = Node::table(Origin::Default);
        root.set(&Path::parse("camera[0].id"), leaf()).unwrap();
        root.set(&Path::parse("camera[1].id"), leaf()).unwrap();
        assert!(root.set(&Path::parse("camera[3].id"), leaf()).is_err());
        assert!(root.set(&Path::parse("camera[0].id.x"), leaf()).is_err());
    }
}
